"""From the reduction of rows of logits to their losses and gradients: a few numbers a row, in any array library.

For backends that see a row in pieces (tiles of classes, shards) and have only the sums of the pieces.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx._arrays.families import FAMILIES
from logitx._plan import Array, Plan
from logitx.backends.formulas.numbers import complement_of, empty_value, mean_of


class RowSums(NamedTuple):
    """The reduction of rows, or of some of their classes."""

    top: Array  # the maximum, after softcap; 0 where nothing counts
    rest: Array  # sum of exp((u - top) / temperature) without one maximum; NaN with NaN or +inf, -1 if none counts
    terms: Array  # sum of weights times (top - u) / temperature, without labels
    total: Array  # sum of these weights


class RowOperands(NamedTuple):
    """Operands with one entry for each row."""

    logits: Array  # of the labels, after softcap; anything for probabilities
    weight: Array  # of the labels, beside the weights of all classes; 0 for probabilities
    classes: Array  # c: class weight of a row
    sample: Array  # s: weight of a row
    temperature: Array | float


class Shared(NamedTuple):
    """Numbers that all rows share."""

    even: Any  # the weight that label smoothing gives every class
    z_loss: Any  # 0.0 for none
    whole: Any  # the denominator of gradients; if it is 0, the gradients are 0


class Facts(NamedTuple):
    """Numbers of a row from which its gradient is computed: factor [p (whole - w) - w (1 - p) + pull p] du/dx."""

    top: Array
    inverse: Array  # 1 over the sum of exponentials
    beside: Array  # 1 - inverse
    factor: Array
    whole: Array  # sum of all weights
    pull: Array
    change: Array  # the gradient at the label, before du/dx


def merge_row_sums(xp: Any, one: RowSums, two: RowSums, temperature: Array | float) -> RowSums:
    """Return the reduction over the classes of both: pairs (max, sum) merge exactly."""
    first, second = one.rest == -1.0, two.rest == -1.0  # no entry counts: there is no maximum
    top = xp.where(first, two.top, xp.where(second, one.top, xp.maximum(one.top, two.top)))
    lower, rise = [], []
    for sums, nothing in ((one, first), (two, second)):
        gap = xp.where(nothing | (sums.top == top), 0.0, (top - sums.top) / temperature)
        lower.append(xp.where(nothing, 0.0, (1.0 + sums.rest) * xp.exp(-gap)))
        rise.append(sums.terms + xp.where(sums.total == 0.0, 0.0, sums.total * gap))
    leads = ~first & (one.top == top)  # `one` has the maximum that `rest` leaves out
    rest = xp.where(leads, one.rest + lower[1], two.rest + lower[0])
    return RowSums(top, rest, rise[0] + rise[1], one.total + two.total)


def _log_z(xp: Any, sums: RowSums, rows: RowOperands) -> Array:
    return sums.top / rows.temperature + xp.log1p(sums.rest)


def losses_of(xp: Any, plan: Plan, shared: Shared, sums: RowSums, rows: RowOperands) -> Array:
    """Return the losses of rows that have a weight."""
    log_sum = xp.log1p(sums.rest)
    own = xp.where(rows.weight == 0.0, 0.0, rows.weight * ((sums.top - rows.logits) / rows.temperature))
    value = (sums.total + rows.weight) * log_sum + sums.terms + own
    if not (isinstance(shared.z_loss, float) and shared.z_loss == 0.0):
        value = value + shared.z_loss * rows.classes * _log_z(xp, sums, rows) ** 2
    value = rows.sample * value
    value = xp.where(sums.rest == -1.0, empty_value(plan), value)
    return xp.where(xp.isnan(sums.rest), xp.nan, value)


def gradient_facts(xp: Any, shared: Shared, sums: RowSums, rows: RowOperands) -> Facts:
    """Return the numbers from which the gradients of rows with a weight are computed."""
    nothing = sums.rest == -1.0
    share = mean_of(xp, 1.0, shared.whole, 0.0)
    factor = xp.where(nothing, 0.0, rows.sample * share / rows.temperature)
    inverse = xp.where(nothing, 0.0, 1.0 / (1.0 + sums.rest))
    beside = xp.where(nothing, 0.0, sums.rest / (1.0 + sums.rest))
    whole = sums.total + rows.weight
    pull = xp.zeros_like(whole)
    if not (isinstance(shared.z_loss, float) and shared.z_loss == 0.0):
        pull = xp.where(nothing, 0.0, 2.0 * shared.z_loss * rows.classes * _log_z(xp, sums, rows))
    v = (rows.logits - sums.top) / rows.temperature
    p = xp.exp(v) * inverse
    complement = complement_of(xp, p, v == 0.0, beside)
    own = rows.weight + rows.classes * shared.even
    change = factor * (p * (whole - own) + pull * p - own * complement)
    change = xp.where(nothing | (rows.logits == -xp.inf), 0.0, change)
    return Facts(sums.top, inverse, beside, factor, whole, pull, change)


def reduce_losses(plan: Plan, per_row: Array, share: Array) -> Array:
    """Reduce the losses of all rows."""
    xp = FAMILIES[plan.family].namespace(per_row)
    if plan.reduction == "none":
        return xp.reshape(per_row, plan.layout.rows)
    total = xp.sum(per_row)
    if plan.reduction == "mean":
        whole = xp.sum(share)
        total = mean_of(xp, total, whole, empty_value(plan))
    return total
