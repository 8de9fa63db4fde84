"""The binary family, jitted: XLA fuses the formulas, whose derivatives are exact at both ends."""

from __future__ import annotations

from logitx._options import BinaryOptions
from logitx._plan import Array, Plan
from logitx.backends import generic
from logitx.backends.jax.cross_entropy import checked_class_ids
from logitx.backends.jax.primitive import jitted

_jitted_sigmoid = jitted(generic.sigmoid)
_jitted_log_sigmoid = jitted(generic.log_sigmoid)
_jitted_loss = jitted(generic.binary_cross_entropy)
_jitted_loss_and_gradient = jitted(generic.binary_cross_entropy_value_and_grad)
_jitted_grad_hess = jitted(generic.binary_cross_entropy_grad_hess)


def sigmoid(plan: Plan, x: Array, out: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return _jitted_sigmoid(plan, x, None)


def log_sigmoid(plan: Plan, x: Array, out: Array) -> Array:
    """min(x, 0) - log1p(exp(-|x|))."""
    return _jitted_log_sigmoid(plan, x, None)


def binary_cross_entropy(plan: Plan, logits: Array, targets: Array, options: BinaryOptions) -> Array:
    """s [w q (-log p) + (1 - q) (-log (1 - p))], reduced."""
    targets = checked_class_ids(plan, targets, options.where)
    return _jitted_loss(plan, logits, targets, options)


def binary_cross_entropy_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: BinaryOptions
) -> tuple[Array, Array]:
    """The loss, and s [(1 - q) p - w q (1 - p)]."""
    targets = checked_class_ids(plan, targets, options.where)
    loss, gradient = _jitted_loss_and_gradient(plan, logits, targets, options)
    return loss, gradient


def binary_cross_entropy_grad_hess(
    plan: Plan, logits: Array, targets: Array, options: BinaryOptions
) -> tuple[Array, Array]:
    """The gradient and the diagonal of the Hessian of the summed loss."""
    targets = checked_class_ids(plan, targets, options.where)
    gradient, hessian = _jitted_grad_hess(plan, logits, targets, options)
    return gradient, hessian
