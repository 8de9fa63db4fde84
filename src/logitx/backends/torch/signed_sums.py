"""logsumexp with factors, of tensors that hold data: values and a plain backward pass by the kernels."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from logitx._plan import Array, Plan
from logitx.backends import generic, numba
from logitx.backends.torch.autograd import apply, differentiate_formulas, keep, kept
from logitx.backends.torch.state import compute, is_functorch_tensor


def signed_logsumexp(plan: Plan, x: Array, b: Array, where: Array) -> tuple[Array, Array]:
    """Return the logarithm of the size of the sum, and its sign."""
    value, sign = apply(SignedLogSumExp, dataclasses.replace(plan, return_sign=True), x, b, where)
    if plan.return_sign:
        return value, sign
    return torch.where(sign < 0.0, torch.nan, value), None


class SignedLogSumExp(torch.autograd.Function):
    """The logarithm of the size of the sum of b exp(x), and its sign, which is constant."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, x: Array, b: Array, where: Array) -> tuple[Array, Array]:
        """Return both, and save the operands."""
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        keep(ctx, x, b, where)
        value, sign = compute("logsumexp", plan, x, b, where, None)
        ctx.mark_non_differentiable(sign)
        return value, sign

    @staticmethod
    def backward(ctx: Any, dy: Array, _: Array) -> tuple[Any, ...]:
        """Return the gradients by x and b; by the formulas where they are recorded or a sum has no plain logarithm."""
        plan, operands, wanted = ctx.plan, kept(ctx), tuple(ctx.needs_input_grad[1:])
        if dy is None:
            return None, None, None, None
        recorded = torch.is_grad_enabled() or is_functorch_tensor(dy)
        found = None if recorded else _by_kernels(plan, dy, *operands, *wanted[:2])
        if found is not None:
            return None, *found, None
        formula = lambda x, b, where: generic.logsumexp(plan, x, b, where, None)[:1]  # noqa: E731
        return None, *differentiate_formulas(formula, operands, wanted, (dy,))


def _by_kernels(
    plan: Plan, dy: Array, x: Array, b: Array, where: Array, by_x: bool, by_b: bool
) -> tuple[Array, Array] | None:
    """Return dy p b / sum of p b, and dy p / sum of p b; None where that sum is 0 or not finite."""
    used = b != 0.0
    used = None if where is None and bool(used.all()) else used if where is None else used & where
    mean_plan = dataclasses.replace(plan, op="softmax_mean", empty="zero", loss=plan.compute)
    plan = dataclasses.replace(plan, op="softmax", empty="zero", result=plan.compute)
    if numba.accepts(plan, (x, used)) is not None:
        return None
    share = 1.0 / numba.softmax_mean(mean_plan, x, b, used, None, None)
    if not bool((torch.isfinite(share) & (share != 0.0)).all()):
        return None
    slope = numba.softmax(plan, x, used, None, None, None)
    slope *= (dy.to(slope.dtype) * share).reshape(plan.layout.column)
    dx = (slope * b if by_b else slope.mul_(b)).to(x.dtype) if by_x else None
    return dx, slope.to(b.dtype) if by_b else None
