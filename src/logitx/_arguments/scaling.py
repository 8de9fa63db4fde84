"""Rules for temperature, softcap and the other numbers that change logits or a loss: their ranges and shapes."""

from __future__ import annotations

import math
from typing import Any

from logitx._arguments import cures
from logitx._arguments.operands import adopt_number, broadcasts, like_logits, real
from logitx._arguments.ranges import held
from logitx._arrays.family import Family, is_python_number
from logitx._options import Scaling
from logitx._plan import Array, Layout, Scalar


def check_scaling(where: Any, temperature: Any, softcap: Any, family: Family, array: Array, lay: Layout) -> Scaling:
    """Check the options that softmax and the losses share."""
    return Scaling(
        like_logits("where", where, family, array, lay, "bool"),
        scalar("temperature", temperature, 1.0, family, array, lay),
        scalar("softcap", softcap, None, family, array, lay),
    )


def _in_range(name: str, value: Any, allowed: str, low: float, high: float) -> float:
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the largest float
        number = math.inf if value > 0 else -math.inf
    # The options of _POSITIVE exclude 0. `high` is inf where any finite number is allowed.
    if not (low <= number <= high) or math.isinf(number) or (name in _POSITIVE and number == 0):
        raise ValueError(f"{name}: {number} is not allowed; allowed are {allowed}{cures.of_number(name, number)}")
    return number


_POSITIVE = ("temperature", "softcap")


_RANGES: dict[str, tuple[str, float, float]] = {
    "temperature": ("finite numbers > 0", 0.0, math.inf),
    "softcap": ("finite numbers > 0, or None", 0.0, math.inf),
    "label_smoothing": ("numbers from 0 to 1", 0.0, 1.0),
    "z_loss": ("finite numbers", -math.inf, math.inf),
    "gamma": ("finite numbers of 0 or more", 0.0, math.inf),
    "alpha": ("numbers from 0 to 1, or None", 0.0, 1.0),
}


def option_number(name: str, value: Any) -> float:
    """Check an option whose value is known only after a lazy array was computed."""
    return _in_range(name, value, *_RANGES[name])


def scalar(name: str, value: Any, neutral: float | None, family: Family, x: Array, lay: Layout) -> Scalar:
    """Check a number that a framework may trace; None where it has no effect.

    The ranges are checked where the value is known. `temperature` and `softcap` may differ from row to row: an array
    that broadcasts to the logits with length 1 along the class axes.
    """
    if value is neutral or (type(value) is float and value == neutral):  # most calls: the option has its default
        return None
    allowed, low, high = _RANGES[name]
    if is_python_number(value) and not isinstance(value, bool):
        value = _in_range(name, value, allowed, low, high)
        return None if value == neutral else held(family, x, value) if name in _POSITIVE else value
    if value is None or isinstance(value, bool):
        raise TypeError(f"{name}: {value!r} is not allowed; allowed are {allowed}, or an array of them")
    value = adopt_number(name, value, family, x)
    if real(name, value, "real dtypes") == "bool":
        raise TypeError(f"{name}: dtype bool is not allowed; allowed are real numbers")
    if family.readable(value):
        # Check the extremes only. A 0-d array becomes a Python number if no derivative by it is asked for.
        if family.to_numpy is not None and value.ndim == 0 and not family.differentiated(value):
            number = _in_range(name, value, allowed, low, high)
            return None if number == neutral else number
        if math.prod(value.shape):
            (known,) = family.host(value)  # not by the library, which may be tracing what is around
            for extreme in (known.min(), known.max()):
                _in_range(name, extreme, allowed, low, high)
    if value.ndim == 0:
        return value
    if name not in _POSITIVE or not broadcasts(tuple(value.shape), lay.kept):
        shapes = "()" if name not in _POSITIVE else f"() and shapes that broadcast to {lay.kept}"
        fix = cures.of_column(name, tuple(value.shape), lay) if name in _POSITIVE else ""
        raise ValueError(f"{name}: shape {tuple(value.shape)} is not allowed; allowed are {shapes}{fix}")
    if family.as_given:
        return value
    xp = family.namespace(x)
    return xp.reshape(xp.broadcast_to(value, lay.kept), lay.column)


def share(name: str, value: Any) -> float:
    """Check a number from 0 to 1 that is a fact of the call, not an operand."""
    if not is_python_number(value) or isinstance(value, bool):
        raise TypeError(f"{name}: {value!r} is not allowed; allowed are numbers from 0 to 1")
    return _in_range(name, value, "numbers from 0 to 1", 0.0, 1.0)
