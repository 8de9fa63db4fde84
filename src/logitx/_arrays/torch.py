"""Tensors of PyTorch as the memory they are. Imported with the first tensor, so that nothing here looks PyTorch up."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad

_transformed = torch._C._are_functorch_transforms_active
_modes = torch._C._len_torch_dispatch_stack
_traced = torch._C._get_tracing_state
_recording = torch.is_grad_enabled
_batched = torch._C._functorch.is_legacy_batchedtensor


def differentiated(x: Any) -> bool | None:
    """Tell whether what is done to a tensor is recorded for a derivative; None where more goes on than that.

    If not, nothing transforms, traces or records it: it is but the memory it holds. Whether this is plain memory on the
    CPU is not asked: any other refuses ``numpy()``.
    """
    if _transformed() or _modes() or forward_ad._current_level >= 0 or _traced() is not None:
        return None
    return bool(x.requires_grad and _recording())


def bare(x: Any) -> bool:
    """Tell whether a tensor that a backward pass gets is but the memory it holds, and this pass is not recorded."""
    recorded = x.requires_grad or _recording() or _traced() is not None
    transformed = _batched(x) or _transformed() or _modes() or forward_ad._current_level >= 0
    return type(x) is torch.Tensor and not (recorded or transformed)


# The memory of a tensor as a NumPy array, or RuntimeError or TypeError where it is more than that; and the way back. As
# PyTorch has them: a function around each would take a tenth of the time of a call of ten numbers
memory = torch.Tensor.numpy
tensor = torch.from_numpy


def example(shape: tuple[int, ...], dtype: Any, differentiated: bool) -> Any:
    """Return any tensor of a shape and dtype."""
    return torch.empty(shape, dtype=dtype, device="cpu", requires_grad=differentiated)


def refusal(x: Any) -> str | None:
    """Return what a tensor is that none here may be, and what may be instead; None for dense ones."""
    if type(x).__name__ == "MaskedTensor":
        return "is a masked tensor; allowed are dense tensors, with `where` for the mask"
    if x.is_nested:
        return "is a nested tensor; allowed are dense tensors, as of torch.nested.to_padded_tensor with a mask"
    if x.layout is not torch.strided:
        return f"has the layout {x.layout}; allowed are dense tensors, as of to_dense()"
    return None


def written(x: Any) -> None:
    """Let autograd see that what it may have kept is no longer what it was."""
    if not (torch.compiler.is_compiling() or x.is_inference()):
        torch.autograd.graph.increment_version(x)
