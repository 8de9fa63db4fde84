"""The binary family: every element is a logit of its own, the second of two classes whose first has the logit 0."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import dtype_name, namespace_dtype
from logitx._options import BinaryOptions
from logitx._plan import Array, Plan, Scalar
from logitx.backends.formulas.class_ids import refuse_labels, signed_ids, sort_out, weighted_targets
from logitx.backends.formulas.numbers import empty_value, mean_of, operand, quiet, to_compute, to_result


class TwoClasses(NamedTuple):
    """Probabilities of both classes, and the negative logarithms of these: each exact where it is small."""

    p: Array
    complement: Array  # 1 - p
    surprise: Array  # -log p
    other_surprise: Array  # -log (1 - p)


def _two_classes(xp: Any, x: Array) -> TwoClasses:
    positive = x >= 0.0
    size = xp.where(positive, x, -x)  # not `abs`, whose derivative at 0 is 0
    e = xp.exp(-size)
    larger, smaller, rest = 1.0 / (1.0 + e), e / (1.0 + e), xp.log1p(e)
    none = xp.zeros_like(size)
    return TwoClasses(
        xp.where(positive, larger, smaller),
        xp.where(positive, smaller, larger),
        xp.where(positive, none, size) + rest,
        xp.where(positive, size, none) + rest,
    )


@quiet
def sigmoid(plan: Plan, x: Array, out: Array) -> Array:
    """1 / (1 + exp(-x)), or exp(x) / (1 + exp(x)) where x < 0."""
    xp = FAMILIES[plan.family].namespace(x)
    return to_result(plan, _two_classes(xp, to_compute(plan, x)).p, 0.0, None)


@quiet
def log_sigmoid(plan: Plan, x: Array, out: Array) -> Array:
    """min(x, 0) - log1p(exp(-|x|))."""
    xp = FAMILIES[plan.family].namespace(x)
    surprise = _two_classes(xp, to_compute(plan, x)).surprise
    return to_result(plan, xp.where(surprise == 0.0, 0.0, -surprise), 0.0, None)


class ElementLosses(NamedTuple):
    """The loss of every element, with the intermediate values that its gradient needs."""

    xp: Any
    two: TwoClasses
    yes: Array  # weight of the loss -log p
    no: Array  # weight of the loss -log (1 - p)
    sample: Array  # the weight of the element, or 1.0
    share: Array  # its part of the denominator of the mean
    zero: Array  # elements whose loss and gradient are 0 for any logit
    bad: Array  # a class id other than 0 and 1; None for probabilities
    values: Array


def _product(xp: Any, weight: Array, value: Array) -> Array:
    """Return weight times value: 0 if the weight is 0 and the value not finite. Differentiable by both."""
    used = (weight != 0.0) | xp.isfinite(value)
    return xp.where(used, weight * xp.where(used, value, 0.0), 0.0)


def _focus(xp: Any, gamma: Scalar, surprise: Array, other_surprise: Array) -> Array:
    """Return (1 - p)^gamma = exp(-gamma (-log (1 - p))): its derivative is finite at both ends."""
    factor = xp.exp(-gamma * xp.where(xp.isinf(other_surprise), 0.0, other_surprise))
    factor = xp.where(xp.isinf(other_surprise) & (gamma > 0.0), 0.0, factor)
    return xp.where(xp.isinf(surprise), 1.0, factor)  # a constant: the derivative by gamma is no number there


def _weigh_targets(plan: Plan, xp: Any, targets: Array, options: BinaryOptions, skipped: Array) -> tuple[Any, ...]:
    """Return (weight of -log p, weight of -log (1 - p), skipped elements, ids out of range)."""
    bad = None
    if dtype_name(targets.dtype) == "bool":
        t = to_compute(plan, targets)
    elif plan.hard:
        ids = signed_ids(plan, xp, targets)
        ignored, bad = sort_out(plan, xp, ids)
        skipped = ignored if skipped is None else skipped | ignored
        bad = bad & ~skipped
        t = to_compute(plan, ids == 1)
    else:
        t = to_compute(plan, targets)
        t = t if skipped is None else xp.where(skipped, 0.0, t)
    yes, no = t, 1.0 - t
    if options.label_smoothing is not None:
        smoothing = operand(plan, options.label_smoothing)
        yes, no = (one * (1.0 - smoothing) + smoothing / 2.0 for one in (yes, no))
    if options.pos_weight is not None:
        weight = operand(plan, options.pos_weight)
        yes = weight * yes if isinstance(weight, float) else weighted_targets(xp, yes, weight)
    if options.alpha is not None:
        alpha = operand(plan, options.alpha)
        yes, no = alpha * yes, (1.0 - alpha) * no
    return yes, no, skipped, bad


def _losses(plan: Plan, logits: Array, targets: Array, options: BinaryOptions) -> ElementLosses:
    family = FAMILIES[plan.family]
    xp, x = family.namespace(logits), to_compute(plan, logits)
    skipped = None if options.where is None else ~options.where
    yes, no, skipped, bad = _weigh_targets(plan, xp, targets, options, skipped)
    if bad is not None and family.readable(bad):
        refuse_labels(plan, xp, targets, bad)
    one = xp.ones_like(x)
    sample = one if options.sample_weight is None else operand(plan, options.sample_weight) * one
    share, zero = sample, yes + no == 0.0
    if skipped is not None:
        x, share, zero = xp.where(skipped, 0.0, x), xp.where(skipped, 0.0, share), zero | skipped
    two = _two_classes(xp, x)
    yes_loss, no_loss = two.surprise, two.other_surprise
    if options.gamma is not None:
        gamma = operand(plan, options.gamma)
        yes_loss = yes_loss * _focus(xp, gamma, two.surprise, two.other_surprise)
        no_loss = no_loss * _focus(xp, gamma, two.other_surprise, two.surprise)
    values = _product(xp, yes, yes_loss) + _product(xp, no, no_loss)
    zero = zero | ((sample == 0.0) & ~xp.isfinite(values))
    values = xp.where(zero, 0.0, sample * xp.where(zero, 0.0, values))
    if bad is not None:
        values = xp.where(bad, xp.nan, values)
    return ElementLosses(xp, two, yes, no, sample, share, zero, bad, values)


def _reduced(plan: Plan, losses: ElementLosses) -> Array:
    xp, value = losses.xp, losses.values
    if plan.reduction != "none":
        value = xp.sum(value)
    if plan.reduction == "mean":
        value = mean_of(xp, value, xp.sum(losses.share), empty_value(plan))
    return xp.astype(value, namespace_dtype(xp, plan.loss), copy=False)


@quiet
def binary_cross_entropy(plan: Plan, logits: Array, targets: Array, options: BinaryOptions) -> Array:
    """s [w q (1 - p)^gamma (-log p) + (1 - q) p^gamma (-log (1 - p))], reduced."""
    return _reduced(plan, _losses(plan, logits, targets, options))


def _finished(plan: Plan, losses: ElementLosses, value: Array) -> Array:
    """Apply sample weights, override the special elements and round once."""
    xp = losses.xp
    value = losses.sample * value
    if plan.reduction == "mean":
        value = mean_of(xp, value, xp.sum(losses.share), 0.0)
    value = xp.where(losses.zero | ((losses.sample == 0.0) & ~xp.isfinite(value)), 0.0, value)
    if losses.bad is not None:
        value = xp.where(losses.bad, xp.nan, value)
    return to_result(plan, value, 0.0, None)


def _slope(xp: Any, gamma: Scalar, two: TwoClasses) -> Array:
    """Return the derivative of (1 - p)^gamma (-log p) by the logit, without its sign: (1 - p)^gamma times this."""
    return two.complement + gamma * _product(xp, two.p, two.surprise)


@quiet
def binary_cross_entropy_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: BinaryOptions
) -> tuple[Array, Array]:
    """The loss, and s [(1 - q) p - w q (1 - p)]; with gamma each term has the slope of its focal factor."""
    losses = _losses(plan, logits, targets, options)
    xp, two = losses.xp, losses.two
    if options.gamma is None:
        gradient = losses.no * two.p - losses.yes * two.complement
    else:
        gamma = operand(plan, options.gamma)
        turned = TwoClasses(two.complement, two.p, two.other_surprise, two.surprise)
        falling = _focus(xp, gamma, two.surprise, two.other_surprise) * _slope(xp, gamma, two)
        rising = _focus(xp, gamma, two.other_surprise, two.surprise) * _slope(xp, gamma, turned)
        gradient = losses.no * rising - losses.yes * falling
    return _reduced(plan, losses), _finished(plan, losses, gradient)


@quiet
def binary_cross_entropy_grad_hess(
    plan: Plan, logits: Array, targets: Array, options: BinaryOptions
) -> tuple[Array, Array]:
    """s [(1 - q) p - w q (1 - p)] and s [w q + 1 - q] p (1 - p)."""
    losses = _losses(plan, logits, targets, options)
    two = losses.two
    gradient = losses.no * two.p - losses.yes * two.complement
    hessian = (losses.yes + losses.no) * two.p * two.complement
    return _finished(plan, losses, gradient), _finished(plan, losses, hessian)
