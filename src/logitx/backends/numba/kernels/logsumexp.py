"""logsumexp: one read of the logits, one number written a row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, entries, given, rows
from logitx.backends.numba.memory.load_store import write
from logitx.backends.numba.memory.prefetch import ahead_of
from logitx.backends.numba.memory.scratch import after, load, missing, release, reserve
from logitx.backends.numba.passes.blocks import blocks_of, geometry_of, panels, place, rows_in
from logitx.backends.numba.passes.copies import load_block
from logitx.backends.numba.passes.long_rows import FACTS, pieces_of, reduce_row
from logitx.backends.numba.passes.reduce import emit, hide, nans_beside_infinity, normalizer, peak, rest_of
from logitx.backends.numba.passes.scaling import Scale
from logitx.backends.numba.passes.sums import dot, folded
from logitx.backends.numba.threads.workers import job, together
from logitx.backends.numba.vectors.exp_log import log1p
from logitx.backends.numba.vectors.lanes import any_of, lane, select, spread, width


def reduce(
    x: Any, b: Any, where: Any, value: Any, sign: Any, like: Any, axis: int, across: Any, options: Any, parts: int,
    crew: int,
) -> int:  # fmt: skip
    """Write log(sum of b exp(x)) of every row, and the sign of the sum; `like` tells the dtype to compute in.

    Without `options` there is no b and no mask.
    """
    logits, fits_x = entries(x, axis)
    factor, fits_b = entries(b, axis)
    mask, fits_where = entries(where, axis)
    if not (fits_x and fits_b and fits_where):
        return UNFIT
    found, direction = rows(value), rows(sign)
    if logits.n == 0:
        for row in range(found.outer):
            write(found, row * found.outer_stride, -np.inf)
        for row in range(direction.outer):
            write(direction, row * direction.outer_stride, 0.0)
    work = job(_blocks, (logits, factor, mask, found, direction, rows(like), across, options))
    return OK if together(crew, work, parts) else FAILED


@primitive
def _blocks(
    x: Any, b: Any, where: Any, value: Any, sign: Any, like: Any, across: Any, options: Any, part: int, parts: int
) -> bool:
    g = geometry_of(x, like, across)
    tile = reserve((1 + given(where) + given(b)) * g.size, like)
    if missing(tile):
        return False
    mask = after(tile, g.size)
    factor = after(mask, given(where) * g.size)
    start, stop = blocks_of(g, part, parts)
    for block in range(start, stop):
        first, count = place(g, block, across)
        tops = load_block(x, g, first, count, tile, -np.inf, across)
        if options is not None:
            if given(where):
                load_block(where, g, first, count, mask, 0.0, across)
                hide(tile, mask, g.size, -np.inf)
            if given(b):
                load_block(b, g, first, count, factor, 0.0, across)
                if given(where):
                    hide(factor, mask, g.size, 0.0)
                hide(tile, factor, g.size, -np.inf)
        for panel in range(panels(g, count, tile, across)):
            base, row = panel * g.panel, first + panel * width(tile)
            here = rows_in(count, panel, tile, across)
            ahead = ahead_of(x, g, first, panel, tile, across)
            top = peak(tile, base, g.steps, tops, not given(where) and not given(b), across)
            nans = nans_beside_infinity(tile, base, g.steps, top, across)
            if options is not None and given(b):
                _signed_panel(tile, factor, base, g, top, nans, value, sign, row, here, ahead, across)
            else:
                _panel(tile, base, g, top, nans, value, sign, row, here, ahead, across)
    release(tile)
    return True


@primitive
def _panel(
    tile: Any, base: int, g: Any, top: Any, nans: Any, value: Any, sign: Any, row: int, count: int, ahead: Any,
    across: Any,
) -> None:  # fmt: skip
    rest, lost = rest_of(tile, base, g.steps, top, Scale(False, top, top), None, ahead, across)
    zero = spread(rest, 0.0)
    log_z = normalizer(top, rest, nans, top + log1p(rest, lost))
    emit(value, row, count, log_z)
    if given(sign):
        positive = select(rest < zero, zero, spread(rest, 1.0))
        emit(sign, row, count, select(log_z == log_z, positive, log_z))


@primitive
def _signed_panel(
    tile: Any, factor: Any, base: int, g: Any, top: Any, nans: Any, value: Any, sign: Any, row: int, count: int,
    ahead: Any, across: Any,
) -> None:  # fmt: skip
    zero, one, infinity = spread(top, 0.0), spread(top, 1.0), spread(top, np.inf)
    infinite = top == infinity
    positive, negative = zero, zero
    if any_of(infinite):  # what is infinite decides alone, by its sign
        positive = _count_infinite(tile, factor, base, g, 1.0, across)
        negative = _count_infinite(tile, factor, base, g, -1.0, across)
    rest_of(tile, base, g.steps, top, Scale(False, top, top), None, ahead, across)
    total, _ = dot(factor, tile, base, g.steps, across)
    nan = spread(top, np.nan)
    certain = select(positive > zero, select(negative > zero, nan, one), select(negative > zero, zero - one, nan))
    total = select(infinite, select(nans == zero, certain, nan), total)
    wants_sign = given(sign)
    for i in range(count):
        number = float(lane(total, i))
        size = float(lane(top, i))
        direction = 1.0 if number > 0.0 else -1.0 if number < 0.0 else number
        result = -np.inf if number == 0.0 else size + math.log(abs(number))
        if number < 0.0 and not wants_sign:
            result = np.nan
        write(value, (row + i) * value.outer_stride, result)
        if wants_sign:
            write(sign, (row + i) * sign.outer_stride, direction)


@primitive
def _count_infinite(tile: Any, factor: Any, base: int, g: Any, direction: float, across: Any) -> Any:
    """Return how many entries are +inf with a factor of this sign."""
    zero, one = spread(tile, 0.0), spread(tile, 1.0)
    count = zero
    for at in range(base, base + g.steps * width(tile), width(tile)):
        aligned = load(factor, at) * spread(tile, direction) > zero
        count = count + select(load(tile, at) == spread(tile, np.inf), select(aligned, one, zero), zero)
    return folded(count, zero, across)


def reduce_long(x: Any, value: Any, axis: int, like: Any, wide: Any, parts: int, crew: int) -> int:
    """Write log(sum of exp(x)) of long rows; `like` and `wide` tell the dtype to compute in, and float64."""
    logits, fits = entries(x, axis)
    if not fits:
        return UNFIT
    facts = reserve(FACTS * pieces_of(logits.n), rows(wide))
    if missing(facts):
        return FAILED
    found, fine = rows(value), True
    for row in range(logits.outer):
        reduced, top, rest, nans = reduce_row(logits, None, row, facts, rows(like), parts, crew)
        emit(found, row, 1, normalizer(top, rest, nans, top + log1p(rest, spread(rest, 0.0))))
        fine = fine and reduced
    release(facts)
    return OK if fine else FAILED
