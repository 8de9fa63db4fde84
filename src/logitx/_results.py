"""Results: what a backend returns, in the shape and type of the input and with labels put back.

A row of `_operations` names the kind of each output of a backend's method. The kind decides the shape, what a 0-d
result becomes, and which labels it gets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import Family
from logitx._arrays.folding import unfold_axes
from logitx._labelled.table import ArrayLabels
from logitx._plan import Array, LossParts, Plan

Kind = Callable[[Family, Plan, ArrayLabels | None, Array], Array]


def logits_like(family: Family, plan: Plan, labels: ArrayLabels | None, x: Array) -> Array:
    """Give back an output of the shape of the logits."""
    x = unfold_axes(family, x, plan.layout)
    x = family.scalar(x) if plan.scalar else x
    return x if labels is None else labels.full(x)


def elementwise(family: Family, plan: Plan, labels: ArrayLabels | None, x: Array) -> Array:
    """Give back an output of the shape of an input without class axes."""
    x = family.scalar(x) if x.ndim == 0 else x
    return x if labels is None else labels.full(x)


def product(family: Family, plan: Plan, labels: ArrayLabels | None, x: Array) -> Array:
    """Give back a matrix product, whose shape is that of no argument."""
    return family.scalar(x) if x.ndim == 0 else x


def row_reduction(family: Family, plan: Plan, labels: ArrayLabels | None, x: Array) -> Array:
    """Give back one number a row, with class axes of length 1 where the user asked for them."""
    if not family.as_given:
        x = family.namespace(x).reshape(x, plan.layout.kept if plan.keepdims else plan.layout.rows)
    return row_number(family, plan, labels, x)


def row_number(family: Family, plan: Plan, labels: ArrayLabels | None, x: Array) -> Array:
    """Give back one number a row, in the shape of the rows."""
    x = family.scalar(x) if x.ndim == 0 else x
    return x if labels is None else labels.rows(x, plan.layout, plan.keepdims)


def reduced_loss(family: Family, plan: Plan, labels: ArrayLabels | None, x: Array) -> Array:
    """Give back a loss: one number a row, or one number for all rows."""
    if plan.reduction == "none":
        return row_number(family, plan, labels, x)
    x = family.scalar(x) if x.ndim == 0 else x
    return x if labels is None else labels.total(x)


def segment_number(family: Family, plan: Plan, labels: ArrayLabels | None, x: Array) -> Array:
    """Give back one number a segment, along the axis on which the entries of the segments lie."""
    return x if labels is None else labels.segments(x, plan.layout)


def segment_loss(family: Family, plan: Plan, labels: ArrayLabels | None, x: Array) -> Array:
    """Give back a loss: one number a segment, or one number for all segments."""
    kind = segment_number if plan.reduction == "none" else reduced_loss
    return kind(family, plan, labels, x)


def layer_gradient(place: int) -> Kind:
    """Return the kind of the gradient by hidden (0), weight (1) or bias (2) of a linear layer."""

    def gradient(family: Family, plan: Plan, labels: ArrayLabels | None, x: Array) -> Array:
        own = None if labels is None else (labels, *labels.factors)[place]
        return x if own is None else own.full(x)

    return gradient


# -- how values become what the user gets -----------------------------------------------------------------------------


def single(plan: Plan, values: tuple[Array, ...]) -> Any:
    """Return the one value."""
    return values[0]


def pair(plan: Plan, values: tuple[Array, ...]) -> Any:
    """Return both values."""
    return values


def value_and_sign(plan: Plan, values: tuple[Array, ...]) -> Any:
    """Return the value, with the sign where the user asked for it."""
    return values if plan.return_sign else values[0]


def loss_and_parts(plan: Plan, values: tuple[Array, ...]) -> Any:
    """Return the loss, with the named tuple of its parts where the user asked for it."""
    loss, *parts = values
    return (loss, LossParts(*parts)) if plan.return_parts else loss


def loss_gradient_and_parts(plan: Plan, values: tuple[Array, ...]) -> Any:
    """Return (loss, gradient), with the named tuple of the parts of the loss where the user asked for it."""
    loss, gradient, *parts = values
    return (loss, gradient, LossParts(*parts)) if plan.return_parts else (loss, gradient)


def loss_and_gradients(plan: Plan, values: tuple[Array, ...]) -> Any:
    """Return (loss, gradients)."""
    return values[0], values[1:]


def finished(kinds: tuple[Kind, ...], plan: Plan, outputs: Any, labels: ArrayLabels | None) -> tuple[Array, ...]:
    """Return each output as its kind says; None where the backend returned None."""
    family = FAMILIES[plan.family]
    given = outputs if len(kinds) > 1 else (outputs,)
    return tuple([None if x is None else kind(family, plan, labels, x) for kind, x in zip(kinds, given, strict=True)])
