"""Numbers of a row with derivatives of every order; beyond a plain backward pass they are those of the formulas."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from logitx._plan import Array, Plan, Scalar
from logitx.backends import generic, numba
from logitx.backends.formulas.selected import selected_by_losses
from logitx.backends.torch.autograd import apply, differentiate_formulas, keep, kept
from logitx.backends.torch.cross_entropy import cross_entropy
from logitx.backends.torch.state import compute


def entropy(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """log(sum) + sum of p (max - x)."""
    return apply(Entropy, plan, x, where, temperature, softcap)


class Entropy(torch.autograd.Function):
    """Entropies of tensors that hold data, outside of torch.func and forward-mode differentiation."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *operands: Any) -> Array:
        """Return the entropies, and save the operands."""
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        keep(ctx, *operands)
        return compute("entropy", plan, *operands)

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Return the gradient by the logits from one more read of them, those by other operands by the formulas."""
        plan, operands, wanted = ctx.plan, kept(ctx), tuple(ctx.needs_input_grad[1:])
        if dy is None:
            return (None,) * 5
        if wanted == (True, False, False, False) and numba.accepts(plan, (dy, *operands)) is None:
            exact = dataclasses.replace(plan, result=plan.dtype)
            return None, numba.entropy_gradient(exact, dy, *operands), None, None, None
        formula = lambda *values: (generic.entropy(plan, *values),)  # noqa: E731
        return None, *differentiate_formulas(formula, operands, wanted, (dy,))


def selected_log_softmax(plan: Plan, x: Array, ids: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """-loss of the most probable id, and the distance of the other logits to its logit."""
    return selected_by_losses(cross_entropy, plan, x, ids, where, temperature, softcap)
