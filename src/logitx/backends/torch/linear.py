"""Cross-entropy of a linear layer with derivatives: the forward pass makes the gradients, backward has only to scale.

For losses that are not reduced, backward makes them, with the cotangents for weights of the rows. Derivatives of later
orders, those by other operands than the layer's, and those of gradients are left to the formulas of `generic`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from logitx._arrays.family import dtype_name
from logitx._arrays.torch import bare
from logitx._plan import Array, Plan
from logitx.backends import generic
from logitx.backends.torch.autograd import by_formulas, keep, kept
from logitx.backends.torch.state import compute, differentiated, replaceable, tracing, transformed

LOSS, VALUE_AND_GRAD = "linear_cross_entropy", "linear_cross_entropy_value_and_grad"
FACTORS = (0, 1, 3)  # which operands hidden, weight and bias are


def declined(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return why a call is not one for the function and the operators of this file."""
    if transformed():
        return "under torch.func and forward-mode differentiation it is taken by way of the formulas"
    by_factors = any(differentiated(operands[i]) for i in FACTORS)
    if any(differentiated(x) for i, x in enumerate(operands) if i not in FACTORS):
        return "derivatives by other operands than the layer's are taken by way of the formulas"
    if plan.op == VALUE_AND_GRAD and by_factors:
        return "gradients are differentiated by way of the formulas"
    if tracing():
        return None if replaceable(operands) else "there are no operators for these tensors"
    return None if by_factors else "no tensor requires grad"


def unscaled(plan: Plan) -> Plan:
    """Return the plan of gradients that are yet to be scaled: in float16, what is small would be lost before."""
    wide = tuple("float32" if dtype == "float16" else dtype for dtype in plan.gradients)
    return dataclasses.replace(plan, op=VALUE_AND_GRAD, gradients=wide)


def weighed(plan: Plan, operands: tuple[Any, ...], dloss: Array) -> tuple[Array, ...]:
    """Return the gradients of losses that are not reduced, summed with these factors."""
    sample_weight = operands[5]
    factor = dloss if sample_weight is None else dloss * sample_weight
    summed = dataclasses.replace(plan, op=VALUE_AND_GRAD, reduction="sum")
    _, *gradients = compute(VALUE_AND_GRAD, summed, *operands[:5], factor, *operands[6:])
    return tuple(gradients)


def gradients(
    plan: Plan, operands: tuple[Any, ...], wanted: tuple[bool, ...], dloss: Array, made: tuple[Array, ...] | None
) -> list[Array]:
    """Return the gradients by all operands; `made` are those by the factors if at hand, not yet scaled."""
    results: list[Array] = [None] * len(operands)
    if dloss is None:
        return results
    others = any(want for i, want in enumerate(wanted) if i not in FACTORS)
    several = plan.reduction == "none" and not (tracing() or bare(dloss))  # cotangents at once
    if torch.is_grad_enabled() or others or several:
        return by_formulas(lambda *values: (generic.linear_cross_entropy(plan, *values),), operands, wanted, (dloss,))
    if plan.reduction == "none":
        found = weighed(plan, operands, dloss)
    else:
        if made is None:
            _, *fresh = compute(VALUE_AND_GRAD, unscaled(plan), *operands)
            made = tuple(fresh)
        found = tuple(None if one is None else _scaled(one, dloss) for one in made)
    for i, gradient in zip(FACTORS, found, strict=True):
        if wanted[i]:
            results[i] = gradient.to(operands[i].dtype)
    return results


def _scaled(gradient: Array, dloss: Array) -> Array:
    """Multiply a gradient by that of the loss, in place where nobody else will read it."""
    if tracing() or not bare(dloss):
        return gradient * dloss
    factor = dloss.item() if dloss.device.type == "cpu" else dloss
    return gradient if factor == 1.0 and isinstance(factor, float) else gradient.mul_(factor)


class LinearLoss(torch.autograd.Function):
    """linear_cross_entropy of tensors as they are, outside of torch.func."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *operands: Any) -> Array:
        """Compute the loss, and its gradients where they will be needed and can be made before backward."""
        ctx.plan, ctx.spent = plan, False
        ctx.set_materialize_grads(False)
        if plan.reduction == "none" or not any(ctx.needs_input_grad[1 + i] for i in FACTORS):
            keep(ctx, None, None, None, *operands)
            return compute(LOSS, plan, *operands)
        loss, *made = compute(VALUE_AND_GRAD, unscaled(plan), *operands)
        keep(ctx, *made, *operands)
        return loss

    @staticmethod
    def backward(ctx: Any, dloss: Array) -> tuple[Any, ...]:
        """Scale the gradients that are there; make them once more for a second pass."""
        saved = kept(ctx)  # once: checkpoints let nobody look twice
        made, operands = saved[:3], saved[3:]
        at_hand: tuple[Array, ...] | None = None
        if made[0] is not None and not ctx.spent and not torch.is_grad_enabled():
            # `data` has a version of its own, so that what is written to it does not upset a second pass
            at_hand, ctx.spent = tuple(None if one is None else one.data for one in made), True
        return None, *gradients(ctx.plan, operands, ctx.needs_input_grad[1:], dloss, at_hand)


def gradients_of_all(
    plan: Plan,
    operands: tuple[Any, ...],
    wanted: tuple[bool, ...],
    given: tuple[Array, ...],
    made: tuple[Array, ...] | None,
) -> list[Array]:
    """Return the gradients by all operands, where `given` are those by the loss and by its gradients."""
    results = gradients(plan, operands, wanted, given[0], made)
    if any(one is not None for one in given[1:]):
        formula = generic.linear_cross_entropy_value_and_grad
        more = by_formulas(lambda *values: formula(plan, *values), operands, wanted, (None, *given[1:]))
        pairs = zip(results, more, strict=True)
        results = [one if two is None else two if one is None else one + two for one, two in pairs]
    return results


def shape_of_logits(hidden: Array, weight: Array) -> tuple[int, ...]:
    """Return the shape of the logits."""
    return (*hidden.shape[:-1], weight.shape[0])


def natural(operands: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the dtypes of the factors."""
    return tuple(dtype_name(operands[i].dtype) for i in FACTORS if operands[i] is not None)
