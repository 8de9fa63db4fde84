"""Cross-entropy of class ids in long rows: reduced in pieces, with losses and gradients as for short rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.signature import Computed, Ids, OfLogits, OfLoss, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, UNFIT, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.load_store import write_back
from logitx.backends.numba.memory.scratch import is_missing, place_one, release, reserve
from logitx.backends.numba.passes.blocks import geometry_of
from logitx.backends.numba.passes.class_ids import (
    LABEL_SHARE,
    LOGIT,
    LabelRule,
    count_labels,
    entry,
    label_of,
    write_label,
)
from logitx.backends.numba.passes.long_rows import (
    PIECE_NUMBERS,
    pieces_of,
    reduce_long_row,
    rewrite_long_row,
    write_long_row,
)
from logitx.backends.numba.passes.loss import (
    LossNumbers,
    Place,
    finish_label_loss,
    has_room,
    logarithms_of,
    losses_to_write,
    slopes_of,
)
from logitx.backends.numba.passes.reports import MEAN, blank_reports, mean_factor, report_bad, settle_all
from logitx.backends.numba.passes.scaling import unscaled
from logitx.backends.numba.vectors.lanes import lane, spread_as, width_of


class HardLongArrays(NamedTuple):
    """The arrays of `hard_long`; `like` and `wide` are absent and have the dtype to compute in, and float64."""

    logits: OfLogits
    labels: Ids
    like: Computed
    wide: Wide
    grad: OfResult
    loss: OfLoss
    z_part: OfLoss
    log_normalizer: OfLoss


def hard_long(arrays: HardLongArrays, numbers: LossNumbers, backward: Way, keeping: Way, parts: int, crew: int) -> Any:
    """Write losses, or their sum or mean, and what else is not None; return a bad row or a code of `arguments`.

    With `keeping` the gradient holds the exponentials until they are normalized.
    """
    logits, fits_x = view_of_entries(arrays.logits, numbers.axis)
    gradient, fits_grad = view_beside(arrays.grad, numbers.axis, logits)
    if not (fits_x and fits_grad and has_room(arrays, numbers, logits)):
        return UNFIT
    number, double = view_of_rows(arrays.like), view_of_rows(arrays.wide)
    targets = LabelRule(view_of_rows(arrays.labels), numbers.ignoring, numbers.ignored, number, number, number, None)
    g = geometry_of(logits, number, True)
    factor = 1.0
    if backward is not None and numbers.reduction == MEAN:
        total, bad = count_labels(g, targets)
        if bad >= 0:
            return bad
        factor = mean_factor(total)
    room, reports = reserve(3 * width_of(number), number), blank_reports(g.blocks, double)
    facts = reserve(PIECE_NUMBERS * pieces_of(g.n), double)
    fine = not (is_missing(room) or is_missing(reports) or is_missing(facts))
    losses = losses_to_write(arrays, reports, numbers)
    for row in range(g.outer):
        if fine:
            _know_label(logits, g, targets, room, reports, row)
            if keeping is not None:
                fine, top, rest, nans = reduce_long_row(logits, gradient, row, facts, number, parts, crew)
            else:
                fine, top, rest, nans = reduce_long_row(logits, None, row, facts, number, parts, crew)
            reduced = logarithms_of(top, rest, spread_as(rest, 0.0), unscaled(top))
            finish_label_loss(losses, Place(row, row, 1), reduced, nans, room, unscaled(top), True)
            if fine and backward is not None:
                slopes = slopes_of(room, unscaled(top), reduced, numbers.z_loss, factor, True)
                if keeping is not None:
                    fine = rewrite_long_row(gradient, row, slopes, facts, number, parts, crew)
                else:
                    fine = write_long_row(logits, gradient, row, top, slopes, None, number, parts, crew)
                write_label(gradient, g, room, targets, row)
                _zero_dead_long(logits, gradient, g, rest, row, number)
    code = settle_all(reports, g.blocks, losses) if fine else FAILED
    release(room)
    release(reports)
    release(facts)
    return code


@primitive
def _know_label(x: Any, g: Any, labels: Any, room: Any, reports: Any, row: int) -> None:
    """Collect logit and weight of the label of a row."""
    label, good = label_of(labels, row, g.n)
    place_one(room, LOGIT * width_of(room), 0.0)
    place_one(room, LABEL_SHARE * width_of(room), 0.0)
    if good > 0:
        place_one(room, LOGIT * width_of(room), entry(x, g, row, label, room))
        place_one(room, LABEL_SHARE * width_of(room), 1.0)
    elif good < 0:
        report_bad(reports, row, row)


@primitive
def _zero_dead_long(x: Any, grad: Any, g: Any, rest: Any, row: int, like: Any) -> None:
    """In the gradient of a row with a NaN or +inf, which is NaN, put 0 where a logit is -inf."""
    if lane(rest, 0) == lane(rest, 0):
        return
    for j in range(g.n):
        if entry(x, g, row, j, like) == -np.inf:
            write_back(grad, row * grad.outer_stride + j * grad.n_stride, 0.0)
