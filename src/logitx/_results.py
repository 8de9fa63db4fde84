"""Results: what a backend returns, in the shape and type of the input and with labels put back.

A row of `_operations` names the kind of each output of a backend's method. The kind decides the shape, what a 0-d
result becomes, and which labels it gets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import Family
from logitx._arrays.folding import unfold_axes
from logitx._labelled.table import ArrayLabels
from logitx._plan import Array, LossParts, Plan


class Context(NamedTuple):
    """What a kind needs beside the output."""

    family: Family
    plan: Plan
    labels: ArrayLabels | None

    def small(self, x: Array) -> Array:
        """Return a 0-d result as the family returns it from a reduction."""
        return self.family.scalar(x) if x.ndim == 0 else x

    def of_rows(self, x: Array) -> Array:
        """Label one number a row."""
        return x if self.labels is None else self.labels.rows(x, self.plan.layout, self.plan.keepdims)


Kind = Callable[[Context, Array], Array]


def logits_like(context: Context, x: Array) -> Array:
    """Give back an output of the shape of the logits."""
    x = unfold_axes(context.family, x, context.plan.layout)
    x = context.family.scalar(x) if context.plan.scalar else x
    return x if context.labels is None else context.labels.full(x)


def elementwise(context: Context, x: Array) -> Array:
    """Give back an output of the shape of an input without class axes."""
    x = context.small(x)
    return x if context.labels is None else context.labels.full(x)


def row_reduction(context: Context, x: Array) -> Array:
    """Give back one number a row, with class axes of length 1 where the user asked for them."""
    lay = context.plan.layout
    if not context.family.as_given:
        x = context.family.namespace(x).reshape(x, lay.kept if context.plan.keepdims else lay.rows)
    return context.of_rows(context.small(x))


def row_number(context: Context, x: Array) -> Array:
    """Give back the log-normalizer of every row of a loss."""
    return context.of_rows(context.small(x))


def reduced_loss(context: Context, x: Array) -> Array:
    """Give back a loss: one number a row, or one number for all rows."""
    x = context.small(x)
    if context.labels is None:
        return x
    return context.of_rows(x) if context.plan.reduction == "none" else context.labels.total(x)


def layer_gradient(place: int) -> Kind:
    """Return the kind of the gradient by hidden (0), weight (1) or bias (2) of a linear layer."""

    def gradient(context: Context, x: Array) -> Array:
        labels = None if context.labels is None else (context.labels, *context.labels.factors)[place]
        return x if labels is None else labels.full(x)

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
    context = Context(FAMILIES[plan.family], plan, labels)
    given = outputs if len(kinds) > 1 else (outputs,)
    return tuple(None if x is None else kind(context, x) for kind, x in zip(kinds, given, strict=True))
