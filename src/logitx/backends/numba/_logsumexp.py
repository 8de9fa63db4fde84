"""logsumexp: one read of the logits, one number written a row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitx.backends.numba._blocks import geometry_of, load_block, place, scratch, used
from logitx.backends.numba._compile import primitive
from logitx.backends.numba._lanes import any_of, lane, least, load, select, spread, width
from logitx.backends.numba._rows import Scale, dot, emit, folded, hide, nans_beside_infinity, normalizer, peak, rest_of
from logitx.backends.numba._simd import log1p
from logitx.backends.numba._storage import write


def reduce(x: Any, b: Any, where: Any, value: Any, sign: Any, like: Any, part: int, parts: int) -> None:
    """Write log(sum of b exp(x)) of every row, and the sign of the sum; an array of size 0 is absent."""
    g = geometry_of(x, like)
    if g.n == 0:
        for row in range(value.size):
            write(value, row * value.itemsize, -np.inf)
        for row in range(sign.size):
            write(sign, row * sign.itemsize, 0.0)
    tile = scratch(g.size, like)
    mask = scratch(g.size if where.size > 0 else 0, like)
    factor = scratch(g.size if b.size > 0 else 0, like)
    for block in range(g.blocks * part // parts, g.blocks * (part + 1) // parts):
        first, rows = place(g, block)
        load_block(x, g, first, rows, tile, -np.inf)
        if where.size > 0:
            load_block(where, g, first, rows, mask, 0.0)
            hide(tile, mask, g.size, -np.inf)
        if b.size > 0:
            load_block(b, g, first, rows, factor, 0.0)
            if where.size > 0:
                hide(factor, mask, g.size, 0.0)
            hide(tile, factor, g.size, -np.inf)
        for base in range(0, used(g, rows, tile), g.panel):
            row = base // g.panel * width(tile)
            count = least(rows - row, width(tile))
            if b.size > 0:
                _signed_panel(tile, factor, base, g, value, sign, first + row, count)
            else:
                _panel(tile, base, g, value, sign, first + row, count)


@primitive
def _panel(tile: Any, base: int, g: Any, value: Any, sign: Any, row: int, count: int) -> None:
    top = peak(tile, base, g.steps, g.across)
    nans = nans_beside_infinity(tile, base, g.steps, top, g.across)
    rest = rest_of(tile, base, g.steps, top, Scale(False, top, top), False, g.across)
    zero = spread(tile, 0.0)
    log_z = normalizer(top, rest, nans, top + log1p(rest))
    emit(value, row, count, log_z)
    if sign.size > 0:
        positive = select(rest < zero, zero, spread(tile, 1.0))
        emit(sign, row, count, select(log_z == log_z, positive, log_z))


@primitive
def _signed_panel(tile: Any, factor: Any, base: int, g: Any, value: Any, sign: Any, row: int, count: int) -> None:
    zero, one, infinity = spread(tile, 0.0), spread(tile, 1.0), spread(tile, np.inf)
    top = peak(tile, base, g.steps, g.across)
    infinite = top == infinity
    positive, negative = zero, zero
    nans = nans_beside_infinity(tile, base, g.steps, top, g.across)
    if any_of(infinite):  # what is infinite decides alone, by its sign
        positive = _count_infinite(tile, factor, base, g, 1.0)
        negative = _count_infinite(tile, factor, base, g, -1.0)
    rest_of(tile, base, g.steps, top, Scale(False, top, top), True, g.across)
    total = dot(factor, tile, base, g.steps, g.across)
    nan = spread(tile, np.nan)
    certain = select(positive > zero, select(negative > zero, nan, one), select(negative > zero, zero - one, nan))
    total = select(infinite, select(nans == zero, certain, nan), total)
    wants_sign = sign.size > 0
    for i in range(count):
        number = float(lane(total, i))
        size = float(lane(top, i))
        direction = 1.0 if number > 0.0 else -1.0 if number < 0.0 else number
        result = -np.inf if number == 0.0 else size + math.log(abs(number))
        if number < 0.0 and not wants_sign:
            result = np.nan
        write(value, (row + i) * value.itemsize, result)
        if wants_sign:
            write(sign, (row + i) * sign.itemsize, direction)


@primitive
def _count_infinite(tile: Any, factor: Any, base: int, g: Any, direction: float) -> Any:
    """Return how many entries are +inf with a factor of this sign."""
    zero, one = spread(tile, 0.0), spread(tile, 1.0)
    count = zero
    for at in range(base, base + g.steps * width(tile), width(tile)):
        aligned = load(factor, at) * spread(tile, direction) > zero
        count = count + select(load(tile, at) == spread(tile, np.inf), select(aligned, one, zero), zero)
    return folded(tile, count, zero, g.across)
