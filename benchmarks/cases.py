"""What is timed: shapes, each with its reason, and for every operation the ways to do it.

A new shape or competitor is one row here. A way is a function that gets NumPy inputs, converts them to what its library
takes, and returns a callable without arguments; so only the computing is timed, not the conversion.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import logitx as lx

Call = Callable[[], Any]


@dataclass(frozen=True)
class Shape:
    """Logits of one shape, and the axis of the classes."""

    name: str
    shape: tuple[int, ...]
    axis: int
    why: str

    def small(self) -> Shape:
        """Return the same regime in small: for smoke runs, which show that everything works."""
        return Shape(self.name, tuple(min(length, 70) for length in self.shape), self.axis, self.why)

    @property
    def size(self) -> int:
        """Number of logits."""
        return int(np.prod(self.shape))


SHAPES = [
    Shape("tiny", (1, 10), -1, "the cost of a call: checks, plan, choice, wrap"),
    Shape("few_classes", (1_000_000, 3), -1, "rows far shorter than a vector register row; segmentation, three-way"),
    Shape("ten_classes", (100_000, 10), -1, "small classifiers; many rows at once pay"),
    Shape("imagenet", (4096, 1000), -1, "the classic classifier: rows that fit the first cache"),
    Shape("attention", (8 * 512, 512), -1, "attention scores: square, no targets, in the second cache"),
    Shape("segmentation", (4, 21, 256, 256), 1, "classes on an inner axis, as PyTorch lays images out"),
    Shape("vocabulary", (1024, 32_000), -1, "a language model's batch: memory decides"),
    Shape("long_rows", (64, 128_256), -1, "rows beyond half of the second cache: blocks and merges"),
]


@dataclass(frozen=True)
class Inputs:
    """Logits and class ids, as NumPy arrays."""

    logits: np.ndarray
    labels: np.ndarray
    axis: int


def make(shape: Shape) -> Inputs:
    """Make inputs such as a half-trained model gives: most mass on few classes."""
    rng = np.random.default_rng(shape.size)
    logits = rng.normal(0, 3, shape.shape).astype(np.float32)
    rows = np.delete(shape.shape, shape.axis)
    return Inputs(logits, rng.integers(0, shape.shape[shape.axis], rows), shape.axis)


# -- the truth: the textbook, in float64 ------------------------------------------------------------------------------


def _log_softmax(inputs: Inputs) -> np.ndarray:
    shifted = inputs.logits - inputs.logits.max(inputs.axis, keepdims=True).astype(np.float64)
    return shifted - np.log(np.exp(shifted).sum(inputs.axis, keepdims=True))


def _loss(inputs: Inputs) -> np.ndarray:
    return -np.take_along_axis(_log_softmax(inputs), np.expand_dims(inputs.labels, inputs.axis), inputs.axis).mean()


def _loss_and_grad(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    gradient = np.exp(_log_softmax(inputs))
    index = np.expand_dims(inputs.labels, inputs.axis)
    picked = np.take_along_axis(gradient, index, inputs.axis)
    np.put_along_axis(gradient, index, picked - 1, inputs.axis)
    return _loss(inputs), gradient / inputs.labels.size


TRUTH: dict[str, Callable[[Inputs], Any]] = {
    "softmax": lambda inputs: np.exp(_log_softmax(inputs)),
    "log_softmax": _log_softmax,
    "logsumexp": lambda inputs: np.logaddexp.reduce(inputs.logits.astype(np.float64), axis=inputs.axis),
    "cross_entropy": _loss,
    "cross_entropy_value_and_grad": _loss_and_grad,
}

# -- ways to do it ----------------------------------------------------------------------------------------------------


def _arguments(op: str, inputs: Inputs, convert: Callable[[np.ndarray], Any]) -> tuple[Any, ...]:
    arrays = (inputs.logits, inputs.labels) if op.startswith("cross_entropy") else (inputs.logits,)
    return *map(convert, arrays), inputs.axis


def _logitx_numpy(op: str, inputs: Inputs) -> Call:
    function, arguments = getattr(lx, op), _arguments(op, inputs, np.asarray)
    return lambda: function(*arguments)


def _logitx_torch(op: str, inputs: Inputs) -> Call:
    import torch

    function, arguments = getattr(lx, op), _arguments(op, inputs, torch.from_numpy)
    return lambda: function(*arguments)


def _logitx_jax(op: str, inputs: Inputs) -> Call:
    import jax

    *arrays, axis = _arguments(op, inputs, jax.numpy.asarray)
    function = jax.jit(lambda *arrays: getattr(lx, op)(*arrays, axis))
    return lambda: jax.block_until_ready(function(*arrays))


def _scipy(op: str, inputs: Inputs) -> Call:
    import scipy.special

    function = getattr(scipy.special, op)
    return lambda: function(inputs.logits, axis=inputs.axis)


def _torch(op: str, inputs: Inputs) -> Call:
    import torch

    logits, labels = torch.from_numpy(inputs.logits), torch.from_numpy(inputs.labels)
    if not op.startswith("cross_entropy"):
        function = getattr(torch, op)
        return lambda: function(logits, inputs.axis)
    moved = torch.movedim(logits, inputs.axis, 1)
    if op == "cross_entropy":
        return lambda: torch.nn.functional.cross_entropy(moved, labels)

    def loss_and_grad() -> tuple[Any, Any]:
        leaf = logits.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(torch.movedim(leaf, inputs.axis, 1), labels)
        loss.backward()
        return loss.detach(), leaf.grad

    return loss_and_grad


def _jax(op: str, inputs: Inputs) -> Call:
    import jax

    logits, labels = jax.numpy.asarray(inputs.logits), jax.numpy.asarray(inputs.labels)

    def loss(x: Any) -> Any:
        index = jax.numpy.expand_dims(labels, inputs.axis)
        return -jax.numpy.take_along_axis(jax.nn.log_softmax(x, inputs.axis), index, inputs.axis).mean()

    function = {
        "softmax": lambda x: jax.nn.softmax(x, inputs.axis),
        "log_softmax": lambda x: jax.nn.log_softmax(x, inputs.axis),
        "logsumexp": lambda x: jax.nn.logsumexp(x, inputs.axis),
        "cross_entropy": loss,
        "cross_entropy_value_and_grad": jax.value_and_grad(loss),
    }[op]
    jitted = jax.jit(function)
    return lambda: jax.block_until_ready(jitted(logits))


@dataclass(frozen=True)
class Competitor:
    """A way to do operations: what it needs, and which operations it has."""

    name: str
    requires: str
    prepare: Callable[[str, Inputs], Call]
    ops: tuple[str, ...] = tuple(TRUTH)

    def missing(self) -> str | None:
        """Return why it cannot run here, or None."""
        try:
            importlib.import_module(self.requires)
        except ImportError:
            return f"{self.requires} is not installed"
        return None


COMPETITORS = [
    Competitor("logitx-numpy", "numpy", _logitx_numpy),
    Competitor("logitx-torch", "torch", _logitx_torch),
    Competitor("logitx-jax", "jax", _logitx_jax),
    Competitor("scipy", "scipy", _scipy, ("softmax", "log_softmax", "logsumexp")),
    Competitor("torch", "torch", _torch),
    Competitor("jax", "jax", _jax),
]
