"""Rows of which an array has some classes: what they come down to, and what follows once that is merged."""

from __future__ import annotations

from typing import Any

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
from logitx.backends.numba.kernels import compiled
from logitx.backends.numba.passes.blocks import is_across
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
    kernel = compiled.partial(*ways, held, compute)
    written, parts = logit if labels is not None else None, parts_for(view.nbytes)
    checked_code(kernel(view, mask, top, rest, labels, written, heat, cap, CLASS_AXIS, *ways, parts, CREW.address))
    found = [given_back(plan, one, compute, plan.layout.rows) for one in (top, rest, logit)]
    return found[0], found[1], None if labels is None else found[2]


def merge_rows(plan: Plan, tops: list[Array], rests: list[Array], temperature: Scalar) -> tuple[Array, Array]:
    """Max, and the sum beside it, of all parts."""
    view, shape = FAMILIES[plan.family].to_numpy, tuple(tops[0].shape)
    arrays = [np.stack([view(one).reshape(-1) for one in ones], dtype=np.float64) for ones in (tops, rests)]  # type: ignore[misc]
    top, rest = np.empty_like(arrays[0][0]), np.empty_like(arrays[1][0])
    checked_code(compiled.merge()(*arrays, scaling_array(plan, temperature, "float64"), top, rest, 1, CREW.address))
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
    kernel = compiled.normalize_known(*ways, held, compute, plan.result)
    pair = (contiguous(plan, one, compute) for one in (top, rest))
    parts = parts_for(view.nbytes)
    checked_code(kernel(view, mask, written, *pair, CLASS_AXIS, *ways, heat, cap, undefined, parts, CREW.address))
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
    kernel = compiled.differentiate_known(*ways, held, compute, plan.result)
    per_label = (contiguous(plan, one, compute) for one in (top, rest, logit, share))
    arrays: tuple[Any, ...] = view, contiguous(plan, ids, "int64"), mask, written, *per_label
    checked_code(kernel(*arrays, CLASS_AXIS, *ways, z_loss, heat, cap, parts_for(view.nbytes), CREW.address))
    return given_back(plan, written, plan.result, plan.layout.shape)
