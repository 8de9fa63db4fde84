"""Rules that several formulas share: dtypes, rounding, the mean, the slope of softcap and 1 - p."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import FLOATS, LONG_DOUBLE, WIDE, dtype_name, namespace_dtype
from logitx._plan import Array, Plan, Scalar

F = TypeVar("F", bound=Callable[..., Any])


def quiet(operation: F) -> F:
    """Keep NumPy, which may stand behind any namespace, from warning of the infinities that a formula is built on."""

    @functools.wraps(operation)
    def quiet(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return operation(*args)

    return quiet  # type: ignore[return-value]


def to_compute(plan: Plan, x: Array) -> Array:
    """Return an array in the dtype that the plan computes in."""
    xp = FAMILIES[plan.family].namespace(x)
    return xp.astype(x, namespace_dtype(xp, plan.compute), copy=False)


def operand(plan: Plan, value: Scalar) -> Scalar:
    """Return a number as it is, an array in the dtype that the plan computes in."""
    if isinstance(value, float):
        return value if plan.compute in FLOATS else np.longdouble(value)  # what is made of it has more digits
    return None if value is None else to_compute(plan, value)


# Smaller numbers have less precision, or are 0 to XLA
_LEAST = {"float32": 2.0**-126, LONG_DOUBLE: 2.0**-1022, "float64": 2.0**-1022}
MOST: dict[str, Any] = {
    "float32": 3.4028234663852886e38,
    LONG_DOUBLE: np.finfo(np.longdouble).max,
    "float64": 1.7976931348623157e308,
}


def divisor(plan: Plan, value: Scalar) -> Scalar:
    """Return a temperature or softcap as `operand` does, but at least and at most what the dtype computed in holds."""
    least, most = _LEAST[plan.compute], MOST[plan.compute]
    if isinstance(value, float):
        return min(max(value, least), most)
    if value is None or dtype_name(value.dtype) not in WIDE or plan.compute != "float32":
        return operand(plan, value)
    xp = FAMILIES[plan.family].namespace(value)
    value = xp.where(value < least, least, xp.where(value > most, most, value))
    return to_compute(plan, value)


def capped(xp: Any, plan: Plan, x: Array, softcap: Scalar) -> Array:
    """Return softcap tanh(x / softcap); x itself where the quotient would be too small to be precise."""
    if softcap is None:
        return x
    ratio, detach = x / softcap, FAMILIES[plan.family].detach
    u = softcap * xp.tanh(ratio)
    # The derivatives are those of u, which are right
    return u + detach(xp.where(xp.abs(ratio) < _LEAST[plan.compute], x - u, xp.zeros_like(u)))


def to_result(plan: Plan, x: Array, masked: float, valid: Array) -> Array:
    """Put the value of masked entries in place and round once, to the dtype of the result."""
    xp = FAMILIES[plan.family].namespace(x)
    if valid is not None:
        x = xp.where(valid, x, masked)
    return xp.astype(x, namespace_dtype(xp, plan.result), copy=False)


def empty_value(plan: Plan) -> float:
    """Return the result of rows in which nothing counts, as the option `empty` asks."""
    return math.nan if plan.empty == "nan" else 0.0


def mean_of(xp: Any, total: Any, share: Any, undefined: float) -> Any:
    """Return total / share, or `undefined` where the share is 0. The division by 0 is avoided for derivatives, too."""
    return xp.where(share == 0.0, undefined, total / xp.where(share == 0.0, 1.0, share))


def softcap_slope(xp: Any, x: Array, softcap: Scalar) -> Array:
    """Return the derivative of softcap tanh(x / softcap): 1 - tanh^2 cancels, 4 e / (1 + e)^2 does not."""
    e = xp.exp(-2.0 * xp.abs(x / softcap))
    return 4.0 * e / (1.0 + e) ** 2


def complement_of(xp: Any, p: Array, at_top: Array, beside: Array) -> Array:
    """Return 1 - p. At the maximum (`at_top`) that would cancel: there it is `beside`, rest / (1 + rest)."""
    return xp.where(at_top, beside, 1.0 - p)
