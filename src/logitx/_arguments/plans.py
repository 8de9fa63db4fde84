"""Argument rules that all functions share: choices, dtypes, and the look-up of the frozen Plan of a call.

A check takes the arguments of a public function and returns a `Call`: the plan, and the operands in the order of the
backend's method, folded to one class axis, with None for an operand that is absent or has no effect. All argument
errors are raised before a backend runs; only a class id out of range is found later, in the pass over the data.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np

from logitx._arguments import operands as _operands
from logitx._arrays.families import FAMILIES
from logitx._arrays.family import FLOATING, FLOATS, Family, dtype_name
from logitx._plan import Array, Plan
from logitx._plan import layout as _layout

_CHOICES = {"empty": ("nan", "zero"), "reduction": ("none", "sum", "mean")}


def choice(name: str, value: Any) -> None:
    """Check one of a few words."""
    if not isinstance(value, str) or value not in _CHOICES[name]:
        allowed = ", ".join(repr(one) for one in _CHOICES[name])
        raise ValueError(f"{name}: {value!r} is not allowed; allowed are {allowed}")


def _requested(family: str, dtype: Any, loss: bool) -> str | None:
    if dtype is None:
        return None
    allowed = FLOATS[2:] if loss else FLOATS
    try:
        name = dtype_name(dtype)
    except TypeError:
        name = ""
    if name not in FAMILIES[family].floats:
        raise TypeError(f"dtype: {dtype!r} is not allowed; allowed are None, {', '.join(allowed)}")
    if name in FLOATS and name not in allowed:
        raise ValueError(f"dtype: {name} is not allowed for a loss; allowed are None, {', '.join(allowed)}")
    return name


def widest(*dtypes: str | None) -> str:
    """Return the dtype to compute in: the widest of some, at least float32."""
    return max(FLOATING[2:], key=lambda one: (one in dtypes) * FLOATING.index(one))


@functools.lru_cache(maxsize=1024)
def dtypes_of(
    family: str, argument: str, given: str, default: str | None, asked: str | None, loss: bool
) -> tuple[str, str, str]:
    """Return the names of the dtypes (computed in, of the result, of the loss): the one dtype rule."""
    if given not in FAMILIES[family].floats and given != "bool" and not _operands.is_integer(given):
        raise TypeError(f"{argument}: dtype {given} is not allowed; allowed are {', '.join(FLOATS)}, integers and bool")
    result = default or given
    compute = widest(given, result, asked)
    if loss:
        return compute, result, asked or compute
    return compute, asked or result, compute


@functools.lru_cache(maxsize=4096, typed=True)
def _plan(
    op: str,
    argument: str,
    family: str,
    shape: tuple[int, ...],
    dtype: Any,
    axis: Any,
    default: str | None,
    requested: Any,
    loss: bool,
    facts: tuple[tuple[str, Any], ...],
    _kinds: tuple[type, ...] | None,
) -> Plan:
    """Return the plan of a call; a signature that has been seen before costs one look-up.

    `_kinds` are the types in a tuple of axes: in the cache, (True, 0) must differ from (1, 0).
    """
    for name, value in facts:
        if name in _CHOICES:
            choice(name, value)
    given = dtype_name(dtype)
    dtypes = dtypes_of(family, argument, given, default, _requested(family, requested, loss), loss)
    return Plan(op, family, _layout(tuple(shape), axis), given, *dtypes, **dict(facts))


def default_float_of(family: Family, x: Array) -> str | None:
    """Return the dtype that integers become; None for a floating dtype. The default may change between calls."""
    return None if dtype_name(x.dtype) in FLOATING else family.default_float(x)


def start(
    op: str, argument: str, value: Any, axis: Any, requested: Any, loss: bool, facts: tuple[tuple[str, Any], ...]
) -> tuple[Family, Array, Plan]:
    """Return the family of the first array, the array, and the plan of the call."""
    family, array = _operands.first_array(argument, value)
    if array.ndim == 0 and (array is not value or isinstance(array, np.ndarray)):
        facts = (*facts, ("scalar", True))
    default = default_float_of(family, array)
    plan = planned(op, argument, family, array.shape, array.dtype, axis, default, requested, loss, facts)
    return family, array, plan


def planned(op: str, argument: str, family: Family, *signature: Any) -> Plan:
    """Look a plan up. A key that cannot be hashed (a traced length, an option of a wrong type) bypasses the cache."""
    axis = signature[2]
    key = (op, argument, family.name, *signature, tuple(map(type, axis)) if type(axis) is tuple else None)
    try:
        return _plan(*key)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _plan.__wrapped__(*key)


def positive(name: str, value: Any) -> int:
    """Check an integer of 1 or more."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {value!r} is not allowed; allowed are integers of 1 or more") from None
    if number < 1:
        raise ValueError(f"{name}: {number} is not allowed; allowed are integers of 1 or more")
    return number
