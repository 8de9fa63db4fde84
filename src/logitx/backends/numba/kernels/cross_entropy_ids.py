"""Cross-entropy of class ids: softmax's passes, and one entry of each row that is different."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import inlined
from logitx.backends.numba.compile.static import Function, by_type
from logitx.backends.numba.kernels.signature import Computed, Ids, Mask, OfLogits, OfLoss, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, UNFIT, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.prefetch import ahead_of, ahead_of_both
from logitx.backends.numba.memory.scratch import is_missing, release
from logitx.backends.numba.passes.blocks import geometry_of
from logitx.backends.numba.passes.class_ids import LabelRule, gather_labels, total_share
from logitx.backends.numba.passes.loop import (
    Logits,
    Passes,
    RoomNeeds,
    define_passes,
    run_blocks,
    store_tile,
)
from logitx.backends.numba.passes.loss import (
    LossNumbers,
    differentiate_panel,
    finish_label_loss,
    has_room,
    logarithms_of,
    losses_to_write,
    place_of,
)
from logitx.backends.numba.passes.reduce import nans_beside_infinity, peak, rest_of
from logitx.backends.numba.passes.reports import MEAN, blank_reports, mean_factor, report_bad, settle_all
from logitx.backends.numba.threads.workers import job_of, together


class HardArrays(NamedTuple):
    """The arrays of `hard`; all but logits, labels and loss may be absent."""

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


class HardLossTask(NamedTuple):
    """The task of the loop for losses alone."""

    room: Any
    labels: Any
    losses: Any
    found: Any  # where the numbers of rows are written (`cross_entropy_numbers`), or 0


class HardGradientTask(NamedTuple):
    """The task of the loop for losses and gradients."""

    room: Any
    labels: Any
    losses: Any
    out: Any
    z_loss: float
    factor: float
    found: Any  # as in `HardLossTask`


def hard(
    arrays: HardArrays, numbers: LossNumbers, across: Way, backward: Way, adjusted: Way, parts: int, crew: int
) -> Any:
    """Write losses, or their sum or mean, and what else is not None; return a bad row or a code of `arguments`.

    Without `adjusted` there is no mask, weight, softcap or temperature, without `backward` no gradient.
    For a mean the gradient is divided by the sum of shares, which then has to be known first.
    """
    return write_label_losses(arrays, numbers, 0, across, backward, adjusted, parts, crew)


@inlined
def write_label_losses(
    arrays: Any, numbers: Any, found: Any, across: Any, backward: Any, adjusted: Any, parts: int, crew: int
) -> Any:
    """Do what `hard` does; `found` decides what else is written of each row."""
    x, fits_x = view_of_entries(arrays.logits, numbers.axis)
    where, fits_where = view_beside(arrays.where, numbers.axis, x)
    grad, fits_grad = view_beside(arrays.grad, numbers.axis, x)
    if not (fits_x and fits_where and fits_grad and has_room(arrays, numbers, x)):
        return UNFIT
    logits = Logits(x, where, view_of_rows(arrays.temperature), view_of_rows(arrays.softcap))
    labels = LabelRule(
        view_of_rows(arrays.labels),
        numbers.ignoring,
        numbers.ignored,
        view_of_rows(arrays.class_weight),
        view_of_rows(arrays.sample_weight),
        where,
        adjusted,
    )
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
        room = RoomNeeds(3, 0, 0, False, False, 0.0)
        work = job_of(run_blocks, (logits, HardLossTask(room, labels, losses, found), across, adjusted, adjusted))
    else:
        room = RoomNeeds(3, 0, 0, False, True, 0.0)
        task = HardGradientTask(room, labels, losses, grad, numbers.z_loss, factor, found)
        work = job_of(run_blocks, (logits, task, across, adjusted, adjusted))
    code = FAILED
    if together(crew, work, parts):
        code = settle_all(reports, g.blocks, losses)
    release(reports)
    return code


@inlined
def _reduce_to_loss(panel: Any, across: Any, task: Any) -> Any:
    return _reduce_and_emit(
        panel, ahead_of(panel.x, panel.g, panel.first, panel.nth, panel.memory.tile, across), across, task
    )


@inlined
def _reduce_to_gradient(panel: Any, across: Any, task: Any) -> Any:
    return _reduce_and_emit(
        panel,
        ahead_of_both(panel.x, task.out, panel.g, panel.first, panel.nth, panel.memory.tile, across),
        across,
        task,
    )


@inlined
def _reduce_and_emit(panel: Any, ahead: Any, across: Any, task: Any) -> Any:
    """Reduce the rows of a panel to exponentials, which stay in the tile, and hand in their losses."""
    tile, base, steps = panel.memory.tile, panel.base, panel.g.steps
    report_bad(task.losses.reports, panel.block, gather_labels(panel, task.labels, across))
    top = peak(panel.memory.tile, panel.base, panel.g.steps, panel.seen, panel.unchanged, across)
    nans = nans_beside_infinity(tile, base, steps, top, across)
    reduced = _reduce_rows(panel, top, ahead, across, task, task.found)
    finish_label_loss(task.losses, place_of(panel), reduced, nans, panel.memory.numbers, panel.scale, across)
    return reduced


@inlined
def _reduce_plainly(panel: Any, top: Any, ahead: Any, across: Any, _task: Any, _found: int) -> Any:
    rest, lost = rest_of(panel.memory.tile, panel.base, panel.g.steps, top, panel.scale, None, ahead, across)
    return logarithms_of(top, rest, lost, panel.scale)


REDUCE_ROWS: dict[type, Function | None] = {int: _reduce_plainly}  # by the type of `found`
_reduce_rows = by_type(REDUCE_ROWS, 6)


@inlined
def _nothing_to_finish(_panel: Any, _reduced: Any, _across: Any, _task: Any) -> bool:
    return True


define_passes(
    HardLossTask,
    Passes(None, None, _reduce_to_loss, _nothing_to_finish, None),
)
define_passes(
    HardGradientTask,
    Passes(None, None, _reduce_to_gradient, differentiate_panel, store_tile),
)
