"""Cross-entropy of logits: derivatives around the primitive."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import dtype_name
from logitx._options import LossOptions, nested
from logitx._plan import Array, Plan
from logitx.backends import generic
from logitx.backends.formulas.class_ids import refuse_labels, signed_ids, sort_out
from logitx.backends.jax.primitive import custom_jvp, jitted, run_primitive

_KERNEL_IDS = ("int8", "int16", "int32", "int64", "uint8", "uint16")


@custom_jvp
def _differentiable_loss(plan: Plan, logits: Array, *operands: Any) -> Array:
    return run_primitive(plan, logits, *operands)[0]


@functools.lru_cache(maxsize=1024)
def plan_for(plan: Plan, op: str, exact: bool) -> Plan:
    """Return the plan of another operation on the same logits; an exact one does not round to the dtype of these."""
    return dataclasses.replace(plan, op=op, result=plan.compute if exact else plan.result)


@functools.partial(_differentiable_loss.defjvp, symbolic_zeros=True)
def _differentiable_loss_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    zero = jax.custom_derivatives.SymbolicZero
    by_logits, *others = (jax.tree.leaves(tangent) for tangent in tangents)
    if not isinstance(by_logits[0], zero) and all(isinstance(leaf, zero) for leaves in others for leaf in leaves):
        # By the logits alone: the loss is linear in their tangent, with the fused gradient for factors.
        loss, dlogits = _loss_and_gradient(plan_for(plan, "cross_entropy_value_and_grad", False), *primals)
        terms = dlogits.astype(plan.compute) * tangents[0].astype(plan.compute)
        axes = plan.layout.axis if plan.reduction == "none" else None
        return loss, jnp.sum(terms, axis=axes).astype(loss.dtype)
    dense = jax.tree.map(
        lambda tangent: jnp.zeros(tangent.shape, tangent.dtype) if isinstance(tangent, zero) else tangent,
        tangents,
        is_leaf=lambda tangent: isinstance(tangent, zero),
    )
    loss, tangent = jax.jvp(
        lambda *values: generic.cross_entropy(plan, *nested("cross_entropy", values))[0], primals, dense
    )
    return loss, tangent


@custom_jvp
def _loss_and_gradient(plan: Plan, *operands: Any) -> tuple[Array, ...]:
    return run_primitive(plan, *operands)


@_loss_and_gradient.defjvp
def _loss_and_gradient_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    def formulas(*operands: Any) -> tuple[Array, ...]:
        found = generic.cross_entropy_value_and_grad(plan, *nested("cross_entropy", operands))
        return found if plan.return_parts else found[:2]

    return jax.jvp(formulas, primals, tangents)


@jitted
def _jitted_cross_entropy(plan: Plan, *operands: Any) -> tuple[Array, Array, Array]:
    if plan.return_parts:
        return generic.cross_entropy(plan, *nested("cross_entropy", operands))
    return _differentiable_loss(plan, *operands), None, None


@jitted
def _jitted_value_and_grad(plan: Plan, *operands: Any) -> tuple[Array, Array, Array, Array]:
    loss, gradient, *parts = _loss_and_gradient(plan, *operands)
    return loss, gradient, *(parts or (None, None))


_jitted_grad_hess = jitted(generic.cross_entropy_grad_hess)


def checked_class_ids(plan: Plan, targets: Array, where: Array = None) -> Array:
    """Return the targets, class ids in a dtype that kernels take.

    Raise for a class id out of range where the targets are concrete and on the CPU; NaN marks it elsewhere. `where` are
    the ids that count.
    """
    if not plan.hard:
        return targets
    readable = FAMILIES[plan.family].readable
    if readable(targets) and (where is None or readable(where)):
        ids = np.asarray(targets)  # no copy on the CPU
        bad = sort_out(plan, np, signed_ids(plan, np, ids))[1]
        refuse_labels(plan, np, ids, bad if where is None else bad & np.asarray(where))
    return targets if dtype_name(targets.dtype) in _KERNEL_IDS else signed_ids(plan, jnp, targets)


def cross_entropy(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array, Array]:
    """s [sum of class_weight q ((max - x) + log(sum)) + z_loss c logZ^2], reduced."""
    targets = checked_class_ids(plan, targets)
    result: tuple[Array, Array, Array] = _jitted_cross_entropy(plan, logits, targets, *options)
    return result


def cross_entropy_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: LossOptions
) -> tuple[Array, Array, Array, Array]:
    """The loss and its gradient by the logits."""
    targets = checked_class_ids(plan, targets)
    result: tuple[Array, Array, Array, Array] = _jitted_value_and_grad(plan, logits, targets, *options)
    return result


def cross_entropy_grad_hess(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array]:
    """The gradient and the diagonal of the Hessian of the summed loss."""
    targets = checked_class_ids(plan, targets)
    result: tuple[Array, Array] = _jitted_grad_hess(plan, logits, targets, options)
    return result
