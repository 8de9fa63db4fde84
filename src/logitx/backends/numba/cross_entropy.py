"""Cross-entropy in all its forms: operands become what the two kernels take, and their results go back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import dtype_name, namespace_dtype
from logitx._plan import Array, LabelError, Plan, Scalar
from logitx.backends.numba.arrays import (
    CLASS_AXIS,
    HELD,
    NumpyArray,
    checked_code,
    contiguous,
    empty_3d,
    given_back,
    scaling_array,
    static_flag,
    stored,
    view_3d,
)
from logitx.backends.numba.compile.static import Function
from logitx.backends.numba.kernels import compiled
from logitx.backends.numba.memory.arguments import OK
from logitx.backends.numba.passes.blocks import is_across, is_long
from logitx.backends.numba.passes.reports import MEAN, NONE, SUM
from logitx.backends.numba.threads.policy import CREW, SERIAL, parts_for
from logitx.backends.protocol import Prepared

_REDUCTION_CODES = {"none": NONE, "sum": SUM, "mean": MEAN}


class Requested(NamedTuple):
    """What a call asks the kernels to write."""

    gradient: bool
    hessian: bool


class Written(NamedTuple):
    """What the kernels wrote."""

    gradient: Any  # arrays, or None
    hessian: Any
    loss: NumpyArray
    z_part: Any
    log_normalizer: Any


def run_loss_kernel(
    plan: Plan,
    wanted: Requested,
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
    x = view_3d(plan, logits, plan.dtype, held)
    mask = None if where is None else view_3d(plan, where, "bool", "bool")
    weights = (
        None if class_weight is None else contiguous(plan, class_weight, compute),
        None if sample_weight is None else contiguous(plan, sample_weight, compute),
    )
    labels = contiguous(plan, targets, "int64") if plan.hard else None
    smoothing = 0.0 if label_smoothing is None else float(label_smoothing)
    written, across = _empty_results(plan, wanted), is_across(plan)
    ignore, options = _loss_options(plan, z_loss, softcap, temperature)
    options = *options, parts_for(x.nbytes), CREW.address
    if plan.hard and smoothing == 0.0 and not wanted.hessian:
        kernel, ways = _class_id_kernel(plan, wanted.gradient, (*weights, mask, *options[1:3]))
        if is_long(plan) and ways[2] is None:
            keeping = static_flag(wanted.gradient and plan.result == compute)
            kernel = compiled.hard_long(ways[1], keeping, held, compute, plan.result, plan.loss)
            bad = kernel(x, labels, written.gradient, *written[2:], CLASS_AXIS, ways[1], keeping, *ignore, *options)
        else:
            bad = kernel(
                x, labels, *weights, mask, written.gradient, *written[2:], CLASS_AXIS, *ways, *ignore, *options
            )
    else:
        dtype = held if plan.hard else dtype_name(targets.dtype)
        shares = None if plan.hard else view_3d(plan, targets, dtype, dtype)
        kernel = compiled.soft(across, held, dtype, compute, plan.result, plan.loss)
        bad = kernel(x, shares, labels, *weights, mask, *written, CLASS_AXIS, across, *ignore, smoothing, *options)
    if checked_code(bad) >= 0:
        ids: NumpyArray = FAMILIES[plan.family].to_numpy(targets)  # type: ignore[misc]
        raise LabelError(plan, bad, int(ids.flat[bad]))
    return written


def prepare_loss_kernel(
    plan: Plan,
    logits: Array,
    targets: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
    where: Array,
) -> Prepared | None:
    """Return the loss of class ids, alone or with its gradient, with all but the arrays settled."""
    arrays = class_weight, sample_weight, label_smoothing, where
    if not plan.hard or plan.return_parts or any(one is not None for one in arrays):
        return None
    backward = plan.op == "cross_entropy_value_and_grad"
    ignore, options = _loss_options(plan, z_loss, softcap, temperature)
    kernel, ways = _class_id_kernel(plan, backward, options[1:3])
    settled = plan.layout.axis, *ways, *ignore, *options
    rows = plan.layout.rows if plan.reduction == "none" else ()
    shape, dtype, loss_dtype = plan.layout.given, namespace_dtype(np, plan.result), HELD[plan.loss]
    nbytes, ids_dtype, empty, crew = logits.nbytes, HELD["int64"], np.empty, CREW
    scalar = FAMILIES[plan.family].scalar

    def call(x: Array, ids: Array) -> Any:
        if ids.dtype != ids_dtype or not ids.flags.c_contiguous:
            ids = np.ascontiguousarray(ids, ids_dtype)
        loss = empty(rows, loss_dtype)
        gradient = empty(shape, dtype) if backward else None
        parts = 1 if nbytes < SERIAL else parts_for(nbytes)
        bad = kernel(x, ids, None, None, None, gradient, loss, None, None, *settled, parts, crew.address)
        if bad != OK:  # a label out of range, say
            return None
        return (scalar(loss), gradient) if backward else scalar(loss)

    return call


def _loss_options(
    plan: Plan, z_loss: Scalar, softcap: Scalar, temperature: Scalar
) -> tuple[tuple[bool, int], tuple[Any, ...]]:
    """Return (whether ids are ignored, which), and (z_loss, softcap, temperature, value of no rows, reduction)."""
    ignore = plan.ignore_index is not None, plan.ignore_index or 0
    cap, heat = scaling_array(plan, softcap, plan.compute), scaling_array(plan, temperature, "float64")
    undefined = np.nan if plan.empty == "nan" else 0.0
    return ignore, (0.0 if z_loss is None else float(z_loss), cap, heat, undefined, _REDUCTION_CODES[plan.reduction])


def _class_id_kernel(plan: Plan, gradient: bool, optional: tuple[Any, ...]) -> tuple[Function, tuple[Any, ...]]:
    """Return the kernel for class ids and the flags that it is compiled for; `optional` are operands it can omit."""
    ways = is_across(plan), static_flag(gradient), static_flag(any(one is not None for one in optional))
    held = stored(plan.dtype, plan.compute)
    return compiled.hard(*ways, held, plan.compute, plan.result, plan.loss), ways


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
    )


def loss_results(plan: Plan, written: Written) -> tuple[Array, Array, Array]:
    """Return (loss, z_loss, log_normalizer) in the user's family."""
    shape = plan.layout.rows if plan.reduction == "none" else ()
    loss = given_back(plan, written.loss, plan.loss, shape)
    if not plan.return_parts:
        return loss, None, None
    z_part = given_back(plan, written.z_part, plan.loss, shape)
    return loss, z_part, given_back(plan, written.log_normalizer, plan.loss, plan.layout.rows)


def cross_entropy(
    plan: Plan,
    logits: Array,
    targets: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
    where: Array,
) -> tuple[Array, Array, Array]:
    """s [sum of class_weight q ((max - x) + log(sum)) + z_loss c logZ^2], reduced."""
    written = run_loss_kernel(
        plan, Requested(False, False), logits, targets, class_weight, sample_weight, label_smoothing, z_loss, softcap,
        temperature, where,
    )  # fmt: skip
    return loss_results(plan, written)


def cross_entropy_value_and_grad(
    plan: Plan,
    logits: Array,
    targets: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
    where: Array,
) -> tuple[Array, Array, Array, Array]:
    """The loss, and s [p (A - wq) - wq (1 - p) + 2 z_loss c logZ p] du/dx with A = sum of wq."""
    written = run_loss_kernel(
        plan, Requested(True, False), logits, targets, class_weight, sample_weight, label_smoothing, z_loss, softcap,
        temperature, where,
    )  # fmt: skip
    value, z_part, log_normalizer = loss_results(plan, written)
    gradient = given_back(plan, written.gradient, plan.result, plan.layout.shape)
    return value, gradient, z_part, log_normalizer


def cross_entropy_grad_hess(
    plan: Plan, logits: Array, targets: Array, class_weight: Array, sample_weight: Array
) -> tuple[Array, Array]:
    """s [p (A - wt) - wt (1 - p)] and s A p (1 - p), with A = sum of wt."""
    written = run_loss_kernel(
        plan, Requested(True, True), logits, targets, class_weight, sample_weight, None, None, None, None, None
    )
    shape = plan.layout.shape
    gradient = given_back(plan, written.gradient, plan.result, shape)
    return gradient, given_back(plan, written.hessian, plan.result, shape)
