"""Memory maps of files larger than memory: rows block by block, on the kernels, in bounded memory.

On the whole map the kernels would return the same results, but every page that they read would stay in the memory of
the process. A thread fetches blocks ahead, at the speed of the disk; their pages are given back after use.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from logitx._arrays import memory_maps
from logitx._arrays.family import namespace_dtype
from logitx._label_error import LabelError
from logitx._options import LossOptions
from logitx._plan import Array, Plan, Scalar, layout
from logitx.backends import numba
from logitx.backends.formulas.class_ids import row_shares
from logitx.backends.formulas.linear_blocks import pieces
from logitx.backends.formulas.numbers import empty_value, mean_of
from logitx.backends.formulas.selected import selected_by_losses

LARGE_CALL = 1 << 28  # bytes of a call from which pages are given back

DECLINES = {
    "js_divergence": "it reads one array block by block, and this function has two",
    "kl_divergence": "it reads one array block by block, and this function has two",
    "softmax_mean": "it reads one array block by block, and this function has two",
    "cross_entropy_value_and_grad": "its results in memory are as large as the logits",
    "cross_entropy_grad_hess": "its results in memory are as large as the logits",
    "linear_cross_entropy": "the kernels compute its logits block by block already",
    "linear_cross_entropy_value_and_grad": "the kernels compute its logits block by block already",
    "softmax_vjp": "it reads one array block by block, and this function has two",
    "log_softmax_vjp": "it reads one array block by block, and this function has two",
    "merge_logsumexp": "normalizers are one number a row",
    "focal_loss": "the kernels read its logits twice",
    "focal_loss_value_and_grad": "its results in memory are as large as the logits",
    "sigmoid": "it is elementwise, and has no rows to cut into blocks",
    "log_sigmoid": "it is elementwise, and has no rows to cut into blocks",
    "binary_cross_entropy": "it is elementwise, and has no rows to cut into blocks",
    "binary_cross_entropy_value_and_grad": "it is elementwise, and has no rows to cut into blocks",
    "binary_cross_entropy_grad_hess": "it is elementwise, and has no rows to cut into blocks",
    "log_matmul": "each block of rows needs the whole second matrix",
    "logcumsumexp": "its result in memory is as large as the logits",
    "segment_softmax": "a segment may lie in several blocks",
    "segment_log_softmax": "a segment may lie in several blocks",
    "segment_logsumexp": "a segment may lie in several blocks",
    "segment_cross_entropy": "a segment may lie in several blocks",
}


def accepts(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return None for large memory maps whose first axis is one of rows, else the reason why not."""
    x = operands[0]
    if type(x) is not np.memmap and (plan.op not in ("softmax", "log_softmax") or type(operands[-1]) is not np.memmap):
        return "no array is a memory map"
    if plan.op in DECLINES:
        return DECLINES[plan.op]
    if plan.dtype.startswith("complex"):
        return "complex numbers are summed by the formulas"
    if x.nbytes < LARGE_CALL:
        return f"less than {LARGE_CALL >> 20} MiB may stay in memory"
    if plan.op == "logsumexp" and operands[3] is not None:
        return "log_b: it reads one array block by block, not two"
    if x.ndim == 0 or plan.layout.axis == 0:
        return "the first axis is that of the classes"
    mapped = memory_maps.is_mapped(x) or (operands[-1] is not None and memory_maps.is_mapped(operands[-1]))
    return None if mapped else "the memory map is not in the order of the file, or copied on write"


def _blocks_in_turn(plan: Plan, x: Array, *others: Array) -> Iterator[tuple[slice, Plan]]:
    """Yield blocks of rows, each with the plan of a call on it."""
    size = max(1, memory_maps.BLOCK // max(1, x.nbytes // max(1, len(x))))
    for piece in memory_maps.in_turn(pieces(len(x), size), x, *others):
        shape = (piece.stop - piece.start, *x.shape[1:])
        yield piece, dataclasses.replace(plan, layout=layout(shape, plan.layout.axis), reduction="none")


def _rows_of_operand(value: Any, piece: slice, length: int) -> Any:
    """Return rows `piece` of an operand; numbers, and arrays that broadcast over rows, are returned unchanged."""
    if value is None or isinstance(value, float) or value.ndim == 0 or (value.shape[0] == 1 != length):
        return value
    return value[piece]


def softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """exp(x - max) / sum of exp(x - max)."""
    return _normalized_in_turn(plan, x, where, temperature, softcap, out)


def log_softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """(x - max) - log(sum of exp(x - max))."""
    return _normalized_in_turn(plan, x, where, temperature, softcap, out)


def _normalized_in_turn(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    written = np.empty(x.shape, namespace_dtype(np, plan.result)) if out is None else out
    for piece, part in _blocks_in_turn(plan, x, written):
        rows = (_rows_of_operand(one, piece, len(x)) for one in (where, temperature, softcap))
        block = written[piece]
        result = getattr(numba, plan.op)(part, x[piece], *rows, block)
        if result is not block:
            block[...] = result
    return written


def logsumexp(plan: Plan, x: Array, b: Array, where: Array, log_b: Array) -> tuple[Array, Array]:
    """max + log(sum of b exp(x - max)), and the sign of the sum."""
    found = []
    for piece, part in _blocks_in_turn(plan, x):
        others = (_rows_of_operand(one, piece, len(x)) for one in (b, where, log_b))
        found.append(numba.logsumexp(part, x[piece], *others))
    values, signs = zip(*found, strict=True)
    shape = plan.layout.rows
    return _join_blocks(values, shape), _join_blocks(signs, shape) if plan.return_sign else None


def entropy(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """log(sum) + sum of p (max - x)."""
    found = []
    for piece, part in _blocks_in_turn(plan, x):
        rows = (_rows_of_operand(one, piece, len(x)) for one in (where, temperature, softcap))
        found.append(numba.entropy(part, x[piece], *rows))
    return _join_blocks(found, plan.layout.rows)


def selected_log_softmax(plan: Plan, x: Array, ids: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """-loss of the most probable id, and the distance of the other logits to its logit."""
    return selected_by_losses(cross_entropy, plan, x, ids, where, temperature, softcap)


def _join_blocks(parts: Any, shape: tuple[int, ...]) -> Array:
    return np.concatenate([part.reshape(-1) for part in parts]).reshape(shape)


def _losses_in_turn(
    plan: Plan, x: Array, targets: Array, options: LossOptions
) -> Iterator[tuple[tuple[Any, Any, Any], Any]]:
    """Yield for each block of rows its results, and the shares of these rows in the mean."""
    for piece, part in _blocks_in_turn(plan, x, targets):
        ids, cut = targets[piece], _options_of_rows(options, piece, len(x))
        if plan.reduction != "none" and plan.compute != plan.loss and plan.dtype != "float64":
            part = dataclasses.replace(part, loss=plan.compute)  # weights are beyond float32, only their sums are not
        try:
            found = numba.cross_entropy(part, x[piece], ids, cut)
        except LabelError as error:
            rows = (error.index[0] + piece.start, *error.index[1:])
            position = int(np.ravel_multi_index(rows, targets.shape))
            raise LabelError(plan, position, error.label) from None
        counted = None
        if plan.reduction == "mean":
            counted = row_shares(plan, np, ids, cut.class_weight, cut.sample_weight, cut.where, (plan.layout.axis,))
        yield found, counted


def _options_of_rows(options: LossOptions, piece: slice, length: int) -> LossOptions:
    """Return the options of some rows."""
    names = ("sample_weight", "softcap", "temperature", "where")
    return options._replace(**{name: _rows_of_operand(getattr(options, name), piece, length) for name in names})


class _BlockSums:
    """Collect the losses of blocks, then reduce them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.losses: list[Any] = []
        self.z_losses: list[Any] = []
        self.log_normalizers: list[Any] = []
        self.share: list[float] = []

    def add(self, loss: Any, z_loss: Any, log_normalizer: Any, counted: Any) -> None:
        """Take the losses of a block."""
        add_up = self.plan.reduction != "none"
        for kept, one in ((self.losses, loss), (self.z_losses, z_loss)):
            if one is not None:
                kept.append(float(np.sum(one, dtype=np.float64)) if add_up else one)
        if log_normalizer is not None:
            self.log_normalizers.append(log_normalizer)
        if counted is not None:
            self.share.append(float(np.sum(counted)))

    def results(self) -> tuple[Array, Array, Array]:
        """Return (loss, z_loss, log_normalizer)."""
        parts = self.plan.return_parts
        return (
            self._reduced(self.losses),
            self._reduced(self.z_losses) if parts else None,
            _join_blocks(self.log_normalizers, self.plan.layout.rows).astype(self.plan.loss) if parts else None,
        )

    def _reduced(self, values: list[Any]) -> Array:
        plan = self.plan
        if plan.reduction == "none":
            return _join_blocks(values, plan.layout.rows)
        total = _exact_total(values)
        if plan.reduction == "mean":
            whole = _exact_total(self.share)
            with np.errstate(all="ignore"):
                total = mean_of(np, total, whole, empty_value(plan))
        return np.asarray(total, plan.loss)


def _exact_total(values: list[float]) -> float:
    """Return the sum: exact if all values are finite."""
    return math.fsum(values) if all(map(math.isfinite, values)) else float(np.sum(values))


def cross_entropy(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array, Array]:
    """s [sum of class_weight q ((max - x) + log(sum)) + z_loss c logZ^2], reduced."""
    sums = _BlockSums(plan)
    for found, counted in _losses_in_turn(plan, logits, targets, options):
        sums.add(*found, counted)
    return sums.results()
