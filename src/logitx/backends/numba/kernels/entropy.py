"""entropy: one read of the logits, one number written a row; and its gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.signature import Computed, Mask, OfLogits, OfLoss, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.load_store import number_at, write_back
from logitx.backends.numba.memory.prefetch import ahead_of
from logitx.backends.numba.memory.scratch import load_lanes, place_one, store_lanes
from logitx.backends.numba.passes.blocks import load_per_row
from logitx.backends.numba.passes.loop import Logits, Passes, RoomNeeds, define_passes, run_blocks, store_tile
from logitx.backends.numba.passes.reduce import emit, inverse_of_sum, peak, sums_of_rows
from logitx.backends.numba.passes.scaling import exponent
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import exp_of_sum, log1p_of_sum
from logitx.backends.numba.vectors.lanes import (
    biggest,
    cast_as,
    maximum_of_two,
    select,
    spread_as,
    wide,
    width_of,
)


class EntropyArrays(NamedTuple):
    """The arrays of `entropy_rows`; all but the logits and one of the last two may be absent."""

    logits: OfLogits
    where: Mask
    temperature: Wide
    softcap: Computed
    share: Computed  # the gradient by the entropy of each row
    value: OfLoss
    gradient: OfResult


class EntropyOptions(NamedTuple):
    """The numbers of `entropy_rows`."""

    axis: int
    undefined: float  # what a row in which nothing counts gets: NaN, or 0


class EntropyTask(NamedTuple):
    """The task of the loop for the entropies."""

    room: Any
    value: Any
    undefined: float


class EntropyGradientTask(NamedTuple):
    """The task of the loop for their gradient."""

    room: Any
    share: Any
    out: Any


class EntropyNumbers(NamedTuple):
    """The numbers of each row."""

    top: Any
    rest: Any
    lost: Any
    fall: Any  # sum of exp(v) (-v), with v = (x - top) / temperature


def entropy_rows(
    arrays: EntropyArrays, options: EntropyOptions, across: Way, backward: Way, adjusted: Way, parts: int, crew: int
) -> int:
    """Write the entropy of every row, or with `backward` the gradient of the sum of share times entropy."""
    x, fits_x = view_of_entries(arrays.logits, options.axis)
    where, fits_where = view_beside(arrays.where, options.axis, x)
    out, fits_out = view_beside(arrays.gradient, options.axis, x)
    if not (fits_x and fits_where and fits_out):
        return UNFIT
    logits = Logits(x, where, view_of_rows(arrays.temperature), view_of_rows(arrays.softcap))
    value = view_of_rows(arrays.value)
    if x.n == 0:
        for row in range(value.outer):
            write_back(value, row * value.outer_stride, options.undefined)
    if backward is None:
        task = EntropyTask(RoomNeeds(0, 0, 0, False, False, 0.0), value, options.undefined)
        work = job_of(run_blocks, (logits, task, across, adjusted, adjusted))
    else:
        room = RoomNeeds(1, 0, 0, False, True, 0.0)
        work = job_of(
            run_blocks,
            (logits, EntropyGradientTask(room, view_of_rows(arrays.share), out), across, adjusted, adjusted),
        )
    return OK if together(crew, work, parts) else FAILED


@inlined
def _reduce_to_entropy(panel: Any, across: Any, _task: Any) -> Any:
    tile, base, steps = panel.memory.tile, panel.base, panel.g.steps
    ahead = ahead_of(panel.x, panel.g, panel.first, panel.nth, tile, across)
    top = peak(tile, base, steps, panel.seen, panel.unchanged, across)
    sums = sums_of_rows(tile, base, steps, top, panel.scale, True, ahead, across)
    return EntropyNumbers(top, sums.rest, sums.lost, sums.fall)


@inlined
def _emit_entropy(panel: Any, found: Any, _across: Any, task: Any) -> bool:
    rest, one = found.rest, spread_as(found.rest, 1.0)
    value = log1p_of_sum(rest, found.lost) + found.fall / (one + rest)
    emit(task.value, panel.row, panel.rows, select(rest < one - one, spread_as(rest, task.undefined), value))
    return True


@inlined
def _finish_gradient(panel: Any, found: Any, across: Any, task: Any) -> bool:
    """Write -share p (v + fall / (1 + rest)) / temperature: log p + H without the logarithm of the sum in both."""
    tile, numbers, scale = panel.memory.tile, panel.memory.numbers, panel.scale
    for i in range(panel.rows):
        place_one(numbers, i, cast_as(number_at(task.share, panel.row + i, tile), tile))
    zero = spread_as(found.rest, 0.0)
    nothing = found.rest < zero
    rest = select(nothing, zero, found.rest)
    high, low = inverse_of_sum(rest, found.lost)
    mean = found.fall * high
    factor = select(nothing, zero, (zero - load_per_row(numbers, 0, across)) * scale.high)
    _write_gradient(tile, panel.base, panel.g.steps, found.top, scale, factor * high, factor * low, mean)
    return False


@primitive
def _write_gradient(tile: Any, base: int, steps: int, top: Any, scale: Any, high: Any, low: Any, mean: Any) -> None:
    floor = spread_as(tile, -biggest(tile))
    for at in range(base, base + steps * width_of(tile), width_of(tile)):
        v, lost = exponent(load_lanes(tile, at), top, scale)
        e = exp_of_sum(v, lost)
        p = e * wide(e, high) + e * wide(e, low)
        store_lanes(tile, at, p * (maximum_of_two(v, floor) + wide(e, mean)))


define_passes(EntropyTask, Passes(None, None, _reduce_to_entropy, _emit_entropy, None))
define_passes(EntropyGradientTask, Passes(None, None, _reduce_to_entropy, _finish_gradient, store_tile))
