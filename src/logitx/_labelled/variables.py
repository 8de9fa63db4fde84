"""Variables of TensorFlow and Keras: they hold a tensor, and results are tensors, as everywhere in TensorFlow."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from logitx._labelled.table import ArrayLabels
from logitx._plan import Array, Layout


class Held(ArrayLabels):
    """The tensor that a variable holds, read so that a tape records it; there are no labels."""

    kinds = ()

    def __init__(self, x: Any) -> None:
        self.bare = tf.convert_to_tensor(x)

    def names(self) -> tuple[Any, ...]:
        """Return nothing: axes have no names."""
        return ()

    def aligned(self, name: str, value: Any, role: str, lay: Layout) -> Array:
        """Return the operand as it is."""
        return value

    def full(self, result: Array) -> Array:
        """Return a tensor."""
        return result

    def segments(self, result: Array, lay: Layout) -> Array:
        """Return a tensor."""
        return result

    def rows(self, result: Array, lay: Layout, keepdims: bool) -> Array:
        """Return a tensor."""
        return result
