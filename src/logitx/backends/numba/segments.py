"""Functions of segments: from arrays to kernels and back."""

from __future__ import annotations

import numpy as np

from logitx._plan import Array, Plan
from logitx.backends.numba.arrays import (
    CLASS_AXIS,
    NumpyArray,
    checked_code,
    contiguous,
    empty_3d,
    fresh,
    given_back,
    stored,
    view_3d,
)
from logitx.backends.numba.kernels.segments import SegmentArrays, SegmentOptions, index_segments, segments
from logitx.backends.numba.kernels.segments_unsorted import UnsortedArrays, segments_unsorted
from logitx.backends.numba.kernels.signature import Dtypes, compiled_kernel
from logitx.backends.numba.memory.arguments import UNFIT
from logitx.backends.numba.threads.policy import CREW, parts_for


def segment_softmax(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """exp(x - max) / sum of exp(x - max) of each segment."""
    written = empty_3d(plan, plan.result)
    _run_segments(plan, x, ids, offsets, where, written, None, None)
    return given_back(plan, written, plan.result, plan.layout.shape)


def segment_log_softmax(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """(x - max) - log(sum of exp(x - max)) of each segment."""
    written = empty_3d(plan, plan.result)
    _run_segments(plan, x, ids, offsets, where, written, None, True)
    return given_back(plan, written, plan.result, plan.layout.shape)


def segment_logsumexp(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """max + log(sum of exp(x - max)) of each segment."""
    lay = plan.layout
    written = fresh(plan, (lay.outer, plan.segments, lay.inner), plan.result)
    _run_segments(plan, x, ids, offsets, where, written, True, None)
    shape = tuple(plan.segments if d == lay.axis else length for d, length in enumerate(lay.shape))
    return given_back(plan, written, plan.result, shape)


def _run_segments(
    plan: Plan, x: Array, ids: Array, offsets: Array, where: Array, out: NumpyArray, *ways: bool | None
) -> None:
    held = stored(plan.dtype, plan.compute)
    view = view_3d(plan, x, plan.dtype, held)
    mask = None if where is None else view_3d(plan, where, "bool", "bool")
    options, dtypes = SegmentOptions(CLASS_AXIS, plan.empty == "nan"), Dtypes(held, plan.compute, plan.result)
    begins = _begins(plan, ids) if offsets is None else contiguous(plan, offsets, "int64")
    if begins is not None:
        kernel = compiled_kernel(segments, ways, dtypes)
        arrays = SegmentArrays(view, mask, begins, out, None)
        checked_code(kernel(arrays, options, *ways, parts_for(view.nbytes), CREW.address))
        return
    kernel = compiled_kernel(segments_unsorted, ways, dtypes)
    labels = contiguous(plan, ids, "int64")
    parts = min(parts_for(view.nbytes), max(1, plan.layout.outer * plan.layout.inner))
    unsorted = UnsortedArrays(view, mask, labels, out, None, None)
    checked_code(kernel(unsorted, options, plan.segments, *ways, parts, CREW.address))


def _begins(plan: Plan, ids: Array) -> NumpyArray | None:
    """Return where each segment begins, and the last one ends; None if ids are not sorted."""
    begins = np.empty(plan.segments + 1, np.int64)
    kernel = compiled_kernel(index_segments, (), Dtypes("int64", "float64"))
    return None if kernel(contiguous(plan, ids, "int64"), begins) == UNFIT else begins
