"""Calls with plain options that autograd records, settled beforehand: what a call of ten numbers costs is checks.

The same functions as `_softmax.Normalized` and `_loss.Loss`, around kernels with all but the arrays settled. Whatever a
backward pass meets that is more than memory, it goes their way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from logitx._arrays.torch import bare
from logitx._plan import Array, Plan
from logitx.backends.numba import prepared
from logitx.backends.protocol import Prepared
from logitx.backends.torch import cross_entropy, softmax

_DTYPES = ("float32", "float64")


def prepare(plan: Plan, operands: tuple[Any, ...]) -> Prepared | None:
    """Return a call that is differentiated by the logits with all but the arrays settled, or None."""
    if plan.dtype not in _DTYPES or plan.result != plan.dtype or plan.op not in _PREPARE:
        return None
    return _PREPARE[plan.op](plan, *(x.detach().numpy() if isinstance(x, torch.Tensor) else x for x in operands))


class _Normalizing(NamedTuple):
    plan: Plan
    pull_back: Prepared


def _prepare_normalizing(plan: Plan, x: Array, *options: Any) -> Prepared | None:
    if any(option is not None for option in options):
        return None
    compute = prepared.prepare(plan, (x, *options))
    pull_back = prepared.prepare(dataclasses.replace(plan, op=f"{plan.op}_vjp"), (x, x))
    if compute is None or pull_back is None:
        return None
    settled, apply = _Normalizing(plan, pull_back), _applied(Normalized)
    single, first, total = math.prod(plan.layout.rows) == 1, (slice(None),) * plan.layout.axis + (0,), np.add.reduce

    def call(x: Array, _out: None) -> Any:
        memory = _memory(x)
        y = None if memory is None else compute(memory, None)
        if y is None:
            return None
        some = y.item(0) if single else total(y[first], None)  # as in `_softmax.special`
        return apply(settled, x, y, some != some)

    return call


class Normalized(torch.autograd.Function):
    """softmax or log_softmax."""

    @staticmethod
    def forward(ctx: Any, settled: _Normalizing, x: Array, values: Array, special: bool) -> Array:
        """Hand the values out."""
        y = torch.from_numpy(values)
        ctx.settled = settled
        ctx.set_materialize_grads(False)
        if special:
            ctx.save_for_backward(y, x)
        else:
            ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Pull a cotangent back."""
        (plan, pull_back), (y, *given) = ctx.settled, ctx.saved_tensors
        if dy is not None and not given and bare(dy):
            values, cotangent = _memory(y), _memory(dy)
            dx = None if values is None or cotangent is None else pull_back(values, cotangent)
            if dx is not None:
                return None, torch.from_numpy(dx), None, None
        saved = (y, given[0] if given else None, None, None, None)
        dx, *_ = softmax.gradients(plan, plan.op, dy, saved, (True, False, False, False), y.dtype)
        return None, dx, None, None


class _Reducing(NamedTuple):
    plan: Plan
    probabilities: Prepared


def _prepare_reducing(plan: Plan, x: Array, *options: Any) -> Prepared | None:
    softmax = dataclasses.replace(plan, op="softmax", empty="zero", keepdims=False)
    compute, probabilities = (
        prepared.prepare(plan, (x, *options)),
        prepared.prepare(softmax, (x, None, None, None, None)),
    )
    if compute is None or probabilities is None:
        return None
    settled, apply = _Reducing(plan, probabilities), _applied(Reduced)

    def call(x: Array, _out: None) -> Any:
        memory = _memory(x)
        values = None if memory is None else compute(memory, None)
        return None if values is None else apply(settled, x, values)

    return call


class Reduced(torch.autograd.Function):
    """logsumexp."""

    @staticmethod
    def forward(ctx: Any, settled: _Reducing, x: Array, values: Array) -> Array:
        """Hand the values out."""
        ctx.settled = settled
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return torch.from_numpy(values)

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Weigh the probabilities, as `_softmax.weighed` does."""
        (plan, probabilities), (x,) = ctx.settled, ctx.saved_tensors
        if dy is None:
            return None, None, None
        memory = _memory(x) if bare(dy) else None
        p = None if memory is None else probabilities(memory, None)
        if p is None:
            return None, softmax.weighed(plan, dy, x, None), None
        dx = torch.from_numpy(p).mul_(dy.reshape(plan.layout.column))
        return None, torch.where(x == -torch.inf, 0.0, dx) if softmax.special(plan, dx, None) else dx, None


class _Lossy(NamedTuple):
    plan: Plan
    options: tuple[Any, ...]


def _prepare_loss(plan: Plan, logits: Array, targets: Array, *options: Any) -> Prepared | None:
    compute = prepared.prepare(dataclasses.replace(plan, op=cross_entropy.VALUE_AND_GRAD), (logits, targets, *options))
    if compute is None:
        return None
    settled, apply = _Lossy(plan, options), _applied(Loss)

    def call(logits: Array, targets: Array) -> Any:
        memory, labels = _memory(logits), _memory(targets)
        found = None if memory is None or labels is None else compute(memory, labels)
        return None if found is None else apply(settled, logits, targets, *found)

    return call


class Loss(torch.autograd.Function):
    """cross_entropy, whose gradient is there before the backward pass."""

    @staticmethod
    def forward(ctx: Any, settled: _Lossy, logits: Array, targets: Array, loss: Array, dlogits: Array) -> Array:
        """Hand the loss out, and keep the gradient."""
        ctx.settled, ctx.spent = settled, False
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, targets, torch.from_numpy(dlogits))
        return torch.from_numpy(loss)

    @staticmethod
    def backward(ctx: Any, dloss: Array) -> tuple[Any, ...]:
        """Scale the gradient that is there, in its memory, as `_loss.Loss` does; once."""
        (plan, options), (*operands, dlogits) = ctx.settled, ctx.saved_tensors
        if dloss is None or ctx.spent or not bare(dloss):
            dlogits = None
        else:
            dlogits, ctx.spent = dlogits.data, True
            if plan.reduction != "none":
                factor = dloss.item()
                return None, dlogits if factor == 1.0 else dlogits.mul_(factor), None, None, None
        wanted = (True,) + (False,) * (1 + len(options))
        dx, *_ = cross_entropy.gradients(plan, (*operands, *options), wanted, (dloss, None, None, None), dlogits)
        return None, dx, None, None, None


def _applied(function: Any) -> Any:
    """Return what applies a function; PyTorch's own way there binds arguments to the signature, for 20 us."""
    return super(torch.autograd.Function, function).apply


def _memory(x: Array) -> Any:
    """Return the memory of a tensor, recorded or not; None where it is elsewhere or not strided."""
    if not x.is_cpu:
        return None
    try:
        return x.numpy(force=True)
    except (RuntimeError, TypeError):
        return None


_PREPARE: dict[str, Callable[..., Prepared | None]] = {
    "softmax": _prepare_normalizing,
    "log_softmax": _prepare_normalizing,
    "logsumexp": _prepare_reducing,
    "cross_entropy": _prepare_loss,
}
