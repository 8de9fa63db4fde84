"""Rows whose classes lie in several arrays, on kernels: reduce each array to pairs, merge pairs, finish each array."""

from __future__ import annotations

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._plan import Array, Plan, Scalar
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
from logitx.backends.numba.kernels.cut_rows import (
    DifferentiateNumbers,
    DifferentiatePartArrays,
    MergeArrays,
    NormalizePartArrays,
    ReducePartArrays,
    differentiate_part,
    merge_parts,
    normalize_part,
    reduce_part,
)
from logitx.backends.numba.kernels.signature import Dtypes, compiled_kernel
from logitx.backends.numba.kernels.softmax import NormalizeOptions
from logitx.backends.numba.passes.rows_or_columns import is_across
from logitx.backends.numba.threads.policy import CREW, parts_for


def _mask(plan: Plan, where: Array) -> NumpyArray | None:
    return None if where is None else view_3d(plan, where, "bool", "bool")


def reduce_rows(
    plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, ids: Array
) -> tuple[Array, Array, Array]:
    """Max, and the sum of exp(x - max) beside it; with the logits of the labels."""
    compute, held = plan.compute, stored(plan.dtype, plan.compute)
    view, mask = view_3d(plan, x, plan.dtype, held), _mask(plan, where)
    labels = None if ids is None else contiguous(plan, ids, "int64")
    heat, cap = scaling_array(plan, temperature, "float64"), scaling_array(plan, softcap, compute)
    top, rest, logit = np.zeros((3, plan.layout.outer * plan.layout.inner), HELD[compute])
    ways = is_across(plan), static_flag(any(one is not None for one in (mask, heat, cap)))
    arrays = ReducePartArrays(
        logits=view, where=mask, labels=labels, temperature=heat, softcap=cap, top=top, rest=rest,
        label_logits=logit if labels is not None else None,
    )  # fmt: skip
    kernel = compiled_kernel(reduce_part, ways, Dtypes(held, compute))
    checked_code(kernel(arrays, CLASS_AXIS, *ways, parts_for(view.nbytes), CREW.address))
    found = [given_back(plan, one, compute, plan.layout.rows) for one in (top, rest, logit)]
    return found[0], found[1], None if labels is None else found[2]


def merge_rows(plan: Plan, tops: list[Array], rests: list[Array], temperature: Scalar) -> tuple[Array, Array]:
    """Max, and the sum beside it, of all parts."""
    view, shape = FAMILIES[plan.family].to_numpy, tuple(tops[0].shape)
    arrays = [np.stack([view(one).reshape(-1) for one in ones], dtype=np.float64) for ones in (tops, rests)]  # type: ignore[misc]
    top, rest = np.empty_like(arrays[0][0]), np.empty_like(arrays[1][0])
    pairs = MergeArrays(
        arrays[0], arrays[1], temperature=scaling_array(plan, temperature, "float64"), top=top, rest=rest
    )
    checked_code(compiled_kernel(merge_parts, (), Dtypes("float64", "float64"))(pairs, 1, CREW.address))
    return given_back(plan, top, "float64", shape), given_back(plan, rest, "float64", shape)


def normalize_rows(
    plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, top: Array, rest: Array
) -> Array:
    """exp(x - max) / sum, or its logarithm."""
    compute, held = plan.compute, stored(plan.dtype, plan.compute)
    view, mask = view_3d(plan, x, plan.dtype, held), _mask(plan, where)
    heat, cap = scaling_array(plan, temperature, "float64"), scaling_array(plan, softcap, compute)
    written, undefined = empty_3d(plan, plan.result), np.nan if plan.empty == "nan" else 0.0
    ways = (
        is_across(plan),
        static_flag(plan.op == "log_softmax"),
        static_flag(any(one is not None for one in (mask, heat, cap))),
    )
    kernel = compiled_kernel(normalize_part, ways, Dtypes(held, compute, plan.result))
    arrays = NormalizePartArrays(
        logits=view, where=mask, temperature=heat, softcap=cap, out=written, tops=contiguous(plan, top, compute),
        rests=contiguous(plan, rest, compute),
    )  # fmt: skip
    checked_code(kernel(arrays, NormalizeOptions(CLASS_AXIS, undefined), *ways, parts_for(view.nbytes), CREW.address))
    return given_back(plan, written, plan.result, plan.layout.shape)


def differentiate_rows(
    plan: Plan,
    x: Array,
    where: Array,
    temperature: Scalar,
    softcap: Scalar,
    z_loss: float,
    ids: Array,
    top: Array,
    rest: Array,
    logit: Array,
    share: Array,
) -> Array:
    """Share times [p - t + 2 z_loss logZ p] du/dx."""
    compute, held = plan.compute, stored(plan.dtype, plan.compute)
    view, mask = view_3d(plan, x, plan.dtype, held), _mask(plan, where)
    heat, cap = scaling_array(plan, temperature, "float64"), scaling_array(plan, softcap, compute)
    written = empty_3d(plan, plan.result)
    ways = is_across(plan), static_flag(any(one is not None for one in (mask, heat, cap)))
    kernel = compiled_kernel(differentiate_part, ways, Dtypes(held, compute, plan.result))
    arrays = DifferentiatePartArrays(
        logits=view, labels=contiguous(plan, ids, "int64"), where=mask, temperature=heat, softcap=cap, grad=written,
        tops=contiguous(plan, top, compute), rests=contiguous(plan, rest, compute),
        label_logits=contiguous(plan, logit, compute), shares=contiguous(plan, share, compute),
    )  # fmt: skip
    checked_code(kernel(arrays, DifferentiateNumbers(CLASS_AXIS, z_loss), *ways, parts_for(view.nbytes), CREW.address))
    return given_back(plan, written, plan.result, plan.layout.shape)
