"""The focal loss of rows, jitted."""

from __future__ import annotations

from logitx._options import LossOptions
from logitx._plan import Array, Plan, Scalar
from logitx.backends import generic
from logitx.backends.jax.cross_entropy import (
    checked_class_ids,
    cross_entropy,
    cross_entropy_value_and_grad,
    plan_for,
)
from logitx.backends.jax.primitive import jitted

_jitted_loss = jitted(generic.focal_loss)
_jitted_loss_and_gradient = jitted(generic.focal_loss_value_and_grad)


def focal_loss(plan: Plan, logits: Array, targets: Array, options: LossOptions, gamma: Scalar) -> Array:
    """s [sum of class_weight q (1 - p)^gamma ((max - x) + log(sum))], reduced."""
    if gamma is None:
        return cross_entropy(plan_for(plan, "cross_entropy", False), logits, targets, options)[0]
    targets = checked_class_ids(plan, targets)
    return _jitted_loss(plan, logits, targets, options, gamma)


def focal_loss_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: LossOptions, gamma: Scalar
) -> tuple[Array, Array]:
    """The loss and its gradient by the logits."""
    if gamma is None:
        plain = plan_for(plan, "cross_entropy_value_and_grad", False)
        loss, gradient, *_ = cross_entropy_value_and_grad(plain, logits, targets, options)
        return loss, gradient
    targets = checked_class_ids(plan, targets)
    loss, gradient = _jitted_loss_and_gradient(plan, logits, targets, options, gamma)
    return loss, gradient
