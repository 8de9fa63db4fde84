"""A matrix product and a cumulative sum of exponentials of lazy arrays: blocks of whole sums."""

from __future__ import annotations

import functools
from typing import Any

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array

import logitx
from logitx._arrays.family import namespace_dtype
from logitx._plan import Array, Plan
from logitx.backends.dask.chunks import alone
from logitx.backends.dask.whole_rows import solid, space


def logcumsumexp(plan: Plan, x: Array) -> Array:
    """log(sum of exp(x_j) over j <= i); the axes that are summed over are rechunked to one chunk."""
    whole, entries = x.rechunk(dict.fromkeys(plan.layout.axes, -1)), tuple(range(x.ndim))
    meta = meta_from_array(x._meta, ndim=x.ndim, dtype=namespace_dtype(np, plan.result))
    task = functools.partial(_cumulative_block, plan)
    return da.blockwise(task, entries, whole, entries, align_arrays=False, meta=meta).rechunk(x.chunks)


def _cumulative_block(plan: Plan, block: Any) -> Any:
    with logitx.use_backend(None):
        found = logitx.logcumsumexp(block, axis=plan.layout.axes, reverse=plan.reverse)
        return solid(space(block), found, plan.result)


def log_matmul(plan: Plan, a: Array, b: Array) -> Array:
    """log(exp(a) @ exp(b)); the axis that is summed over is rechunked to one chunk."""
    a, b = (one if isinstance(one, da.Array) else da.asarray(one) for one in (a, b))
    vector, column = a.ndim == 1, b.ndim == 1
    a, b = a[None, :] if vector else a, b[:, None] if column else b
    a, b = a.rechunk({a.ndim - 1: -1}), b.rechunk({b.ndim - 2: -1})
    stack = max(a.ndim, b.ndim) - 2
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (da.broadcast_to(x, (*shape, *x.shape[-2:])) for x in (a, b))
    b = b.rechunk({axis: a.chunks[axis] for axis in range(stack)})
    axes = tuple(range(stack))
    index_a, index_b, out = (*axes, stack, stack + 1), (*axes, stack + 1, stack + 2), (*axes, stack, stack + 2)
    meta = meta_from_array(a._meta, ndim=stack + 2, dtype=namespace_dtype(np, plan.result))
    task = functools.partial(_product_block, plan)
    found = da.blockwise(task, out, a, index_a, b, index_b, align_arrays=False, meta=meta)
    found = found[..., 0, :] if vector else found
    return found[..., 0] if column else found


def _product_block(plan: Plan, a: Any, b: Any) -> Any:
    a, b = alone(a), alone(b)
    with logitx.use_backend(None):
        return solid(space(a), logitx.log_matmul(a, b), plan.result)


def complex_logsumexp(plan: Plan, x: Array, b: Array, where: Array, log_b: Array) -> tuple[Array, Array]:
    """Log-sum-exp of complex numbers; the axes that are summed over are rechunked to one chunk."""
    entries, axes = tuple(range(x.ndim)), plan.layout.axes
    x = x.rechunk(dict.fromkeys(axes, -1))
    given: list[Any] = [x, entries]
    for operand in (b, where, log_b):
        whole = None if operand is None else da.broadcast_to(da.asarray(operand), x.shape).rechunk(x.chunks)
        given += [whole, None if operand is None else entries]
    kinds = (plan.result, plan.dtype) if plan.return_sign else (plan.dtype,)
    found = [
        da.blockwise(
            functools.partial(_complex_block, plan, which), entries, *given, align_arrays=False,
            adjust_chunks=dict.fromkeys(axes, 1), meta=meta_from_array(x._meta.real, ndim=x.ndim, dtype=np.dtype(kind)),
        )
        for which, kind in enumerate(kinds)
    ]  # fmt: skip
    if not plan.keepdims:
        found = [one.squeeze(axis=axes) for one in found]
    return found[0], found[1] if plan.return_sign else None


def _complex_block(plan: Plan, which: int, x: Any, b: Any, where: Any, log_b: Any) -> Any:
    options = {"b": b, "where": where, "log_b": log_b, "axis": plan.layout.axes, "keepdims": True}
    with logitx.use_backend(None):
        found = logitx.logsumexp(x, return_sign=plan.return_sign, **options)
    return found[which] if plan.return_sign else found
