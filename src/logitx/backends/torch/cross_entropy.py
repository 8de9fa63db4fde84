"""Cross-entropy with derivatives: one fused pass makes the loss and its gradient, and backward has only to scale it.

Derivatives of later orders, those by other operands than the logits, and those of `z_loss`, `log_normalizer` and the
gradient itself where users ask for these, are left to the formulas of `generic`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from logitx._plan import Array, Plan
from logitx.backends import generic
from logitx.backends.torch.autograd import by_formulas, keep, kept, pushing
from logitx.backends.torch.state import compute, tracing, transformed, watched

VALUE_AND_GRAD = "cross_entropy_value_and_grad"


def unscaled(plan: Plan) -> Plan:
    """Return the plan of a gradient that is yet to be scaled: in float16, what is small would be lost before."""
    return dataclasses.replace(plan, result="float32") if plan.result == "float16" else plan


def scaled(plan: Plan, dlogits: Array, dloss: Array) -> Array:
    """Multiply a gradient by the one of the loss."""
    return dlogits * (dloss.reshape(plan.layout.column) if plan.reduction == "none" else dloss)


def scaled_in_place(plan: Plan, dlogits: Array, dloss: Array) -> Array:
    """Multiply as `scaled` does, in memory that nobody else will read."""
    if tracing() or transformed() or watched(dloss):
        return scaled(plan, dlogits, dloss)
    if dloss.device.type == "cpu" and dloss.numel() and not any(dloss.stride()):  # one number for all rows
        factor = dloss[(0,) * dloss.ndim].item()
        return dlogits if factor == 1.0 else dlogits.mul_(factor)
    return dlogits.mul_(dloss.reshape(plan.layout.column) if plan.reduction == "none" else dloss)


def gradients(
    plan: Plan, operands: tuple[Any, ...], wanted: tuple[bool, ...], given: tuple[Array, ...], dlogits: Array
) -> list[Array]:
    """Return the gradients by all operands.

    `given` are those by what `cross_entropy_value_and_grad` returns, of which any may be None; `dlogits` is its
    gradient, whose memory may be written to, or None if it is not at hand.
    """
    by_logits, dloss, dtype = wanted[0], given[0], operands[0].dtype
    formula = getattr(generic, VALUE_AND_GRAD)
    results: list[Array] = [None] * len(operands)
    if any(wanted[1:]):
        results = by_formulas(lambda *values: formula(plan, *values), operands, (False, *wanted[1:]), given)
    if not by_logits:
        return results
    if dloss is not None and torch.is_grad_enabled():
        exact = dataclasses.replace(plan, result=plan.compute)
        results[0] = scaled(plan, formula(exact, *operands)[1], dloss).to(dtype)
    elif dloss is not None:
        if dlogits is None:
            dlogits = compute(VALUE_AND_GRAD, unscaled(plan), *operands)[1]
        results[0] = scaled_in_place(plan, dlogits, dloss).to(dtype)
    if any(cotangent is not None for cotangent in given[1:]):
        only = (True, *(False for _ in wanted[1:]))
        more = by_formulas(lambda *values: formula(plan, *values), operands, only, (None, *given[1:]))[0]
        results[0] = more if results[0] is None else results[0] if more is None else results[0] + more
    return results


class Loss(torch.autograd.Function):
    """cross_entropy and cross_entropy_value_and_grad of tensors as they are, outside of torch.func."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *operands: Any) -> tuple[Array, ...]:
        """Compute the loss, and its gradient by the logits where that will be needed."""
        ctx.plan, ctx.spent = plan, plan.op == VALUE_AND_GRAD
        ctx.set_materialize_grads(False)
        if ctx.spent:  # the gradient is the user's, who may write to it
            keep(ctx, None, *operands)
            result: tuple[Array, ...] = compute(VALUE_AND_GRAD, plan, *operands)
            return result
        if not ctx.needs_input_grad[1]:
            keep(ctx, None, *operands)
            loss, *parts = compute("cross_entropy", plan, *operands)
        else:
            loss, dlogits, *parts = compute(VALUE_AND_GRAD, unscaled(plan), *operands)
            keep(ctx, dlogits, *operands)
        return loss, None, *parts

    @staticmethod
    def backward(ctx: Any, *given: Array) -> tuple[Any, ...]:
        """Scale the gradient that is there; work it out once more for a second pass, or to be differentiated."""
        dlogits, *operands = kept(ctx)
        if dlogits is not None and not torch.is_grad_enabled():
            # What is handed out is written to, by `scaled_in_place` or by who gets it. `data` has a version of its own,
            # so that a second backward pass finds its saved tensors unchanged as PyTorch counts.
            dlogits, ctx.spent = None if ctx.spent else dlogits if tracing() else dlogits.data, True
        return None, *gradients(ctx.plan, tuple(operands), ctx.needs_input_grad[1:], given, dlogits)


class TransformedLoss(torch.autograd.Function):
    """cross_entropy under torch.func and forward-mode differentiation, by the logits."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan: Plan, *operands: Any) -> Array:
        """Compute the loss."""
        return compute("cross_entropy", plan, *operands)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
        """Save all operands."""
        ctx.plan = inputs[0]
        ctx.set_materialize_grads(False)
        keep(ctx, *inputs[1:])

    @staticmethod
    def backward(ctx: Any, dloss: Array) -> tuple[Any, ...]:
        """Scale the fused gradient."""
        operands = kept(ctx)
        return None, *gradients(ctx.plan, operands, ctx.needs_input_grad[1:], (dloss, None, None, None), None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Array:
        """Project a tangent on the fused gradient: the loss is linear in it."""
        plan = ctx.plan
        exact = dataclasses.replace(plan, result=plan.compute)
        with pushing(ctx) as operands:
            dlogits = compute(VALUE_AND_GRAD, exact, *operands)[1]
            terms = dlogits * tangents[1].to(dlogits.dtype)
            total = terms.sum(plan.layout.axis) if plan.reduction == "none" else terms.sum()
            return total.to(getattr(torch, plan.loss))
