"""Calls that autograd records: what is saved for the backward pass, and derivatives by the formulas."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from logitx._plan import Array
from logitx.backends.torch.state import in_transform, is_functorch_tensor, set_forward_mode, transforms_active

_SAVED = object()  # placeholder for a tensor that `ctx.save_for_backward` keeps


def apply(function: Any, *arguments: Any) -> Any:
    """Call an autograd function."""
    if transforms_active():
        return function.apply(*arguments)
    # `Function.apply` binds the arguments to the signature on every call, to fill in defaults: 20 us. There are none.
    return super(torch.autograd.Function, function).apply(*arguments)


def keep(ctx: Any, *values: Any) -> None:
    """Save tensors and numbers for the backward pass, which gets them from `kept`."""
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    ctx.others = [_SAVED if isinstance(value, torch.Tensor) else value for value in values]
    ctx.save_for_backward(*tensors)
    if in_transform() or any(map(is_functorch_tensor, tensors)):
        ctx.save_for_forward(*tensors)


def kept(ctx: Any) -> tuple[Any, ...]:
    """Return what `keep` saved."""
    tensors = iter(ctx.saved_tensors)
    return tuple([next(tensors) if value is _SAVED else value for value in ctx.others])


@contextlib.contextmanager
def pushing(ctx: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the saved values to a `jvp` with forward mode on: PyTorch turns it off, and nested tangents would be 0."""
    unpack = torch.autograd.forward_ad.unpack_dual
    with set_forward_mode(True):
        yield tuple(unpack(value).primal if isinstance(value, torch.Tensor) else value for value in kept(ctx))


def _alias(x: Any, wanted: bool, again: bool) -> Any:
    """Detach operand `x`, so that its derivative does not also flow through other operands computed from it."""
    if not isinstance(x, torch.Tensor):
        return x
    return x.view_as(x) if again else x.detach().requires_grad_(wanted)


def differentiate_formulas(
    function: Callable[..., tuple[Array, ...]],
    operands: tuple[Any, ...],
    wanted: tuple[bool, ...],
    cotangents: tuple[Array, ...],
) -> list[Array]:
    """Return the gradients of `function` by the operands wanted; they are recorded if the backward pass is."""
    again = torch.is_grad_enabled()
    results: list[Array] = [None] * len(operands)
    with torch.enable_grad():
        inputs = tuple(_alias(one, want, again) for one, want in zip(operands, wanted, strict=True))
        pairs = [
            (value, cotangent)
            for value, cotangent in zip(function(*inputs), cotangents, strict=False)
            if cotangent is not None and value is not None and value.requires_grad
        ]
        chosen = [i for i, want in enumerate(wanted) if want]
        if pairs and chosen:
            values, given = zip(*pairs, strict=True)
            found = torch.autograd.grad(
                values, [inputs[i] for i in chosen], given, create_graph=again, allow_unused=True
            )
            for i, gradient in zip(chosen, found, strict=True):
                results[i] = gradient
    return results
