"""What the kernels of cross-entropy share: the loss of a row, its special values, and the gradient of class ids."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.memory.arguments import has_one_a_row, view_of_rows
from logitx.backends.numba.memory.scratch import place_one, store_lanes
from logitx.backends.numba.passes.class_ids import (
    CHANGE,
    LABEL_SHARE,
    LOGIT,
    entry,
    number_of,
    place_in_panel,
    scatter_labels,
    write_label,
)
from logitx.backends.numba.passes.copies import finish_panel
from logitx.backends.numba.passes.finish import Gradient, complement_of
from logitx.backends.numba.passes.reduce import emit, inverse_of_sum, log_normalizer_of
from logitx.backends.numba.passes.reports import LOSS_SUM, NONE, SHARE_SUM, Z_LOSS_SUM, report
from logitx.backends.numba.passes.scaling import exponent
from logitx.backends.numba.vectors.exp_log import exp_of_sum, log1p_of_sum
from logitx.backends.numba.vectors.lanes import (
    any_of,
    cast_as,
    fma,
    fold_sum,
    is_nan,
    lane,
    select,
    spread_as,
    width_of,
)


class LossNumbers(NamedTuple):
    """The numbers that the kernels of cross-entropy take."""

    axis: int
    ignoring: bool  # whether there is an id that is `ignored`
    ignored: int
    smoothing: float
    z_loss: float
    undefined: float  # the loss of a row without a class, and the mean of no rows: NaN, or 0
    reduction: int


class Losses(NamedTuple):
    """Where losses are written, and how they are made."""

    loss: Any
    z_part: Any
    log_normalizer: Any
    reports: Any
    z_loss: float
    undefined: float
    reduction: int


class ReducedRows(NamedTuple):
    """The numbers that rows are reduced to, and their logarithms."""

    top: Any
    rest: Any
    lost: Any  # of rest, when it was rounded
    log_sum: Any
    log_z: Any  # log of the normalizer


class Place(NamedTuple):
    """The rows of a panel."""

    block: int
    row: int  # the first one
    rows: int  # how many


class Weights(NamedTuple):
    """What weighs the loss of a row."""

    terms: Any  # by this the sum of its terms is multiplied
    share: Any  # its part of the denominator of a mean; the weight of its z-loss


@primitive
def has_room(arrays: Any, numbers: Any, x: Any) -> bool:
    """Return True if there is a number for each row of the view of the logits in what holds one a row."""
    enough: bool = has_one_a_row(view_of_rows(arrays.log_normalizer), x)
    if numbers.reduction == NONE:
        enough = enough and has_one_a_row(view_of_rows(arrays.loss), x)
    return enough and (arrays.labels.ndim == 0 or view_of_rows(arrays.labels).outer == x.outer * x.inner)


@primitive
def losses_to_write(arrays: Any, reports: Any, numbers: Any) -> Any:
    """Return the Losses of the arguments of a kernel."""
    return Losses(
        view_of_rows(arrays.loss),
        view_of_rows(arrays.z_part),
        view_of_rows(arrays.log_normalizer),
        reports,
        numbers.z_loss,
        numbers.undefined,
        numbers.reduction,
    )


@inlined
def place_of(panel: Any) -> Any:
    """Return the rows of a panel."""
    return Place(panel.block, panel.row, panel.rows)


@primitive
def logarithms_of(top: Any, rest: Any, lost: Any, scale: Any) -> Any:
    """Return what rows are reduced to, with the logarithms of the sum and of the normalizer."""
    log_sum = log1p_of_sum(rest, lost)
    return ReducedRows(top, rest, lost, log_sum, fma(top, scale.high, fma(top, scale.low, log_sum)))


@primitive
def settle(value: Any, share: Any, rest: Any, undefined: float) -> Any:
    """Put the loss of special rows in place: with a NaN or +inf, with nothing that counts, with no weight."""
    zero = spread_as(value, 0.0)
    value = select(rest == rest, value, rest)
    value = select(rest < zero, spread_as(value, undefined), value)
    return select(share == zero, zero, value)


@inlined
def finish_loss(losses: Any, place: Any, reduced: Any, terms: Any, weights: Any) -> None:
    """Write and add up the losses of a panel: weights.terms * terms + weights.share * z_loss * log_z**2."""
    z = spread_as(terms, 0.0)
    value = weights.terms * terms
    if losses.z_loss != 0.0:
        square = reduced.log_z * reduced.log_z
        z = settle(
            weights.share * spread_as(terms, losses.z_loss) * square, weights.share, reduced.rest, losses.undefined
        )
        value = value + z
    value = settle(value, weights.share, reduced.rest, losses.undefined)
    if losses.reduction == NONE:
        emit(losses.loss, place.row, place.rows, value)
        emit(losses.z_part, place.row, place.rows, z)
    report(losses.reports, place.block, LOSS_SUM, sum_of_rows(value))
    report(losses.reports, place.block, Z_LOSS_SUM, sum_of_rows(z))
    report(losses.reports, place.block, SHARE_SUM, sum_of_rows(weights.share))


@primitive
def sum_of_rows(value: Any) -> float:
    """Return the sum over the rows of a panel."""
    folded: float = fold_sum(value, spread_as(value, 0.0))
    return folded


@inlined
def finish_label_loss(losses: Any, place: Any, reduced: Any, nans: Any, numbers: Any, scale: Any, across: Any) -> None:
    """Write and add up the losses of rows with class ids, of which `numbers` has logit and weight."""
    emit(
        losses.log_normalizer, place.row, place.rows, log_normalizer_of(reduced.top, reduced.rest, nans, reduced.log_z)
    )
    v, _ = exponent(number_of(numbers, LOGIT, across), reduced.top, scale)
    weight = number_of(numbers, LABEL_SHARE, across)
    finish_loss(losses, place, reduced, reduced.log_sum - v, Weights(weight, weight))


@primitive
def slopes_of(numbers: Any, scale: Any, reduced: Any, z_loss: float, factor: float, across: Any) -> Any:
    """Return what turns exponentials into the gradient of classes that are not the label; note that of the label."""
    weight = number_of(numbers, LABEL_SHARE, across)
    zero, one = spread_as(weight, 0.0), spread_as(weight, 1.0)
    quiet = (reduced.rest < zero) | (weight == zero)
    high, low = inverse_of_sum(select(quiet, zero, reduced.rest), reduced.lost)
    weight = weight * spread_as(weight, factor) * scale.high
    pull = spread_as(weight, 2.0 * z_loss) * reduced.log_z if z_loss != 0.0 else zero
    logit = number_of(numbers, LOGIT, across)
    v, lost = exponent(logit, reduced.top, scale)
    p = exp_of_sum(v, lost) * high
    complement = complement_of(p, v, reduced.rest * high)
    change = select(logit == spread_as(logit, -np.inf), zero, weight * (pull * p - complement))
    store_lanes(numbers, CHANGE * width_of(numbers), select(quiet, zero, change))
    return Gradient(quiet, weight * (one + pull), high, low)


@inlined
def differentiate_panel(panel: Any, reduced: Any, across: Any, task: Any) -> Any:
    """Turn exponentials into the gradient of class ids, and write it at once if nothing else changes it.

    `task` has `out`, `labels`, `z_loss` and the `factor` of all gradients.
    """
    tile, numbers = panel.memory.tile, panel.memory.numbers
    written = across is not None and panel.unchanged and not any_of(is_nan(reduced.rest))
    slopes = slopes_of(numbers, panel.scale, reduced, task.z_loss, task.factor, across)
    finish_panel(tile, panel.base, task.out, panel.g, panel.first, written, slopes, across)
    if written:
        write_label(task.out, panel.g, numbers, task.labels, panel.row)
    else:
        scatter_labels(panel, task.labels, across)
        zero_dead(panel, number_of(numbers, LABEL_SHARE, across), reduced.rest, across)
    return written


@inlined
def zero_dead(panel: Any, share: Any, rest: Any, across: Any) -> None:
    """In the gradient of rows with a NaN or +inf, which is NaN, put 0 where a logit is -inf."""
    if not any_of(is_nan(rest)):
        return
    tile, g = panel.memory.tile, panel.g
    for i in range(panel.rows):
        if lane(rest, i) != lane(rest, i) and lane(share, i) != 0.0:
            for j in range(g.n):
                if entry(panel.x, g, panel.row + i, j, tile) == -np.inf:
                    place_one(tile, panel.base + place_in_panel(j, i, tile, across), cast_as(0.0, tile))
