"""Gradients by the logits along an axis that is not the last, of entries that lie together: `passes.woven`."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.signature import Way
from logitx.backends.numba.kernels.vjp import PullBackArrays, PullBackOptions
from logitx.backends.numba.kernels.vjp_rows import plus_cotangent, pulled_back_vector
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.prefetch import is_streamed
from logitx.backends.numba.memory.scratch import (
    after,
    is_missing,
    load_anywhere,
    load_lanes,
    place_one,
    release,
    store_lanes,
    take_one,
)
from logitx.backends.numba.passes.sums import add_to_sum
from logitx.backends.numba.passes.woven import (
    Slab,
    Slabs,
    define_finish,
    entries_at,
    lies_together,
    own_slabs,
    periods_of_piece,
    repeat_rows,
    room_for_slab,
    weave_of,
    write_slab,
)
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.lanes import least, spread_as, width_of


class Pulled(NamedTuple):
    """Facts of the gradient by softmax; in `room` the total of each row in two parts is where rests are."""

    value: Any
    cotangent: Any
    slab: Any
    other: int  # where the slab begins in the cotangents


class PulledLog(NamedTuple):
    """Facts of the gradient by log_softmax."""

    value: Any
    cotangent: Any
    slab: Any
    other: int


def pull_back_woven(arrays: PullBackArrays, options: PullBackOptions, log: Way, parts: int, crew: int) -> int:
    """Write p (dp - sum of p dp), or with `log` dlog_p - p sum of dlog_p, of slabs (n, inner)."""
    value, fits_value = view_of_entries(arrays.value, options.axis)
    cotangent, fits_cotangent = view_beside(arrays.cotangent, options.axis, value)
    out, fits_out = view_beside(arrays.out, options.axis, value)
    if not (fits_value and fits_cotangent and fits_out):
        return UNFIT
    if not (lies_together(value) and lies_together(cotangent) and lies_together(out)):
        return UNFIT
    views, like = PullBackArrays(value, cotangent, out, None), view_of_rows(arrays.like)
    if value.outer >= parts:
        fine = together(crew, job_of(_pull_back_own, (views, log, like)), parts)
    else:
        fine = _pull_back_slabs(views, log, like, Slabs(0, value.outer, parts, crew))
    return OK if fine else FAILED


@primitive
def _pull_back_own(views: Any, log: Any, like: Any, part: int, parts: int) -> bool:
    fine: bool = _pull_back_slabs(views, log, like, own_slabs(views.value.outer, part, parts))
    return fine


@primitive
def _pull_back_slabs(views: Any, log: Any, like: Any, slabs: Any) -> bool:
    """Pull back through slabs one after the other; return False if there is no memory."""
    value, cotangent, out = views.value, views.cotangent, views.out
    w = weave_of(value.n, value.inner, like)
    room = room_for_slab(w, like)
    if is_missing(room.tops):
        return False
    for index in range(slabs.first, slabs.stop):
        slab = Slab(w, room, index, index * value.outer_stride, index * out.outer_stride)
        facts = _facts_of(value, cotangent, slab, index * cotangent.outer_stride, log)
        together(slabs.crew, job_of(_add_up, (facts, log)), slabs.parts)
        _totals_of_rows(slab)
        together(slabs.crew, job_of(write_slab, (out, slab, is_streamed(out, out), facts)), slabs.parts)
    release(room.tops)
    return True


@primitive
def _facts_of(value: Any, cotangent: Any, slab: Any, other: int, log: Any) -> Any:
    if log is None:
        return Pulled(value, cotangent, slab, other)
    return PulledLog(value, cotangent, slab, other)


@primitive
def _add_up(facts: Any, log: Any, part: int, parts: int) -> bool:
    w, sums = facts.slab.w, facts.slab.room.sums
    for piece in range(w.pieces * part // parts, w.pieces * (part + 1) // parts):
        _sums_of_piece(facts, log, piece, after(sums, 2 * piece * w.vectors * width_of(sums)))
    return True


@primitive
def _sums_of_piece(facts: Any, log: Any, piece: int, sums: Any) -> None:
    """Write to `sums` the sum of p dp, or with `log` of dlog_p, of every lane of a period, in two parts."""
    w, lanes = facts.slab.w, width_of(sums)
    low = after(sums, w.vectors * lanes)
    for at in range(0, 2 * w.vectors * lanes, lanes):
        store_lanes(sums, at, spread_as(sums, 0.0))
    first, stop = periods_of_piece(w, piece)
    for period in range(first, stop):
        begin = period * w.step
        left = least(w.step, w.size - begin)
        for at in range(0, left, lanes):
            x = entries_at(facts.value, facts.slab.start, begin + at, left - at, sums, 0.0)
            y = entries_at(facts.cotangent, facts.other, begin + at, left - at, sums, 0.0)
            total, lost = plus_cotangent(load_lanes(sums, at), load_lanes(low, at), x, y, log)
            store_lanes(sums, at, total)
            store_lanes(low, at, lost)


@primitive
def _totals_of_rows(slab: Any) -> None:
    """Write the sum of the row of every lane in two parts, from the sums of all pieces."""
    w, sums, totals, lost = slab.w, slab.room.sums, slab.room.rests, slab.room.lost
    lanes = width_of(sums)
    size = w.vectors * lanes
    low = after(sums, size)
    for piece in range(1, w.pieces):
        other = after(sums, 2 * size * piece)
        for at in range(0, size, lanes):
            total, beside = add_to_sum(load_lanes(sums, at), load_lanes(low, at), load_lanes(other, at))
            store_lanes(sums, at, total)
            store_lanes(low, at, beside + load_lanes(other, size + at))
    for row in range(w.inner):
        high, rest = 0.0, 0.0
        for at in range(row, size, w.inner):
            beside = float(take_one(low, at))
            high, rest = add_to_sum(high, rest + (beside if beside == beside else 0.0), float(take_one(sums, at)))
        rest = rest if rest == rest else 0.0  # inf - inf in the error of an infinite sum is NaN: drop it
        place_one(totals, row, high + rest)
        left = (high - float(take_one(totals, row))) + rest
        place_one(lost, row, left if left == left else 0.0)
    repeat_rows(w, totals)
    repeat_rows(w, lost)


@primitive
def _finished(at: int, count: int, phase: int, facts: Any, log: Any) -> Any:
    """Return gradients from an entry of the slab on."""
    room = facts.slab.room
    value = entries_at(facts.value, facts.slab.start, at, count, room.tops, 0.0)
    cotangent = entries_at(facts.cotangent, facts.other, at, count, room.tops, 0.0)
    return pulled_back_vector(value, cotangent, load_anywhere(room.rests, phase), load_anywhere(room.lost, phase), log)


@primitive
def _pulled(at: int, count: int, phase: int, facts: Any) -> Any:
    return _finished(at, count, phase, facts, None)


@primitive
def _pulled_log(at: int, count: int, phase: int, facts: Any) -> Any:
    return _finished(at, count, phase, facts, True)


define_finish(Pulled, _pulled)
define_finish(PulledLog, _pulled_log)
