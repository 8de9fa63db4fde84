"""Argument rules of the functions of segments: ids or offsets along one axis, and how many segments there are."""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

import numpy as np

from logitx._arguments import operands as _operands
from logitx._arguments.plans import default_float_of, planned
from logitx._arrays.families import family_of
from logitx._arrays.family import Family, dtype_name, known_values
from logitx._plan import Array, Call, Plan, unknown


class _Checked(NamedTuple):
    """The operands that all functions of segments share."""

    plan: Plan
    family: Family
    x: Array
    ids: Array
    offsets: Array
    where: Array


def over_segments(
    op: str, x: Any, segment_ids: Any, axis: Any, offsets: Any, num_segments: Any, where: Any, empty: Any
) -> Call:
    """Check segment_softmax and segment_log_softmax."""
    facts = (("empty", empty),)
    checked = _start(op, x, axis, segment_ids, offsets, num_segments, where, False, facts)
    return Call(checked.plan, (checked.x, checked.ids, checked.offsets, checked.where))


def segment_logsumexp(
    op: str, x: Any, segment_ids: Any, axis: Any, offsets: Any, num_segments: Any, where: Any
) -> Call:
    """Check segment_logsumexp."""
    checked = _start(op, x, axis, segment_ids, offsets, num_segments, where, False, ())
    return Call(checked.plan, (checked.x, checked.ids, checked.offsets, checked.where))


def segment_cross_entropy(
    op: str,
    x: Any,
    targets: Any,
    axis: Any,
    segment_ids: Any,
    offsets: Any,
    num_segments: Any,
    where: Any,
    reduction: Any,
    empty: Any,
) -> Call:
    """Check segment_cross_entropy."""
    facts = (("reduction", reduction), ("empty", empty))
    checked = _start(op, x, axis, segment_ids, offsets, num_segments, where, True, facts)
    family, array, lay = checked.family, checked.x, checked.plan.layout
    targets = _operands.same_shape("targets", targets, family, array, lay, "x")
    dtype = dtype_name(targets.dtype)
    if _operands.is_integer(dtype) or dtype == "bool":
        raise TypeError(
            f"targets: dtype {dtype} is not allowed; allowed are floating-point probabilities, one an entry of x"
        )
    return Call(checked.plan, (array, targets, checked.ids, checked.offsets, checked.where))


def _start(
    op: str,
    x: Any,
    axis: Any,
    segment_ids: Any,
    offsets: Any,
    num_segments: Any,
    where: Any,
    loss: bool,
    facts: tuple[tuple[str, Any], ...],
) -> _Checked:
    family, array = _operands.first_array("x", x)
    if array.ndim == 0:
        raise ValueError("x: shape () is not allowed; allowed are arrays with an axis of segments")
    if axis is None or isinstance(axis, tuple):
        raise TypeError(f"axis: {axis!r} is not allowed; allowed is an int, segments lie along one axis")
    default = default_float_of(family, array)
    signature = (op, "x", family, array.shape, array.dtype, axis, default, None, loss)
    lay = planned(*signature, facts).layout
    if unknown(lay.n):
        raise ValueError(
            f"x: shape {tuple(array.shape)} has a length along axis {axis} that is not known; allowed are known"
            " lengths, set them with tensorflow.ensure_shape or compute_chunk_sizes of Dask"
        )
    if (segment_ids is None) == (offsets is None):
        both = "both are given" if offsets is not None else "both are None"
        raise TypeError(f"segment_ids, offsets: {both}; allowed is exactly one of the two")
    if num_segments is not None:
        num_segments = _count(num_segments)
    if offsets is not None:
        offsets, count = _offsets(offsets, family, array, lay.n, num_segments)
    else:
        segment_ids, count = _ids(segment_ids, family, array, lay.n, num_segments)
    plan = planned(*signature, (*facts, ("segments", count)))
    where = _operands.like_logits("where", where, family, array, lay, "bool")
    return _Checked(plan, family, array, segment_ids, offsets, where)


def _count(value: Any) -> int:
    """Check how many segments there are."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"num_segments: {value!r} is not allowed; allowed are None and integers") from None
    if number < 0:
        raise ValueError(f"num_segments: {number} is not allowed; allowed are integers of 0 or more")
    return number


def _vector(name: str, value: Any, family: Family, x: Array) -> tuple[Array, Any]:
    """Return a vector of integers as an array of the family, and its values where they can be read now."""
    found = family_of(value)
    array = _operands.adopt(name, value, family, x)
    dtype = dtype_name(array.dtype)
    if not _operands.is_integer(dtype) and math.prod(array.shape):
        raise TypeError(f"{name}: dtype {dtype} is not allowed; allowed are integers")
    if array.ndim != 1:
        raise ValueError(f"{name}: shape {tuple(array.shape)} is not allowed; allowed are vectors")
    if found is not None and found.name == "numpy":  # before JAX makes int32 of it
        return array, np.asarray(value)
    return array, known_values(family, array)


def _ids(value: Any, family: Family, x: Array, n: int, count: int | None) -> tuple[Array, int]:
    """Check the id of the segment of each entry."""
    ids, known = _vector("segment_ids", value, family, x)
    if tuple(ids.shape) != (n,):
        raise ValueError(
            f"segment_ids: shape {tuple(ids.shape)} is not allowed; allowed is ({n},), one id an entry along the axis"
        )
    if known is None:
        if count is None:
            raise ValueError(
                "num_segments: None is not allowed where segment_ids cannot be read (while tracing, on a device, of"
                " Dask); allowed is the number of segments"
            )
        if count == 0 and n:
            raise ValueError(f"num_segments: 0 is not allowed for {n} entries; allowed are integers of 1 or more")
        return ids, count
    if n == 0:
        return ids, count or 0
    low, high = int(known.min()), int(known.max())
    count = high + 1 if count is None else count
    if low < 0 or high >= count:
        wrong = low if low < 0 else high
        raise ValueError(f"segment_ids: {wrong} is out of range; allowed are 0 to {count - 1} ({count} segments)")
    return ids, count


def _offsets(value: Any, family: Family, x: Array, n: int, count: int | None) -> tuple[Array, int]:
    """Check where each segment begins, and the last one ends."""
    offsets, known = _vector("offsets", value, family, x)
    length = offsets.shape[0]
    if unknown(length) or length < 1 or (count is not None and count != length - 1):
        wanted = "1 or more" if count is None else str(count + 1)
        raise ValueError(f"offsets: length {length} is not allowed; allowed is {wanted}, one more than the segments")
    if known is not None:
        if known[0] != 0 or known[-1] != n or (known[1:] < known[:-1]).any():
            raise ValueError(
                f"offsets: from {int(known[0])} to {int(known[-1])} are not allowed; allowed are numbers from 0 to"
                f" {n}, none of them smaller than the one before"
            )
    elif length == 1 and n:
        raise ValueError(f"offsets: length 1 is not allowed for {n} entries; allowed is one more than the segments")
    return offsets, length - 1
