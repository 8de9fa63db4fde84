"""Numbers of formulas: the dtype they are computed in, operands in it, and results rounded once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import namespace_dtype
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
    return value if value is None or isinstance(value, float) else to_compute(plan, value)


def to_result(plan: Plan, x: Array, masked: float, valid: Array) -> Array:
    """Put the value of masked entries in place and round once, to the dtype of the result."""
    xp = FAMILIES[plan.family].namespace(x)
    if valid is not None:
        x = xp.where(valid, x, masked)
    return xp.astype(x, namespace_dtype(xp, plan.result), copy=False)
