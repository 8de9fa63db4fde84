"""Cross-entropy of a linear layer with derivatives: the forward pass computes the gradients, and backward only scales.

For losses that are not reduced, backward computes them, with the cotangents as weights of the rows. Derivatives of
later orders, those by other operands than the layer's, and those of gradients are left to the formulas of `generic`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from logitx._arrays.family import dtype_name
from logitx._arrays.torch import bare
from logitx._options import LinearLayer, LossOptions, flat, nested
from logitx._plan import Array, Plan
from logitx.backends import generic
from logitx.backends.torch.autograd import apply, differentiate_formulas, keep, kept
from logitx.backends.torch.state import (
    OPERATORS,
    compute,
    in_graph,
    in_transform,
    may_differentiate,
    replaceable,
    tracing,
)

LAYER_LOSS, LAYER_LOSS_AND_GRADIENTS = "linear_cross_entropy", "linear_cross_entropy_value_and_grad"
FACTORS = (0, 1, 2)  # positions of hidden, weight and bias among the operands


def linear_cross_entropy(plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions) -> Array:
    """The cross-entropy of hidden @ weight.T + bias."""
    given = flat((layer, targets, options))
    if not in_graph(given):
        return apply(LinearLoss, plan, *given)
    trained = any(map(may_differentiate, layer))
    if trained and plan.reduction != "none" and not torch.compiler.is_exporting():
        return OPERATORS[LAYER_LOSS_AND_GRADIENTS](unscaled_layer_plan(plan), *given)[0]
    return OPERATORS[LAYER_LOSS](plan, *given)


def linear_cross_entropy_value_and_grad(
    plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions
) -> tuple[Array, Array, Array, Array]:
    """The loss, and with g its gradient by the logits: g @ weight, g.T @ hidden, the sum of g; only in a graph."""
    loss, one, two, three = OPERATORS[LAYER_LOSS_AND_GRADIENTS](plan, *flat((layer, targets, options)))
    return loss, one, two, None if layer.bias is None else three


def declined(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return why neither `LinearLoss` nor the operators serve a call, or None."""
    if in_transform():
        return "under torch.func and forward-mode differentiation it is taken by way of the formulas"
    by_factors = any(may_differentiate(operands[i]) for i in FACTORS)
    if any(may_differentiate(x) for i, x in enumerate(operands) if i not in FACTORS):
        return "derivatives by other operands than the layer's are taken by way of the formulas"
    if plan.op == LAYER_LOSS_AND_GRADIENTS and by_factors:
        return "gradients are differentiated by way of the formulas"
    if tracing():
        return None if replaceable(operands) else "there are no operators for these tensors"
    return None if by_factors else "no tensor requires grad"


def unscaled_layer_plan(plan: Plan) -> Plan:
    """Return the plan of gradients that backward will scale: float32 for float16, where small entries would be lost."""
    wide = tuple("float32" if dtype == "float16" else dtype for dtype in plan.gradients)
    return dataclasses.replace(plan, op=LAYER_LOSS_AND_GRADIENTS, gradients=wide)


def _weighed_layer_gradients(plan: Plan, operands: tuple[Any, ...], dloss: Array) -> tuple[Array, ...]:
    """Return the gradients of the sum of `dloss` times the losses, which are not reduced."""
    sample_weight = operands[5]
    factor = dloss if sample_weight is None else dloss * sample_weight
    summed = dataclasses.replace(plan, op=LAYER_LOSS_AND_GRADIENTS, reduction="sum")
    _, *gradients = compute(LAYER_LOSS_AND_GRADIENTS, summed, *operands[:5], factor, *operands[6:])
    return tuple(gradients)


def layer_gradients(
    plan: Plan, operands: tuple[Any, ...], wanted: tuple[bool, ...], dloss: Array, made: tuple[Array, ...] | None
) -> list[Array]:
    """Return the gradients by all operands; `made` are the saved ones by the factors, not yet scaled, or None."""
    results: list[Array] = [None] * len(operands)
    if dloss is None:
        return results
    others = any(want for i, want in enumerate(wanted) if i not in FACTORS)
    several = plan.reduction == "none" and not (tracing() or bare(dloss))  # a batch of cotangents
    if torch.is_grad_enabled() or others or several:
        return differentiate_formulas(
            lambda *values: (generic.linear_cross_entropy(plan, *nested(LAYER_LOSS, values)),),
            operands,
            wanted,
            (dloss,),
        )
    if plan.reduction == "none":
        found = _weighed_layer_gradients(plan, operands, dloss)
    else:
        if made is None:
            _, *fresh = compute(LAYER_LOSS_AND_GRADIENTS, unscaled_layer_plan(plan), *operands)
            made = tuple(fresh)
        found = tuple(None if one is None else _scaled_layer_gradient(one, dloss) for one in made)
    for i, gradient in zip(FACTORS, found, strict=True):
        if wanted[i]:
            results[i] = gradient.to(operands[i].dtype)
    return results


def _scaled_layer_gradient(gradient: Array, dloss: Array) -> Array:
    """Multiply a gradient by `dloss`, in place if autograd and torch.func do not look on."""
    if tracing() or not bare(dloss):
        return gradient * dloss
    factor = dloss.item() if dloss.device.type == "cpu" else dloss
    return gradient if factor == 1.0 and isinstance(factor, float) else gradient.mul_(factor)


class LinearLoss(torch.autograd.Function):
    """linear_cross_entropy, outside of torch.func and forward-mode differentiation."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *operands: Any) -> Array:
        """Return the loss, and save its gradients if they will be needed and the loss is reduced."""
        ctx.plan, ctx.spent = plan, False
        ctx.set_materialize_grads(False)
        if plan.reduction == "none" or not any(ctx.needs_input_grad[1 + i] for i in FACTORS):
            keep(ctx, None, None, None, *operands)
            return compute(LAYER_LOSS, plan, *operands)
        loss, *made = compute(LAYER_LOSS_AND_GRADIENTS, unscaled_layer_plan(plan), *operands)
        keep(ctx, *made, *operands)
        return loss

    @staticmethod
    def backward(ctx: Any, dloss: Array) -> tuple[Any, ...]:
        """Scale the saved gradients; compute them anew for a second pass."""
        saved = kept(ctx)  # read once: under checkpoint, a second look raises
        made, operands = saved[:3], saved[3:]
        at_hand: tuple[Array, ...] | None = None
        if made[0] is not None and not ctx.spent and not torch.is_grad_enabled():
            # `data` has a version of its own, so that scaling it in place does not make a second pass raise
            at_hand, ctx.spent = tuple(None if one is None else one.data for one in made), True
        return None, *layer_gradients(ctx.plan, operands, ctx.needs_input_grad[1:], dloss, at_hand)


def layer_gradients_of_all(
    plan: Plan,
    operands: tuple[Any, ...],
    wanted: tuple[bool, ...],
    given: tuple[Array, ...],
    made: tuple[Array, ...] | None,
) -> list[Array]:
    """Return the gradients by all operands; `given` are those by the loss and by its gradients."""
    results = layer_gradients(plan, operands, wanted, given[0], made)
    if any(one is not None for one in given[1:]):
        formula = generic.linear_cross_entropy_value_and_grad
        more = differentiate_formulas(
            lambda *values: formula(plan, *nested(LAYER_LOSS, values)), operands, wanted, (None, *given[1:])
        )
        pairs = zip(results, more, strict=True)
        results = [one if two is None else two if one is None else one + two for one, two in pairs]
    return results


def shape_of_logits(hidden: Array, weight: Array) -> tuple[int, ...]:
    """Return the shape of the logits."""
    return (*hidden.shape[:-1], weight.shape[0])


def factor_dtypes(operands: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the dtypes of hidden, weight and bias, if there is one."""
    return tuple(dtype_name(operands[i].dtype) for i in FACTORS if operands[i] is not None)
