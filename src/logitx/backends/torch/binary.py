"""Binary cross-entropy with derivatives: one pass computes the loss and its gradient, and backward only scales it.

Derivatives of later orders, those by other operands than the logits, and those of calls that torch.func transforms or
PyTorch traces, are left to the formulas of `generic`.
"""

from __future__ import annotations

from typing import Any

import torch

from logitx._options import BinaryOptions, flat, nested
from logitx._plan import Array, Plan
from logitx.backends import generic
from logitx.backends.torch.autograd import apply, differentiate_formulas, keep, kept
from logitx.backends.torch.cross_entropy import unscaled_loss_plan
from logitx.backends.torch.state import compute, in_transform, is_functorch_tensor, may_differentiate, tracing


def declined(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return why the loss is not for `BinaryLoss`, None where it is."""
    if not may_differentiate(operands[0]):
        return "no tensor requires grad" if not any(map(may_differentiate, operands[1:])) else "only the logits may"
    return "traced and transformed by way of the formulas" if tracing() or in_transform() else None


def binary_cross_entropy(plan: Plan, logits: Array, targets: Array, options: BinaryOptions) -> Array:
    """s [w q (1 - p)^gamma (-log p) + (1 - q) p^gamma (-log (1 - p))], reduced."""
    return apply(BinaryLoss, plan, *flat((logits, targets, options)))


class BinaryLoss(torch.autograd.Function):
    """binary_cross_entropy of tensors that hold data, outside of torch.func and forward-mode differentiation."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *operands: Any) -> Array:
        """Return the loss, and save its gradient by the logits."""
        loss, dlogits = compute("binary_cross_entropy_value_and_grad", unscaled_loss_plan(plan), *operands)
        ctx.plan, ctx.spent = plan, False
        ctx.set_materialize_grads(False)
        keep(ctx, dlogits, *operands)
        return loss

    @staticmethod
    def backward(ctx: Any, dloss: Array) -> tuple[Any, ...]:
        """Scale the saved gradient; compute it anew for a second pass, or if this pass is recorded."""
        plan, wanted = ctx.plan, ctx.needs_input_grad[1:]
        dlogits, *operands = kept(ctx)
        if dloss is None:
            return (None,) * (1 + len(operands))
        plain = not (torch.is_grad_enabled() or tracing() or in_transform() or is_functorch_tensor(dloss))
        if not plain or any(wanted[1:]):

            def formula(*values: Any) -> tuple[Array, ...]:
                return (generic.binary_cross_entropy(plan, *nested(plan.op, values)),)

            return None, *differentiate_formulas(formula, tuple(operands), wanted, (dloss,))
        if ctx.spent:  # by the kernel again, so that a second pass gives the same bits
            dlogits = compute("binary_cross_entropy_value_and_grad", unscaled_loss_plan(plan), *operands)[1]
        ctx.spent = True  # the memory is the caller's from here on
        return None, dlogits.data.mul_(dloss).to(operands[0].dtype), *(None for _ in operands[1:])
