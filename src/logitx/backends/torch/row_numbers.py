"""Numbers of a row with derivatives of every order; beyond a plain backward pass they are those of the formulas."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from logitx._plan import Array, Plan, Scalar
from logitx.backends import generic, numba
from logitx.backends.formulas.selected import selected_by_losses
from logitx.backends.torch.autograd import apply, differentiate_formulas, keep, kept
from logitx.backends.torch.cross_entropy import cross_entropy
from logitx.backends.torch.softmax import chain_scaling
from logitx.backends.torch.state import compute, is_functorch_tensor


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


def kl_divergence(plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Sum of q - p + p log(p / q)."""
    return apply(OfPair, plan, p, q, where, temperature, softcap)


def js_divergence(plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Weight KL(p, m) + (1 - weight) KL(q, m), with m = weight p + (1 - weight) q."""
    return apply(OfPair, plan, p, q, where, temperature, softcap)


def softmax_mean(plan: Plan, x: Array, values: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Sum of p v."""
    return apply(OfPair, plan, x, values, where, temperature, softcap)


class OfPair(torch.autograd.Function):
    """Numbers of rows of two tensors that hold data: divergences, and means under a softmax."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *operands: Any) -> Array:
        """Return the numbers, and save the operands."""
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        keep(ctx, *operands)
        return compute(plan.op, plan, *operands)

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Return the gradients by the two tensors from their softmaxes; others, and recorded ones, by the formulas."""
        plan, operands, wanted = ctx.plan, kept(ctx), tuple(ctx.needs_input_grad[1:])
        if dy is None:
            return (None,) * 6
        plain = not (torch.is_grad_enabled() or is_functorch_tensor(dy) or any(wanted[2:]))
        found = _PAIR_GRADIENTS[plan.op](plan, dy, *operands) if plain else None
        if found is not None:
            both = (one.to(x.dtype) if want else None for one, x, want in zip(found, operands, wanted, strict=False))
            return None, *both, None, None, None
        formula = lambda *values: (getattr(generic, plan.op)(plan, *values),)  # noqa: E731
        return None, *differentiate_formulas(formula, operands, wanted, (dy,))


def _shares(plan: Plan, dy: Array) -> Array:
    """Return the derivative by the number of each row, as a column."""
    if plan.reduction == "mean":
        dy = dy / math.prod(plan.layout.rows)
    return (dy if plan.reduction != "none" else dy.reshape(plan.layout.column)).to(getattr(torch, plan.compute))


def _probabilities(plan: Plan, x: Array, *scaling: Any, log: bool) -> Array:
    """Return softmax or log_softmax in the dtype that the plan computes in."""
    op = "log_softmax" if log else "softmax"
    return compute(op, dataclasses.replace(plan, op=op, empty="zero", result=plan.compute), x, *scaling, None)


def _gradients_of_divergence(plan: Plan, dy: Array, p: Array, q: Array, *scaling: Any) -> tuple[Array, Array] | None:
    """Return the gradients by both arrays from one read of each; None where there is no kernel for them."""
    if numba.accepts(plan, (p, q, *scaling)) is not None:
        return None
    share = _shares(plan, dy).expand(plan.layout.column).reshape(-1)
    return numba.divergence_gradients(plan, share, p, q, *scaling)


def _gradients_of_mean(plan: Plan, dy: Array, x: Array, values: Array, *scaling: Any) -> tuple[Array, Array] | None:
    """Return share p (v - mean) du/dx and share p; None where a mean is not finite."""
    p, share = _probabilities(plan, x, *scaling, log=False), _shares(plan, dy)
    products = _times(p, values.to(p.dtype))
    mean = products.sum(plan.layout.axis, keepdim=True)
    if not bool(torch.isfinite(mean).all()):
        return None
    return chain_scaling((products - p * mean) * share, x, *scaling), p * share


def _times(p: Array, factor: Array) -> Array:
    """Return p times a factor, 0 where p is 0."""
    return torch.where(p == 0.0, 0.0, p * factor)


_PAIR_GRADIENTS = {
    "kl_divergence": _gradients_of_divergence,
    "js_divergence": _gradients_of_divergence,
    "softmax_mean": _gradients_of_mean,
}


def selected_log_softmax(plan: Plan, x: Array, ids: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """-loss of the most probable id, and the distance of the other logits to its logit."""
    return selected_by_losses(cross_entropy, plan, x, ids, where, temperature, softcap)
