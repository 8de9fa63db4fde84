"""Softmax, log-softmax and log-sum-exp with derivatives of every order, forward and in reverse.

The derivative of each is made of the probabilities; those of later orders follow, because it is written in operations
that have derivatives themselves. Derivatives by temperature and softcap are left to the formulas of `generic`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from logitx._plan import Array, Plan, Scalar
from logitx.backends import generic
from logitx.backends.torch.autograd import apply, by_formulas, keep, kept, pushing
from logitx.backends.torch.state import compute, tracing, transformed, watched


def chained(g: Array, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Multiply a derivative by du/dx, where u = softcap tanh(x / softcap) / temperature; or a tangent."""
    if softcap is not None:
        live = x != -torch.inf if where is None else (x != -torch.inf) & where
        e = torch.exp(-2.0 * torch.abs(torch.where(live, x, 0.0).to(g.dtype) / softcap))
        g = g * (4.0 * e / (1.0 + e) ** 2)  # 1 - tanh^2, without its cancellation
    return g if temperature is None else g / temperature


def special(plan: Plan, y: Array, where: Array) -> bool:
    """Tell whether there may be rows without a result, whose entries at -inf need attention.

    Without a mask they are NaN as a whole: one class shows it.
    """
    if tracing() or watched(y) or y.device.type != "cpu":
        return True  # not to be looked at
    total = (y if where is not None else y.select(plan.layout.axis, 0)).sum().item()
    return bool(total != total)


def pull_back(
    plan: Plan, op: str, dy: Array, y: Array, x: Array, where: Array, temperature: Scalar, softcap: Scalar
) -> Array:
    """Return the gradient by the logits, not yet rounded; x is None where no row is special and there is no softcap."""
    direct = temperature is None and softcap is None
    if plan.dtype != plan.result or not direct:
        plan = dataclasses.replace(plan, dtype=plan.result, result=plan.compute)
    dx = compute(f"{op}_vjp", plan, y, dy)
    if not direct:
        dx = chained(dx, x, where, temperature, softcap)
    return dx if x is None else torch.where(x == -torch.inf, 0.0, dx)


def normalize(plan: Plan, op: str, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Return softmax or log-softmax, differentiable where PyTorch records."""
    if torch.is_grad_enabled() or transformed():
        return apply(Normalized, plan, op, x, where, temperature, softcap)
    return compute(op, plan, x, where, temperature, softcap, None)


class Normalized(torch.autograd.Function):
    """softmax or log_softmax."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan: Plan, op: str, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
        """Compute the values."""
        return compute(op, plan, x, where, temperature, softcap, None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
        """Save the result, and the logits only where they are needed."""
        plan, op, x, *options = inputs
        ctx.plan, ctx.op = plan, op
        ctx.set_materialize_grads(False)
        where, temperature, softcap = options
        whole = (
            softcap is not None
            or isinstance(temperature, torch.Tensor)
            or transformed()
            or special(plan, output, where)
        )
        ctx.dtype = x.dtype
        keep(ctx, output, x if whole else None, *options)

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Pull a cotangent back."""
        return None, None, *gradients(ctx.plan, ctx.op, dy, kept(ctx), ctx.needs_input_grad[2:], ctx.dtype)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Array:
        """Push a tangent forward."""
        plan = ctx.plan
        with pushing(ctx) as (y, x, where, temperature, softcap):
            t = torch.where(x == -torch.inf, 0.0, tangents[2]).to(getattr(torch, plan.compute))
            t = chained(t, x, where, temperature, softcap)
            if ctx.op == "softmax":  # its Jacobian, diag(p) - p p^T, is symmetric
                t = pull_back(plan, "softmax", t, y, None, None, None, None)
            else:
                p = torch.exp(y.to(t.dtype))
                t = t - torch.sum(torch.where(p == 0.0, 0.0, p * t), plan.layout.axis, keepdim=True)
            return torch.where((x == -torch.inf) | (y == -torch.inf), 0.0, t).to(y.dtype)


def gradients(
    plan: Plan, op: str, dy: Array, saved: tuple[Any, ...], wanted: tuple[bool, ...], dtype: torch.dtype
) -> list[Array]:
    """Return the gradients by x, where, temperature and softcap."""
    y, *operands = saved
    results: list[Array] = [None] * 4
    if dy is None:
        return results
    if any(wanted[1:]):
        formula = getattr(generic, op)
        results = by_formulas(
            lambda *values: (formula(plan, *values, None),), tuple(operands), (False, *wanted[1:]), (dy,)
        )
    if wanted[0]:
        results[0] = pull_back(plan, op, dy, y, *operands).to(dtype)
    return results


class LogSumExp(torch.autograd.Function):
    """logsumexp without factors."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan: Plan, x: Array, where: Array) -> Array:
        """Compute the values."""
        return compute("logsumexp", plan, x, None, where)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
        """Save the logits."""
        ctx.plan, x, where = inputs
        ctx.set_materialize_grads(False)
        keep(ctx, x, where)

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Weigh the probabilities."""
        if dy is None or not ctx.needs_input_grad[1]:
            return None, None, None
        x, where = kept(ctx)
        return None, weighed(ctx.plan, dy, x, where), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Array:
        """Average a tangent."""
        plan = ctx.plan
        with pushing(ctx) as (x, where):
            p = probabilities(plan, x, where)
            t = torch.where(x == -torch.inf, 0.0, tangents[1]).to(p.dtype)
            return torch.sum(torch.where(p == 0.0, 0.0, p * t), plan.layout.axis).to(getattr(torch, plan.result))


def probabilities(plan: Plan, x: Array, where: Array) -> Array:
    """Return softmax, in the dtype that the plan computes in; 0 where a row is empty."""
    plan = dataclasses.replace(plan, op="softmax", empty="zero", result=plan.compute)
    return normalize(plan, "softmax", x, where, None, None)


def weighed(plan: Plan, dy: Array, x: Array, where: Array) -> Array:
    """Return the gradient of logsumexp."""
    p = probabilities(plan, x, where)
    dy = dy.reshape(plan.layout.column).to(p.dtype)
    fresh = not (torch.is_grad_enabled() or tracing() or transformed() or watched(dy))
    dx = p.mul_(dy) if fresh else p * dy
    if special(plan, dx, where):
        dx = torch.where(x == -torch.inf, 0.0, dx)
    return dx.to(x.dtype)
