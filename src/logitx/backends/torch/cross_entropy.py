"""Cross-entropy with derivatives: one fused pass computes the loss and its gradient, and backward only scales it.

Derivatives of later orders, those by other operands than the logits, and those of `z_loss`, `log_normalizer` and the
gradient itself if a user asks for these, are left to the formulas of `generic`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch

from logitx._arrays.torch import bare
from logitx._options import LossOptions, flat, nested
from logitx._plan import Array, Plan
from logitx.backends import generic
from logitx.backends.torch.autograd import apply, differentiate_formulas, keep, kept, pushing
from logitx.backends.torch.state import (
    OPERATORS,
    compute,
    in_graph,
    in_transform,
    is_functorch_tensor,
    may_differentiate,
    tracing,
)

LOSS_AND_GRADIENT = "cross_entropy_value_and_grad"


def cross_entropy(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array, Array]:
    """s [sum of class_weight q ((max - x) + log(sum)) + z_loss c logZ^2], reduced."""
    given = flat((logits, targets, options))
    if in_graph(given):
        if may_differentiate(given[0]) and not torch.compiler.is_exporting():
            # One operator for both passes; not in an exported graph, which is more often run than trained
            loss, _, *parts = OPERATORS[LOSS_AND_GRADIENT](unscaled_loss_plan(plan), *given)
        else:
            loss, *parts = OPERATORS["cross_entropy"](plan, *given)
    elif in_transform():
        loss, *parts = apply(TransformedLoss, plan, *given), None, None
    else:
        loss, _, *parts = apply(Loss, PreparedLoss(plan, None), None, *given)
    z_part, log_normalizer = parts
    return (loss, z_part, log_normalizer) if plan.return_parts else (loss, None, None)


def cross_entropy_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: LossOptions
) -> tuple[Array, Array, Array, Array]:
    """The loss, and s [p (A - wq) - wq (1 - p) + 2 z_loss c logZ p] du/dx with A = sum of wq."""
    given = flat((logits, targets, options))
    if in_graph(given):
        loss, dlogits, *parts = OPERATORS[plan.op](plan, *given)
    else:
        loss, dlogits, *parts = apply(Loss, PreparedLoss(plan, None), None, *given)
    z_part, log_normalizer = parts
    return (loss, dlogits, z_part, log_normalizer) if plan.return_parts else (loss, dlogits, None, None)


def cross_entropy_grad_hess(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array]:
    """s [p (A - wt) - wt (1 - p)] and s A p (1 - p), with A = sum of wt; only in a graph."""
    gradient, hessian = OPERATORS["cross_entropy_grad_hess"](plan, *flat((logits, targets, options)))
    return gradient, hessian


def unscaled_loss_plan(plan: Plan) -> Plan:
    """Return the plan of a gradient that backward scales: float32 for float16, where small entries would be lost."""
    return dataclasses.replace(plan, result="float32") if plan.result == "float16" else plan


def scaled_by_cotangent(plan: Plan, dlogits: Array, dloss: Array) -> Array:
    """Multiply the gradient by the logits by `dloss`, the gradient by the loss."""
    return dlogits * (dloss.reshape(plan.layout.column) if plan.reduction == "none" else dloss)


def scaled_in_place(plan: Plan, dlogits: Array, dloss: Array) -> Array:
    """Multiply `dlogits` as `scaled_by_cotangent` does, in its own memory if autograd and torch.func do not look on."""
    if tracing() or in_transform() or is_functorch_tensor(dloss):
        return scaled_by_cotangent(plan, dlogits, dloss)
    if dloss.device.type == "cpu" and dloss.numel() and not any(dloss.stride()):  # one number for all rows
        factor = dloss[(0,) * dloss.ndim].item()
        return dlogits if factor == 1.0 else dlogits.mul_(factor)
    return dlogits.mul_(dloss.reshape(plan.layout.column) if plan.reduction == "none" else dloss)


def loss_gradients(
    plan: Plan, operands: tuple[Any, ...], wanted: tuple[bool, ...], given: tuple[Array, ...], dlogits: Array
) -> list[Array]:
    """Return the gradients by all operands.

    `given` are the gradients by the results of `cross_entropy_value_and_grad`, of which any may be None. `dlogits` is
    the saved gradient of the loss, whose memory may be written to, or None if it must be computed.
    """
    by_logits, dloss, dtype = wanted[0], given[0], operands[0].dtype

    def formula(plan: Plan, *values: Any) -> tuple[Array, ...]:
        found: tuple[Array, ...] = generic.cross_entropy_value_and_grad(plan, *nested(LOSS_AND_GRADIENT, values))
        return found

    results: list[Array] = [None] * len(operands)
    if any(wanted[1:]):
        alone = all(cotangent is None for cotangent in given[1:])  # then the formula of the loss is enough
        function = generic.cross_entropy if alone else generic.cross_entropy_value_and_grad
        results = differentiate_formulas(
            lambda *values: function(plan, *nested(LOSS_AND_GRADIENT, values)),
            operands, (False, *wanted[1:]), given[:1] if alone else given,
        )  # fmt: skip
    if not by_logits:
        return results
    if dloss is not None and torch.is_grad_enabled():
        exact = dataclasses.replace(plan, result=plan.compute)
        results[0] = scaled_by_cotangent(plan, formula(exact, *operands)[1], dloss).to(dtype)
    elif dloss is not None:
        if dlogits is None:
            dlogits = compute(LOSS_AND_GRADIENT, unscaled_loss_plan(plan), *operands)[1]
        results[0] = scaled_in_place(plan, dlogits, dloss).to(dtype)
    if any(cotangent is not None for cotangent in given[1:]):
        only = (True, *(False for _ in wanted[1:]))
        more = differentiate_formulas(lambda *values: formula(plan, *values), operands, only, (None, *given[1:]))[0]
        results[0] = more if results[0] is None else results[0] if more is None else results[0] + more
    return results


class PreparedLoss(NamedTuple):
    """A plan of a loss, and the options that a prepared call had; None for a call that was not prepared."""

    plan: Plan
    options: tuple[Any, ...] | None


class Loss(torch.autograd.Function):
    """cross_entropy and cross_entropy_value_and_grad, outside of torch.func and forward-mode differentiation."""

    @staticmethod
    def forward(ctx: Any, call: PreparedLoss, made: tuple[Any, Any] | None, *operands: Any) -> Any:
        """Return the loss, and save its gradient by the logits where that will be needed.

        A prepared call passes logits and targets as operands, and loss and gradient as `made`, two NumPy arrays. It
        returns the loss alone; other calls return what `cross_entropy_value_and_grad` does.
        """
        plan = call.plan
        ctx.call, ctx.spent = call, plan.op == LOSS_AND_GRADIENT
        ctx.set_materialize_grads(False)
        if made is not None:
            loss, dlogits = made
            ctx.save_for_backward(*operands, torch.from_numpy(dlogits))
            return torch.from_numpy(loss)
        if ctx.spent:  # the gradient is the user's, who may write to it
            keep(ctx, None, *operands)
            return compute(LOSS_AND_GRADIENT, plan, *operands)
        if not ctx.needs_input_grad[2]:
            keep(ctx, None, *operands)
            loss, *parts = compute("cross_entropy", plan, *operands)
        else:
            loss, dlogits, *parts = compute(LOSS_AND_GRADIENT, unscaled_loss_plan(plan), *operands)
            keep(ctx, dlogits, *operands)
        return loss, None, *parts

    @staticmethod
    def backward(ctx: Any, *given: Array) -> tuple[Any, ...]:
        """Scale the saved gradient; compute it anew for a second pass, or if this pass is recorded."""
        (plan, options), dloss = ctx.call, given[0]
        if options is None:
            dlogits, *operands = kept(ctx)
        else:
            *operands, dlogits = ctx.saved_tensors
        simple = dloss is not None and bare(dloss)
        if dlogits is not None and (simple or not torch.is_grad_enabled()):
            # The memory of the gradient is written to, by `scaled_in_place` or by the caller who gets it. `data` has a
            # version of its own, so that a second backward pass finds its saved tensors unchanged as PyTorch counts.
            dlogits, ctx.spent = None if ctx.spent else dlogits if not simple and tracing() else dlogits.data, True
        if options is None:
            return None, None, *loss_gradients(plan, tuple(operands), ctx.needs_input_grad[2:], given, dlogits)
        if simple and dlogits is not None and plan.reduction != "none":
            factor = dloss.item()
            return None, None, dlogits if factor == 1.0 else dlogits.mul_(factor), None
        wanted = (True,) + (False,) * (1 + len(options))
        dx, *_ = loss_gradients(plan, (*operands, *options), wanted, (dloss, None, None, None), dlogits)
        return None, None, dx, None


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
        return None, *loss_gradients(ctx.plan, operands, ctx.needs_input_grad[1:], (dloss, None, None, None), None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Array:
        """Project a tangent on the fused gradient: the loss is linear in it."""
        plan = ctx.plan
        exact = dataclasses.replace(plan, result=plan.compute)
        with pushing(ctx) as operands:
            dlogits = compute(LOSS_AND_GRADIENT, exact, *operands)[1]
            terms = dlogits * tangents[1].to(dlogits.dtype)
            total = terms.sum(plan.layout.axis) if plan.reduction == "none" else terms.sum()
            return total.to(getattr(torch, plan.loss))
