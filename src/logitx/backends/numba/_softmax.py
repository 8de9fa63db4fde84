"""softmax and log_softmax: one kernel, which differs in its last pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba._blocks import geometry_of, load_block, place, scratch, store_block, used
from logitx.backends.numba._compile import primitive
from logitx.backends.numba._lanes import least, load, select, spread, store, width
from logitx.backends.numba._rows import cap, exponent, hide, limit_at, peak, reciprocal, rest_of, scale_at, scale_by
from logitx.backends.numba._simd import log1p


def normalize(
    x: Any, where: Any, out: Any, log: bool, temperature: Any, softcap: Any, undefined: float, part: int, parts: int
) -> None:
    """Write softmax or its logarithm; `undefined` is what a row without a maximum gets (NaN, or the value of p = 0)."""
    g = geometry_of(x, softcap)
    masked = where.size > 0
    tile = scratch(g.size, softcap)
    room = scratch(2 * width(tile), softcap)
    mask = scratch(g.size if masked else 0, softcap)
    for block in range(g.blocks * part // parts, g.blocks * (part + 1) // parts):
        first, rows = place(g, block)
        load_block(x, g, first, rows, tile, -np.inf)
        if masked:
            load_block(where, g, first, rows, mask, 0.0)
            hide(tile, mask, g.size, -np.inf)
        for base in range(0, used(g, rows, tile), g.panel):
            row = first + base // g.panel * width(tile)
            count = least(first + rows - row, width(tile))
            if softcap.size > 0:
                cap(tile, mask[:0], base, g.steps, limit_at(softcap, row, count, room, g.across))
            scale = scale_at(temperature, row, count, room, g.across)
            _panel(tile, base, g, scale, undefined, log)
        if masked:
            hide(tile, mask, g.size, -np.inf if log else 0.0)
        store_block(tile, out, g, first, rows)


@primitive
def _panel(tile: Any, base: int, g: Any, scale: Any, undefined: float, log: bool) -> None:
    one = spread(tile, 1.0)
    top = peak(tile, base, g.steps, g.across)
    rest = rest_of(tile, base, g.steps, top, scale, not log, g.across)
    nothing = rest < spread(tile, 0.0)
    answer = spread(tile, undefined)
    if log:
        log_sum = select(nothing, answer, log1p(rest))
        for at in range(base, base + g.steps * width(tile), width(tile)):
            v, _ = exponent(load(tile, at), top, scale)
            store(tile, at, v - log_sum)
    else:
        high, low = reciprocal(select(nothing, one, one + rest))
        scale_by(tile, base, g.steps, select(nothing, answer, high), low)
