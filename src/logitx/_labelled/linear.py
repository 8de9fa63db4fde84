"""A linear layer with labels: those of `hidden` are of rows and features, those of `weight` of classes and features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logitx._arrays.family import FLOATING, dtype_name
from logitx._labelled.table import ROLES, ArrayLabels, class_ids, labels_of, parameters, without_labels
from logitx._plan import Array, Call, layout


def take_layer_apart(check: Callable[..., Call], *arguments: Any) -> Call:
    """Check a call of a linear layer whose `hidden` has labels: remove them, and return them with the call."""
    given = dict(zip(parameters(check), arguments, strict=True))
    without_labels(given["hidden"], "hidden")  # a masked feature would have no meaning
    labels, bias = labels_of(given["hidden"]), given["bias"]
    weight = _turned(labels, given["weight"])
    labels.factors = (weight, labels_of(bias) if isinstance(bias, labels.kinds) else None)
    lay = layout(tuple(labels.bare.shape), -1)
    for name, value in given.items():
        if name == "hidden":
            given[name] = labels.bare
        elif isinstance(value, labels.kinds):
            given[name] = _aligned(labels, weight, name, value, lay)
    given["targets"] = class_ids(given["targets"], None if weight is None else weight.classes(0))
    return check(*given.values())._replace(labels=labels)


def _turned(labels: ArrayLabels, weight: Any) -> ArrayLabels | None:
    """Return the labels of `weight`, classes first; None if it is not of the labelled type of `hidden`."""
    return labels_of(labels.turned(weight)) if isinstance(weight, labels.kinds) else None


def _aligned(labels: ArrayLabels, weight: ArrayLabels | None, name: str, value: Any, lay: Any) -> Array:
    """Return an operand without labels; check labels of classes against `weight`, all others against `hidden`."""
    if name == "weight":
        return labels.aligned(name, value, "features", lay)
    if name in ("bias", "class_weight"):
        if weight is None:
            return without_labels(value, name)
        return weight.aligned(name, value, "rows", layout(tuple(weight.bare.shape), -1))
    if name == "targets" and dtype_name(without_labels(value, name).dtype) in FLOATING:
        if weight is not None:
            weight.aligned(name, value, "last", layout(tuple(weight.bare.shape), -1))
        return labels.aligned(name, value, "shares", lay)
    return labels.aligned(name, value, ROLES.get(name, "entries"), lay)
