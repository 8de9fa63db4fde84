"""Cross-entropy of class ids: softmax's passes, and one entry of each row that is different."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.signature import Computed, Ids, Mask, OfLogits, OfLoss, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, UNFIT, entries, rows
from logitx.backends.numba.memory.scratch import missing, release
from logitx.backends.numba.passes.blocks import geometry_of
from logitx.backends.numba.passes.class_ids import Labels, gather_labels, total_share
from logitx.backends.numba.passes.loop import (
    Logits,
    Passes,
    Room,
    define,
    maximum_of,
    next_block,
    next_block_and_result,
    nothing_to_begin,
    nothing_to_load,
    nothing_to_store,
    run_blocks,
    store_tile,
)
from logitx.backends.numba.passes.loss import (
    LossNumbers,
    differentiate_panel,
    finish_label_loss,
    logarithms_of,
    losses_of,
    place_of,
)
from logitx.backends.numba.passes.reduce import nans_beside_infinity, rest_of
from logitx.backends.numba.passes.reports import MEAN, blank_reports, mean_factor, report_bad, settle_all
from logitx.backends.numba.threads.workers import job, together


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


class HardLoss(NamedTuple):
    """The task of the loop for losses alone."""

    labels: Any
    losses: Any


class HardGradient(NamedTuple):
    """The task of the loop for losses and gradients."""

    labels: Any
    losses: Any
    out: Any
    z_loss: float
    factor: float


def hard(
    arrays: HardArrays, numbers: LossNumbers, across: Way, backward: Way, adjusted: Way, parts: int, crew: int
) -> Any:
    """Write losses, or their sum or mean, and what else is not None; return a bad row or a code of `arguments`.

    Without `adjusted` there is no mask, weight, softcap or temperature, without `backward` no gradient.
    For a mean the gradient is divided by the sum of shares, which then has to be known first.
    """
    x, fits_x = entries(arrays.logits, numbers.axis)
    where, fits_where = entries(arrays.where, numbers.axis)
    grad, fits_grad = entries(arrays.grad, numbers.axis)
    if not (fits_x and fits_where and fits_grad):
        return UNFIT
    logits = Logits(x, where, rows(arrays.temperature), rows(arrays.softcap))
    labels = Labels(
        rows(arrays.labels), numbers.ignoring, numbers.ignored, rows(arrays.class_weight), rows(arrays.sample_weight),
        where, adjusted,
    )  # fmt: skip
    g = geometry_of(x, logits.softcap, across)
    factor = 1.0
    if backward is not None and numbers.reduction == MEAN:
        total, bad = total_share(g, labels, adjusted, logits.softcap)
        if bad >= 0:
            return bad
        factor = mean_factor(total)
    reports = blank_reports(g.blocks, logits.temperature)
    if missing(reports):
        return FAILED
    losses = losses_of(arrays, reports, numbers)
    if backward is None:
        work = job(run_blocks, (logits, HardLoss(labels, losses), across, adjusted, adjusted))
    else:
        task = HardGradient(labels, losses, grad, numbers.z_loss, factor)
        work = job(run_blocks, (logits, task, across, adjusted, adjusted))
    code = FAILED
    if together(crew, work, parts):
        code = settle_all(reports, g.blocks, losses)
    release(reports)
    return code


@primitive
def _loss_room(_g: Any, _lanes: int, _capped: bool, _task: Any) -> Any:
    return Room(3, False, False, 0, 0.0)


@primitive
def _gradient_room(_g: Any, _lanes: int, capped: bool, _task: Any) -> Any:
    return Room(3, False, capped, 0, 0.0)


@inlined
def _reduce_to_loss(panel: Any, across: Any, task: Any) -> Any:
    return _forward(panel, next_block(panel, across), across, task)


@inlined
def _reduce_to_gradient(panel: Any, across: Any, task: Any) -> Any:
    return _forward(panel, next_block_and_result(panel, task.out, across), across, task)


@inlined
def _forward(panel: Any, ahead: Any, across: Any, task: Any) -> Any:
    """Reduce the rows of a panel to exponentials, which stay in the tile, and hand in their losses."""
    tile, base, steps = panel.memory.tile, panel.base, panel.g.steps
    report_bad(task.losses.reports, panel.block, gather_labels(panel, task.labels, across))
    top = maximum_of(panel, across)
    nans = nans_beside_infinity(tile, base, steps, top, across)
    rest, lost = rest_of(tile, base, steps, top, panel.scale, None, ahead, across)
    reduced = logarithms_of(top, rest, lost, panel.scale)
    finish_label_loss(task.losses, place_of(panel), reduced, nans, panel.memory.numbers, panel.scale, across)
    return reduced


@inlined
def _nothing_to_finish(_panel: Any, _reduced: Any, _across: Any, _task: Any) -> bool:
    return True


define(
    HardLoss,
    Passes(_loss_room, nothing_to_begin, nothing_to_load, _reduce_to_loss, _nothing_to_finish, nothing_to_store),
)
define(
    HardGradient,
    Passes(_gradient_room, nothing_to_begin, nothing_to_load, _reduce_to_gradient, differentiate_panel, store_tile),
)
