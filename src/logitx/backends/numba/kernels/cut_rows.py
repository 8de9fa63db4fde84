"""Rows whose reduction is known, of which an array has some classes: their probabilities and their gradients.

What the passes of `_softmax` and `_cross_entropy` find out of a row, these are told: one pass, and the last one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.softmax import facts_of
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, entries, given, rows
from logitx.backends.numba.memory.load_store import number
from logitx.backends.numba.memory.prefetch import ahead_of_both
from logitx.backends.numba.memory.scratch import after, missing, place_one, release, reserve, store
from logitx.backends.numba.passes.blocks import blocks_of, geometry_of, panels, per_row, place, rows_in
from logitx.backends.numba.passes.class_ids import LABEL_SHARE, LOGIT, Labels, known_of, scatter, write_label
from logitx.backends.numba.passes.copies import finish_panel, load_block, store_block
from logitx.backends.numba.passes.loss import Row, log_z_of, slopes_of, zero_dead
from logitx.backends.numba.passes.reduce import hide, multiply, rest_of
from logitx.backends.numba.passes.scaling import cap, limit_at, scale_at
from logitx.backends.numba.threads.workers import job, together
from logitx.backends.numba.vectors.exp_log import log1p
from logitx.backends.numba.vectors.lanes import any_of, is_nan, spread, width

TOP, REST = 3, 4  # what else is known of each row, beside what `_cross_entropy` lists
FACTS = 5


def normalize(
    x: Any, where: Any, out: Any, tops: Any, rests: Any, axis: int, across: Any, log: Any, options: Any,
    temperature: Any, softcap: Any, undefined: float, parts: int, crew: int,
) -> int:  # fmt: skip
    """Write softmax, or with `log` its logarithm, as in `_softmax`; `tops` and `rests` are those of `_partial`."""
    logits, fits_x = entries(x, axis)
    mask, fits_where = entries(where, axis)
    target, fits_out = entries(out, axis)
    if not (fits_x and fits_where and fits_out):
        return UNFIT
    work = job(_normalize_blocks, (
        logits, mask, target, rows(tops), rows(rests), across, log, options, rows(temperature), rows(softcap), undefined
    ))  # fmt: skip
    return OK if together(crew, work, parts) else FAILED


@primitive
def _normalize_blocks(
    x: Any, where: Any, out: Any, tops: Any, rests: Any, across: Any, log: Any, options: Any, temperature: Any,
    softcap: Any, undefined: float, part: int, parts: int,
) -> bool:  # fmt: skip
    g = geometry_of(x, softcap, across)
    masked, capped = options is not None and given(where), options is not None and given(softcap)
    lanes = width(softcap)
    room = reserve((2 + FACTS) * lanes + (1 + masked) * g.size, softcap)
    if missing(room):
        return False
    facts, tile = after(room, 2 * lanes), after(room, (2 + FACTS) * lanes)
    mask = after(tile, g.size)
    start, stop = blocks_of(g, part, parts)
    for block in range(start, stop):
        first, count = place(g, block, across)
        load_block(x, g, first, count, tile, -np.inf, across)
        if options is not None and masked:
            load_block(where, g, first, count, mask, 0.0, across)
            hide(tile, mask, g.size, -np.inf)
        for panel in range(panels(g, count, tile, across)):
            base, row = panel * g.panel, first + panel * lanes
            here = rows_in(count, panel, tile, across)
            if options is not None and capped:
                cap(tile, tile, False, base, g.steps, limit_at(softcap, row, here, room, across))
            scale = scale_at(temperature, row, here, room, options, across)
            top, rest = _told(facts, TOP, tops, row, here, across), _told(facts, REST, rests, row, here, across)
            if log is None:
                ahead = ahead_of_both(x, out, g, first, panel, tile, across)
                rest_of(tile, base, g.steps, top, scale, None, ahead, across)  # for the terms, which stay in the tile
            known = facts_of(top, rest, per_row(tile, 0.0, across), scale, undefined, log)
            finish_panel(tile, base, out, g, first, not masked, known, across)
        if options is not None and masked:
            hide(tile, mask, g.size, 0.0 if log is None else -np.inf)
            store_block(tile, out, g, first, count, across)
        elif across is None:
            store_block(tile, out, g, first, count, across)
    release(room)
    return True


@primitive
def _told(facts: Any, fact: int, numbers: Any, row: int, count: int, across: Any) -> Any:
    """Note one number for each row of a panel, and return them."""
    at = fact * width(facts)
    store(facts, at, spread(facts, 0.0))
    for i in range(count):
        place_one(facts, at + i, number(numbers, row + i, facts))
    return known_of(facts, fact, across)


def differentiate(
    x: Any, labels: Any, where: Any, grad: Any, tops: Any, rests: Any, logits: Any, shares: Any, axis: int,
    across: Any, options: Any, z_loss: float, temperature: Any, softcap: Any, parts: int, crew: int,
) -> int:  # fmt: skip
    """Write the gradient of cross-entropy as in `_cross_entropy`; `labels` may be in another array.

    `logits` are those of the labels, wherever these are; `shares` what rows weigh, divided by what gradients are.
    """
    view, fits_x = entries(x, axis)
    mask, fits_where = entries(where, axis)
    gradient, fits_grad = entries(grad, axis)
    if not (fits_x and fits_where and fits_grad):
        return UNFIT
    limits = rows(softcap)
    targets = Labels(rows(labels), True, -1, limits, limits)  # whose weights are in the shares
    work = job(_differentiate_blocks, (
        view, targets, mask, gradient, rows(tops), rows(rests), rows(logits), rows(shares), across, options, z_loss,
        rows(temperature), limits,
    ))  # fmt: skip
    return OK if together(crew, work, parts) else FAILED


@primitive
def _differentiate_blocks(
    x: Any, labels: Any, where: Any, grad: Any, tops: Any, rests: Any, logits: Any, shares: Any, across: Any,
    options: Any, z_loss: float, temperature: Any, softcap: Any, part: int, parts: int,
) -> bool:  # fmt: skip
    g = geometry_of(x, softcap, across)
    masked, capped = options is not None and given(where), options is not None and given(softcap)
    lanes = width(softcap)
    room = reserve((2 + FACTS) * lanes + (1 + masked + capped) * g.size, softcap)
    if missing(room):
        return False
    facts, tile = after(room, 2 * lanes), after(room, (2 + FACTS) * lanes)
    mask = after(tile, g.size)
    slope = after(mask, masked * g.size)
    start, stop = blocks_of(g, part, parts)
    for block in range(start, stop):
        first, count = place(g, block, across)
        load_block(x, g, first, count, tile, -np.inf, across)
        if options is not None and masked:
            load_block(where, g, first, count, mask, 0.0, across)
            hide(tile, mask, g.size, -np.inf)
        final = False  # whether the gradient of the row has been written already
        for panel in range(panels(g, count, tile, across)):
            base, row = panel * g.panel, first + panel * lanes
            here = rows_in(count, panel, tile, across)
            if options is not None and capped:
                cap(tile, slope, True, base, g.steps, limit_at(softcap, row, here, room, across))
            scale = scale_at(temperature, row, here, room, options, across)
            _told(facts, LOGIT, logits, row, here, across)
            share = _told(facts, LABEL_SHARE, shares, row, here, across)
            top, rest = _told(facts, TOP, tops, row, here, across), _told(facts, REST, rests, row, here, across)
            ahead = ahead_of_both(x, grad, g, first, panel, tile, across)
            rest_of(tile, base, g.steps, top, scale, None, ahead, across)  # for the terms, which stay in the tile
            final = across is not None and not (masked or capped or any_of(is_nan(rest)))
            slopes = slopes_of(facts, scale, _row_of(top, rest, scale), z_loss, 1.0, across)
            finish_panel(tile, base, grad, g, first, final, slopes, across)
            if final:
                write_label(grad, g, facts, labels, row)
            else:
                scatter(tile, base, g, facts, labels, row, here, across)
                zero_dead(tile, base, g, share, rest, x, row, here, across)
        if not final:
            if options is not None and capped:
                multiply(tile, slope, g.size)
            if options is not None and masked:
                hide(tile, mask, g.size, 0.0)
            store_block(tile, grad, g, first, count, across)
    release(room)
    return True


@primitive
def _row_of(top: Any, rest: Any, scale: Any) -> Any:
    zero = spread(rest, 0.0)
    log_sum = log1p(rest, zero)
    return Row(top, rest, zero, log_sum, log_z_of(top, log_sum, scale))
