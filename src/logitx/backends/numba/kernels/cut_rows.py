"""Rows whose classes are cut over several arrays: one pass of the loop for each array.

`reduce_part` is *reduce* alone: it writes the maximum and the sum of each row of one array. `merge_parts` merges these
over the arrays. `normalize_part` and `differentiate_part` are *finish* alone: they are given the merged numbers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.signature import Computed, Ids, Mask, OfLogits, OfResult, Way, Wide
from logitx.backends.numba.kernels.softmax import NormalizeOptions, masked_value, normalize_panel
from logitx.backends.numba.memory.arguments import (
    FAILED,
    OK,
    UNFIT,
    given,
    has_one_a_row,
    view_beside,
    view_of_entries,
    view_of_rows,
)
from logitx.backends.numba.memory.load_store import class_id, number_at, read_one, write_back
from logitx.backends.numba.memory.prefetch import ahead_of, ahead_of_both
from logitx.backends.numba.memory.scratch import place_one, store_lanes, take_one
from logitx.backends.numba.passes.blocks import one_per_row
from logitx.backends.numba.passes.class_ids import LABEL_SHARE, LOGIT, LabelRule, number_of, place_in_panel
from logitx.backends.numba.passes.loop import (
    Logits,
    Passes,
    RoomNeeds,
    define_passes,
    run_blocks,
    store_tile,
)
from logitx.backends.numba.passes.loss import differentiate_panel, logarithms_of
from logitx.backends.numba.passes.reduce import MaximumAndSum, emit, nans_beside_infinity, peak, rest_of
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.lanes import select, spread_as, width_of

KNOWN_MAXIMUM, KNOWN_REST = 3, 4  # vectors of numbers of each row, after those of its label
KNOWN_VECTORS = 5


class ReducePartArrays(NamedTuple):
    """The arrays of `reduce_part`; all but logits, top and rest may be absent."""

    logits: OfLogits
    where: Mask
    labels: Ids
    temperature: Wide
    softcap: Computed
    top: Computed
    rest: Computed
    label_logits: Computed


class ReducePartTask(NamedTuple):
    """The task of the loop that only reduces."""

    room: Any
    tops: Any
    rests: Any
    labels: Any
    label_logits: Any


def reduce_part(arrays: ReducePartArrays, axis: int, across: Way, adjusted: Way, parts: int, crew: int) -> int:
    """Write the maximum of every row, the sum of exp((x - maximum) / temperature) without one maximum, and a logit.

    The sum is NaN for rows with a NaN or +inf, whose maximum is the one or the other, and -1 where nothing counts.
    `label_logits` gets the logits at `labels`, where these are classes of the array. Without `adjusted` there is no
    mask, no temperature and no softcap.
    """
    x, fits_x = view_of_entries(arrays.logits, axis)
    where, fits_where = view_beside(arrays.where, axis, x)
    tops, rests = view_of_rows(arrays.top), view_of_rows(arrays.rest)
    if not (fits_x and fits_where and has_one_a_row(tops, x) and has_one_a_row(rests, x)):
        return UNFIT
    logits = Logits(x, where, view_of_rows(arrays.temperature), view_of_rows(arrays.softcap))
    task = ReducePartTask(
        RoomNeeds(0, 0, 0, False, False, 0.0),
        tops,
        rests,
        view_of_rows(arrays.labels),
        view_of_rows(arrays.label_logits),
    )
    return OK if together(crew, job_of(run_blocks, (logits, task, across, adjusted, adjusted)), parts) else FAILED


@inlined
def _reduce_to_known(panel: Any, across: Any, task: Any) -> Any:
    tile, base, steps = panel.memory.tile, panel.base, panel.g.steps
    if given(task.labels):
        _emit_logits(panel, across, task)
    top = peak(panel.memory.tile, panel.base, panel.g.steps, panel.seen, panel.unchanged, across)
    nans = nans_beside_infinity(tile, base, steps, top, across)
    rest, lost = rest_of(
        tile,
        base,
        steps,
        top,
        panel.scale,
        None,
        ahead_of(panel.x, panel.g, panel.first, panel.nth, panel.memory.tile, across),
        across,
    )
    return MaximumAndSum(_nan_or_maximum(top, rest, nans), rest, lost)


@inlined
def _emit_pair(panel: Any, pair: Any, _across: Any, task: Any) -> bool:
    emit(task.tops, panel.row, panel.rows, pair.top)
    emit(task.rests, panel.row, panel.rows, pair.rest)
    return True


@primitive
def _nan_or_maximum(top: Any, rest: Any, nans: Any) -> Any:
    """Return the maximum, NaN where the row has one."""
    nan = spread_as(top, np.nan)
    infinite = select(nans == spread_as(top, 0.0), top, nan)
    return select(top == spread_as(top, np.inf), infinite, select(rest == rest, top, nan))


@inlined
def _emit_logits(panel: Any, across: Any, task: Any) -> None:
    """Write the logit of the label of each row of a panel that has its label here."""
    tile, logits = panel.memory.tile, task.label_logits
    for i in range(panel.rows):
        label = class_id(task.labels, panel.row + i)
        if 0 <= label < panel.g.n:
            logit = take_one(tile, panel.base + place_in_panel(label, i, tile, across))
            write_back(logits, (panel.row + i) * logits.outer_stride, logit)


define_passes(
    ReducePartTask,
    Passes(None, None, _reduce_to_known, _emit_pair, None),
)


# -- the merge --------------------------------------------------------------------------------------------------------


class MergeArrays(NamedTuple):
    """The arrays of `merge_parts`; the first axis of the first two counts the parts."""

    tops: Wide
    rests: Wide
    temperature: Wide
    top: Wide
    rest: Wide


def merge_parts(arrays: MergeArrays, parts: int, crew: int) -> int:
    """Write the pair of every row whose parts `reduce_part` has reduced.

    Not worth a second thread, nor a vector: 1 ms for four parts of 25,000 rows, of which NumPy makes 3 to 12.
    """
    tops, _ = view_of_entries(arrays.tops, arrays.tops.ndim - arrays.tops.ndim)
    rests, _ = view_of_entries(arrays.rests, arrays.rests.ndim - arrays.rests.ndim)
    temperature, top, rest = view_of_rows(arrays.temperature), view_of_rows(arrays.top), view_of_rows(arrays.rest)
    for row in range(tops.inner):
        divisor = 1.0
        if given(temperature):
            divisor = number_at(temperature, row if temperature.outer > 1 else 0, temperature)
        maximum, total = _merged_pair(tops, rests, row, divisor)
        write_back(top, row * top.outer_stride, maximum)
        write_back(rest, row * rest.outer_stride, total)
    return OK


@primitive
def _merged_pair(tops: Any, rests: Any, row: int, temperature: float) -> Any:
    """Return the pair of one row."""
    maximum, alive = -np.inf, False
    for part in range(tops.n):
        top, rest = _pair_of_part(tops, rests, part, row)
        if rest != -1.0:
            if top != top:
                return np.nan, np.nan
            alive = True
            maximum = max(maximum, top)
    if not alive:
        return 0.0, -1.0
    total, leads = 0.0, -1.0  # one maximum is left out; subtracting it from the whole sum would cancel
    for part in range(tops.n):
        top, rest = _pair_of_part(tops, rests, part, row)
        if rest != -1.0:
            if top == maximum:
                total, leads = total + rest, leads + 1.0
            else:
                total += (1.0 + rest) * math.exp((top - maximum) / temperature)
    return maximum, total + leads


@primitive
def _pair_of_part(tops: Any, rests: Any, part: int, row: int) -> Any:
    place = part * tops.n_stride + row * tops.inner_stride
    return read_one(tops, place, tops), read_one(rests, place, rests)


# -- rows whose pair is known -----------------------------------------------------------------------------------------


class NormalizePartArrays(NamedTuple):
    """The arrays of `normalize_part`; tops and rests are the merged pairs."""

    logits: OfLogits
    where: Mask
    temperature: Wide
    softcap: Computed
    out: OfResult
    tops: Computed
    rests: Computed


class NormalizePartTask(NamedTuple):
    """The task of the loop that only normalizes."""

    room: Any
    out: Any
    log: Any
    undefined: float
    tops: Any
    rests: Any


def normalize_part(
    arrays: NormalizePartArrays, options: NormalizeOptions, across: Way, log: Way, adjusted: Way, parts: int, crew: int
) -> int:
    """Write softmax, or with `log` its logarithm, as `normalize` does."""
    x, fits_x = view_of_entries(arrays.logits, options.axis)
    where, fits_where = view_beside(arrays.where, options.axis, x)
    out, fits_out = view_beside(arrays.out, options.axis, x)
    if not (fits_x and fits_where and fits_out):
        return UNFIT
    logits = Logits(x, where, view_of_rows(arrays.temperature), view_of_rows(arrays.softcap))
    task = NormalizePartTask(
        RoomNeeds(KNOWN_VECTORS, 0, 0, False, False, masked_value(log)),
        out,
        log,
        options.undefined,
        view_of_rows(arrays.tops),
        view_of_rows(arrays.rests),
    )
    return OK if together(crew, job_of(run_blocks, (logits, task, across, adjusted, adjusted)), parts) else FAILED


@inlined
def _exponentials_or_logits(panel: Any, across: Any, task: Any) -> Any:
    """Return the pairs of a panel; what is normalized takes the place of its logits."""
    pair = _known_pair(panel, across, task)
    _exponentials_unless(panel, pair.top, across, task, task.log)
    return pair


@inlined
def _exponentials_unless(panel: Any, top: Any, across: Any, task: Any, log: Any) -> None:
    if log is None:
        ahead = ahead_of_both(panel.x, task.out, panel.g, panel.first, panel.nth, panel.memory.tile, across)
        rest_of(panel.memory.tile, panel.base, panel.g.steps, top, panel.scale, None, ahead, across)


@inlined
def _known_pair(panel: Any, across: Any, task: Any) -> Any:
    top = _known_number(panel, KNOWN_MAXIMUM, task.tops, across)
    rest = _known_number(panel, KNOWN_REST, task.rests, across)
    return MaximumAndSum(top, rest, one_per_row(panel.memory.tile, 0.0, across))


@inlined
def _known_number(panel: Any, which: int, known: Any, across: Any) -> Any:
    """Collect one known number of each row of a panel, and return them."""
    numbers = panel.memory.numbers
    at = which * width_of(numbers)
    store_lanes(numbers, at, spread_as(numbers, 0.0))
    for i in range(panel.rows):
        place_one(numbers, at + i, number_at(known, panel.row + i, numbers))
    return number_of(numbers, which, across)


define_passes(
    NormalizePartTask,
    Passes(None, None, _exponentials_or_logits, normalize_panel, store_tile),
)


class DifferentiatePartArrays(NamedTuple):
    """The arrays of `differentiate_part`; labels may be in another array, label_logits are theirs in any case."""

    logits: OfLogits
    labels: Ids
    where: Mask
    temperature: Wide
    softcap: Computed
    grad: OfResult
    tops: Computed
    rests: Computed
    label_logits: Computed
    shares: Computed  # the weights of rows, divided by what gradients are divided by


class DifferentiateNumbers(NamedTuple):
    """The numbers of `differentiate_part`."""

    axis: int
    z_loss: float


class DifferentiatePartTask(NamedTuple):
    """The task of the loop that only differentiates."""

    room: Any
    labels: Any
    out: Any
    z_loss: float
    factor: float
    tops: Any
    rests: Any
    label_logits: Any
    shares: Any


def differentiate_part(
    arrays: DifferentiatePartArrays, numbers: DifferentiateNumbers, across: Way, adjusted: Way, parts: int, crew: int
) -> int:
    """Write the gradient of cross-entropy as `hard` does."""
    x, fits_x = view_of_entries(arrays.logits, numbers.axis)
    where, fits_where = view_beside(arrays.where, numbers.axis, x)
    grad, fits_grad = view_beside(arrays.grad, numbers.axis, x)
    if not (fits_x and fits_where and fits_grad):
        return UNFIT
    logits = Logits(x, where, view_of_rows(arrays.temperature), view_of_rows(arrays.softcap))
    labels = LabelRule(view_of_rows(arrays.labels), True, -1, logits.softcap, logits.softcap, where, None)
    task = DifferentiatePartTask(
        RoomNeeds(KNOWN_VECTORS, 0, 0, False, True, 0.0),
        labels,
        grad,
        numbers.z_loss,
        1.0,
        view_of_rows(arrays.tops),
        view_of_rows(arrays.rests),
        view_of_rows(arrays.label_logits),
        view_of_rows(arrays.shares),
    )
    return OK if together(crew, job_of(run_blocks, (logits, task, across, adjusted, adjusted)), parts) else FAILED


@inlined
def _exponentials(panel: Any, across: Any, task: Any) -> Any:
    """Return what rows have been reduced to; exponentials take the place of logits."""
    _known_number(panel, LOGIT, task.label_logits, across)
    _known_number(panel, LABEL_SHARE, task.shares, across)
    pair = _known_pair(panel, across, task)
    _exponentials_unless(panel, pair.top, across, task, None)
    return logarithms_of(pair.top, pair.rest, pair.lost, panel.scale)


define_passes(
    DifferentiatePartTask,
    Passes(None, None, _exponentials, differentiate_panel, store_tile),
)
