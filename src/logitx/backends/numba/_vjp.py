"""Gradients by the logits, from results that are already there: softmax_vjp and log_softmax_vjp in one kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba._blocks import geometry_of, load_block, place, scratch, store_block, used
from logitx.backends.numba._compile import primitive
from logitx.backends.numba._lanes import load, select, spread, store, width
from logitx.backends.numba._rows import dot, sum_of
from logitx.backends.numba._simd import exp_any


def pull_back(value: Any, cotangent: Any, out: Any, log: bool, like: Any, part: int, parts: int) -> None:
    """Write p (dp - sum of p dp), or with `log` dlog_p - p sum of dlog_p."""
    g = geometry_of(value, like)
    tile, other = scratch(g.size, like), scratch(g.size, like)
    for block in range(g.blocks * part // parts, g.blocks * (part + 1) // parts):
        first, rows = place(g, block)
        load_block(value, g, first, rows, tile, -np.inf if log else 0.0)
        load_block(cotangent, g, first, rows, other, 0.0)
        for base in range(0, used(g, rows, tile), g.panel):
            if log:
                _log_panel(tile, other, base, g)
            else:
                _panel(tile, other, base, g)
        store_block(tile, out, g, first, rows)


@primitive
def _panel(tile: Any, other: Any, base: int, g: Any) -> None:
    zero = spread(tile, 0.0)
    total = dot(tile, other, base, g.steps, g.across)
    for at in range(base, base + g.steps * width(tile), width(tile)):
        p = load(tile, at)
        store(tile, at, select(p == zero, zero, p * (load(other, at) - total)))


@primitive
def _log_panel(tile: Any, other: Any, base: int, g: Any) -> None:
    zero, dead = spread(tile, 0.0), spread(tile, -np.inf)
    for at in range(base, base + g.steps * width(tile), width(tile)):
        store(other, at, select(load(tile, at) == dead, zero, load(other, at)))
    total = sum_of(other, base, g.steps, g.across)
    for at in range(base, base + g.steps * width(tile), width(tile)):
        log_p = load(tile, at)
        gradient = load(other, at) - exp_any(log_p) * total
        store(tile, at, select(log_p == dead, zero, gradient))
