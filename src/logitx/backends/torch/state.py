"""What PyTorch does around a call (transforms, traces, records), and what computes: kernels, operator or formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad

from logitx._options import nested
from logitx._plan import Array, Plan
from logitx.backends import generic, numba

# Private functions are looked up here: a release that lacks one fails this import, and the backend is given up
_modes, transforms_active = torch._C._len_torch_dispatch_stack, torch._C._are_functorch_transforms_active
_wraps, _wraps_gradient = torch._C._functorch.is_functorch_wrapped_tensor, torch._C._functorch.is_gradtrackingtensor
_unwrapped, _wraps_batch = torch._C._functorch.get_unwrapped, torch._C._functorch.is_legacy_batchedtensor
set_forward_mode = forward_ad._set_fwd_grad_enabled
_ = forward_ad._current_level  # read anew in each call

_TENSORS = (torch.Tensor, torch.nn.Parameter)
OPERATORS: dict[str, Callable[..., Any]] = {}  # operators that replace calls in a graph; filled by `operators`


def in_transform() -> bool:
    """True if a transform of torch.func or forward-mode differentiation is active."""
    return bool(transforms_active()) or forward_ad._current_level >= 0


def tracing() -> bool:
    """True if operations go into a graph or run on tensors without data: torch.compile, torch.export, any mode."""
    return bool(torch.compiler.is_compiling() or _modes() > 0)


def may_differentiate(x: Any) -> bool:
    """True if a derivative by operand `x` may be asked for."""
    if not isinstance(x, torch.Tensor) or not x.dtype.is_floating_point:
        return False
    while _wraps(x):
        if _wraps_gradient(x):
            return True
        x = _unwrapped(x)
    if x.requires_grad and torch.is_grad_enabled():
        return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None


def is_functorch_tensor(x: Array) -> bool:
    """True if `x` is a wrapper tensor of torch.func, or of the older vmap that autograd uses for batched gradients."""
    return bool(_wraps(x) or _wraps_batch(x))


def has_plain_class(x: Any) -> bool:
    """True unless operand `x` is a tensor of a user's subclass; PyTorch's own tensors for tracing are allowed."""
    return not isinstance(x, torch.Tensor) or type(x) in _TENSORS or isinstance(x, (FakeTensor, FunctionalTensor))


def replaceable(operands: tuple[Any, ...]) -> bool:
    """True if an operator can replace a call on `operands`: all tensors are on the CPU, none is a wrapper tensor."""
    return all(x.device.type == "cpu" and not is_functorch_tensor(x) for x in operands if isinstance(x, torch.Tensor))


def in_graph(operands: tuple[Any, ...]) -> bool:
    """True if an operator is to replace the call on `operands` in the graph that PyTorch traces."""
    return tracing() and not in_transform() and replaceable(operands)


def run_eagerly(op: str, plan: Plan, *operands: Any) -> Any:
    """Compute `op` on tensors that hold data: by the kernels if they accept the call, else by the formulas."""
    backend = numba if numba.accepts(plan, operands) is None else generic
    return getattr(backend, op)(plan, *nested(op, operands))


def compute(op: str, plan: Plan, *operands: Any) -> Any:
    """Compute `op`; while PyTorch traces, leave its operator in the graph if it has one for these operands."""
    if tracing() and op in OPERATORS and replaceable(operands):
        return OPERATORS[op](plan, *operands)
    return run_eagerly(op, plan, *operands)


# -- between the passes of a function ---------------------------------------------------------------------------------
