"""The cells that are timed: operations, dtypes, and shapes, each with its reason. A new shape is one row here.

A `Cell` is one measurement; `make` makes its inputs and `truth` its expected results.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import ml_dtypes
import numpy as np

OPS = ("softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy_value_and_grad")
LINEAR = ("linear_cross_entropy", "linear_cross_entropy_value_and_grad")
TORCH_OPS = (*OPS[:4], "softmax_and_backward", "log_softmax_and_backward", "cross_entropy_and_backward")
DTYPES = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


@dataclass(frozen=True)
class Shape:
    """Logits of one shape, the axis of the classes, and why it is here."""

    shape: tuple[int, ...]
    axis: int
    why: str
    all_dtypes: bool = False  # float32 everywhere, the other dtypes on a third of the shapes
    features: int = 0  # of the linear layer that makes the logits; 0: the logits are given

    def small(self) -> Shape:
        """Return a small shape of the same kind, for smoke runs, which only check that everything works."""
        shape = tuple(min(length, 70) for length in self.shape)
        return Shape(shape, self.axis, self.why, self.all_dtypes, min(self.features, 30))

    @property
    def size(self) -> int:
        """Number of logits."""
        return int(np.prod(self.shape))

    @property
    def name(self) -> str:
        """The shape in ids and tables, with the axis if it is not the last."""
        text = "x".join(map(str, self.shape))
        if self.features:
            return f"{text} of {self.features} features"
        return text if self.axis == -1 else f"{text}@{self.axis}"


SHAPES = (
    Shape((1, 10), -1, "the cost of a call: checks, plan, choice, wrap", all_dtypes=True),
    Shape((32, 10), -1, "a batch of a small classifier"),
    Shape((128, 1000), -1, "a batch of an image classifier"),
    Shape((4096, 1000), -1, "rows that fit the first cache, a result beyond the second", all_dtypes=True),
    Shape((1024, 32_000), -1, "a language model's batch: memory decides", all_dtypes=True),
    Shape((256, 128_256), -1, "the widest vocabulary in use: a row is half a megabyte"),
    Shape((100_000, 10), -1, "many rows of few classes: many rows at once pay", all_dtypes=True),
    Shape((1_000_000, 3), -1, "rows far shorter than a vector"),
    Shape((1, 1_000_000), -1, "a single row: it must be split to use all cores"),
    Shape((1000, 4096), 0, "classes on the first axis, columns that fit the second cache"),
    Shape((1024, 32_000), 0, "classes on the first axis, columns beyond any cache"),
    Shape((8, 21, 512, 512), 1, "segmentation: classes between batch and image"),
    Shape((32, 81, 8732), 1, "detection: a class axis of odd length before anchors"),
)


LAYERS = (
    Shape((2048, 50_257), -1, "a language model: logits of 393 MiB", features=768),
    Shape((1024, 128_256), -1, "the widest vocabulary in use: logits of 501 MiB", features=1024),
)


@dataclass(frozen=True)
class Cell:
    """One measurement: a function on a shape in a dtype, of some library's arrays, into fresh memory or `out=`."""

    op: str
    shape: Shape
    dtype: str
    into: bool = False
    arrays: str = "numpy"

    @property
    def id(self) -> str:
        """The id of the test."""
        arrays = "" if self.arrays == "numpy" else f"{self.arrays}-"
        return f"{arrays}{self.op}{'_out' if self.into else ''}-{self.shape.name.replace(' ', '_')}-{self.dtype}"


def cells() -> list[Cell]:
    """Return all cells."""
    every = []
    for op in OPS:
        for shape in SHAPES:
            for dtype in DTYPES if shape.all_dtypes else ("float32",):
                every.append(Cell(op, shape, dtype))
                if op in ("softmax", "log_softmax"):
                    every.append(Cell(op, shape, dtype, into=True))
    every += [Cell(op, shape, "float32", arrays="torch") for op in TORCH_OPS for shape in SHAPES]
    every += [Cell(op, shape, "float32", arrays="jax") for op in OPS for shape in SHAPES]
    return every + [Cell(op, shape, "float32") for op in LINEAR for shape in LAYERS]


@dataclass(frozen=True)
class Inputs:
    """Logits and class ids, as NumPy arrays; for a linear layer `logits` holds its input, and `weight` its weights."""

    logits: np.ndarray
    labels: np.ndarray
    axis: int
    weight: np.ndarray | None = None


@functools.lru_cache(maxsize=1)
def make(shape: Shape, dtype: str) -> Inputs:
    """Make inputs like those of a half-trained model: most probability on few classes."""
    rng = np.random.default_rng(shape.size)
    if shape.features:
        rows, classes = shape.shape
        hidden = rng.standard_normal((rows, shape.features), dtype=np.float32)
        weight = rng.standard_normal((classes, shape.features), dtype=np.float32)
        weight *= np.float32(3 * shape.features**-0.5)
        return Inputs(hidden.astype(DTYPES[dtype]), rng.integers(0, classes, rows), -1, weight.astype(DTYPES[dtype]))
    logits = (3 * rng.standard_normal(shape.shape, dtype=np.float32)).astype(DTYPES[dtype])
    rows = np.delete(shape.shape, shape.axis)
    return Inputs(logits, rng.integers(0, shape.shape[shape.axis], rows), shape.axis)


@functools.lru_cache(maxsize=1)
def truth(op: str, shape: Shape, dtype: str) -> tuple[np.ndarray, ...]:
    """Return the expected results of every competitor: the textbook formula in float64."""
    inputs = make(shape, dtype)
    if op in LINEAR:
        return _truth_of_layer(op, inputs)
    x, axis = inputs.logits.astype(np.float64), inputs.axis
    top = x.max(axis, keepdims=True)
    x -= top
    log_sum = np.log(np.exp(x).sum(axis, keepdims=True))
    if op == "logsumexp":
        return (np.squeeze(top + log_sum, axis),)
    x -= log_sum
    if op.startswith(("softmax", "log_softmax")):
        y, p, dy = x if op.startswith("log") else np.exp(x), np.exp(x), inputs.logits.astype(np.float64)
        if not op.endswith("backward"):
            return (y,)
        if op.startswith("log"):
            return y, dy - p * dy.sum(axis, keepdims=True)
        return y, p * (dy - (p * dy).sum(axis, keepdims=True))
    index = np.expand_dims(inputs.labels, axis)
    loss = -np.take_along_axis(x, index, axis).mean()
    if op == "cross_entropy":
        return (loss,)
    gradient = np.exp(x)
    np.put_along_axis(gradient, index, np.take_along_axis(gradient, index, axis) - 1, axis)
    return loss, gradient / inputs.labels.size


def _truth_of_layer(op: str, inputs: Inputs) -> tuple[np.ndarray, ...]:
    hidden, weight = inputs.logits.astype(np.float64), inputs.weight.astype(np.float64)
    count, loss, dhidden, dweight = len(hidden), 0.0, np.empty_like(hidden), np.zeros_like(weight)
    for start in range(0, count, 128):
        rows, labels = hidden[start : start + 128], inputs.labels[start : start + 128]
        x = rows @ weight.T
        x -= x.max(axis=1, keepdims=True)
        x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
        at = np.arange(len(rows)), labels
        loss -= x[at].sum() / count
        if op == LINEAR[1]:
            np.exp(x, out=x)
            x[at] -= 1
            x /= count
            dhidden[start : start + 128] = x @ weight
            dweight += x.T @ rows
    return (np.asarray(loss),) if op == LINEAR[0] else (np.asarray(loss), dhidden, dweight)
