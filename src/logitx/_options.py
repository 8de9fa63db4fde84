"""The options and inputs that the layers pass on as one value."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx._plan import Array, Scalar


class Scaling(NamedTuple):
    """Which logits take part, and how they are scaled: u = softcap * tanh(x / softcap), then u / temperature."""

    where: Array = None  # boolean, of the shape of the logits
    temperature: Scalar = None  # a number, or an array of `Layout.column`
    softcap: Scalar = None  # as temperature


class LossOptions(NamedTuple):
    """The options of a loss that may be arrays or traced numbers; None where an option has no effect."""

    class_weight: Array = None  # one number a class
    sample_weight: Array = None  # one number a row
    label_smoothing: Scalar = None
    z_loss: Scalar = None
    softcap: Scalar = None
    temperature: Scalar = None
    where: Array = None

    @property
    def scaling(self) -> Scaling:
        """Return the options that a softmax has too."""
        return Scaling(self.where, self.temperature, self.softcap)


class BinaryOptions(NamedTuple):
    """The options of a binary loss, as `LossOptions`; arrays have the shape of the logits."""

    pos_weight: Array = None  # factor of the positive targets
    sample_weight: Array = None
    label_smoothing: Scalar = None
    gamma: Scalar = None  # power of the focal factor
    alpha: Scalar = None  # factor of the positive targets; 1 - alpha is that of the negative ones
    where: Array = None


class LinearLayer(NamedTuple):
    """A linear layer and its input: the logits are ``hidden @ weight.T + bias``."""

    hidden: Array  # of the shape of the rows, and the features on the last axis
    weight: Array  # (classes, features)
    bias: Array = None  # one number a class


def flat(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arrays and numbers among operands, those within option tuples one by one: frameworks want them so."""
    found: list[Any] = []
    for one in operands:
        found.extend(flat(one) if isinstance(one, tuple) else (one,))
    return tuple(found)


def nested(op: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Undo `flat`: return the operands of an operation as its backend's method takes them."""
    if op.startswith("linear"):
        return LinearLayer(*values[:3]), values[3], LossOptions(*values[4:])
    if op.startswith("focal"):
        return *values[:2], LossOptions(*values[2:-1]), values[-1]
    if op.startswith("binary"):
        return *values[:2], BinaryOptions(*values[2:])
    return (*values[:2], LossOptions(*values[2:])) if op.startswith("cross_entropy") else values
