"""Numbers of a row: from arrays to kernels and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import dtype_name, namespace_dtype
from logitx._label_error import LabelError
from logitx._options import LossOptions
from logitx._plan import Array, Plan, Scalar
from logitx.backends import generic
from logitx.backends.formulas.numbers import mean_of
from logitx.backends.formulas.selected import check_ids, plan_of_loss, selected_by_losses
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
from logitx.backends.numba.cross_entropy import cross_entropy
from logitx.backends.numba.kernels.divergence import DivergenceArrays, DivergenceOptions, divergence_rows
from logitx.backends.numba.kernels.divergence_gradient import DivergenceGradientArrays, divergence_gradient
from logitx.backends.numba.kernels.entropy import EntropyArrays, EntropyOptions, entropy_rows
from logitx.backends.numba.kernels.means import MeanArrays, MeanOptions, mean_rows
from logitx.backends.numba.kernels.signature import Dtypes, compiled_kernel
from logitx.backends.numba.passes.rows_or_columns import is_across
from logitx.backends.numba.threads.policy import CREW, parts_for

_LEAST_WEIGHT = 1e-30  # of a distribution in a mixture; smaller ones vanish in float32


def entropy(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """log(sum) + sum of p (max - x)."""
    value = np.empty(plan.layout.outer * plan.layout.inner, HELD[plan.loss])
    _run_entropy_kernel(plan, x, where, temperature, softcap, None, value, None)
    return given_back(plan, value, plan.loss, plan.layout.rows)


def entropy_gradient(plan: Plan, share: Array, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Return the gradient of the sum of share times entropy, -share p (log p + H) du/dx, in the dtype `plan.result`."""
    gradient = empty_3d(plan, plan.result)
    weight = contiguous(plan, share, plan.compute).reshape(-1)
    _run_entropy_kernel(plan, x, where, temperature, softcap, weight, None, gradient)
    return given_back(plan, gradient, plan.result, plan.layout.shape)


def _run_entropy_kernel(
    plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, share: NumpyArray | None,
    value: NumpyArray | None, gradient: NumpyArray | None,
) -> None:  # fmt: skip
    compute, held = plan.compute, stored(plan.dtype, plan.compute)
    view = view_3d(plan, x, plan.dtype, held)
    mask = None if where is None else view_3d(plan, where, "bool", "bool")
    heat, cap = scaling_array(plan, temperature, "float64"), scaling_array(plan, softcap, compute)
    adjusted = static_flag(mask is not None or heat is not None or cap is not None)
    ways = is_across(plan), static_flag(gradient is not None), adjusted
    kernel = compiled_kernel(entropy_rows, ways, Dtypes(held, compute, plan.result, plan.loss))
    arrays = EntropyArrays(
        logits=view, where=mask, temperature=heat, softcap=cap, share=share, value=value, gradient=gradient
    )
    options = EntropyOptions(CLASS_AXIS, np.nan if plan.empty == "nan" else 0.0)
    checked_code(kernel(arrays, options, *ways, parts_for(view.nbytes), CREW.address))


def selected_log_softmax(plan: Plan, x: Array, ids: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """-loss of the most probable id, and the distance of the other logits to its logit."""
    if where is not None or len(ids.shape) == len(plan.layout.shape) or plan.empty == "zero":
        return selected_by_losses(cross_entropy, plan, x, ids, where, temperature, softcap)
    options = LossOptions(temperature=temperature, softcap=softcap)
    try:
        loss, *_ = cross_entropy(plan_of_loss(plan, plan.ignore_index), x, ids, options)
    except LabelError:
        check_ids(plan, ids)  # raises as well, and calls them ids
        raise
    xp = FAMILIES[plan.family].namespace(loss)
    return xp.astype(0.0 - loss, namespace_dtype(xp, plan.loss), copy=False)


def kl_divergence(plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Sum of q - p + p log(p / q)."""
    if plan.layout.n == 0:
        return generic.kl_divergence(plan, p, q, where, temperature, softcap)
    return _divergence(plan, p, q, where, temperature, softcap, None)


def js_divergence(plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Weight KL(p, m) + (1 - weight) KL(q, m), with m = weight p + (1 - weight) q."""
    if plan.layout.n == 0 or min(plan.weight, 1.0 - plan.weight) < _LEAST_WEIGHT:
        return generic.js_divergence(plan, p, q, where, temperature, softcap)
    return _divergence(plan, p, q, where, temperature, softcap, plan.weight)


def _divergence(
    plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar, weight: float | None
) -> Array:
    arrays, ways, dtypes, value = _paired(plan, p, q, where, temperature, softcap)
    options, all_ways = _divergence_options(plan, weight), (*ways, static_flag(weight is not None))
    kernel = compiled_kernel(divergence_rows, all_ways, dtypes)
    parts = parts_for(arrays[0].nbytes)
    checked_code(kernel(DivergenceArrays(*arrays, value), options, *all_ways, parts, CREW.address))
    return _reduced_over_rows(plan, value)


def divergence_gradients(
    plan: Plan, share: Array, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar
) -> tuple[Array, Array] | None:
    """Return share times the derivatives by both arrays, each of its dtype; None where a number is not finite.

    `share` is the derivative by the number of each row. Extreme weights of a mixture are left to the formulas.
    """
    weight = plan.weight if plan.op == "js_divergence" else None
    if plan.layout.n == 0 or (weight is not None and min(weight, 1.0 - weight) < _LEAST_WEIGHT):
        return None
    (one, two, mask, heat, cap), ways, dtypes, value = _paired(plan, p, q, where, temperature, softcap)
    result = stored(plan.dtype, plan.compute)
    by_p, by_q = empty_3d(plan, result), empty_3d(plan, dtypes.other)
    arrays = DivergenceGradientArrays(
        p=one, q=two, where=mask, temperature=heat, softcap=cap, by_p=by_p, by_q=by_q, value=value,
        share=contiguous(plan, share, plan.compute).reshape(-1),
    )  # fmt: skip
    options, all_ways = _divergence_options(plan, weight), (*ways, static_flag(weight is not None))
    kernel = compiled_kernel(divergence_gradient, all_ways, dtypes._replace(result=result))
    checked_code(kernel(arrays, options, *all_ways, parts_for(one.nbytes), CREW.address))
    if not np.isfinite(value).all():
        return None
    shape = plan.layout.shape
    return given_back(plan, by_p, result, shape), given_back(plan, by_q, dtypes.other, shape)


def _divergence_options(plan: Plan, weight: float | None) -> DivergenceOptions:
    mixed = 0.5 if weight is None else weight
    return DivergenceOptions(CLASS_AXIS, plan.empty == "nan", mixed, 1.0 - mixed)


def softmax_mean(plan: Plan, x: Array, values: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Sum of p v, compensated; where p is 0, v counts for nothing."""
    if plan.layout.n == 0:
        return generic.softmax_mean(plan, x, values, where, temperature, softcap)
    arrays, ways, dtypes, value = _paired(plan, x, values, where, temperature, softcap)
    options = MeanOptions(CLASS_AXIS, np.nan if plan.empty == "nan" else 0.0)
    kernel = compiled_kernel(mean_rows, ways, dtypes)
    checked_code(kernel(MeanArrays(*arrays, value), options, *ways, parts_for(arrays[0].nbytes), CREW.address))
    return given_back(plan, value, plan.loss, plan.layout.rows)


def _paired(
    plan: Plan, x: Array, other: Array, where: Array, temperature: Scalar, softcap: Scalar
) -> tuple[tuple[Any, Any, Any, Any, Any], tuple[bool | None, bool | None], Dtypes, NumpyArray]:
    """Return the arrays of a kernel that reads two of the shape of the logits, its ways and dtypes, and its result."""
    compute, held, kind = plan.compute, stored(plan.dtype, plan.compute), dtype_name(other.dtype)
    beside = stored(kind, compute)
    mask = None if where is None else view_3d(plan, where, "bool", "bool")
    heat, cap = scaling_array(plan, temperature, "float64"), scaling_array(plan, softcap, compute)
    arrays = view_3d(plan, x, plan.dtype, held), view_3d(plan, other, kind, beside), mask, heat, cap
    ways = is_across(plan), static_flag(mask is not None or heat is not None or cap is not None)
    value = np.empty(plan.layout.outer * plan.layout.inner, HELD[plan.loss])
    return arrays, ways, Dtypes(held, compute, loss=plan.loss, other=beside), value


def _reduced_over_rows(plan: Plan, value: NumpyArray) -> Array:
    if plan.reduction == "none":
        return given_back(plan, value, plan.loss, plan.layout.rows)
    with np.errstate(all="ignore"):
        total = value.sum(dtype=np.float64)
        total = mean_of(np, total, float(value.size), np.nan) if plan.reduction == "mean" else total
    return given_back(plan, np.asarray(total, HELD[plan.loss]), plan.loss, ())
