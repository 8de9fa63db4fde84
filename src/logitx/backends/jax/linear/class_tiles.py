"""Losses of a linear layer where a block of all classes would be low: by tiles of some classes, which are merged.

A matrix product of few rows spends its time on reading the weights. Jitted full logits = 1, (1024, 1024) by 128256
classes at 32 MiB: in blocks of 65 rows 1.08, in tiles of 512 rows 0.83 (medians, beside other work).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from logitx._plan import Array, Plan
from logitx.backends.formulas.class_ids import sort_out
from logitx.backends.formulas.linear_blocks import ENOUGH, block_rows, budget_of, evenly, tile_plan
from logitx.backends.formulas.pairs import RowOperands, RowSums, Shared, losses_of, merge_row_sums
from logitx.backends.generic.linear import LayerOperands, Samples, scaling
from logitx.backends.jax.linear.layer import classes_of, logits_of, over
from logitx.backends.jax.linear.row_blocks import in_line
from logitx.backends.jax.primitive import run_primitive, zeros_among


def suits_tiles(plan: Plan, layer: LayerOperands) -> bool:
    """True if tiles of classes are faster for the losses: those of class ids, one a row."""
    count = plan.layout.outer
    low = isinstance(count, int) and block_rows(plan, count) < min(count, ENOUGH)
    return low and plan.hard and layer.label_smoothing is None and jax.device_count() == 1


@functools.lru_cache(maxsize=1024)
def _tile_reduce_plan(plan: Plan, rows: int, classes: int) -> Plan:
    return dataclasses.replace(tile_plan(plan, rows, classes), op="reduce_rows", hard=False)


def _one_per_row(value: Array) -> Array:
    return value if value is None or value.ndim == 0 else value[:, 0]


def _block_losses(plan: Plan, layer: LayerOperands, one: Samples, width: int) -> Array:
    """Return the losses of some rows."""
    height, compute = one.hidden.shape[0], plan.compute
    ignored, bad = sort_out(plan, jnp, one.targets)
    ids = jnp.where(ignored | bad, 0, one.targets)
    softcap, heat = (None if value is None else jnp.asarray(value, compute) for value in scaling(layer, one))
    by_row = 1.0 if heat is None else _one_per_row(heat)

    def reduce(start: Any, size: int, state: tuple[RowSums, Array]) -> tuple[RowSums, Array]:
        sums, logit = state
        x = logits_of(plan, classes_of(layer, start, size), one.hidden)
        top, rest, own = run_primitive(_tile_reduce_plan(plan, height, size), x, None, heat, softcap, ids - start)
        return merge_row_sums(jnp, sums, RowSums(top, rest, zero, zero), by_row), logit + own

    zero = zeros_among(height, compute, layer, one)
    sums, logit = over(plan.layout.n, width, reduce, (RowSums(zero, zero - 1.0, zero, zero), zero))
    z_loss = 0.0 if layer.z_loss is None else jnp.asarray(layer.z_loss, compute)
    classes, sample = one.classes.astype(compute), one.sample_weight.astype(compute)
    value = losses_of(jnp, plan, Shared(0.0, z_loss, 1.0), sums, RowOperands(logit, classes, classes, sample, by_row))
    value = jnp.where(ignored | (sample * classes == 0.0), 0.0, value)
    return jnp.where(bad, jnp.nan, value)


def losses_by_tiles(plan: Plan, layer: LayerOperands, samples: Samples, share: Array) -> Array:
    """Return the losses of all rows."""
    count = plan.layout.outer
    height = evenly(count, min(ENOUGH, budget_of(plan)))
    width = evenly(plan.layout.n, max(1, budget_of(plan) // (height + layer.weight.shape[1])))  # weights are copied
    line = in_line(samples, share, height)

    def step(i: Array, found: Array) -> Array:
        part = _block_losses(plan, layer, line.take(i * height, height), width)
        return jax.lax.dynamic_update_slice(found, part, (i * height,))

    found = zeros_among(count + height, plan.compute, layer, samples)
    return line.returned(jax.lax.fori_loop(0, -(-line.counting // height), step, found))
