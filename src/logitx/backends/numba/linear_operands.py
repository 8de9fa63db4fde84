"""A linear layer and its targets as the kernels take them: views, weights, and the rows that count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import dtype_name
from logitx._label_error import LabelError
from logitx._options import LinearLayer, LossOptions
from logitx._plan import Array, Plan
from logitx.backends.formulas.linear_blocks import pieces
from logitx.backends.numba.arrays import (
    HELD,
    NumpyArray,
    contiguous,
    decode_bfloat16,
    label_ids,
    scaling_array,
    stored,
    view_3d,
)

PANEL = 1 << 20  # elements of an array that are converted at a time, to be multiplied


class LinearOperands(NamedTuple):
    """The operands of a call. What belongs to rows has an entry for each row that counts, in their order."""

    hidden: NumpyArray  # of all rows
    weight: NumpyArray
    bias: NumpyArray | None
    rows: NumpyArray  # numbers of the rows that count
    labels: NumpyArray | None
    targets: NumpyArray | None  # of all rows
    class_weight: NumpyArray | None
    sample: NumpyArray  # s
    classes: NumpyArray  # c
    whole: float  # the denominator of a mean
    even: float  # the weight of every class: class_weight (even + keep t)
    keep: float
    z_loss: float
    softcap: NumpyArray | None  # a number for all rows, or one each
    temperature: NumpyArray | None


def read_operands(plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions) -> LinearOperands:
    """Look at all operands; raise for a class id out of range."""
    class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature, _ = options
    hidden, weight, bias = layer
    view, count, n = FAMILIES[plan.family].to_numpy, plan.layout.outer, plan.layout.n
    smoothing = 0.0 if label_smoothing is None else float(label_smoothing)
    per_class = None if class_weight is None else contiguous(plan, class_weight, plan.compute)
    labels, soft = None, None
    counted: Any
    if plan.hard:
        labels = label_ids(plan, targets).reshape(count)
        counted = _counted_labels(plan, labels, targets)
        safe = np.where(counted, labels, 0)
        classes = np.ones(count) if per_class is None else per_class[safe].astype(np.float64)
    else:
        held = stored(dtype_name(targets.dtype), plan.compute)
        soft = view_3d(plan, targets, dtype_name(targets.dtype), held).reshape(count, n)
        counted, classes = True, _class_sums(targets, soft, view, per_class)
    sample = np.ones(count) if sample_weight is None else contiguous(plan, sample_weight, "float64").reshape(count)
    rows = np.flatnonzero((sample * classes != 0.0) & counted)
    sample, classes = sample[rows], classes[rows]
    cap, heat = (
        None if one is None else one.reshape(1) if one.size == 1 else one.reshape(count)[rows]
        for one in (scaling_array(plan, softcap, plan.compute), scaling_array(plan, temperature, "float64"))
    )
    return LinearOperands(
        hidden=view(hidden).reshape(count, hidden.shape[-1]),  # type: ignore[misc]
        weight=view(weight),  # type: ignore[misc]
        bias=None if bias is None else contiguous(plan, bias, plan.compute),
        rows=rows,
        labels=None if labels is None else labels[rows],
        targets=soft,
        class_weight=per_class,
        sample=sample,
        classes=classes,
        whole=float(np.sum(sample * classes)),
        even=smoothing / n,
        keep=1.0 - smoothing,
        z_loss=0.0 if z_loss is None else float(z_loss),
        softcap=cap,
        temperature=heat,
    )


def _counted_labels(plan: Plan, labels: NumpyArray, targets: Array) -> NumpyArray:
    """Tell which labels are not to be ignored."""
    counted = np.ones(labels.shape, dtype=bool) if plan.ignore_index is None else labels != plan.ignore_index
    bad = counted & ((labels < 0) | (labels >= plan.layout.n))
    if bad.any():
        position = int(bad.argmax())
        ids: NumpyArray = FAMILIES[plan.family].to_numpy(targets)  # type: ignore[misc]
        raise LabelError(plan, position, int(ids.flat[position]))
    return counted


def _class_sums(targets: Array, soft: NumpyArray, view: Any, class_weight: NumpyArray | None) -> NumpyArray:
    """Return the sum of class weights times probabilities of each row; 1 without class weights."""
    count, n = soft.shape
    sums = np.ones(count)
    if class_weight is not None:
        given, dtype = view(targets).reshape(count, n), dtype_name(targets.dtype)
        for piece in pieces(count, max(1, PANEL // n)):
            t = decode_bfloat16(given[piece], dtype).astype(np.float64)
            sums[piece] = np.where(t == 0.0, 0.0, class_weight * t).sum(axis=1)
    return sums


# -- factors of products ----------------------------------------------------------------------------------------------


def _multipliable(array: NumpyArray, compute: str) -> bool:
    """True if BLAS can read a matrix where it is."""
    if array.dtype != HELD[compute] or not array.dtype.isnative or not array.flags.aligned:
        return False
    size, (down, along), (height, width) = array.itemsize, array.strides, array.shape
    by_rows = along == size and down >= width * size and down % size == 0
    return by_rows or (down == size and along >= height * size and along % size == 0)


def _factor(array: NumpyArray, dtype: str, compute: str) -> NumpyArray:
    if _multipliable(array, compute):
        return array
    return np.ascontiguousarray(decode_bfloat16(array, dtype), dtype=HELD[compute])


def rows_of(plan: Plan, layer: LinearOperands, piece: slice, dtype: str) -> NumpyArray:
    """Return the hidden features of rows that count, in the dtype computed in."""
    every = len(layer.rows) == len(layer.hidden)
    return _factor(layer.hidden[piece if every else layer.rows[piece]], dtype, plan.compute)


def weight_panels(plan: Plan, layer: LinearOperands, classes: slice, dtype: str) -> Iterator[tuple[slice, NumpyArray]]:
    """Yield the weights of classes in the dtype computed in, as many at a time as may be copied, and which they are."""
    weight = layer.weight[classes]
    height = len(weight) if _multipliable(weight, plan.compute) else max(1, PANEL // max(1, weight.shape[1]))
    for piece in pieces(len(weight), height):
        yield piece, _factor(weight[piece], dtype, plan.compute)
