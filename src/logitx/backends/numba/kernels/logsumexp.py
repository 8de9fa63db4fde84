"""logsumexp: one read of the logits, one number written a row."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.signature import Computed, Mask, OfLogits, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, entries, given, rows
from logitx.backends.numba.memory.load_store import write
from logitx.backends.numba.memory.scratch import load, missing, release, reserve
from logitx.backends.numba.passes.copies import load_block
from logitx.backends.numba.passes.long_rows import FACTS, pieces_of, reduce_row
from logitx.backends.numba.passes.loop import (
    Logits,
    Passes,
    Room,
    define,
    maximum_of,
    next_block,
    nothing_to_begin,
    nothing_to_load,
    nothing_to_store,
    run_blocks,
)
from logitx.backends.numba.passes.reduce import emit, hide, nans_beside_infinity, normalizer, peak, rest_of
from logitx.backends.numba.passes.sums import dot, folded
from logitx.backends.numba.threads.workers import job, together
from logitx.backends.numba.vectors.exp_log import log1p
from logitx.backends.numba.vectors.lanes import any_of, lane, select, spread, width


class LogsumexpArrays(NamedTuple):
    """The arrays of `reduce`; `like` is absent and has the dtype to compute in."""

    logits: OfLogits
    b: Computed
    where: Mask
    like: Computed
    value: OfResult
    sign: OfResult  # of the sum


class Logarithms(NamedTuple):
    """The task of the loop without b."""

    value: Any
    sign: Any


class SignedLogarithms(NamedTuple):
    """The task of the loop with b, which may be absent."""

    b: Any
    where: Any
    value: Any
    sign: Any


class Total(NamedTuple):
    """The numbers of each row."""

    top: Any
    nans: Any
    rest: Any
    lost: Any


class SignedTotal(NamedTuple):
    """The numbers of each row, with b."""

    top: Any
    nans: Any
    rest: Any
    lost: Any
    total: Any  # sum of b exp(x - top)
    positive: Any  # how many entries are +inf, by the sign of b
    negative: Any


def reduce(arrays: LogsumexpArrays, axis: int, across: Way, adjusted: Way, parts: int, crew: int) -> int:
    """Write log(sum of b exp(x)) of every row and the sign of the sum; without `adjusted` there is no b and no mask."""
    x, fits_x = entries(arrays.logits, axis)
    b, fits_b = entries(arrays.b, axis)
    where, fits_where = entries(arrays.where, axis)
    if not (fits_x and fits_b and fits_where):
        return UNFIT
    value, sign = rows(arrays.value), rows(arrays.sign)
    if x.n == 0:
        for row in range(value.outer):
            write(value, row * value.outer_stride, -np.inf)
        for row in range(sign.outer):
            write(sign, row * sign.outer_stride, 0.0)
    logits = Logits(x, where, rows(arrays.like), rows(arrays.like))
    if adjusted is None:
        work = job(run_blocks, (logits, Logarithms(value, sign), across, None, None))
    else:
        work = job(run_blocks, (logits, SignedLogarithms(b, where, value, sign), across, adjusted, None))
    return OK if together(crew, work, parts) else FAILED


@primitive
def _no_room(_g: Any, _lanes: int, _capped: bool, _task: Any) -> Any:
    return Room(0, False, False, 0, 0.0)


@inlined
def _reduce(panel: Any, across: Any, _task: Any) -> Any:
    tile, base, steps = panel.memory.tile, panel.base, panel.g.steps
    ahead = next_block(panel, across)
    top = maximum_of(panel, across)
    nans = nans_beside_infinity(tile, base, steps, top, across)
    rest, lost = rest_of(tile, base, steps, top, panel.scale, None, ahead, across)
    return Total(top, nans, rest, lost)


@inlined
def _emit_logarithm(panel: Any, found: Any, _across: Any, task: Any) -> bool:
    zero = spread(found.rest, 0.0)
    log_z = normalizer(found.top, found.rest, found.nans, found.top + log1p(found.rest, found.lost))
    emit(task.value, panel.row, panel.rows, log_z)
    if given(task.sign):
        positive = select(found.rest < zero, zero, spread(found.rest, 1.0))
        emit(task.sign, panel.row, panel.rows, select(log_z == log_z, positive, log_z))
    return True


define(Logarithms, Passes(_no_room, nothing_to_begin, nothing_to_load, _reduce, _emit_logarithm, nothing_to_store))


@inlined
def _room(g: Any, _lanes: int, _capped: bool, task: Any) -> Any:
    return Room(0, False, False, given(task.b) * g.size, 0.0)


@inlined
def _load_factor(memory: Any, g: Any, _block: int, first: int, count: int, across: Any, task: Any) -> None:
    """Load b; logits where it is 0 do not count."""
    if given(task.b):
        load_block(task.b, g, first, count, memory.more, 0.0, across)
        if given(task.where):
            hide(memory.more, memory.mask, g.size, 0.0)
        hide(memory.tile, memory.more, g.size, -np.inf)


@inlined
def _reduce_signed(panel: Any, across: Any, task: Any) -> Any:
    tile, factor, base, steps = panel.memory.tile, panel.memory.more, panel.base, panel.g.steps
    ahead = next_block(panel, across)
    top = peak(tile, base, steps, panel.seen, panel.unchanged and not given(task.b), across)
    nans = nans_beside_infinity(tile, base, steps, top, across)
    zero = spread(top, 0.0)
    positive, negative = zero, zero
    if given(task.b) and any_of(top == spread(top, np.inf)):  # what is infinite decides alone, by its sign
        positive = _count_infinite(tile, factor, base, steps, 1.0, across)
        negative = _count_infinite(tile, factor, base, steps, -1.0, across)
    rest, lost = rest_of(tile, base, steps, top, panel.scale, None, ahead, across)
    total = rest
    if given(task.b):
        total, _ = dot(factor, tile, base, steps, across)
    return SignedTotal(top, nans, rest, lost, total, positive, negative)


@inlined
def _emit_signed(panel: Any, found: Any, across: Any, task: Any) -> bool:
    if given(task.b):
        _emit_signs(panel, found, task)
    else:
        _emit_logarithm(panel, found, across, task)
    return True


@primitive
def _emit_signs(panel: Any, found: Any, task: Any) -> None:
    value, sign, zero, one = task.value, task.sign, spread(found.top, 0.0), spread(found.top, 1.0)
    nan = spread(found.top, np.nan)
    from_positive = select(found.negative > zero, nan, one)
    certain = select(found.positive > zero, from_positive, select(found.negative > zero, zero - one, nan))
    infinite = found.top == spread(found.top, np.inf)
    total = select(infinite, select(found.nans == zero, certain, nan), found.total)
    for i in range(panel.rows):
        number = float(lane(total, i))
        size = float(lane(found.top, i))
        direction = 1.0 if number > 0.0 else -1.0 if number < 0.0 else number
        result = -np.inf if number == 0.0 else size + math.log(abs(number))
        if number < 0.0 and not given(sign):
            result = np.nan
        write(value, (panel.row + i) * value.outer_stride, result)
        if given(sign):
            write(sign, (panel.row + i) * sign.outer_stride, direction)


@primitive
def _count_infinite(tile: Any, factor: Any, base: int, steps: int, direction: float, across: Any) -> Any:
    """Return how many entries are +inf with a factor of this sign."""
    zero, one = spread(tile, 0.0), spread(tile, 1.0)
    count = zero
    for at in range(base, base + steps * width(tile), width(tile)):
        aligned = load(factor, at) * spread(tile, direction) > zero
        count = count + select(load(tile, at) == spread(tile, np.inf), select(aligned, one, zero), zero)
    return folded(count, zero, across)


define(
    SignedLogarithms,
    Passes(_room, nothing_to_begin, _load_factor, _reduce_signed, _emit_signed, nothing_to_store),
)


class LogsumexpLongArrays(NamedTuple):
    """The arrays of `reduce_long`; the last two are absent and have the dtype to compute in, and float64."""

    logits: OfLogits
    value: OfResult
    like: Computed
    wide: Wide


def reduce_long(arrays: LogsumexpLongArrays, axis: int, parts: int, crew: int) -> int:
    """Write log(sum of exp(x)) of long rows."""
    logits, fits = entries(arrays.logits, axis)
    if not fits:
        return UNFIT
    facts = reserve(FACTS * pieces_of(logits.n), rows(arrays.wide))
    if missing(facts):
        return FAILED
    found, fine = rows(arrays.value), True
    for row in range(logits.outer):
        reduced, top, rest, nans = reduce_row(logits, None, row, facts, rows(arrays.like), parts, crew)
        emit(found, row, 1, normalizer(top, rest, nans, top + log1p(rest, spread(rest, 0.0))))
        fine = fine and reduced
    release(facts)
    return OK if fine else FAILED
