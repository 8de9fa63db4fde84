"""Cross-entropy in all its forms: operands become what the two kernels take, and their results go back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx._arrays import FAMILIES, dtype_name
from logitx._typing import Array, LabelError, Plan, Scalar
from logitx.backends.numba import _kernels, _threads
from logitx.backends.numba._blocks import geometry
from logitx.backends.numba._lanes import LANES
from logitx.backends.numba._loss import MEAN, NONE, SUM
from logitx.backends.numba._views import (
    HELD,
    NO_ENTRIES,
    NO_ROWS,
    NUMBER,
    NdArray,
    blank,
    entries,
    given_back,
    numbers,
    per_row,
    stored,
)

_REDUCTIONS = {"none": NONE, "sum": SUM, "mean": MEAN}
_NO_REPORTS = np.empty((0, 4))


class Wanted(NamedTuple):
    """What a call asks the kernels to write."""

    gradient: bool
    hessian: bool


class Written(NamedTuple):
    """What the kernels wrote."""

    gradient: NdArray
    hessian: NdArray
    loss: NdArray
    z_part: NdArray
    log_normalizer: NdArray


def loss(
    plan: Plan,
    wanted: Wanted,
    logits: Array,
    targets: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
    where: Array,
) -> Written:
    """Run the kernel for the kind of targets."""
    compute, held = plan.compute, stored(plan.dtype, plan.compute)
    x = entries(plan, logits, plan.dtype, held)
    mask = NO_ENTRIES["bool"] if where is None else entries(plan, where, "bool", "bool")
    weights = (
        NO_ROWS[compute] if class_weight is None else numbers(plan, class_weight, compute),
        NO_ROWS[compute] if sample_weight is None else numbers(plan, sample_weight, compute),
    )
    labels = numbers(plan, targets, "int64") if plan.hard else NO_ROWS["int64"]
    ignore = (plan.ignore_index is not None, plan.ignore_index or 0)
    smoothing = 0.0 if label_smoothing is None else float(label_smoothing)
    written = _blank(plan, wanted)
    arguments: tuple[Any, ...]
    undefined = np.nan if plan.empty == "nan" else 0.0
    options = (
        0.0 if z_loss is None else float(z_loss),
        per_row(plan, softcap, compute),
        per_row(plan, temperature, "float64"),
        undefined,
        _REDUCTIONS[plan.reduction],
    )
    if plan.hard and smoothing == 0.0 and not wanted.hessian:
        kernel = _kernels.hard(held, compute, plan.result, plan.loss)
        arguments = (x, labels, *weights, mask, written.gradient, *written[2:], *ignore, *options)
    else:
        dtype = held if plan.hard else dtype_name(targets.dtype)
        shares = NO_ENTRIES[held] if plan.hard else entries(plan, targets, dtype, dtype)
        kernel = _kernels.soft(held, dtype, compute, plan.result, plan.loss)
        arguments = (x, shares, labels, *weights, mask, *written, *ignore, NUMBER[compute](smoothing), *options)
    _run(plan, kernel, arguments, x, targets)
    return written


def _blank(plan: Plan, wanted: Wanted) -> Written:
    """Return memory for what is wanted, and arrays of size 0 for what is not."""
    nothing, absent = NO_ENTRIES[plan.result], NO_ROWS[plan.loss]
    rows = plan.layout.outer * plan.layout.inner
    count = rows if plan.reduction == "none" else 1
    return Written(
        blank(plan, plan.result) if wanted.gradient else nothing,
        blank(plan, plan.result) if wanted.hessian else nothing,
        np.empty(count, HELD[plan.loss]),
        np.empty(count, HELD[plan.loss]) if plan.return_parts else absent,
        np.empty(rows, HELD[plan.loss]) if plan.return_parts else absent,
    )


def _run(plan: Plan, kernel: _kernels.Kernel, arguments: tuple[Any, ...], x: NdArray, targets: Array) -> None:
    """Run all parts and add them up; raise for a class id out of range."""
    parts = _threads.parts_for(x.nbytes)
    if parts == 1:
        bad = kernel(*arguments, _NO_REPORTS, 0, 1)
    else:
        layout = plan.layout
        cut = geometry.py_func(layout.outer, layout.n, layout.inner, LANES[plan.compute])  # type: ignore[attr-defined]
        reports = np.zeros((cut.blocks + 1, 4))
        bad = kernel(*arguments, reports, -1, parts)
        if bad < 0:
            _threads.run(kernel, (*arguments, reports), parts)
            bad = kernel(*arguments, reports, parts, parts)
    if bad >= 0:
        ids: NdArray = FAMILIES[plan.family].to_numpy(targets)  # type: ignore[misc]
        raise LabelError(plan, bad, int(ids.flat[bad]))


def result(plan: Plan, written: Written) -> tuple[Array, Array, Array]:
    """Return (loss, z_loss, log_normalizer) in the user's family."""
    shape = plan.layout.rows if plan.reduction == "none" else ()
    loss = given_back(plan, written.loss, plan.loss, shape)
    if not plan.return_parts:
        return loss, None, None
    z_part = given_back(plan, written.z_part, plan.loss, shape)
    return loss, z_part, given_back(plan, written.log_normalizer, plan.loss, plan.layout.rows)
