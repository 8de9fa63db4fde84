"""Cross-entropy of class ids along an axis that is not the last, of entries that lie together: `passes.woven`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.cross_entropy_long import HardLongArrays
from logitx.backends.numba.kernels.signature import Way
from logitx.backends.numba.memory.arguments import (
    FAILED,
    UNFIT,
    bytes_per_element,
    given,
    view_beside,
    view_of_entries,
    view_of_rows,
)
from logitx.backends.numba.memory.load_store import read_one, write_back
from logitx.backends.numba.memory.prefetch import is_streamed
from logitx.backends.numba.memory.scratch import (
    after,
    is_missing,
    load_anywhere,
    load_lanes,
    place_one,
    release,
    reserve,
    store_lanes,
    take_one,
)
from logitx.backends.numba.passes.blocks import geometry_of
from logitx.backends.numba.passes.class_ids import CHANGE, LABEL_SHARE, LOGIT, LabelRule, count_labels, label_of
from logitx.backends.numba.passes.finish import Gradient, finish_element
from logitx.backends.numba.passes.loss import (
    LossNumbers,
    Place,
    finish_label_loss,
    has_room,
    logarithms_of,
    losses_to_write,
    slopes_of,
)
from logitx.backends.numba.passes.reports import MEAN, blank_reports, mean_factor, report_bad, settle_all
from logitx.backends.numba.passes.scaling import exponent, unscaled
from logitx.backends.numba.passes.woven import (
    Slab,
    Slabs,
    count_nans,
    define_finish,
    entries_at,
    lies_together,
    own_slabs,
    reduce_slab,
    repeat_rows,
    room_for_slab,
    weave_of,
    write_slab,
)
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import exp_of_sum
from logitx.backends.numba.vectors.lanes import least, select, spread_as, width_of


class WovenLossTask(NamedTuple):
    """What the slabs of a call share."""

    labels: Any
    losses: Any
    out: Any  # the gradient, or no array
    z_loss: float
    factor: float
    like: Any


class SlopeOfExponentials(NamedTuple):
    """Facts of the gradient from exponentials."""

    source: Any
    start: int
    room: Any


class SlopeOfLogits(NamedTuple):
    """Facts of the gradient from logits."""

    source: Any
    start: int
    room: Any


def hard_woven(arrays: HardLongArrays, numbers: LossNumbers, backward: Way, keeping: Way, parts: int, crew: int) -> Any:
    """Write losses, or their sum or mean, and what else is not None; return a bad row or a code of `arguments`.

    With `keeping` the gradient holds the exponentials until they are normalized.
    """
    x, fits_x = view_of_entries(arrays.logits, numbers.axis)
    out, fits_out = view_beside(arrays.grad, numbers.axis, x)
    if not (fits_x and fits_out and has_room(arrays, numbers, x) and lies_together(x)):
        return UNFIT
    if given(out) and not lies_together(out):
        return UNFIT
    like, double = view_of_rows(arrays.like), view_of_rows(arrays.wide)
    labels = LabelRule(view_of_rows(arrays.labels), numbers.ignoring, numbers.ignored, like, like, like, None)
    factor = 1.0
    if backward is not None and numbers.reduction == MEAN:
        total, bad = count_labels(geometry_of(x, like, None), labels)
        if bad >= 0:
            return bad
        factor = mean_factor(total)
    blocks = x.outer * vectors_of_rows(x, like)
    reports = blank_reports(blocks, double)
    if is_missing(reports):
        return FAILED
    task = WovenLossTask(labels, losses_to_write(arrays, reports, numbers), out, numbers.z_loss, factor, like)
    if x.outer >= parts:
        fine = together(crew, job_of(_run_own, (x, task, backward, keeping)), parts)
    else:
        fine = _run_slabs(x, task, backward, keeping, Slabs(0, x.outer, parts, crew))
    code = settle_all(reports, blocks, task.losses) if fine else FAILED
    release(reports)
    return code


@primitive
def vectors_of_rows(x: Any, like: Any) -> int:
    """Return how many vectors hold one number for each row of a slab."""
    count: int = (x.inner + width_of(like) - 1) // width_of(like)
    return count


@primitive
def _run_own(x: Any, task: Any, backward: Any, keeping: Any, part: int, parts: int) -> bool:
    fine: bool = _run_slabs(x, task, backward, keeping, own_slabs(x.outer, part, parts))
    return fine


@primitive
def _run_slabs(x: Any, task: Any, backward: Any, keeping: Any, slabs: Any) -> bool:
    """Compute slabs one after the other; return False if there is no memory."""
    w, out, like = weave_of(x.n, x.inner, task.like), task.out, task.like
    room, lanes = room_for_slab(w, like), width_of(like)
    numbers = reserve((3 + vectors_of_rows(x, like)) * lanes, like)  # three of the rows at hand, and changes of all
    if is_missing(room.tops) or is_missing(numbers):
        return False
    for index in range(slabs.first, slabs.stop):
        slab = Slab(w, room, index, index * x.outer_stride, index * out.outer_stride)
        if keeping is None:
            reduce_slab(x, None, slab, slabs.parts, slabs.crew)
        else:
            reduce_slab(x, out, slab, slabs.parts, slabs.crew)
        count_nans(x, slab)
        for at in range(0, w.inner, lanes):
            _finish_rows(x, slab, at, task, numbers, backward)
        if backward is not None:
            repeat_rows(w, room.rests)
            repeat_rows(w, room.lost)
            repeat_rows(w, room.sums)
            facts, streamed = _facts_of(x, out, slab, keeping), keeping is None and is_streamed(out, out)
            together(slabs.crew, job_of(write_slab, (out, slab, streamed, facts)), slabs.parts)
            _write_labels(x, slab, task, numbers)
    release(room.tops)
    release(numbers)
    return True


@primitive
def _finish_rows(x: Any, slab: Any, at: int, task: Any, numbers: Any, backward: Any) -> None:
    """Hand in the losses of a vector of rows; replace what they were reduced to by what their gradients need."""
    w, room, lanes, size = slab.w, slab.room, width_of(numbers), bytes_per_element(x)
    row, rows = slab.nth * w.inner + at, least(lanes, w.inner - at)
    block = slab.nth * vectors_of_rows(x, numbers) + at // lanes
    store_lanes(numbers, LOGIT * lanes, spread_as(numbers, 0.0))
    store_lanes(numbers, LABEL_SHARE * lanes, spread_as(numbers, 0.0))
    for i in range(rows):
        label, good = label_of(task.labels, row + i, x.n)
        if good > 0:
            logit = read_one(x, slab.start + (label * w.inner + at + i) * size, numbers)
            place_one(numbers, LOGIT * lanes + i, logit)
            place_one(numbers, LABEL_SHARE * lanes + i, 1.0)
        elif good < 0:
            report_bad(task.losses.reports, block, row + i)
    top, scale = load_lanes(room.tops, at), unscaled(numbers)
    reduced = logarithms_of(top, load_lanes(room.rests, at), load_lanes(room.lost, at), scale)
    nans = load_lanes(room.sums, at)
    finish_label_loss(task.losses, Place(block, row, rows), reduced, nans, numbers, scale, None)
    if backward is not None:
        slopes = slopes_of(numbers, scale, reduced, task.z_loss, task.factor, None)
        store_lanes(room.rests, at, slopes.high)
        store_lanes(room.lost, at, slopes.low)
        store_lanes(room.sums, at, select(slopes.quiet, spread_as(numbers, 0.0), slopes.slant))
        store_lanes(_changes(numbers), at, load_lanes(numbers, CHANGE * lanes))


@primitive
def _changes(numbers: Any) -> Any:
    """Return where the gradients of the labels are kept."""
    return after(numbers, 3 * width_of(numbers))


@primitive
def _write_labels(x: Any, slab: Any, task: Any, numbers: Any) -> None:
    """Write the gradients of the labels, and 0 where the logit is -inf in a row with a NaN or +inf."""
    w, out, size, step = slab.w, task.out, bytes_per_element(x), bytes_per_element(task.out)
    for i in range(w.inner):
        label, good = label_of(task.labels, slab.nth * w.inner + i, x.n)
        if good > 0:
            write_back(out, slab.to + (label * w.inner + i) * step, take_one(_changes(numbers), i))
        high = take_one(slab.room.rests, i)
        if high != high:
            for at in range(i, w.size, w.inner):
                if read_one(x, slab.start + at * size, numbers) == -np.inf:
                    write_back(out, slab.to + at * step, 0.0)


@primitive
def _facts_of(x: Any, out: Any, slab: Any, keeping: Any) -> Any:
    if keeping is None:
        return SlopeOfLogits(x, slab.start, slab.room)
    return SlopeOfExponentials(out, slab.to, slab.room)


@primitive
def _slope(e: Any, phase: int, room: Any) -> Any:
    """Return the gradient of every class as if it were not the label; 0 in rows that have none, even for a NaN."""
    slant = load_anywhere(room.sums, phase)
    quiet = slant == spread_as(slant, 0.0)
    return finish_element(e, Gradient(quiet, slant, load_anywhere(room.rests, phase), load_anywhere(room.lost, phase)))


@primitive
def _slope_of_exponentials(at: int, count: int, phase: int, facts: Any) -> Any:
    return _slope(entries_at(facts.source, facts.start, at, count, facts.room.tops, 0.0), phase, facts.room)


@primitive
def _slope_of_logits(at: int, count: int, phase: int, facts: Any) -> Any:
    room = facts.room
    x = entries_at(facts.source, facts.start, at, count, room.tops, -np.inf)
    v, lost = exponent(x, load_anywhere(room.tops, phase), unscaled(room.tops))
    return _slope(exp_of_sum(v, lost), phase, room)


define_finish(SlopeOfExponentials, _slope_of_exponentials)
define_finish(SlopeOfLogits, _slope_of_logits)
