"""Tensors of PyTorch as the memory they are. Imported with the first tensor, so that nothing here looks PyTorch up."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad

_transformed = torch._C._are_functorch_transforms_active
_modes = torch._C._len_torch_dispatch_stack
_recorded = torch._C._get_tracing_state


def bare(x: Any) -> bool:
    """Tell whether a tensor is but the memory it holds: nothing transforms, traces or records what is done to it.

    Whether it is plain memory on the CPU is not asked: any other refuses ``numpy()``.
    """
    recorded = x.requires_grad or _transformed() or _modes() or forward_ad._current_level >= 0
    return not recorded and _recorded() is None


def memory(x: Any) -> Any:
    """Return the memory of a tensor as a NumPy array; raise RuntimeError or TypeError where it is more than that."""
    return x.numpy()


def example(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return any tensor of a shape and dtype."""
    return torch.empty(shape, dtype=dtype, device="cpu")
