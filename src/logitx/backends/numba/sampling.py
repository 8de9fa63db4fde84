"""The best classes of rows, and classes drawn from them: from arrays to kernels and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._plan import Array, Plan, Scalar
from logitx.backends.numba.arrays import (
    CLASS_AXIS,
    HELD,
    checked_code,
    given_back,
    scaling_array,
    static_flag,
    stored,
    view_3d,
)
from logitx.backends.numba.kernels.draws import DrawArrays, DrawOptions, draw_rows
from logitx.backends.numba.kernels.signature import Dtypes, compiled_kernel
from logitx.backends.numba.kernels.top_k import TopKArrays, TopKOptions, top_k_rows
from logitx.backends.numba.passes.rows_or_columns import is_across
from logitx.backends.numba.threads.policy import CREW, parts_for
from logitx.backends.protocol import Draws


def best_classes(
    plan: Plan, k: int, x: Array, where: Array, temperature: Scalar, softcap: Scalar
) -> tuple[Array, Array] | None:
    """Return the k largest probabilities of each row, the class axis last, and their ids."""
    if softcap is not None:
        return None  # logits of one capped value may differ
    arrays, ways, compute, held = _settled(plan, x, where, temperature, None)
    rows = plan.layout.outer * plan.layout.inner
    values, ids = np.empty((rows, k), HELD[stored(plan.result, compute)]), np.empty((rows, k), np.int64)
    kernel = compiled_kernel(top_k_rows, ways, Dtypes(held, compute, stored(plan.result, compute)))
    options = TopKOptions(CLASS_AXIS, k, np.nan if plan.empty == "nan" else 0.0)
    view, mask, heat, cap = arrays
    lent = TopKArrays(logits=view, where=mask, temperature=heat, softcap=cap, values=values, ids=ids)
    checked_code(kernel(lent, options, *ways, parts_for(view.nbytes), CREW.address))
    shape = (*plan.layout.rows, k)
    return given_back(plan, values, plan.result, shape), given_back(plan, ids, "int64", shape)


def draw_classes(plan: Plan, draws: Draws, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Return the first class of each row at which the running sum of probabilities passes a share of it."""
    arrays, ways, compute, held = _settled(plan, x, where, temperature, softcap)
    shares = FAMILIES[plan.family].to_numpy(draws.shares)  # type: ignore[misc]
    ids = np.empty(shares.shape, np.int64)
    options = DrawOptions(CLASS_AXIS, shares.shape[0], draws.weakest, draws.kept)
    kernel = compiled_kernel(draw_rows, ways, Dtypes(held, compute))
    view, mask, heat, cap = arrays
    lent = DrawArrays(logits=view, where=mask, temperature=heat, softcap=cap, shares=shares, ids=ids)
    checked_code(kernel(lent, options, *ways, parts_for(view.nbytes), CREW.address))
    return given_back(plan, ids, "int64", (shares.shape[0], *plan.layout.rows))


def _settled(
    plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar
) -> tuple[tuple[Any, ...], tuple[bool | None, bool | None], str, str]:
    """Return the arrays that both kernels take, their ways, and the dtypes that are computed in and held."""
    compute, held = plan.compute, stored(plan.dtype, plan.compute)
    mask = None if where is None else view_3d(plan, where, "bool", "bool")
    heat, cap = scaling_array(plan, temperature, "float64"), scaling_array(plan, softcap, compute)
    ways = is_across(plan), static_flag(not (mask is heat is cap is None))
    return (view_3d(plan, x, plan.dtype, held), mask, heat, cap), ways, compute, held
