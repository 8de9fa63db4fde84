"""The focal loss of rows: the terms of cross-entropy, each times (1 - p)^gamma."""

from __future__ import annotations

from logitx._options import LossOptions
from logitx._plan import Array, Plan, Scalar
from logitx.backends.formulas.numbers import mean_of, operand, quiet
from logitx.backends.generic.cross_entropy import (
    WeighedTargets,
    _by_logits,
    _mean_denominator,
    _override_gradient,
    _override_losses,
    _p_and_complement,
    _reduce_row_losses,
    _refuse_readable_labels,
    _weigh_targets,
    cross_entropy,
    cross_entropy_value_and_grad,
)
from logitx.backends.generic.rows import ReducedRows, reduce_whole_rows


def _rows_and_targets(
    plan: Plan, logits: Array, targets: Array, options: LossOptions
) -> tuple[ReducedRows, WeighedTargets]:
    rows = reduce_whole_rows(plan, logits, options.where, options.temperature, options.softcap)
    target = _weigh_targets(plan, rows, targets, options)
    _refuse_readable_labels(plan, targets, target)
    return rows, target


def _focal_factor(rows: ReducedRows, complement: Array, gamma: Scalar) -> Array:
    """Return (1 - p)^gamma; where p is 1 it is a constant, as the power of 0 may have no derivative."""
    xp = rows.xp
    there = complement > 0.0
    return xp.where(there, xp.where(there, complement, 1.0) ** gamma, 0.0)


def _row_losses(plan: Plan, rows: ReducedRows, target: WeighedTargets, gamma: Scalar) -> Array:
    xp = rows.xp
    used = rows.gate & ((target.wq != 0.0) | (rows.scaled > -xp.inf))
    surprise = xp.where(used, rows.log_total - rows.scaled, 0.0)
    factor = _focal_factor(rows, _p_and_complement(rows)[1], gamma)
    terms = xp.where(used, target.wq * factor * surprise, 0.0)
    impossible = xp.any((target.wq > 0.0) & ~rows.gate, axis=rows.axis, keepdims=True)
    loss = xp.where(impossible, xp.inf, xp.sum(terms, axis=rows.axis, keepdims=True))
    return _reduce_row_losses(plan, target, _override_losses(plan, rows, target, loss))


@quiet
def focal_loss(plan: Plan, logits: Array, targets: Array, options: LossOptions, gamma: Scalar) -> Array:
    """s [sum of class_weight q (1 - p)^gamma ((max - x) + log(sum))], reduced."""
    if gamma is None:
        return cross_entropy(plan, logits, targets, options)[0]
    rows, target = _rows_and_targets(plan, logits, targets, options)
    return _row_losses(plan, rows, target, operand(plan, gamma))


@quiet
def focal_loss_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: LossOptions, gamma: Scalar
) -> tuple[Array, Array]:
    """The loss, and s [p (V - v) - v (1 - p)] du/dx: v = wq (1 - p)^gamma [1 - gamma p log p / (1 - p)], V its sum."""
    if gamma is None:
        loss, gradient, *_ = cross_entropy_value_and_grad(plan, logits, targets, options)
        return loss, gradient
    gamma = operand(plan, gamma)
    rows, target = _rows_and_targets(plan, logits, targets, options)
    xp = rows.xp
    p, complement = _p_and_complement(rows)
    there = complement > 0.0
    ratio = xp.where(there, (rows.log_total - rows.scaled) / xp.where(there, complement, 1.0), 1.0)
    slope = _focal_factor(rows, complement, gamma) * (1.0 + gamma * xp.where(p == 0.0, 0.0, p * ratio))
    v = target.wq * xp.where(rows.gate, slope, 1.0)
    g = p * (xp.sum(v, axis=rows.axis, keepdims=True) - v) - v * complement
    g = target.sample * _by_logits(plan, rows, g, logits, options.scaling)
    if plan.reduction == "mean":
        g = mean_of(xp, g, _mean_denominator(plan, target), 0.0)
    return _row_losses(plan, rows, target, gamma), _override_gradient(plan, rows, target, g, logits, options.where)
