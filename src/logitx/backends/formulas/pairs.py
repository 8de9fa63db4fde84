"""From the reduction of rows of logits to their losses and gradients: a few numbers a row, in any array library.

For backends that see rows in pieces, and so have only what the pieces add up to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx._arrays.families import FAMILIES
from logitx._plan import Array, Plan


class RowSums(NamedTuple):
    """The reduction of rows, or of some of their classes."""

    top: Array  # the maximum, after softcap; 0 where nothing counts
    rest: Array  # sum of exp((u - top) / temperature) without one maximum; NaN for what has none, -1 for nothing at all
    terms: Array  # sum of weights times (top - u) / temperature, without labels
    total: Array  # sum of these weights


class RowOperands(NamedTuple):
    """What belongs to rows."""

    logits: Array  # of the labels, after softcap; anything for probabilities
    weight: Array  # of the labels, beside the weights of all classes; 0 for probabilities
    classes: Array  # c: class weight of a row
    sample: Array  # s: weight of a row
    temperature: Array | float


class Shared(NamedTuple):
    """What all rows share."""

    even: Any  # the weight that label smoothing gives every class
    z_loss: Any  # 0.0 for none
    whole: Any  # what the reduction divides gradients by; nothing is left of them where it is 0


class Facts(NamedTuple):
    """What the gradient of a row is made of: factor [p (whole - w) - w (1 - p) + pull p] du/dx."""

    top: Array
    inverse: Array  # 1 over the sum of exponentials
    beside: Array  # 1 - inverse
    factor: Array
    whole: Array  # sum of all weights
    pull: Array
    change: Array  # the gradient at the label, before du/dx


def merge_row_sums(xp: Any, one: RowSums, two: RowSums, temperature: Array | float) -> RowSums:
    """Return the reduction over the classes of both: pairs (max, sum) merge exactly."""
    first, second = one.rest == -1.0, two.rest == -1.0  # what has nothing that counts has no maximum either
    top = xp.where(first, two.top, xp.where(second, one.top, xp.maximum(one.top, two.top)))
    lower, rise = [], []
    for sums, nothing in ((one, first), (two, second)):
        gap = xp.where(nothing | (sums.top == top), 0.0, (top - sums.top) / temperature)
        lower.append(xp.where(nothing, 0.0, (1.0 + sums.rest) * xp.exp(-gap)))
        rise.append(sums.terms + xp.where(sums.total == 0.0, 0.0, sums.total * gap))
    leads = ~first & (one.top == top)  # whose maximum is left out; subtracting it from the whole sum would cancel
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
    value = xp.where(sums.rest == -1.0, xp.nan if plan.empty == "nan" else 0.0, value)
    return xp.where(xp.isnan(sums.rest), xp.nan, value)


def gradient_facts(xp: Any, shared: Shared, sums: RowSums, rows: RowOperands) -> Facts:
    """Return what the gradients of rows that have a weight are made of."""
    nothing = sums.rest == -1.0
    share = xp.where(shared.whole == 0.0, 0.0, 1.0 / xp.where(shared.whole == 0.0, 1.0, shared.whole))
    factor = xp.where(nothing, 0.0, rows.sample * share / rows.temperature)
    inverse = xp.where(nothing, 0.0, 1.0 / (1.0 + sums.rest))
    beside = xp.where(nothing, 0.0, sums.rest / (1.0 + sums.rest))
    whole = sums.total + rows.weight
    pull = xp.zeros_like(whole)
    if not (isinstance(shared.z_loss, float) and shared.z_loss == 0.0):
        pull = xp.where(nothing, 0.0, 2.0 * shared.z_loss * rows.classes * _log_z(xp, sums, rows))
    v = (rows.logits - sums.top) / rows.temperature
    p = xp.exp(v) * inverse
    complement = xp.where(v == 0.0, beside, 1.0 - p)  # at the maximum 1 - p would cancel
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
        undefined = xp.nan if plan.empty == "nan" else 0.0
        total = xp.where(whole == 0.0, undefined, total / xp.where(whole == 0.0, 1.0, whole))
    return total
