"""Cross-entropy: weights from the targets, then the loss of each row, its gradient, and the diagonal Hessian."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import namespace_dtype
from logitx._options import LossOptions, Scaling
from logitx._plan import Array, Plan
from logitx.backends.formulas.class_ids import refuse_labels, signed_ids, sort_out, weighted_targets
from logitx.backends.formulas.numbers import (
    complement_of,
    divisor,
    empty_value,
    mean_of,
    operand,
    quiet,
    softcap_slope,
    to_compute,
    to_result,
)
from logitx.backends.generic.rows import ReducedRows, reduce_whole_rows


class WeighedTargets(NamedTuple):
    """Targets and weights of each row. Per-row entries keep a class axis of length 1."""

    wq: Array  # class_weight_j q_ij
    total: Array  # sum of wq over the classes
    factor: Array  # s_i c_i: the row's share of the mean's denominator
    sample: Array  # s_i, or 1.0
    classes: Array  # c_i, or 1.0
    skipped: Array  # ignored or fully masked
    bad: Array  # a class id out of range; None for probabilities


def _along_classes(plan: Plan, x: Array) -> Array:
    xp = FAMILIES[plan.family].namespace(x)
    return xp.reshape(x, tuple(plan.layout.n if d == plan.layout.axis else 1 for d in range(len(plan.layout.shape))))


def _along_rows(plan: Plan, x: Array) -> Array:
    return FAMILIES[plan.family].namespace(x).reshape(x, plan.layout.column)


def _label_mask(plan: Plan, rows: ReducedRows, ids: Array) -> tuple[Array, Array, Array]:
    """Return masks: (the entry of each label, ignored rows, labels out of range).

    By comparison with every class id, which most devices fuse.
    """
    xp = rows.xp
    kind = namespace_dtype(xp, "int64")
    ids = _along_rows(plan, signed_ids(plan, xp, ids))
    ignored, bad = sort_out(plan, xp, ids)
    device = FAMILIES[plan.family].device(ids)
    classes = xp.arange(plan.layout.n, dtype=kind, **({} if device is None else {"device": device}))
    return (_along_classes(plan, classes) == ids) & ~ignored, ignored, bad


def _weigh_targets(plan: Plan, rows: ReducedRows, targets: Array, options: LossOptions) -> WeighedTargets:
    class_weight, sample_weight, smoothing = options.class_weight, options.sample_weight, options.label_smoothing
    xp, axis = rows.xp, rows.axis
    one = xp.ones_like(rows.total)
    if plan.hard:
        hot, skipped, bad = _label_mask(plan, rows, targets)
        t = to_compute(plan, hot)
    else:
        t, bad, skipped = to_compute(plan, targets), None, xp.zeros_like(rows.nothing)
    weight = None if class_weight is None else _along_classes(plan, to_compute(plan, class_weight))
    classes = one if weight is None else xp.sum(weighted_targets(xp, t, weight), axis=axis, keepdims=True)
    q = t
    if rows.valid is not None:
        count = xp.sum(to_compute(plan, rows.valid), axis=axis, keepdims=True)
        skipped = skipped | (count == 0.0)
    if smoothing is not None:
        smoothing = operand(plan, smoothing)
        if rows.valid is None:
            q = (1.0 - smoothing) * t + smoothing / plan.layout.n
        else:
            q = (1.0 - smoothing) * t + xp.where(rows.valid, smoothing / xp.where(count == 0.0, 1.0, count), 0.0)
    wq = q if weight is None else weight * q
    sample = one if sample_weight is None else _along_rows(plan, to_compute(plan, sample_weight))
    factor = xp.where(skipped, 0.0, sample * classes)
    return WeighedTargets(wq, xp.sum(wq, axis=axis, keepdims=True), factor, sample, classes, skipped, bad)


def _refuse_readable_labels(plan: Plan, ids: Array, target: WeighedTargets) -> None:
    """Raise for a label out of range if the labels can be read at no cost; else the loss of its row is NaN."""
    family = FAMILIES[plan.family]
    if target.bad is not None and family.readable(target.bad):
        refuse_labels(plan, family.namespace(ids), ids, target.bad)


def _row_losses(rows: ReducedRows, target: WeighedTargets) -> Array:
    """Return sum of wq (log(sum) - (x - max)); +inf if a class with a weight has a logit of -inf."""
    xp = rows.xp
    # An entry with wq = 0 is used, for its derivative by wq, unless its logit is -inf: 0 * -inf would be NaN
    used = rows.gate & ((target.wq != 0.0) | (rows.scaled > -xp.inf))
    terms = xp.where(used, target.wq * xp.where(used, rows.scaled, 0.0), 0.0)
    impossible = xp.any((target.wq > 0.0) & ~rows.gate, axis=rows.axis, keepdims=True)
    loss = target.total * rows.log_total - xp.sum(terms, axis=rows.axis, keepdims=True)
    return xp.where(impossible, xp.inf, loss)


def _uncounted(xp: Any, target: WeighedTargets, value: Array) -> Array:
    """Return a mask of rows whose loss is exactly 0 for any logits: ignored, class weight 0, or not finite at weight 0.

    A finite loss with sample weight 0 is not in the mask, so that its derivative by the sample weight is right.
    """
    return target.skipped | (target.classes == 0.0) | ((target.sample == 0.0) & ~xp.isfinite(value))


def _override_losses(plan: Plan, rows: ReducedRows, target: WeighedTargets, value: Array) -> Array:
    """Apply sample weights and override special rows; the later wins: empty, NaN or +inf, weight 0, bad label."""
    xp = rows.xp
    value = xp.where(rows.nothing, empty_value(plan), value)
    value = xp.where(rows.poison, xp.nan, value)
    without = _uncounted(xp, target, value)
    value = xp.where(without, 0.0, target.sample * xp.where(without, 0.0, value))
    return value if target.bad is None else xp.where(target.bad, xp.nan, value)


def _mean_denominator(plan: Plan, target: WeighedTargets) -> Array:
    """Return the denominator of the mean."""
    return FAMILIES[plan.family].namespace(target.factor).sum(target.factor)


def _reduce_row_losses(plan: Plan, target: WeighedTargets, per_row: Array) -> Array:
    xp = FAMILIES[plan.family].namespace(per_row)
    per_row = xp.reshape(per_row, plan.layout.rows)
    loss = namespace_dtype(xp, plan.loss)
    if plan.reduction == "none":
        return xp.astype(per_row, loss, copy=False)
    total = xp.sum(per_row)
    if plan.reduction == "mean":
        share = _mean_denominator(plan, target)
        total = mean_of(xp, total, share, empty_value(plan))
    return xp.astype(total, loss, copy=False)


class LossOfRows(NamedTuple):
    """A loss, with the intermediate values that its gradient needs."""

    rows: ReducedRows
    target: WeighedTargets
    log_normalizer: Array  # a constant where the row has none
    results: tuple[Array, Array, Array]  # (loss, z_loss, log_normalizer), as a backend returns them


def _loss_of_rows(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> LossOfRows:
    rows = reduce_whole_rows(plan, logits, options.where, options.temperature, options.softcap)
    xp = rows.xp
    target = _weigh_targets(plan, rows, targets, options)
    _refuse_readable_labels(plan, targets, target)
    temperature, z_loss = options.temperature, options.z_loss
    peak = rows.peak if temperature is None else rows.peak / divisor(plan, temperature)
    log_normalizer = peak + rows.log_total
    loss = _override_losses(plan, rows, target, _row_losses(rows, target))
    z = xp.zeros_like(loss)
    if z_loss is not None:
        z = _override_losses(plan, rows, target, operand(plan, z_loss) * target.classes * log_normalizer**2)
        loss = loss + z
    known = xp.where(rows.poison | rows.nothing, rows.worst, log_normalizer)
    known = xp.astype(xp.reshape(known, plan.layout.rows), namespace_dtype(xp, plan.loss), copy=False)
    return LossOfRows(
        rows,
        target,
        log_normalizer,
        (_reduce_row_losses(plan, target, loss), _reduce_row_losses(plan, target, z), known),
    )


@quiet
def cross_entropy(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array, Array]:
    """s [sum of class_weight q ((max - x) + log(sum)) + z_loss c logZ^2], reduced."""
    return _loss_of_rows(plan, logits, targets, options).results


def _p_and_complement(rows: ReducedRows) -> tuple[Array, Array]:
    """Return p and 1 - p, accurate also if the maximum dominates."""
    p = rows.e / rows.total
    rough = 1.0 - p
    exact = complement_of(rows.xp, p, rows.top, rows.rest / rows.total)
    return p, rough + rows.detach(exact - rough)  # value of `exact`, derivative of `rough`


def _by_logits(plan: Plan, rows: ReducedRows, g: Array, logits: Array, scaling: Scaling) -> Array:
    """Multiply a gradient by du/dx, where u = softcap tanh(x / softcap) / temperature."""
    xp, softcap, temperature = rows.xp, scaling.softcap, scaling.temperature
    if softcap is not None:
        x = xp.where(rows.gate, to_compute(plan, logits), 0.0)
        g = g * softcap_slope(xp, x, divisor(plan, softcap))
    return g if temperature is None else g / divisor(plan, temperature)


def _override_gradient(
    plan: Plan, rows: ReducedRows, target: WeighedTargets, g: Array, x: Array, where: Array
) -> Array:
    """Override the gradient in special rows and entries, then round once."""
    xp = rows.xp
    g = xp.where(rows.poison, xp.nan, g)
    g = xp.where(rows.nothing | _uncounted(xp, target, g), 0.0, g)
    if target.bad is not None:
        g = xp.where(target.bad, xp.nan, g)
    return to_result(plan, xp.where(to_compute(plan, x) == -xp.inf, 0.0, g), 0.0, where)


@quiet
def cross_entropy_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: LossOptions
) -> tuple[Array, Array, Array, Array]:
    """The loss, and s [p (A - wq) - wq (1 - p) + 2 z_loss c logZ p] du/dx with A = sum of wq."""
    result = _loss_of_rows(plan, logits, targets, options)
    rows, target = result.rows, result.target
    p, complement = _p_and_complement(rows)
    g = p * (target.total - target.wq) - target.wq * complement
    if options.z_loss is not None:
        g = g + 2.0 * operand(plan, options.z_loss) * target.classes * result.log_normalizer * p
    g = target.sample * _by_logits(plan, rows, g, logits, options.scaling)
    if plan.reduction == "mean":
        share = _mean_denominator(plan, target)
        g = mean_of(rows.xp, g, share, 0.0)
    loss, z, log_normalizer = result.results
    return loss, _override_gradient(plan, rows, target, g, logits, options.where), z, log_normalizer


@quiet
def cross_entropy_grad_hess(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array]:
    """s [p (A - wt) - wt (1 - p)] and s A p (1 - p), with A = sum of wt."""
    rows = reduce_whole_rows(plan, logits, None, None, None)
    target = _weigh_targets(plan, rows, targets, options)
    _refuse_readable_labels(plan, targets, target)
    p, complement = _p_and_complement(rows)
    g = target.sample * (p * (target.total - target.wq) - target.wq * complement)
    h = target.sample * target.total * p * complement
    return (
        _override_gradient(plan, rows, target, g, logits, None),
        _override_gradient(plan, rows, target, h, logits, None),
    )
