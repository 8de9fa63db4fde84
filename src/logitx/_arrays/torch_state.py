"""What private functions of PyTorch tell of a tensor, and of what is active around a call.

A release may lack one. Its answer is then taken to be the one for which PyTorch's own operations run, by the formulas:
a transform is active, a tensor is a wrapper.
"""

from __future__ import annotations

import contextlib
import types
from typing import Any

import torch
from torch.autograd import forward_ad

_C = torch._C
_functorch = getattr(_C, "_functorch", None)


def _always(*_: Any) -> bool:
    return True


transforms_active = getattr(_C, "_are_functorch_transforms_active", _always)  # of torch.func
dispatch_modes = getattr(_C, "_len_torch_dispatch_stack", _always)  # how many are active
jit_trace = getattr(_C, "_get_tracing_state", _always)  # of torch.jit, None if there is none
is_wrapper = getattr(_functorch, "is_functorch_wrapped_tensor", _always)  # of torch.func
is_legacy_batched = getattr(_functorch, "is_legacy_batchedtensor", _always)  # of the vmap for batched gradients
without_transforms = getattr(_C, "_DisableFuncTorch", contextlib.nullcontext)
# Its `_current_level` is -1 unless forward-mode differentiation is on
forward = forward_ad if hasattr(forward_ad, "_current_level") else types.SimpleNamespace(_current_level=0)
