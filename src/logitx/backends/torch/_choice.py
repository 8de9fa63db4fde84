"""What PyTorch is doing around a call, and who computes amid it: the kernels, an operator or the formulas."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
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

_SAVED = object()  # stands where PyTorch keeps a tensor


def apply(function: Any, *arguments: Any) -> Any:
    """Call a function with derivatives of its own."""
    if torch._C._are_functorch_transforms_active():
        return function.apply(*arguments)
    # PyTorch binds the arguments to the signature on every call, for defaults that there are none of: 20 us.
    return super(torch.autograd.Function, function).apply(*arguments)


def keep(ctx: Any, *values: Any) -> None:
    """Save tensors and numbers for the backward pass."""
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    ctx.others = [_SAVED if isinstance(value, torch.Tensor) else value for value in values]
    ctx.save_for_backward(*tensors)
    if transformed() or any(map(watched, tensors)):
        ctx.save_for_forward(*tensors)


def kept(ctx: Any) -> tuple[Any, ...]:
    """Return what `keep` saved."""
    tensors = iter(ctx.saved_tensors)
    return tuple([next(tensors) if value is _SAVED else value for value in ctx.others])


@contextlib.contextmanager
def pushing(ctx: Any) -> Iterator[tuple[Any, ...]]:
    """Compute a tangent so that forward-mode differentiation outside of this one sees it; PyTorch lets that be zero."""
    unpack = torch.autograd.forward_ad.unpack_dual
    with torch.autograd.forward_ad._set_fwd_grad_enabled(True):
        yield tuple(unpack(value).primal if isinstance(value, torch.Tensor) else value for value in kept(ctx))


def _alias(x: Any, wanted: bool, again: bool) -> Any:
    """Return an operand as one of its own: a derivative by it is not to run through others that depend on it."""
    if not isinstance(x, torch.Tensor):
        return x
    return x.view_as(x) if again else x.detach().requires_grad_(wanted)


def by_formulas(
    function: Callable[..., tuple[Array, ...]],
    operands: tuple[Any, ...],
    wanted: tuple[bool, ...],
    cotangents: tuple[Array, ...],
) -> list[Array]:
    """Differentiate formulas by the operands wanted; differentiable again where the backward pass must be."""
    again = torch.is_grad_enabled()
    results: list[Array] = [None] * len(operands)
    with torch.enable_grad():
        inputs = tuple(_alias(one, want, again) for one, want in zip(operands, wanted, strict=True))
        pairs = [
            (value, cotangent)
            for value, cotangent in zip(function(*inputs), cotangents, strict=True)
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
