"""softmax_mean: one read of the logits and of the values, one number written a row."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import inlined
from logitx.backends.numba.kernels.signature import Computed, Mask, OfLogits, OfLoss, OfOther, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, view_of_entries, view_of_rows
from logitx.backends.numba.memory.prefetch import ahead_of
from logitx.backends.numba.passes.copies import load_block
from logitx.backends.numba.passes.loop import Logits, Passes, RoomNeeds, define_passes, run_blocks
from logitx.backends.numba.passes.reduce import emit, inverse_of_sum, peak, rest_of
from logitx.backends.numba.passes.sums import dot_of_tiles
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.lanes import fma, select, spread_as


class MeanArrays(NamedTuple):
    """The arrays of `mean_rows`; those of the options may be absent."""

    logits: OfLogits
    values: OfOther
    where: Mask
    temperature: Wide
    softcap: Computed
    mean: OfLoss


class MeanOptions(NamedTuple):
    """The numbers of `mean_rows`."""

    axis: int
    undefined: float  # what a row in which nothing counts gets: NaN, or 0


class MeanTask(NamedTuple):
    """The task of the loop."""

    room: Any
    values: Any
    mean: Any
    undefined: float


class MeanNumbers(NamedTuple):
    """The numbers of each row."""

    rest: Any
    lost: Any
    total: Any  # sum of exp(v) times value, in two parts
    error: Any


def mean_rows(arrays: MeanArrays, options: MeanOptions, across: Way, adjusted: Way, parts: int, crew: int) -> int:
    """Write the sum of p v of every row."""
    x, fits_x = view_of_entries(arrays.logits, options.axis)
    values, fits_values = view_of_entries(arrays.values, options.axis)
    where, fits_where = view_of_entries(arrays.where, options.axis)
    if not (fits_x and fits_values and fits_where):
        return UNFIT
    logits = Logits(x, where, view_of_rows(arrays.temperature), view_of_rows(arrays.softcap))
    room = RoomNeeds(0, 1, 0, False, False, 0.0)
    task = MeanTask(room, values, view_of_rows(arrays.mean), options.undefined)
    return OK if together(crew, job_of(run_blocks, (logits, task, across, adjusted, adjusted)), parts) else FAILED


@inlined
def _load_values(memory: Any, g: Any, _block: int, first: int, count: int, across: Any, task: Any) -> None:
    load_block(task.values, g, first, count, memory.more, 0.0, across)


@inlined
def _reduce_mean(panel: Any, across: Any, _task: Any) -> Any:
    tile, base, steps = panel.memory.tile, panel.base, panel.g.steps
    ahead = ahead_of(panel.x, panel.g, panel.first, panel.nth, tile, across)
    top = peak(tile, base, steps, panel.seen, panel.unchanged, across)
    rest, lost = rest_of(tile, base, steps, top, panel.scale, None, ahead, across)
    total, error = dot_of_tiles(tile, panel.memory.more, base, steps, across)
    return MeanNumbers(rest, lost, total, error)


@inlined
def _emit_mean(panel: Any, found: Any, _across: Any, task: Any) -> bool:
    zero = spread_as(found.rest, 0.0)
    nothing = found.rest < zero
    high, low = inverse_of_sum(select(nothing, zero, found.rest), found.lost)
    value = fma(found.total, high, fma(found.total, low, found.error * high))
    value = select(nothing, spread_as(found.rest, task.undefined), value)
    emit(task.mean, panel.row, panel.rows, select(found.rest == found.rest, value, found.rest))
    return True


define_passes(MeanTask, Passes(None, _load_values, _reduce_mean, _emit_mean, None))
