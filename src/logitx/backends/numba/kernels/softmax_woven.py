"""softmax and log_softmax along an axis that is not the last, of entries that lie together: `passes.woven`."""

from __future__ import annotations

from typing import Any

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.signature import Way
from logitx.backends.numba.kernels.softmax import NormalizeLongArrays, NormalizeOptions, NormalizeTask, formula_of
from logitx.backends.numba.memory.arguments import (
    FAILED,
    OK,
    UNFIT,
    bytes_per_element,
    view_beside,
    view_of_entries,
    view_of_rows,
)
from logitx.backends.numba.memory.load_store import stream
from logitx.backends.numba.memory.prefetch import STREAMED
from logitx.backends.numba.memory.scratch import is_missing, load_anywhere, load_lanes, release, store_lanes
from logitx.backends.numba.passes.finish import Logarithm, Scaled, finish_element
from logitx.backends.numba.passes.scaling import exponent
from logitx.backends.numba.passes.woven import (
    entries_at,
    lies_together,
    periods_of_piece,
    reduce_slab,
    room_for_slab,
    unscaled_lanes,
    weave_of,
    write_entries,
)
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import exp_of_sum
from logitx.backends.numba.vectors.lanes import least, width_of


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
    task = NormalizeTask(0, out, log, options.undefined)
    like = view_of_rows(arrays.like)
    if x.outer >= parts:
        fine = together(crew, job_of(_normalize_slabs, (x, task, keeping, like)), parts)
    else:
        fine = _slabs_between(x, task, keeping, like, 0, x.outer, parts, crew)
    return OK if fine else FAILED


@primitive
def _normalize_slabs(x: Any, task: Any, keeping: Any, like: Any, part: int, parts: int) -> bool:
    """Normalize the slabs of a part, each by this thread alone."""
    first, stop = x.outer * part // parts, x.outer * (part + 1) // parts
    fine: bool = _slabs_between(x, task, keeping, like, first, stop, 1, 0)
    return fine


@primitive
def _slabs_between(x: Any, task: Any, keeping: Any, like: Any, first: int, stop: int, parts: int, crew: int) -> bool:
    """Normalize slabs one after the other; return False if there is no memory."""
    w, out = weave_of(x.n, x.inner, like), task.out
    room = room_for_slab(w, like)
    if is_missing(room.tops):
        return False
    for slab in range(first, stop):
        start, to = slab * x.outer_stride, slab * out.outer_stride
        if keeping is None:
            reduce_slab(x, None, w, start, to, room, parts, crew)
            _settle_formula(w, room, task.undefined, task.log)
            together(crew, job_of(_write_slab, (x, task, None, w, start, to, room)), parts)
        else:
            reduce_slab(x, out, w, start, to, room, parts, crew)
            _settle_formula(w, room, task.undefined, task.log)
            together(crew, job_of(_write_slab, (out, task, keeping, w, to, to, room)), parts)
    release(room.tops)
    return True


@primitive
def _settle_formula(w: Any, room: Any, undefined: float, log: Any) -> None:
    """Replace the rest of every row, and what was lost in rounding it, by what the last pass needs."""
    scale = unscaled_lanes(room.tops)
    for at in range(0, (w.vectors + 1) * width_of(room.tops), width_of(room.tops)):
        rest, lost = load_lanes(room.rests, at), load_lanes(room.lost, at)
        how = formula_of(load_lanes(room.tops, at), rest, lost, scale, undefined, log)
        if log is None:
            store_lanes(room.rests, at, how.high)
            store_lanes(room.lost, at, how.low)
        else:
            store_lanes(room.rests, at, how.log_sum)


@primitive
def _write_slab(
    source: Any, task: Any, kept: Any, w: Any, start: int, to: int, room: Any, part: int, parts: int
) -> bool:
    """Write the pieces of a part, from logits, or with `kept` from exponentials, which may be in a cache."""
    lanes, step, out = width_of(room.tops), bytes_per_element(task.out), task.out
    streamed = kept is None and source.outer * w.size * step >= STREAMED
    for piece in range(w.pieces * part // parts, w.pieces * (part + 1) // parts):
        first, stop = periods_of_piece(w, piece)
        at, end, phase = first * w.step, least(stop * w.step, w.size), 0
        if streamed:
            phase = least((64 - (out.address + to + at * step) % 64) % 64 // step, end - at)
            streamed = (out.address + to + (at + phase) * step) % 64 == 0
            if phase > 0:
                write_entries(out, to, at, phase, _finished(source, task.log, kept, start, at, end - at, 0, room))
                at += phase
        while at < end:
            if phase >= w.step:
                phase -= w.step
            y = _finished(source, task.log, kept, start, at, end - at, phase, room)
            if streamed and at + lanes <= end:
                stream(out, to + at * step, y)
            else:
                write_entries(out, to, at, end - at, y)
            at, phase = at + lanes, phase + lanes
    return True


@primitive
def _finished(source: Any, log: Any, kept: Any, start: int, at: int, count: int, phase: int, room: Any) -> Any:
    """Return results from an entry of a slab on; `phase` is the place of the first in its period."""
    y = entries_at(source, start, at, count, room.tops)
    if log is not None:
        facts = load_anywhere(room.tops, phase), load_anywhere(room.rests, phase), unscaled_lanes(room.tops)
        return finish_element(y, Logarithm(*facts))
    if kept is None:
        v, lost = exponent(y, load_anywhere(room.tops, phase), unscaled_lanes(room.tops))
        y = exp_of_sum(v, lost)
    return finish_element(y, Scaled(load_anywhere(room.rests, phase), load_anywhere(room.lost, phase)))
