"""The pair that a row comes down to, its maximum and the sum beside it: what parts of a row are merged from."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, entries, given, rows
from logitx.backends.numba.memory.load_store import class_id, write
from logitx.backends.numba.memory.prefetch import ahead_of
from logitx.backends.numba.memory.scratch import after, missing, release, reserve, take_one
from logitx.backends.numba.passes.blocks import blocks_of, geometry_of, panels, place, rows_in
from logitx.backends.numba.passes.class_ids import place_in_panel
from logitx.backends.numba.passes.copies import load_block
from logitx.backends.numba.passes.reduce import emit, hide, nans_beside_infinity, peak, rest_of
from logitx.backends.numba.passes.scaling import cap, limit_at, scale_at
from logitx.backends.numba.threads.workers import job, together
from logitx.backends.numba.vectors.lanes import select, spread, width


def partial(
    x: Any, where: Any, top: Any, rest: Any, labels: Any, logits: Any, temperature: Any, softcap: Any, axis: int,
    across: Any, options: Any, parts: int, crew: int,
) -> int:  # fmt: skip
    """Write the maximum of every row, the sum of exp((x - maximum) / temperature) without one maximum, and a logit.

    The sum is NaN for rows with a NaN or +inf, whose maximum is the one or the other, and -1 where nothing counts.
    `logits` gets those at `labels`, where these are classes of the array. Without `options` there is no mask, no
    temperature and no softcap.
    """
    view, fits_x = entries(x, axis)
    mask, fits_where = entries(where, axis)
    if not (fits_x and fits_where):
        return UNFIT
    work = job(_blocks, (
        view, mask, rows(top), rows(rest), rows(labels), rows(logits), rows(temperature), rows(softcap), across, options
    ))  # fmt: skip
    return OK if together(crew, work, parts) else FAILED


@primitive
def _blocks(
    x: Any, where: Any, tops: Any, rests: Any, labels: Any, logits: Any, temperature: Any, softcap: Any, across: Any,
    options: Any, part: int, parts: int,
) -> bool:  # fmt: skip
    g = geometry_of(x, softcap, across)
    masked, capped = options is not None and given(where), options is not None and given(softcap)
    lanes = width(softcap)
    room = reserve(2 * lanes + (1 + masked) * g.size, softcap)
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
            if options is not None and capped:
                cap(tile, tile, False, base, g.steps, limit_at(softcap, row, here, room, across))
            if given(labels):
                _emit_logits(tile, base, g, labels, logits, row, here, across)
            top = peak(tile, base, g.steps, seen, not masked and not capped, across)
            nans = nans_beside_infinity(tile, base, g.steps, top, across)
            scale = scale_at(temperature, row, here, room, options, across)
            ahead = ahead_of(x, g, first, panel, tile, across)
            rest, _ = rest_of(tile, base, g.steps, top, scale, None, ahead, across)
            emit(tops, row, here, _settled(top, rest, nans))
            emit(rests, row, here, rest)
    release(room)
    return True


@primitive
def _settled(top: Any, rest: Any, nans: Any) -> Any:
    """Return the maximum, NaN where the row has one."""
    nan = spread(top, np.nan)
    infinite = select(nans == spread(top, 0.0), top, nan)
    return select(top == spread(top, np.inf), infinite, select(rest == rest, top, nan))


@primitive
def _emit_logits(tile: Any, base: int, g: Any, labels: Any, logits: Any, row: int, count: int, across: Any) -> None:
    """Write the logit of the label of each row of a panel that has its label here."""
    for i in range(count):
        label = class_id(labels, row + i)
        if 0 <= label < g.n:
            logit = take_one(tile, base + place_in_panel(label, i, tile, across))
            write(logits, (row + i) * logits.outer_stride, logit)
