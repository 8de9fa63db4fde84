"""logsumexp: one read of the logits, one number written a row."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.signature import Computed, Mask, OfLogits, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import (
    FAILED,
    OK,
    UNFIT,
    given,
    has_one_a_row,
    view_beside,
    view_of_entries,
    view_of_rows,
)
from logitx.backends.numba.memory.load_store import write_back
from logitx.backends.numba.memory.prefetch import ahead_of
from logitx.backends.numba.memory.scratch import is_missing, load_lanes, release, reserve, store_lanes, take_one
from logitx.backends.numba.passes.class_ids import entry, place_in_panel
from logitx.backends.numba.passes.copies import load_block
from logitx.backends.numba.passes.long_rows import PIECE_NUMBERS, pieces_of, reduce_long_row
from logitx.backends.numba.passes.loop import (
    Logits,
    Passes,
    RoomNeeds,
    define_passes,
    run_blocks,
    run_rows,
)
from logitx.backends.numba.passes.reduce import emit, hide, log_normalizer_of, nans_beside_infinity, peak, rest_of
from logitx.backends.numba.passes.sums import add_to_sum, dot_of_tiles, fold_rows
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import log1p_of_sum
from logitx.backends.numba.vectors.lanes import any_of, biggest, lane, select, spread_as, width_of


class LogsumexpArrays(NamedTuple):
    """The arrays of `logsumexp_rows`; `like` is absent and has the dtype to compute in."""

    logits: OfLogits
    b: Computed
    log_b: Computed  # added to the logits; with `b` it is absent
    where: Mask
    like: Computed
    value: OfResult
    sign: OfResult  # of the sum


class LogsumexpTask(NamedTuple):
    """The task of the loop without b."""

    room: Any
    value: Any
    sign: Any


class SignedLogsumexpTask(NamedTuple):
    """The task of the loop with b or log_b, which may be absent."""

    room: Any
    b: Any
    log_b: Any
    where: Any
    value: Any
    sign: Any


class LogsumexpNumbers(NamedTuple):
    """The numbers of each row."""

    top: Any
    nans: Any
    rest: Any
    lost: Any


class SignedLogsumexpNumbers(NamedTuple):
    """The numbers of each row, with b."""

    top: Any
    nans: Any
    rest: Any
    lost: Any
    total: Any  # sum of b exp(x - top)
    positive: Any  # how many entries are +inf, by the sign of b
    negative: Any


def logsumexp_rows(arrays: LogsumexpArrays, axis: int, across: Way, adjusted: Way, parts: int, crew: int) -> int:
    """Write log(sum of b exp(x)) of every row and the sign of the sum; without `adjusted` there is nothing beside x."""
    x, fits_x = view_of_entries(arrays.logits, axis)
    b, fits_b = view_beside(arrays.b, axis, x)
    log_b, fits_log_b = view_beside(arrays.log_b, axis, x)
    where, fits_where = view_beside(arrays.where, axis, x)
    value, sign = view_of_rows(arrays.value), view_of_rows(arrays.sign)
    if not (fits_x and fits_b and fits_log_b and fits_where and has_one_a_row(value, x) and has_one_a_row(sign, x)):
        return UNFIT
    if x.n == 0:
        for row in range(value.outer):
            write_back(value, row * value.outer_stride, -np.inf)
        for row in range(sign.outer):
            write_back(sign, row * sign.outer_stride, 0.0)
    logits = Logits(x, where, view_of_rows(arrays.like), view_of_rows(arrays.like))
    if adjusted is None:
        task = LogsumexpTask(RoomNeeds(0, 0, 0, False, False, 0.0), value, sign)
        if across is None:
            fine = together(crew, job_of(run_blocks, (logits, task, None, None, None)), parts)
        else:
            fine = together(crew, job_of(run_rows, (logits, task, across)), parts)
    else:
        needs = RoomNeeds(0, given(b) or given(log_b), 0, False, False, 0.0)
        signed = SignedLogsumexpTask(needs, b, log_b, where, value, sign)
        fine = together(crew, job_of(run_blocks, (logits, signed, across, adjusted, None)), parts)
    return OK if fine else FAILED


@inlined
def _reduce_to_logarithm(panel: Any, across: Any, _task: Any) -> Any:
    tile, base, steps = panel.memory.tile, panel.base, panel.g.steps
    ahead = ahead_of(panel.x, panel.g, panel.first, panel.nth, panel.memory.tile, across)
    top = peak(panel.memory.tile, panel.base, panel.g.steps, panel.seen, panel.unchanged, across)
    nans = nans_beside_infinity(tile, base, steps, top, across)
    rest, lost = rest_of(tile, base, steps, top, panel.scale, None, ahead, across)
    return LogsumexpNumbers(top, nans, rest, lost)


@inlined
def _emit_logarithm(panel: Any, found: Any, _across: Any, task: Any) -> bool:
    zero = spread_as(found.rest, 0.0)
    log_z = log_normalizer_of(found.top, found.rest, found.nans, found.top + log1p_of_sum(found.rest, found.lost))
    emit(task.value, panel.row, panel.rows, log_z)
    if given(task.sign):
        positive = select(found.rest < zero, zero, spread_as(found.rest, 1.0))
        emit(task.sign, panel.row, panel.rows, select(log_z == log_z, positive, log_z))
    return True


define_passes(
    LogsumexpTask,
    Passes(None, None, _reduce_to_logarithm, _emit_logarithm, None),
)


@inlined
def _load_factor(memory: Any, g: Any, _block: int, first: int, count: int, across: Any, task: Any) -> None:
    """Load b, or add log_b; logits where b is 0 do not count."""
    if given(task.log_b):
        load_block(task.log_b, g, first, count, memory.more, 0.0, across)
        _add_log_factor(memory.tile, memory.more, g.size)
        if given(task.where):
            hide(memory.tile, memory.mask, g.size, -np.inf)
    if given(task.b):
        load_block(task.b, g, first, count, memory.more, 0.0, across)
        if given(task.where):
            hide(memory.more, memory.mask, g.size, 0.0)
        hide(memory.tile, memory.more, g.size, -np.inf)


@primitive
def _add_log_factor(tile: Any, more: Any, size: int) -> None:
    """Add log_b; where either is -inf, the other does not count unless it is a NaN of log_b."""
    low, high = spread_as(tile, -np.inf), spread_as(tile, np.inf)
    for at in range(0, size, width_of(tile)):
        x, log_b = load_lanes(tile, at), load_lanes(more, at)
        total = select(log_b == low, low, x + log_b)
        store_lanes(tile, at, select(x == low, select(log_b == high, low, total), total))


@inlined
def _reduce_signed(panel: Any, across: Any, task: Any) -> Any:
    tile, factor, base, steps = panel.memory.tile, panel.memory.more, panel.base, panel.g.steps
    ahead = ahead_of(panel.x, panel.g, panel.first, panel.nth, panel.memory.tile, across)
    top = peak(tile, base, steps, panel.seen, panel.unchanged and not (given(task.b) or given(task.log_b)), across)
    nans = nans_beside_infinity(tile, base, steps, top, across)
    zero = spread_as(top, 0.0)
    positive, negative = zero, zero
    if given(task.b) and any_of(top == spread_as(top, np.inf)):  # what is infinite decides alone, by its sign
        positive = _count_infinite(tile, factor, base, steps, 1.0, across)
        negative = _count_infinite(tile, factor, base, steps, -1.0, across)
    rest, lost = rest_of(tile, base, steps, top, panel.scale, None, ahead, across)
    total = rest
    if given(task.b):
        total, _ = dot_of_tiles(factor, tile, base, steps, across)
    return SignedLogsumexpNumbers(top, nans, rest, lost, total, positive, negative)


@inlined
def _emit_signed(panel: Any, found: Any, across: Any, task: Any) -> bool:
    if given(task.b):
        _emit_signs(panel, found, across, task)
    else:
        _emit_logarithm(panel, found, across, task)
    return True


@primitive
def _emit_signs(panel: Any, found: Any, across: Any, task: Any) -> None:
    value, sign, zero, one = task.value, task.sign, spread_as(found.top, 0.0), spread_as(found.top, 1.0)
    nan = spread_as(found.top, np.nan)
    from_positive = select(found.negative > zero, nan, one)
    certain = select(found.positive > zero, from_positive, select(found.negative > zero, zero - one, nan))
    infinite = found.top == spread_as(found.top, np.inf)
    total = select(infinite, select(found.nans == zero, certain, nan), found.total)
    for i in range(panel.rows):
        number = float(lane(total, i))
        size = float(lane(found.top, i))
        if abs(number) < LEAST_SUM / biggest(found.top):
            size, number = _below_what_cancels(panel, i, size, number, across)
        direction = 1.0 if number > 0.0 else -1.0 if number < 0.0 else number
        result = -np.inf if number == 0.0 else size + math.log(abs(number))
        if number < 0.0 and not given(sign):
            result = np.nan
        write_back(value, (panel.row + i) * value.outer_stride, result)
        if given(sign):
            write_back(sign, (panel.row + i) * sign.outer_stride, direction)


LEAST_SUM = 2.0**28  # times the least normal number: sums below that may have lost terms that are not 0


@primitive
def _below_what_cancels(panel: Any, i: int, size: float, number: float, across: Any) -> Any:
    """Return the maximum and the sum of a row without its largest logits, if the factors of these add up to 0.

    Equal logits leave no trace then, and what is below them may be too far below to be seen beside them.
    """
    tile, factor, n = panel.memory.tile, panel.memory.more, panel.g.n
    limit = np.inf
    while True:
        top = -np.inf
        for j in range(n):
            x = float(entry(panel.x, panel.g, panel.row + i, j, tile))
            if top < x < limit and take_one(factor, panel.base + place_in_panel(j, i, tile, across)) != 0.0:
                top = x
        if top == -np.inf:
            return 0.0, 0.0
        high, low, top_high, top_low = 0.0, 0.0, 0.0, 0.0
        for j in range(n):
            x = float(entry(panel.x, panel.g, panel.row + i, j, tile))
            b = float(take_one(factor, panel.base + place_in_panel(j, i, tile, across)))
            if b != 0.0 and x == top:
                top_high, top_low = add_to_sum(top_high, top_low, b)
            elif b != 0.0 and x < top:
                high, low = add_to_sum(high, low, b * math.exp(x - top))
        at_top, below = top_high + top_low, high + low
        if at_top != 0.0 and limit == np.inf:
            return size, number
        if at_top != 0.0:
            return top, at_top + below
        if abs(below) > LEAST_SUM / biggest(size):
            return top, below
        limit = top if below != 0.0 else top - 700.0  # all that exp can tell from 0 cancels too


@primitive
def _count_infinite(tile: Any, factor: Any, base: int, steps: int, direction: float, across: Any) -> Any:
    """Return how many entries are +inf with a factor of this sign."""
    zero, one = spread_as(tile, 0.0), spread_as(tile, 1.0)
    count = zero
    for at in range(base, base + steps * width_of(tile), width_of(tile)):
        aligned = load_lanes(factor, at) * spread_as(tile, direction) > zero
        count = count + select(load_lanes(tile, at) == spread_as(tile, np.inf), select(aligned, one, zero), zero)
    return fold_rows(count, zero, across)


define_passes(
    SignedLogsumexpTask,
    Passes(None, _load_factor, _reduce_signed, _emit_signed, None),
)


class LogsumexpLongArrays(NamedTuple):
    """The arrays of `logsumexp_long`; the last two are absent and have the dtype to compute in, and float64."""

    logits: OfLogits
    value: OfResult
    like: Computed
    wide: Wide


def logsumexp_long(arrays: LogsumexpLongArrays, axis: int, parts: int, crew: int) -> int:
    """Write log(sum of exp(x)) of long rows."""
    logits, fits = view_of_entries(arrays.logits, axis)
    found, fine = view_of_rows(arrays.value), True
    if not (fits and has_one_a_row(found, logits)):
        return UNFIT
    facts = reserve(PIECE_NUMBERS * pieces_of(logits.n), view_of_rows(arrays.wide))
    if is_missing(facts):
        return FAILED
    for row in range(logits.outer):
        reduced, top, rest, nans = reduce_long_row(logits, None, row, facts, view_of_rows(arrays.like), parts, crew)
        emit(found, row, 1, log_normalizer_of(top, rest, nans, top + log1p_of_sum(rest, spread_as(rest, 0.0))))
        fine = fine and reduced
    release(facts)
    return OK if fine else FAILED
