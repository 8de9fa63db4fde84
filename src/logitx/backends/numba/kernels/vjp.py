"""Gradients by the logits, from results that are already there: softmax_vjp and log_softmax_vjp in one kernel.

A row at a time is read where it lies (`_vjp_rows`); many rows at once are copied to tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.vjp_rows import long_rows, neighbors, short_rows
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, entries, rows
from logitx.backends.numba.memory.scratch import after, load, missing, release, reserve, store
from logitx.backends.numba.passes.blocks import LONG, blocks_of, geometry_of, panels, place
from logitx.backends.numba.passes.copies import load_block, store_block
from logitx.backends.numba.passes.sums import dot, signed_sum
from logitx.backends.numba.threads.workers import job, together
from logitx.backends.numba.vectors.exp_log import exp_any
from logitx.backends.numba.vectors.lanes import fma, select, spread, width


def pull_back(
    value: Any, cotangent: Any, out: Any, axis: int, across: Any, log: bool, like: Any, parts: int, crew: int
) -> int:
    """Write p (dp - sum of p dp), or with `log` dlog_p - p sum of dlog_p."""
    one, fits_one = entries(value, axis)
    two, fits_two = entries(cotangent, axis)
    target, fits_out = entries(out, axis)
    if not (fits_one and fits_two and fits_out):
        return UNFIT
    number = rows(like)
    if across is None:
        return OK if together(crew, job(_columns, (one, two, target, log, number)), parts) else FAILED
    if not (neighbors(one) and neighbors(two) and neighbors(target)):
        return UNFIT
    if one.n >= LONG:
        return OK if long_rows(one, two, target, log, number, parts, crew) else FAILED
    return OK if together(crew, job(short_rows, (one, two, target, log, number)), parts) else FAILED


@primitive
def _columns(value: Any, cotangent: Any, out: Any, log: bool, like: Any, part: int, parts: int) -> bool:
    g = geometry_of(value, like, None)
    tile = reserve(2 * g.size, like)
    if missing(tile):
        return False
    other = after(tile, g.size)
    start, stop = blocks_of(g, part, parts)
    for block in range(start, stop):
        first, count = place(g, block, None)
        load_block(value, g, first, count, tile, -np.inf if log else 0.0, None)
        load_block(cotangent, g, first, count, other, 0.0, None)
        for panel in range(panels(g, count, tile, None)):
            if log:
                _log_panel(tile, other, panel * g.panel, g)
            else:
                _panel(tile, other, panel * g.panel, g)
        store_block(tile, out, g, first, count, None)
    release(tile)
    return True


@primitive
def _panel(tile: Any, other: Any, base: int, g: Any) -> None:
    zero = spread(tile, 0.0)
    total, lost = dot(tile, other, base, g.steps, None)
    for at in range(base, base + g.steps * width(tile), width(tile)):
        p = load(tile, at)
        difference = (load(other, at) - total) - lost
        store(tile, at, select(p == zero, zero, p * difference))


@primitive
def _log_panel(tile: Any, other: Any, base: int, g: Any) -> None:
    zero, dead = spread(tile, 0.0), spread(tile, -np.inf)
    for at in range(base, base + g.steps * width(tile), width(tile)):
        store(other, at, select(load(tile, at) == dead, zero, load(other, at)))
    total, lost = signed_sum(other, base, g.steps, None)
    for at in range(base, base + g.steps * width(tile), width(tile)):
        log_p = load(tile, at)
        p = exp_any(log_p)
        gradient = fma(p, zero - total, load(other, at)) - p * lost
        store(tile, at, select(log_p == dead, zero, gradient))
