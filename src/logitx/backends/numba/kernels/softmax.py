"""softmax and log_softmax: one kernel, which differs in its last pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.signature import Computed, Mask, OfLogits, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.prefetch import ahead_of_both
from logitx.backends.numba.memory.scratch import is_missing, release, reserve
from logitx.backends.numba.passes.copies import finish_panel
from logitx.backends.numba.passes.finish import Logarithm, Scaled
from logitx.backends.numba.passes.long_rows import (
    PIECE_NUMBERS,
    pieces_of,
    reduce_long_row,
    rewrite_long_row,
    write_long_row,
)
from logitx.backends.numba.passes.loop import (
    Logits,
    Passes,
    RoomNeeds,
    define_passes,
    run_blocks,
    run_rows,
    store_tile,
)
from logitx.backends.numba.passes.reduce import MaximumAndSum, inverse_of_sum, peak, rest_of
from logitx.backends.numba.passes.scaling import unscaled
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import log1p_of_sum
from logitx.backends.numba.vectors.lanes import select, spread_as


class NormalizeArrays(NamedTuple):
    """The arrays of `normalize`; all but the first and the last may be absent."""

    logits: OfLogits
    where: Mask
    temperature: Wide
    softcap: Computed
    out: OfResult


class NormalizeOptions(NamedTuple):
    """The numbers of `normalize`."""

    axis: int
    undefined: float  # what a row without a maximum gets: NaN, or 0


class NormalizeTask(NamedTuple):
    """The task of the loop: what the passes of softmax and log_softmax use."""

    room: Any
    out: Any
    log: Any
    undefined: float


def normalize(
    arrays: NormalizeArrays, options: NormalizeOptions, across: Way, log: Way, adjusted: Way, parts: int, crew: int
) -> int:
    """Write softmax, or with `log` its logarithm; without `adjusted` there is no mask, temperature or softcap."""
    x, fits_x = view_of_entries(arrays.logits, options.axis)
    where, fits_where = view_beside(arrays.where, options.axis, x)
    out, fits_out = view_beside(arrays.out, options.axis, x)
    if not (fits_x and fits_where and fits_out):
        return UNFIT
    logits = Logits(x, where, view_of_rows(arrays.temperature), view_of_rows(arrays.softcap))
    task = NormalizeTask(RoomNeeds(0, 0, 0, False, False, masked_value(log)), out, log, options.undefined)
    if adjusted is None:
        if across is None:
            fine = together(crew, job_of(run_blocks, (logits, task, None, None, None)), parts)
        else:
            fine = together(crew, job_of(run_rows, (logits, task, across)), parts)
    else:
        fine = together(crew, job_of(run_blocks, (logits, task, across, adjusted, adjusted)), parts)
    return OK if fine else FAILED


@primitive
def masked_value(log: Any) -> float:
    """Return the probability of a masked entry, or with `log` its logarithm."""
    return 0.0 if log is None else -np.inf


@inlined
def _reduce_to_sum(panel: Any, across: Any, task: Any) -> Any:
    top = peak(panel.memory.tile, panel.base, panel.g.steps, panel.seen, panel.unchanged, across)
    ahead = ahead_of_both(panel.x, task.out, panel.g, panel.first, panel.nth, panel.memory.tile, across)
    rest, lost = rest_of(panel.memory.tile, panel.base, panel.g.steps, top, panel.scale, task.log, ahead, across)
    return MaximumAndSum(top, rest, lost)


@inlined
def normalize_panel(panel: Any, pair: Any, across: Any, task: Any) -> Any:
    """Turn exponentials, or with `log` logits, into probabilities; they are written at once if nothing is masked."""
    how = formula_of(pair.top, pair.rest, pair.lost, panel.scale, task.undefined, task.log)
    finish_panel(panel.memory.tile, panel.base, task.out, panel.g, panel.first, not panel.masked, how, across)
    return across is not None and not panel.masked


define_passes(
    NormalizeTask,
    Passes(None, None, _reduce_to_sum, normalize_panel, store_tile),
)


@primitive
def formula_of(top: Any, rest: Any, lost: Any, scale: Any, undefined: float, log: Any) -> Any:
    """Return what the last pass has to know of each row, whose sum is rest + lost."""
    nothing, answer = rest < spread_as(rest, 0.0), spread_as(rest, undefined)
    if log is not None:
        return Logarithm(top, select(nothing, answer, log1p_of_sum(rest, lost)), scale)
    zero = spread_as(rest, 0.0)
    high, low = inverse_of_sum(select(nothing, zero, rest), lost)
    return Scaled(select(nothing, answer, high), low)


class NormalizeLongArrays(NamedTuple):
    """The arrays of `normalize_long`; the last two are absent and have the dtype to compute in, and float64."""

    logits: OfLogits
    out: OfResult
    like: Computed
    wide: Wide


def normalize_long(
    arrays: NormalizeLongArrays, options: NormalizeOptions, log: Way, keeping: Way, parts: int, crew: int
) -> int:
    """Write softmax or its logarithm of long rows.

    With `keeping` the result holds the exponentials until they are normalized.
    """
    logits, fits_x = view_of_entries(arrays.logits, options.axis)
    target, fits_out = view_beside(arrays.out, options.axis, logits)
    if not (fits_x and fits_out):
        return UNFIT
    number, undefined = view_of_rows(arrays.like), options.undefined
    facts = reserve(PIECE_NUMBERS * pieces_of(logits.n), view_of_rows(arrays.wide))
    if is_missing(facts):
        return FAILED
    fine = True
    for row in range(logits.outer):
        if keeping is not None:
            reduced, top, rest, _ = reduce_long_row(logits, target, row, facts, number, parts, crew)
            how = formula_of(top, rest, spread_as(rest, 0.0), unscaled(top), undefined, None)
            written = rewrite_long_row(target, row, how, facts, number, parts, crew)
        else:
            reduced, top, rest, _ = reduce_long_row(logits, None, row, facts, number, parts, crew)
            how = formula_of(top, rest, spread_as(rest, 0.0), unscaled(top), undefined, log)
            written = write_long_row(logits, target, row, top, how, log, number, parts, crew)
        fine = fine and reduced and written
    release(facts)
    return OK if fine else FAILED
