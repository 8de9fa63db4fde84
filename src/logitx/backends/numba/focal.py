"""The focal loss of class ids by the kernels of cross-entropy: it is a function of the cross-entropy of each row.

With l the cross-entropy of a row and m = 1 - exp(-l), the loss is m^gamma l; its gradient is that of l times
m^gamma [1 + gamma exp(-l) l / m], passed to the second kernel as the weight of the row.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import dtype_name
from logitx._options import LossOptions
from logitx._plan import Array, Plan, Scalar
from logitx.backends import generic
from logitx.backends.formulas.class_ids import row_shares
from logitx.backends.formulas.numbers import empty_value, mean_of, quiet
from logitx.backends.numba.arrays import HELD, NumpyArray, decode_bfloat16, given_back
from logitx.backends.numba.cross_entropy import cross_entropy, cross_entropy_value_and_grad


def _shares(plan: Plan, targets: Array, options: LossOptions) -> NumpyArray:
    """Return sample weight times class weight of every row that counts, else 0, in float64."""
    view: Any = FAMILIES[plan.family].to_numpy

    def values(x: Any) -> Any:
        return None if x is None else decode_bfloat16(view(x), dtype_name(x.dtype))

    weights = values(options.class_weight), values(options.sample_weight), values(options.where)
    shares: NumpyArray = row_shares(plan, np, view(targets), *weights, (plan.layout.axis,))
    return shares


def _losses_of_rows(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> NumpyArray:
    rows = dataclasses.replace(plan, op="cross_entropy", reduction="none", loss=plan.compute)
    plain = options._replace(class_weight=None, sample_weight=None)
    loss = cross_entropy(rows, logits, targets, plain)[0]
    found: NumpyArray = FAMILIES[plan.family].to_numpy(loss)  # type: ignore[misc]
    return found.reshape(plan.layout.rows)


def _reduced(plan: Plan, shares: NumpyArray, losses: NumpyArray) -> Array:
    losses = np.where(shares == 0.0, 0.0, shares * losses)
    if plan.reduction == "none":
        return given_back(plan, losses.astype(HELD[plan.loss]), plan.loss, plan.layout.rows)
    total = losses.sum(dtype=np.float64)
    if plan.reduction == "mean":
        total = mean_of(np, total, shares.sum(), empty_value(plan))
    return given_back(plan, np.asarray(total, HELD[plan.loss]), plan.loss, ())


@quiet
def focal_loss(plan: Plan, logits: Array, targets: Array, options: LossOptions, gamma: Scalar) -> Array:
    """s c m^gamma l, reduced."""
    if gamma is None:
        return cross_entropy(plan, logits, targets, options)[0]
    if not plan.hard or options.label_smoothing is not None:
        return generic.focal_loss(plan, logits, targets, options, gamma)
    losses = _losses_of_rows(plan, logits, targets, options)
    return _reduced(plan, _shares(plan, targets, options), (-np.expm1(-losses)) ** float(gamma) * losses)


@quiet
def focal_loss_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: LossOptions, gamma: Scalar
) -> tuple[Array, Array]:
    """The loss, and s c m^gamma [1 + gamma exp(-l) l / m] dl/dx."""
    if gamma is None:
        loss, gradient, *_ = cross_entropy_value_and_grad(plan, logits, targets, options)
        return loss, gradient
    if not plan.hard or options.label_smoothing is not None:
        return generic.focal_loss_value_and_grad(plan, logits, targets, options, gamma)
    losses, power = _losses_of_rows(plan, logits, targets, options), float(gamma)
    rest, shares = -np.expm1(-losses), _shares(plan, targets, options)
    factor = rest**power
    more = np.where(losses == 0.0, 1.0, np.where(np.isinf(losses), 0.0, np.exp(-losses) * losses / rest))
    whole = shares.sum() if plan.reduction == "mean" else 1.0
    weights = shares * np.where(np.isnan(losses), 1.0, factor * (1.0 + power * more)) / (whole or 1.0)
    weights = np.where(shares == 0.0, 0.0, weights).astype(HELD[plan.compute])
    summed = dataclasses.replace(plan, op="cross_entropy_value_and_grad", reduction="sum", loss=plan.compute)
    weighted = options._replace(
        class_weight=None, sample_weight=given_back(plan, weights, plan.compute, plan.layout.rows)
    )
    _, gradient, *_ = cross_entropy_value_and_grad(summed, logits, targets, weighted)
    return _reduced(plan, shares, factor * losses), gradient
