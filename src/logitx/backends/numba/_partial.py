"""The pair that a row comes down to, its maximum and the sum beside it: what shards of a row are merged from."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba._ahead import ahead_of
from logitx.backends.numba._blocks import blocks_of, geometry_of, panels, place, rows_in
from logitx.backends.numba._compile import primitive
from logitx.backends.numba._copies import load_block
from logitx.backends.numba._crew import job, together
from logitx.backends.numba._lanes import width
from logitx.backends.numba._memory import FAILED, OK, UNFIT, entries, given, rows
from logitx.backends.numba._rows import emit, hide, peak, rest_of, scale_at
from logitx.backends.numba._tiles import after, missing, release, reserve


def partial(
    x: Any, where: Any, top: Any, rest: Any, temperature: Any, like: Any, axis: int, across: Any, options: Any,
    parts: int, crew: int,
) -> int:  # fmt: skip
    """Write the maximum of every row, and the sum of exp((x - maximum) / temperature) without one maximum.

    The sum is NaN for rows with a NaN or +inf, -1 where nothing counts. Without `options` there is no mask and no
    temperature; `like` tells the dtype to compute in.
    """
    logits, fits_x = entries(x, axis)
    mask, fits_where = entries(where, axis)
    if not (fits_x and fits_where):
        return UNFIT
    work = job(_blocks, (logits, mask, rows(top), rows(rest), rows(temperature), rows(like), across, options))
    return OK if together(crew, work, parts) else FAILED


@primitive
def _blocks(
    x: Any, where: Any, tops: Any, rests: Any, temperature: Any, like: Any, across: Any, options: Any, part: int,
    parts: int,
) -> bool:  # fmt: skip
    g = geometry_of(x, like, across)
    masked, lanes = options is not None and given(where), width(like)
    room = reserve(2 * lanes + (1 + masked) * g.size, like)
    if missing(room):
        return False
    tile, mask = after(room, 2 * lanes), after(room, 2 * lanes + g.size)
    start, stop = blocks_of(g, part, parts)
    for block in range(start, stop):
        first, count = place(g, block, across)
        seen = load_block(x, g, first, count, tile, -np.inf, across)
        if options is not None and masked:
            load_block(where, g, first, count, mask, 0.0, across)
            hide(tile, mask, g.size, -np.inf)
        for panel in range(panels(g, count, tile, across)):
            base, row = panel * g.panel, first + panel * lanes
            here = rows_in(count, panel, tile, across)
            top = peak(tile, base, g.steps, seen, not masked, across)
            scale = scale_at(temperature, row, here, room, options, across)
            ahead = ahead_of(x, g, first, panel, tile, across)
            emit(tops, row, here, top)
            rest, _ = rest_of(tile, base, g.steps, top, scale, None, ahead, across)
            emit(rests, row, here, rest)
    release(room)
    return True
