"""What PyTorch is doing around a call, and who computes amid it: the kernels, an operator or the formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from logitx._plan import Array, Plan
from logitx.backends import generic, numba

_TENSORS = (torch.Tensor, torch.nn.Parameter)
OPERATORS: dict[str, Callable[..., Any]] = {}  # what stands for an operation in a graph, filled by `_operators`


def transformed() -> bool:
    """Tell whether torch.func or forward-mode differentiation is at work."""
    return bool(torch._C._are_functorch_transforms_active()) or torch.autograd.forward_ad._current_level >= 0


def tracing() -> bool:
    """Tell whether operations are recorded, or run on tensors without data: torch.compile, torch.export, any mode."""
    return bool(torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0)


def differentiated(x: Any) -> bool:
    """Tell whether a derivative by this operand may be asked for."""
    if not isinstance(x, torch.Tensor) or not x.dtype.is_floating_point:
        return False
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        if torch._C._functorch.is_gradtrackingtensor(x):
            return True
        x = torch._C._functorch.get_unwrapped(x)
    if x.requires_grad and torch.is_grad_enabled():
        return True
    return (
        torch.autograd.forward_ad._current_level >= 0 and torch.autograd.forward_ad.unpack_dual(x).tangent is not None
    )


def watched(x: Array) -> bool:
    """Tell whether a tensor is a stand-in of torch.func, or of vmap as autograd still uses it inside."""
    functorch = torch._C._functorch
    return bool(functorch.is_functorch_wrapped_tensor(x) or functorch.is_legacy_batchedtensor(x))


def plain(x: Any) -> bool:
    """Tell whether an operand has no behavior of its own: a tensor, or what stands for one while PyTorch traces."""
    return not isinstance(x, torch.Tensor) or type(x) in _TENSORS or isinstance(x, (FakeTensor, FunctionalTensor))


def replaceable(operands: tuple[Any, ...]) -> bool:
    """Tell whether an operator can stand for a call: all tensors are on the CPU, and none of them torch.func's."""
    return all(x.device.type == "cpu" and not watched(x) for x in operands if isinstance(x, torch.Tensor))


def run(op: str, plan: Plan, *operands: Any) -> Any:
    """Compute on tensors that hold data: by the kernels where they can, else by the formulas."""
    backend = numba if numba.accepts(plan, operands) is None else generic
    return getattr(backend, op)(plan, *operands)


def compute(op: str, plan: Plan, *operands: Any) -> Any:
    """Compute, and while PyTorch traces leave an operator in the graph for what the kernels can do."""
    if tracing() and op in OPERATORS and replaceable(operands):
        return OPERATORS[op](plan, *operands)
    return run(op, plan, *operands)


# -- between the passes of a function ---------------------------------------------------------------------------------
