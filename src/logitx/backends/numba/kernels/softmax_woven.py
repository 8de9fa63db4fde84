"""softmax and log_softmax along an axis that is not the last, of entries that lie together: `passes.woven`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.signature import Way
from logitx.backends.numba.kernels.softmax import NormalizeLongArrays, NormalizeOptions, NormalizeTask, formula_of
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.prefetch import is_streamed
from logitx.backends.numba.memory.scratch import is_missing, load_anywhere, load_lanes, release, store_lanes
from logitx.backends.numba.passes.finish import Logarithm, Scaled, finish_element
from logitx.backends.numba.passes.scaling import exponent, unscaled
from logitx.backends.numba.passes.woven import (
    Slab,
    Slabs,
    define_finish,
    entries_at,
    lies_together,
    own_slabs,
    reduce_slab,
    room_for_slab,
    weave_of,
    write_slab,
)
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import exp_of_sum
from logitx.backends.numba.vectors.lanes import width_of


def normalize_woven(
    arrays: NormalizeLongArrays, options: NormalizeOptions, log: Way, keeping: Way, parts: int, crew: int
) -> int:
    """Write softmax or its logarithm of slabs (n, inner).

    With `keeping` the result holds the exponentials until they are normalized: 0.54 ns an entry, not 0.70.
    """
    x, fits_x = view_of_entries(arrays.logits, options.axis)
    out, fits_out = view_beside(arrays.out, options.axis, x)
    if not (fits_x and fits_out and lies_together(x) and lies_together(out)):
        return UNFIT
    task, like = NormalizeTask(0, out, log, options.undefined), view_of_rows(arrays.like)
    if x.outer >= parts:
        fine = together(crew, job_of(_normalize_own, (x, task, keeping, like)), parts)
    else:
        fine = _normalize_slabs(x, task, keeping, like, Slabs(0, x.outer, parts, crew))
    return OK if fine else FAILED


@primitive
def _normalize_own(x: Any, task: Any, keeping: Any, like: Any, part: int, parts: int) -> bool:
    fine: bool = _normalize_slabs(x, task, keeping, like, own_slabs(x.outer, part, parts))
    return fine


@primitive
def _normalize_slabs(x: Any, task: Any, keeping: Any, like: Any, slabs: Any) -> bool:
    """Normalize slabs one after the other; return False if there is no memory."""
    w, out = weave_of(x.n, x.inner, like), task.out
    room = room_for_slab(w, like)
    if is_missing(room.tops):
        return False
    for index in range(slabs.first, slabs.stop):
        slab = Slab(w, room, index, index * x.outer_stride, index * out.outer_stride)
        if keeping is None:
            reduce_slab(x, None, slab, slabs.parts, slabs.crew)
        else:
            reduce_slab(x, out, slab, slabs.parts, slabs.crew)
        _settle_formula(w, room, task.undefined, task.log)
        facts = _facts_of(x, out, slab, task.log, keeping)
        streamed = keeping is None and is_streamed(out, out)
        together(slabs.crew, job_of(write_slab, (out, slab, streamed, facts)), slabs.parts)
    release(room.tops)
    return True


@primitive
def _settle_formula(w: Any, room: Any, undefined: float, log: Any) -> None:
    """Replace the rest of every row, and what was lost in rounding it, by what the last pass needs."""
    scale = unscaled(room.tops)
    for at in range(0, (w.vectors + 1) * width_of(room.tops), width_of(room.tops)):
        rest, lost = load_lanes(room.rests, at), load_lanes(room.lost, at)
        how = formula_of(load_lanes(room.tops, at), rest, lost, scale, undefined, log)
        if log is None:
            store_lanes(room.rests, at, how.high)
            store_lanes(room.lost, at, how.low)
        else:
            store_lanes(room.rests, at, how.log_sum)


class OfExponentials(NamedTuple):
    """Facts of softmax from exponentials."""

    source: Any
    start: int
    room: Any


class OfLogits(NamedTuple):
    """Facts of softmax from logits."""

    source: Any
    start: int
    room: Any


class Logarithms(NamedTuple):
    """Facts of log_softmax."""

    source: Any
    start: int
    room: Any


@primitive
def _facts_of(x: Any, out: Any, slab: Any, log: Any, keeping: Any) -> Any:
    if log is not None:
        return Logarithms(x, slab.start, slab.room)
    if keeping is not None:
        return OfExponentials(out, slab.to, slab.room)
    return OfLogits(x, slab.start, slab.room)


@primitive
def _of_exponentials(at: int, count: int, phase: int, facts: Any) -> Any:
    room = facts.room
    e = entries_at(facts.source, facts.start, at, count, room.tops, 0.0)
    return finish_element(e, Scaled(load_anywhere(room.rests, phase), load_anywhere(room.lost, phase)))


@primitive
def _of_logits(at: int, count: int, phase: int, facts: Any) -> Any:
    room = facts.room
    x = entries_at(facts.source, facts.start, at, count, room.tops, -np.inf)
    v, lost = exponent(x, load_anywhere(room.tops, phase), unscaled(room.tops))
    how = Scaled(load_anywhere(room.rests, phase), load_anywhere(room.lost, phase))
    return finish_element(exp_of_sum(v, lost), how)


@primitive
def _logarithms(at: int, count: int, phase: int, facts: Any) -> Any:
    room = facts.room
    x = entries_at(facts.source, facts.start, at, count, room.tops, -np.inf)
    how = Logarithm(load_anywhere(room.tops, phase), load_anywhere(room.rests, phase), unscaled(room.tops))
    return finish_element(x, how)


define_finish(OfExponentials, _of_exponentials)
define_finish(OfLogits, _of_logits)
define_finish(Logarithms, _logarithms)
