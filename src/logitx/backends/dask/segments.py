"""Segments of lazy arrays: the axis of segments is rechunked to one chunk, results have the chunks of the logits."""

from __future__ import annotations

import functools
from typing import Any

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array

import logitx
from logitx._arrays.family import namespace_dtype
from logitx._plan import Array, Plan
from logitx.backends.dask.chunks import alone, pick
from logitx.backends.dask.whole_rows import solid, space
from logitx.backends.formulas.numbers import empty_value

_NAMES = ("x", "targets", "segment_ids", "offsets", "where")


def segment_softmax(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """exp(x - max) / sum of exp(x - max) of each segment."""
    return _mapped(plan, _normalized_block, plan.result, False, x, None, ids, offsets, where)


def segment_log_softmax(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """(x - max) - log(sum of exp(x - max)) of each segment."""
    return _mapped(plan, _normalized_block, plan.result, False, x, None, ids, offsets, where)


def segment_logsumexp(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """max + log(sum of exp(x - max)) of each segment."""
    return _mapped(plan, _reduced_block, plan.result, True, x, None, ids, offsets, where)


def segment_cross_entropy(
    plan: Plan, x: Array, targets: Array, ids: Array, offsets: Array, where: Array
) -> tuple[Array, Array]:
    """Sum of t ((max - x) + log(sum)) of each segment, reduced; and which segments count."""
    both = _mapped(plan, _block_of_losses, plan.loss, True, x, targets, ids, offsets, where)
    axes = tuple(range(both.ndim))
    loss, counted = (pick(both, i, axes, axes, "float64") for i in range(2))
    if plan.reduction != "none":
        loss, counted = loss.sum(), counted.sum()
    if plan.reduction == "mean":
        loss = da.where(counted == 0, empty_value(plan), loss / da.where(counted == 0, 1, counted))
    return loss.astype(plan.loss), counted


def _mapped(plan: Plan, function: Any, dtype: str, reduces: bool, *arrays: Array) -> Array:
    """Call a function on blocks that hold whole segments."""
    x, axis = arrays[0].rechunk({plan.layout.axis: -1}), plan.layout.axis
    entries = tuple(range(x.ndim))
    out = tuple(x.ndim if reduces and d == axis else d for d in entries)
    given: list[Any] = []
    for name, value in zip(_NAMES, (x, *arrays[1:]), strict=True):
        if value is None:
            given += [None, None]
        elif name in ("x", "targets", "where"):
            given += [da.broadcast_to(da.asarray(value), x.shape).rechunk(x.chunks), entries]
        else:
            vector = da.asarray(value).rechunk(-1)
            given += [vector, (axis if name == "segment_ids" else x.ndim + 1,)]
    meta = meta_from_array(x._meta, ndim=x.ndim, dtype=namespace_dtype(np, dtype))
    task = functools.partial(_run_block, function, plan)
    sizes = {x.ndim: plan.segments} if reduces else {}
    found = da.blockwise(task, out, *given, new_axes=sizes, align_arrays=False, meta=meta, token=plan.op)
    return found if reduces else found.rechunk(arrays[0].chunks)


def _run_block(function: Any, plan: Plan, *blocks: Any) -> Any:
    given = {name: alone(block) for name, block in zip(_NAMES, blocks, strict=True) if block is not None}
    x, options = given.pop("x"), {"axis": plan.layout.axis, "num_segments": plan.segments}
    with logitx.use_backend(None):
        return function(plan, x, given | options)


def _normalized_block(plan: Plan, x: Any, options: dict[str, Any]) -> Any:
    return getattr(logitx, plan.op)(x, empty=plan.empty, **options)


def _reduced_block(plan: Plan, x: Any, options: dict[str, Any]) -> Any:
    return solid(space(x), logitx.segment_logsumexp(x, **options), plan.result)


def _block_of_losses(plan: Plan, x: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    targets, xp = options.pop("targets"), space(x)
    loss = logitx.segment_cross_entropy(x, targets, reduction="none", empty=plan.empty, **options)
    found = logitx.segment_logsumexp(xp.zeros_like(x, dtype=xp.float32), **options)
    return loss, found > -xp.inf  # a segment counts where anything is left to sum
