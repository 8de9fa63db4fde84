"""Cross-entropy of class ids with the numbers of each row that people read beside it: the same reduction, more sums."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.cross_entropy_ids import label_rule_of
from logitx.backends.numba.kernels.signature import Computed, Ids, Mask, OfLogits, OfLoss, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, UNFIT, given, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.load_store import write_back
from logitx.backends.numba.memory.prefetch import ahead_of
from logitx.backends.numba.memory.scratch import is_missing, release
from logitx.backends.numba.passes.blocks import geometry_of
from logitx.backends.numba.passes.class_ids import (
    LOGIT,
    all_masked,
    entry,
    gather_labels,
    label_of,
    number_of,
    total_share,
)
from logitx.backends.numba.passes.loop import Logits, Passes, RoomNeeds, define_passes, run_blocks, store_tile
from logitx.backends.numba.passes.loss import (
    LossNumbers,
    differentiate_panel,
    finish_label_loss,
    has_room,
    logarithms_of,
    losses_to_write,
    place_of,
)
from logitx.backends.numba.passes.reduce import inverse_of_sum, nans_beside_infinity, peak, sums_of_rows
from logitx.backends.numba.passes.reports import MEAN, blank_reports, mean_factor, report_bad, settle_all
from logitx.backends.numba.passes.scaling import exponent
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.lanes import lane, maximum_of_two, select, spread_as


class RowNumbers(NamedTuple):
    """What is told of a row, in this order."""

    log_prob: Any  # of its label
    entropy: Any
    correct: Any  # 1 where the label has the highest logit, the first among equals
    confidence: Any  # the largest probability
    squares: Any  # the sum of squared probabilities
    variance: Any  # of the logits, after softcap and temperature, under the probabilities


COUNT = len(RowNumbers._fields)


class NumberedArrays(NamedTuple):
    """The arrays of `hard_with_numbers`: those of `hard`, and `found` with `COUNT` numbers a row."""

    logits: OfLogits
    labels: Ids
    class_weight: Computed
    sample_weight: Computed
    where: Mask
    temperature: Wide
    softcap: Computed
    grad: OfResult
    loss: OfLoss
    z_part: OfLoss
    log_normalizer: OfLoss
    found: OfLoss


class NumberedLossTask(NamedTuple):
    """The task of the loop without gradients."""

    room: Any
    labels: Any
    losses: Any
    found: Any


class NumberedGradientTask(NamedTuple):
    """The task of the loop with gradients."""

    room: Any
    labels: Any
    losses: Any
    out: Any
    z_loss: float
    factor: float
    found: Any


def hard_with_numbers(
    arrays: NumberedArrays, numbers: LossNumbers, across: Way, backward: Way, adjusted: Way, parts: int, crew: int
) -> Any:
    """Do what `hard` does, to the same bits, and write the `RowNumbers` of every row."""
    x, fits_x = view_of_entries(arrays.logits, numbers.axis)
    where, fits_where = view_beside(arrays.where, numbers.axis, x)
    grad, fits_grad = view_beside(arrays.grad, numbers.axis, x)
    found = view_of_rows(arrays.found)
    fits = fits_x and fits_where and fits_grad and found.outer == COUNT * x.outer * x.inner
    if not (fits and has_room(arrays, numbers, x)):
        return UNFIT
    logits = Logits(x, where, view_of_rows(arrays.temperature), view_of_rows(arrays.softcap))
    labels = label_rule_of(arrays, numbers, where, adjusted)
    g = geometry_of(x, logits.softcap, across)
    factor = 1.0
    if backward is not None and numbers.reduction == MEAN:
        total, bad = total_share(g, labels, adjusted, logits.softcap)
        if bad >= 0:
            return bad
        factor = mean_factor(total)
    reports = blank_reports(g.blocks, logits.temperature)
    if is_missing(reports):
        return FAILED
    losses = losses_to_write(arrays, reports, numbers)
    if backward is None:
        task = NumberedLossTask(RoomNeeds(3, 0, 0, False, False, 0.0), labels, losses, found)
        work = job_of(run_blocks, (logits, task, across, adjusted, adjusted))
    else:
        room = RoomNeeds(3, 0, 0, False, True, 0.0)
        work = job_of(
            run_blocks,
            (
                logits, NumberedGradientTask(room, labels, losses, grad, numbers.z_loss, factor, found), across,
                adjusted, adjusted,
            ),
        )  # fmt: skip
    code = FAILED
    if together(crew, work, parts):
        code = settle_all(reports, g.blocks, losses)
    release(reports)
    return code


@inlined
def _reduce_with_numbers(panel: Any, across: Any, task: Any) -> Any:
    """Reduce the rows of a panel to exponentials, which stay in the tile; hand in their losses and numbers."""
    tile, base, steps = panel.memory.tile, panel.base, panel.g.steps
    report_bad(task.losses.reports, panel.block, gather_labels(panel, task.labels, across))
    top = peak(tile, base, steps, panel.seen, panel.unchanged, across)
    nans = nans_beside_infinity(tile, base, steps, top, across)
    ahead = ahead_of(panel.x, panel.g, panel.first, panel.nth, tile, across)
    sums = sums_of_rows(tile, base, steps, top, panel.scale, None, ahead, across)
    reduced = logarithms_of(top, sums.rest, sums.lost, panel.scale)
    finish_label_loss(task.losses, place_of(panel), reduced, nans, panel.memory.numbers, panel.scale, across)
    _write_numbers(panel, sums, reduced, across, task)
    return reduced


@inlined
def _write_numbers(panel: Any, sums: Any, reduced: Any, across: Any, task: Any) -> None:
    """Write the numbers of each row of a panel: `undefined` where there is no class."""
    rest, one = sums.rest, spread_as(sums.rest, 1.0)
    nothing = rest < one - one
    undefined = spread_as(rest, task.losses.undefined)
    logit = number_of(panel.memory.numbers, LOGIT, across)
    v, _ = exponent(logit, reduced.top, panel.scale)
    log_prob = select(nothing, undefined, select(rest == rest, v - reduced.log_sum, rest))
    entropy = select(nothing, undefined, reduced.log_sum + sums.fall / (one + rest))
    high, _ = inverse_of_sum(select(nothing, one - one, rest), sums.lost)
    mean = sums.fall * high
    confidence, squares = select(nothing, undefined, high), select(nothing, undefined, sums.squares * (high * high))
    variance = select(nothing, undefined, maximum_of_two(sums.spread * high - mean * mean, one - one))
    step = task.found.outer_stride
    for i in range(panel.rows):
        row = panel.row + i
        label, good = label_of(task.labels, row, panel.g.n)
        counted = good > 0
        if counted and lane(rest, i) < 0.0:
            counted = not all_masked(task.labels.where, panel.g, row, panel.memory.tile)
        highest, tops = lane(logit, i) == lane(reduced.top, i), lane(sums.tops, i)
        best = counted and _is_best(panel, task.labels.where, label, row, highest, tops, lane(rest, i))
        at = row * COUNT * step
        write_back(task.found, at, lane(log_prob, i) if counted else 0.0)
        write_back(task.found, at + step, lane(entropy, i))
        write_back(task.found, at + 2 * step, 1.0 if best else 0.0)
        write_back(task.found, at + 3 * step, lane(confidence, i))
        write_back(task.found, at + 4 * step, lane(squares, i))
        write_back(task.found, at + 5 * step, lane(variance, i))


@primitive
def _is_best(panel: Any, where: Any, label: int, row: int, highest: bool, tops: float, rest: float) -> bool:
    """Return True if the label of a row has the highest logit, the first among equals.

    Where `tops` exponentials are 1, or the row has a NaN or +inf, the logits are compared as they were given.
    """
    if rest < 0.0 or (rest == rest and not highest):
        return False
    if rest == rest and tops == 1.0:
        return True
    own = entry(panel.x, panel.g, row, label, panel.memory.tile)
    if given(where) and entry(where, panel.g, row, label, panel.memory.tile) == 0.0:
        return False
    for j in range(panel.g.n):
        if given(where) and entry(where, panel.g, row, j, panel.memory.tile) == 0.0:
            continue
        other = entry(panel.x, panel.g, row, j, panel.memory.tile)
        if not (other < own or (other == own and j >= label)):
            return False
    return True


@inlined
def _nothing_to_finish(_panel: Any, _reduced: Any, _across: Any, _task: Any) -> bool:
    return True


define_passes(NumberedLossTask, Passes(None, None, _reduce_with_numbers, _nothing_to_finish, None))
define_passes(NumberedGradientTask, Passes(None, None, _reduce_with_numbers, differentiate_panel, store_tile))
