"""The vocabulary of the library: what its layers pass to each other, and axis arithmetic.

A check returns a `Call`: a `Plan` (static facts, hashable) and operands (arrays and numbers, in the order of the
backend's method, None where absent). This module imports no framework.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Array = Any  # any array type; the concrete type comes back as it went in
Scalar = Any  # a Python number, or a 0-d array of the logits' family
Axis = int | str | tuple[int | str, ...] | None  # names are those of labelled arrays
Reduction = Literal["none", "sum", "mean"]
Empty = Literal["nan", "zero"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array with any class axes is seen as an array with exactly one.

    Several class axes are moved together, in the order given, and folded into one; a single class axis stays where it
    is. No class axis at all (a 0-d array, or ``axis=()``) makes every element a row of one class.
    """

    given: tuple[int, ...]  # shape of the array as the user passed it
    axes: tuple[int, ...]  # class axes of that shape, all >= 0, in the order given
    folds: bool  # whether `shape` differs from `given`: most arrays are used as they are
    permutation: tuple[int, ...] | None  # applied first; None where the axes already lie next to each other in order
    inverse: tuple[int, ...] | None  # undoes the permutation
    permuted: tuple[int, ...]  # shape after the permutation
    shape: tuple[int, ...]  # shape a backend sees: one class axis
    axis: int  # the class axis of that shape, >= 0
    outer: int  # product of the lengths before the class axis
    n: int  # number of classes
    inner: int  # product of the lengths after it
    rows: tuple[int, ...]  # the given shape without the class axes: one entry a row
    kept: tuple[int, ...]  # the given shape with the class axes of length 1
    column: tuple[int, ...]  # `shape` with a class axis of length 1: how a per-row array broadcasts against logits


@dataclass(frozen=True, slots=True)
class Plan:
    """The static facts of one call: no array, no number that a framework may trace. Hashable, made once a signature."""

    op: str  # name of the operation: a method of `Backend`
    family: str  # row of `_arrays.families.FAMILIES` that the logits belong to
    layout: Layout
    dtype: str  # of the first array as given: "float16", "bfloat16", "float32", "float64", "int64", "bool", ...
    compute: str  # "float32" or "float64": every sum and exponential happens in it
    result: str  # dtype of results: of the shape of logits, or of logsumexp
    loss: str  # dtype of losses and of log_normalizer: "float32" or "float64"
    reduction: Reduction = "none"
    empty: Empty = "nan"
    hard: bool = False  # the targets are class ids, not probabilities
    ignore_index: int | None = None
    return_parts: bool = False
    return_sign: bool = False
    keepdims: bool = False
    weight: float = 0.5  # of the first of two distributions
    scalar: bool = False  # a Python or NumPy scalar went in: a 0-d result goes back as a scalar
    gradients: tuple[str, ...] = ()  # dtypes of the gradients by hidden, weight and bias, where there are these
    axis_name: tuple[str, ...] = ()  # axes of a mesh of devices along which normalizers are merged
    reverse: bool = False  # a cumulative sum goes from the last class to the first
    segments: int = 0  # how many rows lie one after another along the class axis, where they do
    block_bytes: int = 0  # how much of the logits, in the dtype computed in, may be in memory at once; 0: all

    @property
    def ids(self) -> int:
        """The number of class ids: two where every element is a logit of its own."""
        return 2 if self.op.startswith("binary") else self.layout.n


class Call(NamedTuple):
    """A call that has been checked."""

    plan: Plan
    operands: tuple[Any, ...]  # the arguments of the backend's method after the plan
    out: Array = None  # the `out` argument as the user gave it
    labels: Any = None  # what labelled arrays get back on their results, `_labelled.table.ArrayLabels`


class LossParts(NamedTuple):
    """What ``return_parts=True`` adds to a cross-entropy."""

    z_loss: Array  # the part of the loss that the z-loss made, reduced like the loss
    log_normalizer: Array  # log of the sum of exponentials of every row, after softcap and temperature; never reduced


def unknown(length: Any) -> bool:
    """True if a length is not known: None while TensorFlow traces, NaN where Dask has not computed its chunks."""
    return length is None or length != length


def _as_int(axis: Any) -> int:
    try:
        if isinstance(axis, bool):
            raise TypeError
        return operator.index(axis)
    except TypeError:
        raise TypeError(f"axis: {axis!r} is not allowed; allowed are an int, a tuple of ints or None") from None


def _class_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple):
        axis = (axis,)
    most = max(1, ndim)  # a 0-d array is one class, along an axis of its own
    axes = []
    for one in map(_as_int, axis):
        if not -most <= one < most:
            raise ValueError(f"axis: {one} is out of range for {ndim} dimensions; allowed are {-most} to {most - 1}")
        axes.append(one % most)
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis: {axis} names a dimension twice; allowed are distinct dimensions")
    return tuple(axes) if ndim else ()


def _product(lengths: Iterable[int]) -> int:
    """Multiply; None where a length is not known."""
    lengths = tuple(lengths)
    return None if any(map(unknown, lengths)) else math.prod(lengths)  # type: ignore[return-value]


def axis_of_rows(shape: tuple[int, ...], rows: tuple[int, ...]) -> int | None:
    """Return the axis, 1 before others, without which `shape` is `rows`; None if there is none."""
    order = sorted(range(len(shape)), key=lambda axis: (axis != 1, axis))
    return next((axis for axis in order if (*shape[:axis], *shape[axis + 1 :]) == rows), None)


def layout(shape: tuple[int, ...], axis: Any) -> Layout:
    """Return how to view an array of this shape as one with a single class axis."""
    ndim = len(shape)
    axes = _class_axes(axis, ndim)
    batch = tuple(d for d in range(ndim) if d not in axes)
    if axes and axes == tuple(range(axes[0], axes[0] + len(axes))):  # neighbors in order: fold them where they are
        order, position = tuple(range(ndim)), axes[0]
    else:
        order, position = batch + axes, len(batch)
    permuted = tuple(shape[d] for d in order)
    before, after = permuted[:position], permuted[position + len(axes) :]
    n = _product(shape[d] for d in axes)
    if n is None and len(axes) > 1:
        raise ValueError(
            f"axis: {axes} of shape {shape} has lengths that are not known; allowed are one axis or known lengths, set"
            " them with tensorflow.ensure_shape or compute_chunk_sizes of Dask"
        )
    moved = order != tuple(range(ndim))
    return Layout(
        given=shape,
        axes=axes,
        folds=moved or len(axes) != 1,
        permutation=order if moved else None,
        inverse=tuple(order.index(d) for d in range(ndim)) if moved else None,
        permuted=permuted,
        shape=(*before, n, *after),
        axis=position,
        outer=_product(before),
        n=n,
        inner=_product(after),
        rows=tuple(shape[d] for d in batch),
        kept=tuple(1 if d in axes else shape[d] for d in range(ndim)),
        column=(*before, 1, *after),
    )
