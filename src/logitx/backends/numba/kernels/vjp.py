"""Gradients by the logits, from results that are already there: softmax_vjp and log_softmax_vjp in one kernel.

A row at a time is read where it lies (`vjp_rows`); many rows at once are copied to tiles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.signature import Computed, OfLogits, OfOther, OfResult, Way
from logitx.backends.numba.kernels.vjp_rows import long_rows, neighbors, pulled_back_vector, short_rows
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.scratch import load_lanes, store_lanes
from logitx.backends.numba.passes.blocks import LONG
from logitx.backends.numba.passes.copies import load_block
from logitx.backends.numba.passes.loop import (
    Logits,
    Passes,
    RoomNeeds,
    define_passes,
    run_blocks,
    store_tile,
)
from logitx.backends.numba.passes.sums import dot_of_tiles, signed_sum
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.lanes import select, spread_as, width_of


class PullBackArrays(NamedTuple):
    """The arrays of `pull_back`; `like` is absent and has the dtype to compute in."""

    value: OfLogits  # softmax or log_softmax
    cotangent: OfOther  # the gradient by it
    out: OfResult
    like: Computed


class PullBackOptions(NamedTuple):
    """The numbers of `pull_back`."""

    axis: int
    log: bool


class PullBackTask(NamedTuple):
    """The task of the loop."""

    room: Any
    cotangent: Any
    out: Any
    log: bool


class CotangentSum(NamedTuple):
    """The number of each row: the sum of p dp, or of dlog_p, in two parts."""

    total: Any
    lost: Any


def pull_back(arrays: PullBackArrays, options: PullBackOptions, across: Way, parts: int, crew: int) -> int:
    """Write p (dp - sum of p dp), or with `log` dlog_p - p sum of dlog_p."""
    value, fits_value = view_of_entries(arrays.value, options.axis)
    cotangent, fits_cotangent = view_beside(arrays.cotangent, options.axis, value)
    out, fits_out = view_beside(arrays.out, options.axis, value)
    if not (fits_value and fits_cotangent and fits_out):
        return UNFIT
    like = view_of_rows(arrays.like)
    if across is None:
        logits, task = (
            Logits(value, like, like, like),
            PullBackTask(RoomNeeds(0, 1, 0, False, False, 0.0), cotangent, out, options.log),
        )
        return OK if together(crew, job_of(run_blocks, (logits, task, None, None, None)), parts) else FAILED
    if not (neighbors(value) and neighbors(cotangent) and neighbors(out)):
        return UNFIT
    if value.n >= LONG:
        return OK if long_rows(value, cotangent, out, options.log, like, parts, crew) else FAILED
    return OK if together(crew, job_of(short_rows, (value, cotangent, out, options.log, like)), parts) else FAILED


@inlined
def _load_cotangent(memory: Any, g: Any, _block: int, first: int, count: int, across: Any, task: Any) -> None:
    load_block(task.cotangent, g, first, count, memory.more, 0.0, across)


@inlined
def _sum_cotangents(panel: Any, across: Any, task: Any) -> Any:
    tile, other, base, steps = panel.memory.tile, panel.memory.more, panel.base, panel.g.steps
    if not task.log:
        total, lost = dot_of_tiles(tile, other, base, steps, across)
        return CotangentSum(total, lost)
    zero, dead = spread_as(tile, 0.0), spread_as(tile, -np.inf)
    for at in range(base, base + steps * width_of(tile), width_of(tile)):
        store_lanes(other, at, select(load_lanes(tile, at) == dead, zero, load_lanes(other, at)))
    total, lost = signed_sum(other, base, steps, across)
    return CotangentSum(total, lost)


@inlined
def _finish_pull_back(panel: Any, found: Any, _across: Any, task: Any) -> bool:
    tile, other, base, steps = panel.memory.tile, panel.memory.more, panel.base, panel.g.steps
    if task.log:
        _finish_vectors(tile, other, base, steps, found, True)
    else:
        _finish_vectors(tile, other, base, steps, found, None)
    return False


@primitive
def _finish_vectors(tile: Any, other: Any, base: int, steps: int, found: Any, log: Any) -> None:
    for at in range(base, base + steps * width_of(tile), width_of(tile)):
        value, cotangent = load_lanes(tile, at), load_lanes(other, at)
        store_lanes(tile, at, pulled_back_vector(value, cotangent, found.total, found.lost, log))


define_passes(
    PullBackTask,
    Passes(None, _load_cotangent, _sum_cotangents, _finish_pull_back, store_tile),
)
