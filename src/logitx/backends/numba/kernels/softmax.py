"""softmax and log_softmax: one kernel, which differs in its last pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, entries, given, rows
from logitx.backends.numba.memory.prefetch import ahead_of_both
from logitx.backends.numba.memory.scratch import after, missing, release, reserve
from logitx.backends.numba.passes.blocks import blocks_of, geometry_of, panels, place, rows_in
from logitx.backends.numba.passes.copies import finish_panel, load_block, store_block
from logitx.backends.numba.passes.finish import Logarithm, Scaled
from logitx.backends.numba.passes.long_rows import FACTS, pieces_of, reduce_row, rewrite_row, unscaled, write_row
from logitx.backends.numba.passes.reduce import hide, inverse_of_sum, peak, rest_of
from logitx.backends.numba.passes.scaling import cap, limit_at, scale_at
from logitx.backends.numba.threads.workers import job, together
from logitx.backends.numba.vectors.exp_log import log1p
from logitx.backends.numba.vectors.lanes import select, spread, width


def normalize(
    x: Any, where: Any, out: Any, axis: int, across: Any, log: Any, options: Any, temperature: Any, softcap: Any,
    undefined: float, parts: int, crew: int,
) -> int:  # fmt: skip
    """Write softmax, or with `log` its logarithm; without `options` there is no mask, temperature or softcap.

    `undefined` is what a row without a maximum gets (NaN, or the value of p = 0).
    """
    logits, fits_x = entries(x, axis)
    mask, fits_where = entries(where, axis)
    target, fits_out = entries(out, axis)
    if not (fits_x and fits_where and fits_out):
        return UNFIT
    work = job(_blocks, (logits, mask, target, across, log, options, rows(temperature), rows(softcap), undefined))
    return OK if together(crew, work, parts) else FAILED


@primitive
def _blocks(
    x: Any, where: Any, out: Any, across: Any, log: Any, options: Any, temperature: Any, softcap: Any,
    undefined: float, part: int, parts: int,
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
        tops = load_block(x, g, first, count, tile, -np.inf, across)
        if options is not None and masked:
            load_block(where, g, first, count, mask, 0.0, across)
            hide(tile, mask, g.size, -np.inf)
        for panel in range(panels(g, count, tile, across)):
            base, row = panel * g.panel, first + panel * lanes
            here = rows_in(count, panel, tile, across)
            if options is not None and capped:
                cap(tile, tile, False, base, g.steps, limit_at(softcap, row, here, room, across))
            scale = scale_at(temperature, row, here, room, options, across)
            top = peak(tile, base, g.steps, tops, not masked and not capped, across)
            ahead = ahead_of_both(x, out, g, first, panel, tile, across)
            rest, lost = rest_of(tile, base, g.steps, top, scale, log, ahead, across)
            how = facts_of(top, rest, lost, scale, undefined, log)
            finish_panel(tile, base, out, g, first, not masked, how, across)
        if options is not None and masked:
            hide(tile, mask, g.size, 0.0 if log is None else -np.inf)
            store_block(tile, out, g, first, count, across)
        elif across is None:
            store_block(tile, out, g, first, count, across)
    release(room)
    return True


@primitive
def facts_of(top: Any, rest: Any, lost: Any, scale: Any, undefined: float, log: Any) -> Any:
    """Return what the last pass has to know of each row, whose sum is rest + lost."""
    nothing, answer = rest < spread(rest, 0.0), spread(rest, undefined)
    if log is not None:
        return Logarithm(top, select(nothing, answer, log1p(rest, lost)), scale)
    zero = spread(rest, 0.0)
    high, low = inverse_of_sum(select(nothing, zero, rest), lost)
    return Scaled(select(nothing, answer, high), low)


def normalize_long(
    x: Any, out: Any, axis: int, log: Any, keeping: Any, like: Any, wide: Any, undefined: float, parts: int, crew: int
) -> int:
    """Write softmax or its logarithm of long rows; `like` and `wide` tell the dtype to compute in, and float64.

    With `keeping` the result holds the exponentials until they are normalized.
    """
    logits, fits_x = entries(x, axis)
    target, fits_out = entries(out, axis)
    if not (fits_x and fits_out):
        return UNFIT
    number = rows(like)
    facts = reserve(FACTS * pieces_of(logits.n), rows(wide))
    if missing(facts):
        return FAILED
    fine = True
    for row in range(logits.outer):
        if keeping is not None:
            reduced, top, rest, _ = reduce_row(logits, target, row, facts, number, parts, crew)
            how = facts_of(top, rest, spread(rest, 0.0), unscaled(top), undefined, None)
            written = rewrite_row(target, row, how, facts, number, parts, crew)
        else:
            reduced, top, rest, _ = reduce_row(logits, None, row, facts, number, parts, crew)
            how = facts_of(top, rest, spread(rest, 0.0), unscaled(top), undefined, log)
            written = write_row(logits, target, row, top, how, log, number, parts, crew)
        fine = fine and reduced and written
    release(facts)
    return OK if fine else FAILED
