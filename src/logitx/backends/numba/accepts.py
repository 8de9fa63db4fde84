"""Which calls this backend can serve: memory on the CPU that no framework watches."""

from __future__ import annotations

import sys
from typing import Any

from logitx._arrays.families import FAMILIES, torch_state
from logitx._arrays.family import FLOATS, LONG_DOUBLE
from logitx._options import flat
from logitx._plan import Plan

DECLINES = {
    "log_matmul": "there is no kernel: the formulas run",
    "segment_cross_entropy": "there is no kernel: the formulas run",
}


def accepts(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return None where the kernels can serve the call, else the reason why not."""
    if plan.op in DECLINES:
        return DECLINES[plan.op]
    if LONG_DOUBLE in (plan.dtype, plan.compute, plan.result, plan.loss) and LONG_DOUBLE not in FLOATS:
        return "long doubles are computed by the formulas"
    if plan.dtype.startswith("complex"):
        return "complex numbers are summed by the formulas"
    if plan.family == "numpy":
        return None
    if FAMILIES[plan.family].to_numpy is None:
        return f"arrays of {plan.family} are not NumPy arrays in memory"
    return _REFUSAL_OF[plan.family](plan, operands)


def _tensorflow_refusal(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return why a call on tensors of TensorFlow needs TensorFlow's own operations."""
    family = FAMILIES[plan.family]
    xp = family.namespace(operands[0])
    if not all(family.readable(one) for one in flat(operands) if hasattr(one, "dtype")):
        return "a tensor is not plain memory on the CPU"
    return "a tape is recording" if xp.recording() else None


def _torch_refusal(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return why a call on tensors of PyTorch needs PyTorch's own operations."""
    torch = sys.modules["torch"]
    if torch.compiler.is_compiling():
        return "PyTorch is tracing"
    state = torch_state()
    if state.dispatch_modes() > 0 or torch.jit.is_tracing():
        return "PyTorch is tracing"
    if state.forward._current_level >= 0:
        return "forward-mode differentiation is on"
    recording = torch.is_grad_enabled()
    readable = FAMILIES[plan.family].readable
    for operand in flat(operands):
        if not isinstance(operand, torch.Tensor):
            continue
        if recording and operand.requires_grad:
            return "a tensor requires grad"
        if not readable(operand):
            return "a tensor is not plain memory on the CPU"
        if operand.layout is not torch.strided or operand.is_neg():
            return "a tensor is not strided memory"
    return None


_REFUSAL_OF = {"torch": _torch_refusal, "tensorflow": _tensorflow_refusal}
