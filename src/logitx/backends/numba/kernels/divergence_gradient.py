"""The gradients of kl_divergence and js_divergence by both arrays of logits, from one read of each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.divergence import (
    DivergenceOptions,
    load_second,
    logs_over_mixture,
    reduce_divergence,
)
from logitx.backends.numba.kernels.signature import Computed, Mask, OfLogits, OfLoss, OfOther, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, given, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.load_store import number_at
from logitx.backends.numba.memory.scratch import after, load_lanes, place_one, store_lanes
from logitx.backends.numba.passes.blocks import load_per_row
from logitx.backends.numba.passes.copies import store_block
from logitx.backends.numba.passes.loop import Logits, Passes, RoomNeeds, define_passes, run_blocks
from logitx.backends.numba.passes.reduce import emit, hide, multiply
from logitx.backends.numba.passes.sums import add_to_sum, fold_rows
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.lanes import cast_as, select, spread_as, wide, width_of


class DivergenceGradientArrays(NamedTuple):
    """The arrays of `divergence_gradient`; those of the options may be absent."""

    p: OfLogits
    q: OfOther
    where: Mask
    temperature: Wide
    softcap: Computed
    share: Computed  # the gradient by the number of each row
    value: OfLoss  # of each row; where it is not finite the gradients are not those of the formulas
    by_p: OfResult
    by_q: OfOther


class DivergenceGradientTask(NamedTuple):
    """The task of the loop: first what `reduce_divergence` uses."""

    room: Any
    q: Any
    where: Any
    softcap: Any
    adjusted: Any
    value: Any
    mixed: Any
    weight: float
    other: float
    sloping: bool
    share: Any
    out: Any
    out_q: Any


def divergence_gradient(
    arrays: DivergenceGradientArrays, options: DivergenceOptions, across: Way, adjusted: Way, mixed: Way, parts: int,
    crew: int,
) -> int:  # fmt: skip
    """Write share times the derivatives of each row's divergence, KL(p, q) or with `mixed` that of the mixture."""
    p, fits_p = view_of_entries(arrays.p, options.axis)
    q, fits_q = view_beside(arrays.q, options.axis, p)
    where, fits_where = view_beside(arrays.where, options.axis, p)
    by_p, fits_by_p = view_beside(arrays.by_p, options.axis, p)
    by_q, fits_by_q = view_beside(arrays.by_q, options.axis, p)
    share, value = view_of_rows(arrays.share), view_of_rows(arrays.value)
    fits_rows = share.outer == value.outer == p.outer * p.inner
    if not (fits_p and fits_q and fits_where and fits_by_p and fits_by_q and fits_rows):
        return UNFIT
    softcap = view_of_rows(arrays.softcap)
    logits = Logits(p, where, view_of_rows(arrays.temperature), softcap)
    room = RoomNeeds(1, 4, 0, False, True, 0.0)
    task = DivergenceGradientTask(
        room, q, where, softcap, adjusted, value, mixed, options.weight, options.other, True, share, by_p, by_q
    )
    return OK if together(crew, job_of(run_blocks, (logits, task, across, adjusted, adjusted)), parts) else FAILED


@inlined
def _differentiate(panel: Any, found: Any, across: Any, task: Any) -> bool:
    """Write p (log(p / q) - KL) and q - p to the tiles, times share / temperature; or what the mixture has instead."""
    tile, numbers = panel.memory.tile, panel.memory.numbers
    for i in range(panel.rows):
        place_one(numbers, i, cast_as(number_at(task.share, panel.row + i, tile), tile))
    emit(task.value, panel.row, panel.rows, found.total)
    factor = load_per_row(numbers, 0, across) * panel.scale.high
    if task.mixed is None:
        _write_of_pair(panel, found, factor)
    else:
        _write_of_mixture(panel, found, factor, across, task)
    return False


@primitive
def _write_of_pair(panel: Any, found: Any, factor: Any) -> None:
    tile, other, base, width = panel.memory.tile, panel.memory.more, panel.base, width_of(panel.memory.tile)
    third, zero = after(other, panel.g.size), spread_as(tile, 0.0)
    shift = found.q.log_sum - found.p.log_sum - found.total
    for at in range(base, base + panel.g.steps * width, width):
        p, q = load_lanes(tile, at) * wide(zero, found.p.inverse), load_lanes(third, at) * wide(zero, found.q.inverse)
        slope = select(p == zero, zero, p * (load_lanes(other, at) + wide(zero, shift)))
        store_lanes(tile, at, wide(zero, factor) * slope)
        store_lanes(other, at, wide(zero, factor) * (q - p))


@primitive
def _write_of_mixture(panel: Any, found: Any, factor: Any, across: Any, task: Any) -> None:
    tile, other, base, width = panel.memory.tile, panel.memory.more, panel.base, width_of(panel.memory.tile)
    third, fourth, zero = after(other, panel.g.size), after(other, 3 * panel.g.size), spread_as(tile, 0.0)
    shift = wide(zero, found.q.log_sum - found.p.log_sum)
    sum_p, low_p, sum_q, low_q = zero, zero, zero, zero
    bound_p, bound_q = spread_as(tile, -math.log(task.weight)), spread_as(tile, -math.log(task.other))
    for at in range(base, base + panel.g.steps * width, width):
        p, q = load_lanes(tile, at) * wide(zero, found.p.inverse), load_lanes(third, at) * wide(zero, found.q.inverse)
        log_p, log_q = logs_over_mixture(load_lanes(other, at) + shift, task.weight, task.other)
        log_p, log_q = select(q == zero, bound_p, log_p), select(p == zero, bound_q, log_q)
        log_p, log_q = select(p == zero, zero, log_p), select(q == zero, zero, log_q)
        store_lanes(tile, at, p)
        store_lanes(third, at, q)
        store_lanes(other, at, log_p)
        store_lanes(fourth, at, log_q)
        sum_p, low_p = add_to_sum(sum_p, low_p, p * log_p)
        sum_q, low_q = add_to_sum(sum_q, low_q, q * log_q)
    of_p, of_q = factor * spread_as(factor, task.weight), factor * spread_as(factor, task.other)
    mean_p, mean_q = fold_rows(sum_p, low_p, across), fold_rows(sum_q, low_q, across)
    for at in range(base, base + panel.g.steps * width, width):
        p, q = load_lanes(tile, at), load_lanes(third, at)
        store_lanes(tile, at, wide(zero, of_p) * (p * (load_lanes(other, at) - wide(zero, mean_p))))
        store_lanes(other, at, wide(zero, of_q) * (q * (load_lanes(fourth, at) - wide(zero, mean_q))))


@inlined
def _store_both(memory: Any, g: Any, first: int, count: int, across: Any, task: Any) -> None:
    """Write the tiles to both results; the loop has made up for softcap and mask in the first one only."""
    if task.adjusted is not None:
        if given(task.softcap):
            multiply(memory.more, after(memory.more, 2 * g.size), g.size)
        if given(task.where):
            hide(memory.more, memory.mask, g.size, 0.0)
    store_block(memory.tile, task.out, g, first, count, across)
    store_block(memory.more, task.out_q, g, first, count, across)


define_passes(DivergenceGradientTask, Passes(None, load_second, reduce_divergence, _differentiate, _store_both))
