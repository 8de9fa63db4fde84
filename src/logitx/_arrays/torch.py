"""Hooks of prepared calls for tensors of PyTorch. Imported with the first tensor, so that `torch` is a plain import."""

from __future__ import annotations

from typing import Any

import torch

from logitx._arrays.torch_state import (
    dispatch_modes,
    forward,
    is_legacy_batched,
    is_wrapper,
    jit_trace,
    transforms_active,
)

_grad_enabled = torch.is_grad_enabled


def differentiated(x: Any) -> bool | None:
    """True if autograd records operations on `x`, False if not; None if a transform, a mode or a trace is active.

    With None, no prepared call may be used. Whether `x` is plain memory on the CPU is not checked: `memory` raises for
    any other tensor.
    """
    if transforms_active() or dispatch_modes() or forward._current_level >= 0 or jit_trace() is not None:
        return None
    return bool(x.requires_grad and _grad_enabled())


def bare(x: Any) -> bool:
    """True if a backward pass may hand the memory of cotangent `x` to a kernel: not recorded, not transformed."""
    recorded = x.requires_grad or _grad_enabled() or jit_trace() is not None
    transformed = is_legacy_batched(x) or transforms_active() or dispatch_modes() or forward._current_level >= 0
    return type(x) is torch.Tensor and not (recorded or transformed)


# `memory` returns the memory of a tensor as a NumPy array, or raises RuntimeError or TypeError; `tensor` inverts it.
# They are PyTorch's own functions: a wrapper around each would take a tenth of the time of a call on ten numbers.
memory = torch.Tensor.numpy
tensor = torch.from_numpy


def example(shape: tuple[int, ...], dtype: Any, differentiated: bool) -> Any:
    """Return a tensor of this shape and dtype, with any values, to prepare a call with."""
    return torch.empty(shape, dtype=dtype, device="cpu", requires_grad=differentiated)


def refusal(x: Any) -> str | None:
    """Return why tensor `x` is refused, for the message to the user, or None if it is dense."""
    if type(x).__name__ == "MaskedTensor":
        return "is a masked tensor; allowed are dense tensors, with `where` for the mask"
    if type(x).__name__ == "FakeTensor" and torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is None:
        return "is a fake tensor, outside of its mode; allowed are tensors with values, or a call within FakeTensorMode"
    if x.is_nested:
        return "is a nested tensor; allowed are dense tensors, as of torch.nested.to_padded_tensor with a mask"
    if x.layout is not torch.strided:
        return f"has the layout {x.layout}; allowed are dense tensors, as of to_dense()"
    if type(x) in (torch.Tensor, torch.nn.Parameter) and _has_lost_its_memory(x):
        return f"has {x.numel()} elements in a storage of 0 bytes; allowed are tensors whose storage holds them"
    return None


def _has_lost_its_memory(x: Any) -> bool:
    """True for what is left of a parameter that a sharded model has freed: NumPy would see elements at address 0."""
    wrapped = torch.compiler.is_compiling() or is_wrapper(x)
    return not wrapped and x.device.type == "cpu" and x.untyped_storage().nbytes() == 0 and x.numel() > 0


def written(x: Any) -> None:
    """Bump the version of tensor `x`, so that backward raises if autograd has saved it."""
    if not (torch.compiler.is_compiling() or x.is_inference()):
        torch.autograd.graph.increment_version(x)
