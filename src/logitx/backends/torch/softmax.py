"""Softmax, log-softmax and log-sum-exp with derivatives of every order, in forward and reverse mode.

The derivative of each is computed from the probabilities, in operations that have derivatives themselves: so there are
derivatives of every order. Derivatives by temperature and softcap are left to the formulas of `generic`.

Calls prepared by `prepared` use the same autograd functions: they pass values that a kernel has computed.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch

from logitx._arrays.torch import bare
from logitx._plan import Array, Plan, Scalar
from logitx.backends import generic
from logitx.backends.formulas.log_space import add_log_factors
from logitx.backends.protocol import Prepared
from logitx.backends.torch.autograd import apply, differentiate_formulas, keep, kept, pushing
from logitx.backends.torch.signed_sums import signed_logsumexp
from logitx.backends.torch.state import OPERATORS, compute, in_graph, in_transform, is_functorch_tensor, tracing


def softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """exp(x - max) / sum of exp(x - max)."""
    return _normalized_or_operator(plan, x, where, temperature, softcap)


def log_softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """(x - max) - log(sum of exp(x - max))."""
    return _normalized_or_operator(plan, x, where, temperature, softcap)


def _normalized_or_operator(plan: Plan, *operands: Any) -> Array:
    if in_graph(operands):
        return OPERATORS[plan.op](plan, *operands, None)
    return _differentiable_normalized(plan, *operands)


def logsumexp(plan: Plan, x: Array, b: Array, where: Array, log_b: Array) -> tuple[Array, Array]:
    """max + log(sum of exp(x - max)), and the sign of the sum."""
    if b is not None:
        return signed_logsumexp(plan, x, b, where)
    if log_b is not None:  # autograd differentiates the sum
        plan, x = add_log_factors(plan, x, log_b)
    if in_graph((x, where)):
        value = OPERATORS["logsumexp"](plan, x, b, where, None)
    elif in_transform():
        value = apply(TransformedLogSumExp, plan, x, where)
    else:
        value = apply(LogSumExp, PreparedReducing(plan, None), None, x, where)
    if not plan.return_sign:
        return value, None
    sign = torch.where(value == -torch.inf, 0.0, torch.where(torch.isnan(value), torch.nan, 1.0))
    return value, sign.to(value.dtype)


def softmax_vjp(plan: Plan, p: Array, dp: Array) -> Array:
    """p (dp - sum of p dp); only in a graph."""
    return OPERATORS["softmax_vjp"](plan, p, dp)


def log_softmax_vjp(plan: Plan, log_p: Array, dlog_p: Array) -> Array:
    """dlog_p - p sum of dlog_p; only in a graph."""
    return OPERATORS["log_softmax_vjp"](plan, log_p, dlog_p)


def chain_scaling(g: Array, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Multiply `g`, a derivative or a tangent, by du/dx, where u = softcap tanh(x / softcap) / temperature."""
    if softcap is not None:
        live = x != -torch.inf if where is None else (x != -torch.inf) & where
        e = torch.exp(-2.0 * torch.abs(torch.where(live, x, 0.0).to(g.dtype) / softcap))
        g = g * (4.0 * e / (1.0 + e) ** 2)  # 1 - tanh^2, without its cancellation
    return g if temperature is None else g / temperature


def has_special_rows(plan: Plan, y: Array, where: Array) -> bool:
    """True if there may be rows without a result, whose gradients at logits of -inf must be set to 0.

    Without a mask all entries of such a row are NaN: one class shows it.
    """
    if tracing() or is_functorch_tensor(y) or y.device.type != "cpu":
        return True  # the values cannot be read, or not without waiting for a device
    total = (y if where is not None else y.select(plan.layout.axis, 0)).sum().item()
    return bool(total != total)


def pull_back_normalized(
    plan: Plan, dy: Array, y: Array, x: Array, where: Array, temperature: Scalar, softcap: Scalar
) -> Array:
    """Return the gradient by the logits, not yet rounded; x is None where no row is special and there is no softcap."""
    direct = temperature is None and softcap is None
    if plan.dtype != plan.result or not direct:
        plan = dataclasses.replace(plan, dtype=plan.result, result=plan.compute)
    dx = compute(f"{plan.op}_vjp", plan, y, dy)
    if not direct:
        dx = chain_scaling(dx, x, where, temperature, softcap)
    return dx if x is None else torch.where(x == -torch.inf, 0.0, dx)


def _differentiable_normalized(plan: Plan, x: Array, *options: Any) -> Array:
    """Return softmax or log_softmax by the autograd function for what PyTorch does around the call."""
    if in_transform():
        return apply(TransformedNormalized, plan, x, *options)
    return apply(Normalized, PreparedNormalizing(plan, None), None, x, *options)


def memory_or_none(x: Array) -> Any:
    """Return the memory of a tensor as a NumPy array, recorded or not; None if it is not strided memory on the CPU."""
    if not x.is_cpu:
        return None
    try:
        return x.numpy(force=True)
    except (RuntimeError, TypeError):
        return None


class PreparedNormalizing(NamedTuple):
    """A plan of softmax or log_softmax, and its prepared gradient; None for a call that was not prepared."""

    plan: Plan
    pull_back: Prepared | None


class Normalized(torch.autograd.Function):
    """softmax or log_softmax of tensors that hold data, outside of torch.func and forward-mode differentiation."""

    @staticmethod
    def forward(ctx: Any, call: PreparedNormalizing, made: tuple[Any, bool] | None, x: Array, *options: Any) -> Array:
        """Return the values, and save them; the logits only where backward needs them.

        A prepared call has no options, and passes `made`: the values as a NumPy array, and whether a row is special.
        """
        ctx.call = call
        ctx.set_materialize_grads(False)
        if made is not None:
            y = torch.from_numpy(made[0])
            if made[1]:
                ctx.save_for_backward(y, x)
            else:
                ctx.save_for_backward(y)
            return y
        where, temperature, softcap = options
        y = compute(call.plan.op, call.plan, x, *options, None)
        whole = softcap is not None or isinstance(temperature, torch.Tensor) or has_special_rows(call.plan, y, where)
        ctx.dtype = x.dtype
        keep(ctx, y, x if whole else None, *options)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Pull a cotangent back: by the prepared kernel if no row is special and the backward pass is plain."""
        plan, pull_back = ctx.call
        if pull_back is None:
            return None, None, *normalized_gradients(plan, dy, kept(ctx), ctx.needs_input_grad[2:], ctx.dtype)
        y, *given = ctx.saved_tensors
        if dy is not None and not given and bare(dy):
            values, cotangent = memory_or_none(y), memory_or_none(dy)
            dx = None if values is None or cotangent is None else pull_back(values, cotangent)
            if dx is not None:
                return None, None, torch.from_numpy(dx)
        saved = (y, given[0] if given else None, None, None, None)
        dx, *_ = normalized_gradients(plan, dy, saved, (True, False, False, False), y.dtype)
        return None, None, dx


class TransformedNormalized(torch.autograd.Function):
    """softmax or log_softmax under torch.func and forward-mode differentiation."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
        """Compute the values."""
        return compute(plan.op, plan, x, where, temperature, softcap, None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
        """Save the result and all operands."""
        ctx.plan, x, *options = inputs
        ctx.set_materialize_grads(False)
        ctx.dtype = x.dtype
        keep(ctx, output, x, *options)

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Pull a cotangent back."""
        return None, *normalized_gradients(ctx.plan, dy, kept(ctx), ctx.needs_input_grad[1:], ctx.dtype)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Array:
        """Push a tangent forward."""
        plan = ctx.plan
        with pushing(ctx) as (y, x, where, temperature, softcap):
            t = torch.where(x == -torch.inf, 0.0, tangents[1]).to(getattr(torch, plan.compute))
            t = chain_scaling(t, x, where, temperature, softcap)
            if plan.op == "softmax":  # its Jacobian, diag(p) - p p^T, is symmetric
                t = pull_back_normalized(plan, t, y, None, None, None, None)
            else:
                p = torch.exp(y.to(t.dtype))
                t = t - torch.sum(torch.where(p == 0.0, 0.0, p * t), plan.layout.axis, keepdim=True)
            return torch.where((x == -torch.inf) | (y == -torch.inf), 0.0, t).to(y.dtype)


def normalized_gradients(
    plan: Plan, dy: Array, saved: tuple[Any, ...], wanted: tuple[bool, ...], dtype: torch.dtype
) -> list[Array]:
    """Return the gradients by x, where, temperature and softcap; `saved` are the result and these operands."""
    y, *operands = saved
    results: list[Array] = [None] * 4
    if dy is None:
        return results
    if any(wanted[1:]):
        formula = getattr(generic, plan.op)
        results = differentiate_formulas(
            lambda *values: (formula(plan, *values, None),), tuple(operands), (False, *wanted[1:]), (dy,)
        )
    if wanted[0]:
        results[0] = pull_back_normalized(plan, dy, y, *operands).to(dtype)
    return results


class PreparedReducing(NamedTuple):
    """A plan of logsumexp, and the prepared softmax of its logits; None for a call that was not prepared."""

    plan: Plan
    probabilities: Prepared | None


class LogSumExp(torch.autograd.Function):
    """logsumexp without factors, of tensors that hold data, outside of torch.func and forward-mode differentiation."""

    @staticmethod
    def forward(ctx: Any, call: PreparedReducing, made: Any, x: Array, where: Array = None) -> Array:
        """Return the values, and save the logits; a prepared call has no mask, and passes the values as `made`."""
        ctx.call = call
        ctx.set_materialize_grads(False)
        if made is not None:
            ctx.save_for_backward(x)
            return torch.from_numpy(made)
        keep(ctx, x, where)
        return compute("logsumexp", call.plan, x, None, where, None)[0]

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Multiply the cotangent by the probabilities: in place, if they are made by the prepared kernel."""
        plan, probabilities = ctx.call
        if probabilities is None:
            if dy is None or not ctx.needs_input_grad[2]:
                return None, None, None, None
            return None, None, logsumexp_gradient(plan, dy, *kept(ctx)), None
        (x,) = ctx.saved_tensors
        if dy is None:
            return None, None, None
        memory = memory_or_none(x) if bare(dy) else None
        p = None if memory is None else probabilities(memory, None)
        if p is None:
            return None, None, logsumexp_gradient(plan, dy, x, None)
        dx = torch.from_numpy(p).mul_(dy.reshape(plan.layout.column))
        return None, None, torch.where(x == -torch.inf, 0.0, dx) if has_special_rows(plan, dx, None) else dx


class TransformedLogSumExp(torch.autograd.Function):
    """logsumexp without factors, under torch.func and forward-mode differentiation."""

    generate_vmap_rule = True

    @staticmethod
    def forward(plan: Plan, x: Array, where: Array) -> Array:
        """Compute the values."""
        return compute("logsumexp", plan, x, None, where, None)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
        """Save the logits."""
        ctx.plan, x, where = inputs
        ctx.set_materialize_grads(False)
        keep(ctx, x, where)

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Multiply the cotangent by the probabilities."""
        if dy is None or not ctx.needs_input_grad[1]:
            return None, None, None
        return None, logsumexp_gradient(ctx.plan, dy, *kept(ctx)), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Array:
        """Average a tangent."""
        plan = ctx.plan
        with pushing(ctx) as (x, where):
            p = _differentiable_probabilities(plan, x, where)
            t = torch.where(x == -torch.inf, 0.0, tangents[1]).to(p.dtype)
            return torch.sum(torch.where(p == 0.0, 0.0, p * t), plan.layout.axis).to(getattr(torch, plan.result))


def _differentiable_probabilities(plan: Plan, x: Array, where: Array) -> Array:
    """Return softmax in the dtype that the plan computes in, 0 in empty rows; recorded if PyTorch records."""
    plan = dataclasses.replace(plan, op="softmax", empty="zero", result=plan.compute)
    if torch.is_grad_enabled() or in_transform():
        return _differentiable_normalized(plan, x, where, None, None)
    return compute("softmax", plan, x, where, None, None, None)


def logsumexp_gradient(plan: Plan, dy: Array, x: Array, where: Array) -> Array:
    """Return the gradient of logsumexp: the probabilities times the cotangent `dy`."""
    p = _differentiable_probabilities(plan, x, where)
    dy = dy.reshape(plan.layout.column).to(p.dtype)
    fresh = not (torch.is_grad_enabled() or tracing() or in_transform() or is_functorch_tensor(dy))
    dx = p.mul_(dy) if fresh else p * dy
    if has_special_rows(plan, dx, where):
        dx = torch.where(x == -torch.inf, 0.0, dx)
    return dx.to(x.dtype)
