"""PyTorch tensors that are differentiated, transformed or traced: derivatives and operators around the kernels.

Three ways lead through here. Eager calls run a function with a derivative of its own (`_softmax`, `_loss`), on the
tensors' own memory; under torch.func and forward-mode differentiation so do calls that are differentiated by the
logits; where torch.compile or torch.export trace tensors on the CPU, an operator is left in the graph (`_operators`).
"""

from __future__ import annotations

from typing import Any

import torch

from logitx._plan import Array, Plan, Scalar
from logitx.backends.torch import cross_entropy as _loss
from logitx.backends.torch import linear
from logitx.backends.torch import softmax as _softmax
from logitx.backends.torch.autograd import apply
from logitx.backends.torch.operators import OPERATORS
from logitx.backends.torch.prepared import prepare
from logitx.backends.torch.state import differentiated, plain, replaceable, tracing, transformed

__all__ = ["prepare"]

DECLINES = {"merge_logsumexp": "differentiated by way of the formulas"}
_GRADIENTS = ("cross_entropy_grad_hess", "softmax_vjp", "log_softmax_vjp")  # operators alone
_BY_LOGITS = ("softmax", "log_softmax", "logsumexp", "cross_entropy")
_PARTS = "derivatives of the parts of a loss and of its gradient are taken by way of the formulas"


def accepts(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return None where there is something to add to the kernels or the formulas, else the reason why not."""
    if plan.op in DECLINES:
        return DECLINES[plan.op]
    if not all(map(plain, operands)):
        return "a tensor is of a class of its own: the formulas run on any"
    if torch.jit.is_tracing():
        return "torch.jit records PyTorch's own operations"
    if plan.op in (linear.LOSS, linear.VALUE_AND_GRAD):
        return linear.declined(plan, operands)
    if plan.layout.n == 0:
        return "there are no classes"
    if plan.op == "logsumexp" and operands[1] is not None:
        return "b: its sums are differentiated by way of the formulas"
    by_logits, by_others = differentiated(operands[0]), any(map(differentiated, operands[1:]))
    if plan.op in _GRADIENTS and (by_logits or by_others):
        return "gradients are differentiated by way of the formulas"
    if not _in_graph(operands):
        if not (by_logits or by_others):
            return "no tensor requires grad"
        if not (tracing() or transformed()):
            return None
    if by_others:
        return "derivatives by other operands than the logits are taken by way of the formulas"
    return _PARTS if by_logits and (plan.op not in _BY_LOGITS or plan.return_parts) else None


def _in_graph(operands: tuple[Any, ...]) -> bool:
    """Tell whether an operator is to stand for the call in a graph."""
    return tracing() and not transformed() and replaceable(operands)


def softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """exp(x - max) / sum of exp(x - max)."""
    return _normalized(plan, x, where, temperature, softcap)


def log_softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """(x - max) - log(sum of exp(x - max))."""
    return _normalized(plan, x, where, temperature, softcap)


def _normalized(plan: Plan, *operands: Any) -> Array:
    if _in_graph(operands):
        return OPERATORS[plan.op](plan, *operands, None)
    return apply(_softmax.Normalized, plan, plan.op, *operands)


def logsumexp(plan: Plan, x: Array, b: Array, where: Array) -> tuple[Array, Array]:
    """max + log(sum of exp(x - max)), and the sign of the sum."""
    if _in_graph((x, where)):
        value = OPERATORS["logsumexp"](plan, x, b, where)
    else:
        value = apply(_softmax.LogSumExp, plan, x, where)
    if not plan.return_sign:
        return value, None
    sign = torch.where(value == -torch.inf, 0.0, torch.where(torch.isnan(value), torch.nan, 1.0))
    return value, sign.to(value.dtype)


def cross_entropy(
    plan: Plan,
    logits: Array,
    targets: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
    where: Array,
) -> tuple[Array, Array, Array]:
    """s [sum of class_weight q ((max - x) + log(sum)) + z_loss c logZ^2], reduced."""
    given = (
        logits, targets, class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature, where
    )  # fmt: skip
    if _in_graph(given):
        if differentiated(given[0]) and not torch.compiler.is_exporting():
            # Once for both passes; what is exported is more often run than trained
            loss, _, *parts = OPERATORS[_loss.VALUE_AND_GRAD](_loss.unscaled(plan), *given)
        else:
            loss, *parts = OPERATORS["cross_entropy"](plan, *given)
    elif transformed():
        loss, *parts = apply(_loss.TransformedLoss, plan, *given), None, None
    else:
        loss, _, *parts = apply(_loss.Loss, plan, *given)
    z_part, log_normalizer = parts
    return (loss, z_part, log_normalizer) if plan.return_parts else (loss, None, None)


def cross_entropy_value_and_grad(
    plan: Plan,
    logits: Array,
    targets: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
    where: Array,
) -> tuple[Array, Array, Array, Array]:
    """The loss, and s [p (A - wq) - wq (1 - p) + 2 z_loss c logZ p] du/dx with A = sum of wq."""
    given = (
        logits, targets, class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature, where
    )  # fmt: skip
    if _in_graph(given):
        loss, dlogits, *parts = OPERATORS[plan.op](plan, *given)
    else:
        loss, dlogits, *parts = apply(_loss.Loss, plan, *given)
    z_part, log_normalizer = parts
    return (loss, dlogits, z_part, log_normalizer) if plan.return_parts else (loss, dlogits, None, None)


def cross_entropy_grad_hess(
    plan: Plan, logits: Array, targets: Array, class_weight: Array, sample_weight: Array
) -> tuple[Array, Array]:
    """s [p (A - wt) - wt (1 - p)] and s A p (1 - p), with A = sum of wt; only in a graph."""
    gradient, hessian = OPERATORS["cross_entropy_grad_hess"](plan, logits, targets, class_weight, sample_weight)
    return gradient, hessian


def linear_cross_entropy(
    plan: Plan,
    hidden: Array,
    weight: Array,
    targets: Array,
    bias: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
) -> Array:
    """The cross-entropy of hidden @ weight.T + bias."""
    given = (
        hidden, weight, targets, bias, class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature
    )  # fmt: skip
    if not _in_graph(given):
        return apply(linear.LinearLoss, plan, *given)
    trained = any(map(differentiated, (hidden, weight, bias)))
    if trained and plan.reduction != "none" and not torch.compiler.is_exporting():
        return OPERATORS[linear.VALUE_AND_GRAD](linear.unscaled(plan), *given)[0]
    return OPERATORS[linear.LOSS](plan, *given)


def linear_cross_entropy_value_and_grad(
    plan: Plan,
    hidden: Array,
    weight: Array,
    targets: Array,
    bias: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
) -> tuple[Array, Array, Array, Array]:
    """The loss, and with g its gradient by the logits: g @ weight, g.T @ hidden, the sum of g; only in a graph."""
    loss, one, two, three = OPERATORS[linear.VALUE_AND_GRAD](
        plan, hidden, weight, targets, bias, class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature
    )
    return loss, one, two, None if bias is None else three


def softmax_vjp(plan: Plan, p: Array, dp: Array) -> Array:
    """p (dp - sum of p dp); only in a graph."""
    return OPERATORS["softmax_vjp"](plan, p, dp)


def log_softmax_vjp(plan: Plan, log_p: Array, dlog_p: Array) -> Array:
    """dlog_p - p sum of dlog_p; only in a graph."""
    return OPERATORS["log_softmax_vjp"](plan, log_p, dlog_p)
