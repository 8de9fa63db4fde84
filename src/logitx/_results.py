"""Results: outputs of a backend in the shape and type of the input, with labels put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logitx._arrays.family import Family
from logitx._arrays.folding import unfold
from logitx._labelled.table import Labels
from logitx._plan import Array, LossParts, Plan


def dress(labels: Labels, plan: Plan, result: Any) -> Any:
    """Put labels back on what a function returns."""
    lay = plan.layout

    def rows(one: Array) -> Array:
        return labels.rows(one, lay, plan.keepdims)

    def loss(one: Array) -> Array:
        return rows(one) if plan.reduction == "none" else labels.total(one)

    if plan.op == "logsumexp":
        return tuple(map(rows, result)) if plan.return_sign else rows(result)
    if plan.op == "cross_entropy_grad_hess":
        return tuple(map(labels.full, result))
    if plan.op == "linear_cross_entropy":
        return loss(result)
    if plan.op == "linear_cross_entropy_value_and_grad":
        return loss(result[0]), _gradients(result[1], labels)
    if not plan.op.startswith("cross_entropy"):
        return labels.full(result)
    if plan.return_parts:
        *values, parts = result
        parts = type(parts)(loss(parts.z_loss), rows(parts.log_normalizer))
        return (*_losses(values, loss, labels), parts)
    dressed = _losses(result if isinstance(result, tuple) else (result,), loss, labels)
    return dressed if isinstance(result, tuple) else dressed[0]


def _gradients(values: tuple[Array, ...], labels: Labels) -> tuple[Array, ...]:
    """Label the gradients by what goes into a linear layer, by its weights and its bias."""
    pairs = zip((labels, *labels.factors), values, strict=True)
    return tuple(one if mine is None or one is None else mine.full(one) for mine, one in pairs)


def _losses(values: Any, loss: Callable[[Array], Array], labels: Labels) -> tuple[Array, ...]:
    value, *gradient = values
    return (loss(value), *map(labels.full, gradient))


def _full(family: Family, plan: Plan, x: Array) -> Array:
    x = unfold(family, x, plan.layout)
    return family.scalar(x) if plan.scalar else x


def _fulls(family: Family, plan: Plan, result: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(_full(family, plan, x) for x in result)


def _small(family: Family, x: Array) -> Array:
    return family.scalar(x) if x.ndim == 0 else x


def _normalizer(family: Family, plan: Plan, result: tuple[Array, Array]) -> Any:
    shape = plan.layout.kept if plan.keepdims else plan.layout.rows
    xp = family.namespace(result[0])
    shaped = (x if family.as_given else xp.reshape(x, shape) for x in result if x is not None)
    value, *sign = (_small(family, x) for x in shaped)
    return (value, sign[0]) if plan.return_sign else value


def _loss(family: Family, plan: Plan, result: tuple[Array, Array, Array]) -> Any:
    loss, *parts = (None if x is None else _small(family, x) for x in result)
    return (loss, LossParts(*parts)) if plan.return_parts else loss


def _loss_and_grad(family: Family, plan: Plan, result: tuple[Array, Array, Array, Array]) -> Any:
    loss, dlogits, *parts = result
    dlogits = _full(family, plan, dlogits)
    loss, *small = (None if x is None else _small(family, x) for x in (loss, *parts))
    return (loss, dlogits, LossParts(*small)) if plan.return_parts else (loss, dlogits)


def _linear_loss(family: Family, plan: Plan, loss: Array) -> Array:
    return _small(family, loss)


def _linear_loss_and_grad(family: Family, plan: Plan, result: tuple[Array, ...]) -> Any:
    loss, *gradients = result
    return _small(family, loss), tuple(gradients)


def _merged(family: Family, plan: Plan, x: Array) -> Array:
    return _small(family, x)


WRAP: dict[str, Any] = {
    "softmax": _full,
    "log_softmax": _full,
    "logsumexp": _normalizer,
    "cross_entropy": _loss,
    "cross_entropy_value_and_grad": _loss_and_grad,
    "cross_entropy_grad_hess": _fulls,
    "linear_cross_entropy": _linear_loss,
    "linear_cross_entropy_value_and_grad": _linear_loss_and_grad,
    "softmax_vjp": _full,
    "log_softmax_vjp": _full,
    "merge_logsumexp": _merged,
}
