"""Numbers beside the logits that the dtype to compute in cannot hold.

Weights of float64 beside float32 logits may be too small or too large for float32, and so may the product of two
weights of float32. Such a call is computed in float64 and rounded at the end. To a mean only the ratios of weights
matter: where float64 could not hold their products either, they are multiplied by a power of two, which is exact.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import LONG_DOUBLE, WIDE, Family, dtype_name, is_python_number
from logitx._options import BinaryOptions, LossOptions
from logitx._plan import Array, Plan

# Products of weights up to this, and down to its inverse, are safe
_LARGE = {"float32": 2.0**80, LONG_DOUBLE: 2.0**400, "float64": 2.0**400}
_LARGE_FACTOR, _LARGE_NUMBER = 2.0**100, 2.0**126  # so are a factor `b` that is summed, and a number used alone
_ORDINARY = 2.0**-30  # products of two lie within the safe range of float32
LEAST, MOST = 2.0**-126, 3.4028234663852886e38  # of float32
_STEPS = {"float32": (2.0**64,), "bfloat16": (2.0**64,), "float64": (2.0**512, 2.0**256, 2.0**128, 2.0**64)}


def held(family: Family, x: Array, number: float) -> float:
    """Return a number > 0; where arrays beside `x` have no float64, the nearest that float32 holds precisely."""
    return max(number, 2.0**-1022) if family.has_float64(x) else min(max(number, LEAST), MOST)


def extremes(family: Family, value: Any) -> tuple[float, float]:
    """Return the least and the largest magnitude, without 0 and what is not finite; (1, 1) if values are not known."""
    if value is None:
        return 1.0, 1.0
    if is_python_number(value):
        return (abs(value), abs(value)) if value else (1.0, 1.0)
    if isinstance(value, np.ndarray):  # beside blocks of another library
        family = FAMILIES["numpy"]
    if dtype_name(value.dtype) not in _STEPS or not family.readable(value):
        return 1.0, 1.0
    (known,) = family.host(value)
    known = known[tuple(slice(None if stride else 1) for stride in known.strides)]  # what is broadcast is there once
    low, high = (float(known.min()), float(known.max())) if known.size else (1.0, 1.0)
    if low > 0.0 and high < math.inf:
        return low, high
    low, high = math.inf, 0.0
    for block in np.nditer(known, flags=["buffered", "external_loop"], op_dtypes=[np.float64], casting="unsafe"):
        size = np.abs(np.asarray(block))  # a few thousand numbers at a time
        size = size[(size > 0.0) & (size < math.inf)]
        low, high = float(size.min(initial=low)), float(size.max(initial=high))
    return (low, high) if high > 0.0 else (1.0, 1.0)


def _beyond(pairs: Iterable[tuple[float, float]], large: float) -> bool:
    """True if products of numbers between these extremes, one of each pair, may leave the safe range."""
    low = high = 1.0
    for least, most in pairs:
        low, high = low * min(least, 1.0), high * max(most, 1.0)
    return low * large < 1.0 or high > large


def fit_factors(plan: Plan, family: Family, x: Array, b: Array) -> Plan:
    """Return the plan of a logsumexp, computed in float64 where float32 could not hold factors of float64.

    Factors of float32 are held as they are: to look at them would take longer than the sum.
    """
    return plan if b is None or dtype_name(b.dtype) not in WIDE else _wide_enough(plan, family, x, _LARGE_FACTOR, b)


def are_ordinary(weights: np.ndarray[Any, Any]) -> bool:
    """True if any dtype holds the products of weights with others for which this is true."""
    if not weights.size:
        return False
    low, high = float(np.minimum.reduce(weights, None)), float(np.maximum.reduce(weights, None))
    return low >= _ORDINARY and high * _ORDINARY <= 1.0


def fit_numbers(plan: Plan, family: Family, x: Array, *values: Any) -> Plan:
    """Return the plan, computed in float64 where float32 could not hold one of some numbers."""
    for value in values:
        if value is not None:
            plan = _wide_enough(plan, family, x, _LARGE_NUMBER, value)
    return plan


def need_float64(family: Family, x: Array, *weights: Any, large: float = _LARGE["float32"]) -> bool:
    """True if float32 could not hold the products of some weights, and arrays beside `x` can have float64."""
    return _beyond((extremes(family, value) for value in weights), large) and family.has_float64(x)


def _wide_enough(plan: Plan, family: Family, x: Array, large: float, *values: Any) -> Plan:
    if plan.compute != "float32" or not need_float64(family, x, *values, large=large):
        return plan
    return dataclasses.replace(plan, compute="float64")


def fit_weights(plan: Plan, family: Family, x: Array, options: LossOptions) -> tuple[Plan, LossOptions]:
    """Return the plan and the options of a loss, such that the dtype to compute in holds their products."""
    weights = options.class_weight, options.sample_weight
    plan = fit_numbers(
        plan, family, x, options.softcap, options.temperature, options.z_loss, options.label_smoothing
    )  # fmt: skip
    if all(one is None for one in weights):
        return plan, options
    plan = _wide_enough(plan, family, x, _LARGE["float32"], *weights)
    by_class, by_row = _of_mean(plan, family, *weights)
    return plan, options._replace(class_weight=by_class, sample_weight=by_row)


def fit_binary_weights(plan: Plan, family: Family, x: Array, options: BinaryOptions) -> tuple[Plan, BinaryOptions]:
    """Return the plan and the options of a binary loss, such that the dtype to compute in holds its weights.

    Weights of float32, one an element, are looked at for a mean alone: that takes a fourth of the time of the loss.
    """
    weights = options.pos_weight, options.sample_weight
    given = [one for one in weights if one is not None]
    wide = [one for one in given if is_python_number(one) or dtype_name(one.dtype) in WIDE]
    plan = _wide_enough(plan, family, x, _LARGE["float32"], *wide)
    sample = options.sample_weight
    if not is_python_number(sample):
        (sample,) = _of_mean(plan, family, sample)
    elif plan.reduction == "mean" and 0.0 < sample < math.inf:
        sample = None
    return plan, options._replace(sample_weight=sample)


def _of_mean(plan: Plan, family: Family, *weights: Array) -> tuple[Array, ...]:
    """Return the weights of a mean near 1, where their products leave the range of the dtype to compute in."""
    if plan.reduction != "mean" or family.as_given or all(one is None for one in weights):
        return weights
    readable = all(one is None or family.readable(one) for one in weights)
    large = _LARGE[plan.compute if family.has_subnormals else "float32"]
    if readable and not _beyond((extremes(family, one) for one in weights), large):
        return weights
    return tuple(None if one is None else _near_one(family, one, readable) for one in weights)


def _near_one(family: Family, weight: Array, readable: bool) -> Array:
    # XLA and TensorFlow take them for 0 as soon as they touch them
    if readable and not family.has_subnormals and not family.differentiated(weight):
        return family.adopt(_toward_one(FAMILIES["numpy"], family.host(weight)[0]), weight)
    return _toward_one(family, weight)


def _toward_one(family: Family, weight: Array) -> Array:
    """Multiply weights by a power of two that brings the largest near 1; those near 1 stay as they are."""
    steps = _STEPS.get(dtype_name(weight.dtype))
    if steps is None or not math.prod(weight.shape):
        return weight
    xp, known = family.namespace(weight), family.detach(weight)
    size = xp.abs(known)
    largest = xp.max(xp.where(xp.isfinite(size), size, xp.zeros_like(size)))
    for step in steps:
        factor = xp.where(largest < 1.0 / step, step, xp.where(largest > step, 1.0 / step, xp.ones_like(largest)))
        factor = xp.astype(factor, weight.dtype, copy=False)
        weight, largest = weight * factor, largest * factor
    return weight
