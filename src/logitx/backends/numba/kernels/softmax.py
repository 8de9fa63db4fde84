"""softmax and log_softmax: one kernel, which differs in its last pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.signature import Computed, Mask, OfLogits, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, entries, rows
from logitx.backends.numba.memory.scratch import missing, release, reserve
from logitx.backends.numba.passes.copies import finish_panel
from logitx.backends.numba.passes.finish import Logarithm, Scaled
from logitx.backends.numba.passes.long_rows import FACTS, pieces_of, reduce_row, rewrite_row, unscaled, write_row
from logitx.backends.numba.passes.loop import (
    Logits,
    Passes,
    Room,
    define,
    maximum_of,
    next_block_and_result,
    nothing_to_begin,
    nothing_to_load,
    run_blocks,
    store_tile,
)
from logitx.backends.numba.passes.reduce import Pair, inverse_of_sum, rest_of
from logitx.backends.numba.threads.workers import job, together
from logitx.backends.numba.vectors.exp_log import log1p
from logitx.backends.numba.vectors.lanes import select, spread


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


class Normalizing(NamedTuple):
    """The task of the loop: what the passes of softmax and log_softmax use."""

    out: Any
    log: Any
    undefined: float


def normalize(
    arrays: NormalizeArrays, options: NormalizeOptions, across: Way, log: Way, adjusted: Way, parts: int, crew: int
) -> int:
    """Write softmax, or with `log` its logarithm; without `adjusted` there is no mask, temperature or softcap."""
    x, fits_x = entries(arrays.logits, options.axis)
    where, fits_where = entries(arrays.where, options.axis)
    out, fits_out = entries(arrays.out, options.axis)
    if not (fits_x and fits_where and fits_out):
        return UNFIT
    logits = Logits(x, where, rows(arrays.temperature), rows(arrays.softcap))
    task = Normalizing(out, log, options.undefined)
    return OK if together(crew, job(run_blocks, (logits, task, across, adjusted, adjusted)), parts) else FAILED


@inlined
def _room(_g: Any, _lanes: int, _sloping: bool, task: Any) -> Any:
    return Room(0, False, False, 0, masked_value(task.log))


@primitive
def masked_value(log: Any) -> float:
    """Return the probability of a masked entry, or with `log` its logarithm."""
    return 0.0 if log is None else -np.inf


@inlined
def _reduce(panel: Any, across: Any, task: Any) -> Any:
    top = maximum_of(panel, across)
    ahead = next_block_and_result(panel, task.out, across)
    rest, lost = rest_of(panel.memory.tile, panel.base, panel.g.steps, top, panel.scale, task.log, ahead, across)
    return Pair(top, rest, lost)


@inlined
def normalize_panel(panel: Any, pair: Any, across: Any, task: Any) -> Any:
    """Turn exponentials, or with `log` logits, into probabilities; they are written at once if nothing is masked."""
    how = facts_of(pair.top, pair.rest, pair.lost, panel.scale, task.undefined, task.log)
    finish_panel(panel.memory.tile, panel.base, task.out, panel.g, panel.first, not panel.masked, how, across)
    return across is not None and not panel.masked


define(Normalizing, Passes(_room, nothing_to_begin, nothing_to_load, _reduce, normalize_panel, store_tile))


@primitive
def facts_of(top: Any, rest: Any, lost: Any, scale: Any, undefined: float, log: Any) -> Any:
    """Return what the last pass has to know of each row, whose sum is rest + lost."""
    nothing, answer = rest < spread(rest, 0.0), spread(rest, undefined)
    if log is not None:
        return Logarithm(top, select(nothing, answer, log1p(rest, lost)), scale)
    zero = spread(rest, 0.0)
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
    logits, fits_x = entries(arrays.logits, options.axis)
    target, fits_out = entries(arrays.out, options.axis)
    if not (fits_x and fits_out):
        return UNFIT
    number, undefined = rows(arrays.like), options.undefined
    facts = reserve(FACTS * pieces_of(logits.n), rows(arrays.wide))
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
