"""Cross-entropy in all its forms: operands become what the two kernels take, and their results go back."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import dtype_name, namespace_dtype
from logitx._label_error import LabelError
from logitx._options import LossOptions
from logitx._plan import Array, Plan, Scalar
from logitx.backends.numba.arrays import (
    CLASS_AXIS,
    HELD,
    NumpyArray,
    checked_code,
    contiguous,
    empty_3d,
    given_back,
    label_ids,
    scaling_array,
    static_flag,
    stored,
    view_3d,
    with_slabs_together,
)
from logitx.backends.numba.kernels.cross_entropy_ids import HardArrays, hard
from logitx.backends.numba.kernels.cross_entropy_long import HardLongArrays, hard_long
from logitx.backends.numba.kernels.cross_entropy_numbers import (
    COUNT,
    PLACES,
    NumberedArrays,
    RowNumbers,
    hard_with_numbers,
)
from logitx.backends.numba.kernels.cross_entropy_probabilities import SoftArrays, soft
from logitx.backends.numba.kernels.cross_entropy_woven import hard_woven
from logitx.backends.numba.kernels.signature import Dtypes, compiled_kernel
from logitx.backends.numba.memory.arguments import OK
from logitx.backends.numba.passes.loss import LossNumbers
from logitx.backends.numba.passes.reports import MEAN, NONE, SUM
from logitx.backends.numba.passes.rows_or_columns import is_across, is_long, is_woven
from logitx.backends.numba.threads.policy import CREW, SERIAL_BYTES, parts_for
from logitx.backends.protocol import Prepared

_REDUCTION_CODES = {"none": NONE, "sum": SUM, "mean": MEAN}


class Requested(NamedTuple):
    """What a call asks the kernels to write."""

    gradient: bool
    hessian: bool = False
    numbers: bool = False  # of each row, for class ids without smoothing


_LOSS_ALONE, _WITH_GRADIENT, _WITH_HESSIAN = Requested(False), Requested(True), Requested(True, hessian=True)


class Written(NamedTuple):
    """What the kernels wrote."""

    gradient: Any  # arrays, or None
    hessian: Any
    loss: NumpyArray
    z_part: Any
    log_normalizer: Any
    numbers: Any  # `COUNT` a row


def run_loss_kernel(plan: Plan, wanted: Requested, logits: Array, targets: Array, options: LossOptions) -> Written:
    """Run the kernel for the kind of targets."""
    compute, held = plan.compute, stored(plan.dtype, plan.compute)
    class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature, where = options
    x = view_3d(plan, logits, plan.dtype, held)
    mask = None if where is None else view_3d(plan, where, "bool", "bool")
    by_class = None if class_weight is None else contiguous(plan, class_weight, compute)
    by_row = None if sample_weight is None else contiguous(plan, sample_weight, compute)
    cap, heat = scaling_array(plan, softcap, compute), scaling_array(plan, temperature, "float64")
    labels = label_ids(plan, targets) if plan.hard else None
    written, across = _empty_results(plan, wanted), is_across(plan)
    numbers = _loss_numbers(plan, CLASS_AXIS, label_smoothing, z_loss)
    parts, crew = parts_for(x.nbytes), CREW.address
    if plan.hard and numbers.smoothing == 0.0 and not wanted.hessian:
        adjusted = static_flag(not (by_class is by_row is mask is cap is heat is None))
        ways = across, static_flag(wanted.gradient), adjusted
        dtypes = Dtypes(held, compute, plan.result, plan.loss)
        if wanted.numbers:
            numbered = NumberedArrays(
                x, labels, by_class, by_row, mask, heat, cap, written.gradient, written.loss, written.z_part,
                written.log_normalizer, written.numbers,
            )  # fmt: skip
            bad = compiled_kernel(hard_with_numbers, ways, dtypes)(numbered, numbers, *ways, parts, crew)
        elif (is_long(plan) or is_woven(plan)) and adjusted is None:
            entry, x = (hard_long, x) if is_long(plan) else (hard_woven, with_slabs_together(x))
            whole = HardLongArrays(
                logits=x, labels=labels, like=None, wide=None, grad=written.gradient, loss=written.loss,
                z_part=written.z_part, log_normalizer=written.log_normalizer,
            )  # fmt: skip
            long_ways = ways[1], static_flag(wanted.gradient and plan.result == compute)
            bad = compiled_kernel(entry, long_ways, dtypes)(whole, numbers, *long_ways, parts, crew)
        else:
            # By position: names cost 0.3 us of a call that takes 12 on ten numbers
            arrays = HardArrays(
                x, labels, by_class, by_row, mask, heat, cap, written.gradient, written.loss, written.z_part,
                written.log_normalizer,
            )  # fmt: skip
            bad = compiled_kernel(hard, ways, dtypes)(arrays, numbers, *ways, parts, crew)
    else:
        given = dtype_name(targets.dtype)
        dtype = held if plan.hard else stored(given, compute)
        shares = SoftArrays(
            logits=x, targets=None if plan.hard else view_3d(plan, targets, given, dtype), labels=labels,
            class_weight=by_class, sample_weight=by_row, where=mask, temperature=heat, softcap=cap,
            grad=written.gradient, hess=written.hessian, loss=written.loss, z_part=written.z_part,
            log_normalizer=written.log_normalizer,
        )  # fmt: skip
        kernel = compiled_kernel(soft, (across,), Dtypes(held, compute, plan.result, plan.loss, dtype))
        bad = kernel(shares, numbers, across, parts, crew)
    if checked_code(bad) >= 0:
        ids: NumpyArray = FAMILIES[plan.family].to_numpy(targets)  # type: ignore[misc]
        raise LabelError(plan, bad, int(ids.flat[bad]))
    return written


def _loss_numbers(plan: Plan, axis: int, label_smoothing: Scalar, z_loss: Scalar) -> LossNumbers:
    """Return the numbers that the kernels of losses take."""
    ignored, undefined = plan.ignore_index, math.nan if plan.empty == "nan" else 0.0
    smoothing = 0.0 if label_smoothing is None else float(label_smoothing)
    z = 0.0 if z_loss is None else float(z_loss)
    reduction = _REDUCTION_CODES[plan.reduction]
    return LossNumbers(axis, ignored is not None, ignored or 0, smoothing, z, undefined, reduction)


def prepare_loss_kernel(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> Prepared | None:
    """Return the loss of class ids, alone or with its gradient, with all but the arrays settled."""
    class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature, where = options
    arrays, backward = (class_weight, sample_weight, label_smoothing, where), plan.op == "cross_entropy_value_and_grad"
    if not plan.hard or plan.return_parts or (backward and plan.scalar) or any(one is not None for one in arrays):
        return None
    if dtype_name(targets.dtype) == "uint64":  # not every one of its numbers is one of int64
        return None
    compute = plan.compute
    cap, heat = scaling_array(plan, softcap, compute), scaling_array(plan, temperature, "float64")
    ways = is_across(plan), static_flag(backward), static_flag(cap is not None or heat is not None)
    numbers, adjusted = _loss_numbers(plan, plan.layout.axis, None, z_loss), ways[2]
    across, gradients = ways[:2]
    keeping, woven = static_flag(backward and plan.result == compute), adjusted is None and is_woven(plan)
    dtypes = Dtypes(plan.dtype, compute, plan.result, plan.loss)
    kernel = compiled_kernel(hard_woven, (gradients, keeping), dtypes) if woven else compiled_kernel(hard, ways, dtypes)
    rows = plan.layout.rows if plan.reduction == "none" else ()
    shape, dtype, loss_dtype = plan.layout.given, namespace_dtype(np, plan.result), HELD[plan.loss]
    nbytes, ids_dtype, empty, crew = logits.nbytes, HELD["int64"], np.empty, CREW
    scalar, alone = FAMILIES[plan.family].scalar, nbytes < SERIAL_BYTES

    def call(x: Array, ids: Array) -> Any:
        if ids.dtype != ids_dtype or not ids.flags.c_contiguous:
            ids = np.ascontiguousarray(ids, ids_dtype)
        loss = empty(rows, loss_dtype)
        gradient = empty(shape, dtype) if backward else None
        parts = 1 if alone else parts_for(nbytes)
        if woven:
            bad = kernel(
                (x, ids, None, None, gradient, loss, None, None), numbers, gradients, keeping, parts, crew.address
            )
        else:
            arrays = x, ids, None, None, None, heat, cap, gradient, loss, None, None
            bad = kernel(arrays, numbers, across, gradients, adjusted, parts, crew.address)
        if bad != OK:  # a label out of range, say
            return None
        return (scalar(loss), gradient) if backward else scalar(loss)

    return call


def _empty_results(plan: Plan, wanted: Requested) -> Written:
    """Return memory for what is wanted, and None for what is not."""
    rows = plan.layout.outer * plan.layout.inner
    count = rows if plan.reduction == "none" else 1
    return Written(
        empty_3d(plan, plan.result) if wanted.gradient else None,
        empty_3d(plan, plan.result) if wanted.hessian else None,
        np.empty(count, HELD[plan.loss]),
        np.empty(count, HELD[plan.loss]) if plan.return_parts else None,
        np.empty(rows, HELD[plan.loss]) if plan.return_parts else None,
        np.empty((rows, COUNT), HELD[plan.loss]) if wanted.numbers else None,
    )


def loss_results(plan: Plan, written: Written) -> tuple[Array, Array, Array]:
    """Return (loss, z_loss, log_normalizer) in the user's family."""
    shape = plan.layout.rows if plan.reduction == "none" else ()
    loss = given_back(plan, written.loss, plan.loss, shape)
    if not plan.return_parts:
        return loss, None, None
    z_part = given_back(plan, written.z_part, plan.loss, shape)
    return loss, z_part, given_back(plan, written.log_normalizer, plan.loss, plan.layout.rows)


def cross_entropy(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array, Array]:
    """s [sum of class_weight q ((max - x) + log(sum)) + z_loss c logZ^2], reduced."""
    written = run_loss_kernel(plan, _LOSS_ALONE, logits, targets, options)
    return loss_results(plan, written)


def cross_entropy_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: LossOptions
) -> tuple[Array, Array, Array, Array]:
    """The loss, and s [p (A - wq) - wq (1 - p) + 2 z_loss c logZ p] du/dx with A = sum of wq."""
    written = run_loss_kernel(plan, _WITH_GRADIENT, logits, targets, options)
    value, z_part, log_normalizer = loss_results(plan, written)
    gradient = given_back(plan, written.gradient, plan.result, plan.layout.shape)
    return value, gradient, z_part, log_normalizer


def loss_with_numbers(
    plan: Plan, logits: Array, targets: Array, options: LossOptions
) -> tuple[tuple[Array, ...], RowNumbers] | None:
    """Return the loss, with its gradient if `plan.op` has one, and the numbers of each row from the same pass."""
    if not plan.hard or (options.label_smoothing is not None and float(options.label_smoothing) != 0.0):
        return None
    backward = plan.op == "cross_entropy_value_and_grad"
    written = run_loss_kernel(plan, Requested(backward, numbers=True), logits, targets, options)
    loss, *parts = loss_results(plan, written)
    gradient = (given_back(plan, written.gradient, plan.result, plan.layout.shape),) if backward else ()
    columns, rows = np.ascontiguousarray(written.numbers.T), plan.layout.rows
    numbers = RowNumbers(*(given_back(plan, one, plan.loss, rows) for one in columns))
    correct = given_back(plan, columns[PLACES.correct] != 0.0, "bool", rows)
    return (loss, *gradient, *parts), numbers._replace(correct=correct)


def cross_entropy_grad_hess(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array]:
    """s [p (A - wt) - wt (1 - p)] and s A p (1 - p), with A = sum of wt."""
    written = run_loss_kernel(plan, _WITH_HESSIAN, logits, targets, options)
    shape = plan.layout.shape
    gradient = given_back(plan, written.gradient, plan.result, shape)
    return gradient, given_back(plan, written.hessian, plan.result, shape)
