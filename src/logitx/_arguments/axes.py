"""Axis rules: the only place where an axis may be negative, a tuple or None."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

from logitx._typing import Layout


def unknown(length: Any) -> bool:
    """Tell whether a length is not known: None while TensorFlow traces, NaN where Dask has not computed its chunks."""
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


def layout(shape: tuple[int, ...], axis: Any) -> Layout:
    """Say how an array of this shape is seen as one with a single class axis."""
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
