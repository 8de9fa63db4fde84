"""The binary family: arrays of any shape as neighbors in memory, one kernel, and sums of blocks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import dtype_name
from logitx._options import BinaryOptions
from logitx._plan import Array, Plan
from logitx.backends.formulas.class_ids import refuse_labels, signed_ids, sort_out
from logitx.backends.numba.arrays import (
    HELD,
    NumpyArray,
    checked_code,
    contiguous,
    decode_bfloat16,
    given_back,
    static_flag,
    stored,
    view_3d,
)
from logitx.backends.numba.kernels.binary import (
    BAD,
    BLOCK_ELEMENTS,
    LOSS,
    SHARE,
    SUMS_OF_BLOCK,
    BinaryArrays,
    BinaryNumbers,
    SigmoidArrays,
    binary_loss,
)
from logitx.backends.numba.kernels.binary import sigmoid as sigmoid_kernel
from logitx.backends.numba.kernels.signature import Dtypes, compiled_kernel
from logitx.backends.numba.memory.prefetch import STREAMED
from logitx.backends.numba.threads.policy import CREW, parts_for
from logitx.backends.numba.vectors.lanes import LANES

_EXACT = 1 << 24  # integers up to this are exact in float32


def sigmoid(plan: Plan, x: Array, out: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return _run_sigmoid_kernel(plan, x, out)


def log_sigmoid(plan: Plan, x: Array, out: Array) -> Array:
    """min(x, 0) - log1p(exp(-|x|))."""
    return _run_sigmoid_kernel(plan, x, out)


def _flat(plan: Plan, x: Array, dtype: str, held: str) -> NumpyArray:
    """Return an array of the shape of the logits as neighbors in memory."""
    return np.ascontiguousarray(view_3d(plan, x, dtype, held))


def _fresh(size: int, dtype: str) -> NumpyArray:
    """Return memory for a result; a large one is aligned, so that it can be written past the caches."""
    kind = HELD[dtype]
    if size * kind.itemsize < STREAMED:
        return np.empty(size, kind)
    memory = np.empty(size * kind.itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size * kind.itemsize].view(kind)


def _run_sigmoid_kernel(plan: Plan, x: Array, out: Array) -> Array:
    held, written = stored(plan.dtype, plan.compute), None
    view = _flat(plan, x, plan.dtype, held)
    if out is not None:
        array: NumpyArray = FAMILIES[plan.family].to_numpy(out)  # type: ignore[misc]
        written = array if array.flags.c_contiguous and array.dtype.isnative else None
    direct = written is not None
    if written is None:
        written = _fresh(view.size, plan.result)
    kernel = compiled_kernel(
        sigmoid_kernel, (static_flag(plan.op == "log_sigmoid"),), Dtypes(held, plan.compute, plan.result)
    )
    arrays = SigmoidArrays(logits=view, out=written, like=None)
    checked_code(kernel(arrays, static_flag(plan.op == "log_sigmoid"), parts_for(view.nbytes), CREW.address))
    return out if direct else given_back(plan, written, plan.result, plan.layout.given)


def _targets_of(plan: Plan, targets: Array) -> tuple[NumpyArray, str, float]:
    """Return targets as the kernel reads them, the name of their dtype, and the class id to ignore."""
    dtype, index = dtype_name(targets.dtype), plan.ignore_index
    if not plan.hard:
        held = stored(dtype, plan.compute)
        return _flat(plan, targets, dtype, held), held, math.nan
    if dtype == "bool":
        return _flat(plan, targets, "bool", "bool"), "bool", math.nan
    ids: NumpyArray = FAMILIES[plan.family].to_numpy(targets)  # type: ignore[misc]
    if index is not None and abs(index) > _EXACT:
        ids = np.where(ids == index, -2, np.where((ids == 0) | (ids == 1), ids, -1)).astype(np.int64)
        index = -2
    if ids.dtype == np.int64:
        return np.ascontiguousarray(ids), "int64", math.nan if index is None else float(index)
    ids = np.ascontiguousarray(ids.astype(HELD[plan.compute]))
    return ids, plan.compute, math.nan if index is None else float(index)


class _Results:
    """Memory for the results of a call, and the call itself."""

    def __init__(self, plan: Plan, logits: Array, targets: Array, options: BinaryOptions, orders: int) -> None:
        """Convert the operands; `orders` is that of the highest derivative."""
        self.plan, self.targets = plan, targets
        self.held = stored(plan.dtype, plan.compute)
        x = _flat(plan, logits, plan.dtype, self.held)
        ids, self.other, self.ignored = _targets_of(plan, targets)
        pos_weight, sample_weight, _, _, _, where = options
        size, loss = x.size, plan.reduction == "none"
        positive, period = self._positive_weights(pos_weight, size)
        self.arrays = BinaryArrays(
            logits=x,
            targets=ids,
            pos_weight=positive,
            sample_weight=self._weights(sample_weight),
            where=None if where is None else contiguous(plan, where, "bool"),
            grad=_fresh(size, plan.result) if orders else None,
            hess=_fresh(size, plan.result) if orders > 1 else None,
            losses=_fresh(size, plan.loss) if loss else None,
            sums=np.zeros((-(-size // BLOCK_ELEMENTS), SUMS_OF_BLOCK)),
        )
        self.ways = static_flag(orders > 0), static_flag(plan.hard), static_flag(options.gamma is not None)
        alpha = None if options.alpha is None else float(options.alpha)
        smoothing = 0.0 if options.label_smoothing is None else float(options.label_smoothing)
        self.numbers = BinaryNumbers(
            keep=1.0 - smoothing,
            spread=smoothing / 2.0,
            yes=(1.0 if alpha is None else alpha) * (pos_weight if isinstance(pos_weight, float) else 1.0),
            no=1.0 if alpha is None else 1.0 - alpha,
            sample=sample_weight if isinstance(sample_weight, float) else 1.0,
            period=period,
            ignored=self.ignored,
            gamma=0.0 if options.gamma is None else float(options.gamma),
            factor=1.0,
        )

    def _weights(self, value: Any) -> NumpyArray | None:
        return None if value is None or isinstance(value, float) else contiguous(self.plan, value, self.plan.compute)

    def _positive_weights(self, value: Any, size: int) -> tuple[NumpyArray | None, int]:
        """Return the positive weights, and after how many they repeat: those of columns are not copied for each row."""
        if value is None or isinstance(value, float):
            return None, 1
        array: NumpyArray = FAMILIES[self.plan.family].to_numpy(value)  # type: ignore[misc]
        if array.ndim < 2 or any(array.strides[:-1]) or array.shape[-1] == 0:
            return self._weights(value), max(1, size)
        with np.errstate(all="ignore"):
            column = decode_bfloat16(array[(0,) * (array.ndim - 1)], dtype_name(value.dtype))
            column = column.astype(HELD[self.plan.compute])
        return np.resize(column, len(column) + LANES[self.plan.compute]), len(column)

    def run(self, factor: float) -> tuple[float, float]:
        """Run the kernel; return the sums of losses and of shares."""
        plan, arrays = self.plan, self.arrays
        result = plan.compute if arrays.grad is None else plan.result  # one kernel for all where nothing is written
        loss = plan.compute if arrays.losses is None else plan.loss
        kernel = compiled_kernel(binary_loss, self.ways, Dtypes(self.held, plan.compute, result, loss, self.other))
        numbers = self.numbers._replace(factor=factor)
        checked_code(kernel(arrays, numbers, *self.ways, parts_for(arrays.logits.nbytes), CREW.address))
        loss, share, bad = (arrays.sums[:, column].sum() for column in (LOSS, SHARE, BAD))
        if bad:
            ids: NumpyArray = FAMILIES[plan.family].to_numpy(self.targets)  # type: ignore[misc]
            outside = sort_out(plan, np, signed_ids(plan, np, ids))[1]
            refuse_labels(plan, np, ids, outside if arrays.where is None else outside & arrays.where.reshape(ids.shape))
        return float(loss), float(share)

    def loss(self) -> Array:
        """Run the kernel until the denominator of the mean is right; return the loss."""
        plan = self.plan
        mean, size = plan.reduction == "mean", self.arrays.logits.size
        guess = size * self.numbers.sample if mean else 1.0
        loss, share = self.run(1.0 / guess if guess else 0.0)
        if mean and share != guess and self.arrays.grad is not None:
            self.run(1.0 / share if share else 0.0)
        if self.arrays.losses is not None:
            return given_back(plan, self.arrays.losses, plan.loss, plan.layout.given)
        if mean:
            loss = loss / share if share else math.nan if plan.empty == "nan" else 0.0
        return given_back(plan, np.asarray(loss, HELD[plan.loss]), plan.loss, ())

    def entries(self, array: Any) -> Array:
        """Return a result of the shape of the logits."""
        return given_back(self.plan, array, self.plan.result, self.plan.layout.given)


def binary_cross_entropy(plan: Plan, logits: Array, targets: Array, options: BinaryOptions) -> Array:
    """s [w q (1 - p)^gamma (-log p) + (1 - q) p^gamma (-log (1 - p))], reduced."""
    return _Results(plan, logits, targets, options, 0).loss()


def binary_cross_entropy_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: BinaryOptions
) -> tuple[Array, Array]:
    """The loss, and s [(1 - q) p - w q (1 - p)]."""
    results = _Results(plan, logits, targets, options, 1)
    return results.loss(), results.entries(results.arrays.grad)


def binary_cross_entropy_grad_hess(
    plan: Plan, logits: Array, targets: Array, options: BinaryOptions
) -> tuple[Array, Array]:
    """s [(1 - q) p - w q (1 - p)] and s [w q + 1 - q] p (1 - p)."""
    results = _Results(plan, logits, targets, options, 2)
    results.run(1.0)
    return results.entries(results.arrays.grad), results.entries(results.arrays.hess)
