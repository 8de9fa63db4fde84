"""Which calls this backend serves: those to which it adds derivatives or an operator in a graph."""

from __future__ import annotations

from typing import Any

import torch

from logitx._options import flat
from logitx._plan import Plan
from logitx.backends.torch import binary
from logitx.backends.torch.linear import LAYER_LOSS, LAYER_LOSS_AND_GRADIENTS, declined
from logitx.backends.torch.state import has_plain_class, in_graph, in_transform, may_differentiate, tracing

_GRADIENTS = ("cross_entropy_grad_hess", "softmax_vjp", "log_softmax_vjp")  # only as operators in a graph
_BY_LOGITS = ("softmax", "log_softmax", "logsumexp", "cross_entropy", "selected_log_softmax")
# Not as operators in a graph, nor under a transform
_EAGER = ("entropy", "kl_divergence", "js_divergence", "softmax_mean")
# How many operands, if not one, have derivatives by the kernels
_BY_KERNELS = {"logsumexp": 4, "kl_divergence": 2, "js_divergence": 2, "softmax_mean": 2}
_PARTS = "derivatives of the parts of a loss and of its gradient are taken by way of the formulas"
DECLINES = {
    "merge_logsumexp": "differentiated by way of the formulas",
    "focal_loss": "differentiated by way of the formulas",
    "focal_loss_value_and_grad": "differentiated by way of the formulas",
    "sigmoid": "differentiated by way of the formulas",
    "log_sigmoid": "differentiated by way of the formulas",
    "binary_cross_entropy_value_and_grad": "differentiated by way of the formulas",
    "binary_cross_entropy_grad_hess": "differentiated by way of the formulas",
    "log_matmul": "differentiated by way of the formulas",
    "logcumsumexp": "differentiated by way of the formulas",
    "segment_cross_entropy": "differentiated by way of the formulas",
}


def accepts(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return None if this backend adds something to the kernels or the formulas, else the reason why not."""
    operands = flat(operands)
    if plan.op in DECLINES:
        return DECLINES[plan.op]
    if plan.dtype.startswith("complex"):
        return "complex numbers are summed by the formulas"
    if not all(map(has_plain_class, operands)):
        return "a tensor is of a class of its own: the formulas run on any"
    if torch.jit.is_tracing():
        return "torch.jit records PyTorch's own operations"
    if plan.op in (LAYER_LOSS, LAYER_LOSS_AND_GRADIENTS):
        return declined(plan, operands)
    if plan.op == "binary_cross_entropy":
        return binary.declined(plan, operands)
    if plan.layout.n == 0:
        return "there are no classes"
    by_logits, by_others = may_differentiate(operands[0]), any(map(may_differentiate, operands[1:]))
    if plan.op == "logsumexp" and operands[1] is not None and (tracing() or in_transform()):
        return "b: its sums are traced and transformed by way of the formulas"
    if plan.op == "logsumexp" and by_others:  # by log_b, which is added to the logits, or by b
        by_logits, by_others = True, False
    if plan.op.startswith("segment"):
        plain = by_logits and not (by_others or tracing() or in_transform())
        return None if plain else "without a plain derivative by the logits, segments are left to kernels or formulas"
    if plan.op in _GRADIENTS and (by_logits or by_others):
        return "gradients are differentiated by way of the formulas"
    if plan.op in _EAGER and (tracing() or in_transform()):
        return "traced and transformed by way of the formulas"
    if not in_graph(operands):
        if not (by_logits or by_others):
            return "no tensor requires grad"
        if not (tracing() or in_transform()):
            return None
    if by_others:
        return "derivatives by other operands than the logits are taken by way of the formulas"
    return _PARTS if by_logits and (plan.op not in _BY_LOGITS or plan.return_parts) else None


def explain(plan: Plan, operands: tuple[Any, ...]) -> str:
    """Say what runs: the kernels, and for which derivatives the formulas."""
    others = any(map(may_differentiate, flat(operands)[_BY_KERNELS.get(plan.op, 1) :]))
    formulas = "; derivatives by other operands than the first are taken by way of the formulas" if others else ""
    return f"derivatives and operators of PyTorch around the kernels{formulas}"
