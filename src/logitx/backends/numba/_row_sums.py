"""What is known of the rows of a block of logits: reductions of tiles, merged; losses; what a gradient needs.

All of it in float64, a few numbers a row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from logitx._typing import Plan
from logitx.backends.numba._layer import Layer
from logitx.backends.numba._views import NdArray


class Sums(NamedTuple):
    """The reduction of rows, or of a tile of them: the pair (max, rest) of `_rows`, and sums over the targets."""

    top: NdArray
    rest: NdArray  # sum of exponentials without one maximum; -1 where nothing counts
    terms: NdArray  # sum of weights times (maximum - logit) / temperature, without labels
    total: NdArray  # sum of these weights


class Rows(NamedTuple):
    """What belongs to the rows of a block."""

    logits: NdArray  # of the labels; 0 for probabilities
    weight: NdArray  # of the labels among the weights of all classes
    classes: NdArray  # c
    sample: NdArray  # s
    temperature: NdArray | float


def rows_in(layer: Layer, piece: slice, logits: NdArray) -> Rows:
    """Return what belongs to the rows of a block."""
    heat = layer.temperature
    temperature: NdArray | float = 1.0 if heat.size == 0 else heat if heat.size == 1 else heat[piece]
    classes = layer.classes[piece]
    weight = classes * layer.keep if layer.labels.size else np.zeros(classes.shape)
    return Rows(logits, weight, classes, layer.sample[piece], temperature)


def merged(one: Sums, two: Sums, temperature: NdArray | float) -> Sums:
    """Return the reduction over the classes of both: pairs (max, sum) merge exactly."""
    first, second = one.rest == -1.0, two.rest == -1.0  # what has nothing that counts has no maximum either
    top = np.where(first, two.top, np.where(second, one.top, np.maximum(one.top, two.top)))
    lower, rise = [], []
    for sums, nothing in ((one, first), (two, second)):
        gap = np.where(nothing | (sums.top == top), 0.0, (top - sums.top) / temperature)
        lower.append(np.where(nothing, 0.0, (1.0 + sums.rest) * np.exp(-gap)))
        rise.append(sums.terms + np.where(sums.total == 0.0, 0.0, sums.total * gap))
    leads = ~first & (one.top == top)  # whose maximum is left out; subtracting it from the whole sum would cancel
    rest = np.where(leads, one.rest + lower[1], two.rest + lower[0])
    return Sums(top, rest, rise[0] + rise[1], one.total + two.total)


def _log_z(sums: Sums, rows: Rows) -> NdArray:
    return sums.top / rows.temperature + np.log1p(sums.rest)


def losses_of(plan: Plan, layer: Layer, sums: Sums, rows: Rows) -> NdArray:
    """Return the losses of the rows of a block."""
    log_sum = np.log1p(sums.rest)
    own = np.where(rows.weight == 0.0, 0.0, rows.weight * ((sums.top - rows.logits) / rows.temperature))
    value = (sums.total + rows.weight) * log_sum + sums.terms + own
    if layer.z_loss != 0.0:
        value = value + layer.z_loss * rows.classes * _log_z(sums, rows) ** 2
    value = rows.sample * value
    value = np.where(sums.rest == -1.0, np.nan if plan.empty == "nan" else 0.0, value)
    return np.where(np.isnan(sums.rest), np.nan, value)


def facts_of(plan: Plan, layer: Layer, sums: Sums, rows: Rows) -> NdArray:
    """Return what the kernel that differentiates must know of each row, in the order of its columns."""
    nothing = sums.rest == -1.0
    share = 1.0 if plan.reduction != "mean" else 1.0 / layer.whole if layer.whole != 0.0 else 0.0
    factor = np.where(nothing, 0.0, rows.sample * share / rows.temperature)
    inverse = np.where(nothing, 0.0, 1.0 / (1.0 + sums.rest))
    beside = np.where(nothing, 0.0, sums.rest / (1.0 + sums.rest))
    whole = sums.total + rows.weight
    pull = np.zeros(whole.shape)
    if layer.z_loss != 0.0:
        pull = np.where(nothing, 0.0, 2.0 * layer.z_loss * rows.classes * _log_z(sums, rows))
    v = (rows.logits - sums.top) / rows.temperature
    p = np.exp(v) * inverse
    complement = np.where(v == 0.0, beside, 1.0 - p)
    own = rows.weight + rows.classes * layer.even
    change = factor * (p * (whole - own) + pull * p - own * complement)
    change = np.where(nothing | (rows.logits == -np.inf), 0.0, change)
    return np.stack([sums.top, inverse, beside, factor, whole, pull, change], axis=1)
