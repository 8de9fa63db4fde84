"""What a linear layer makes of some rows and classes: their logits, and losses and gradients of these."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from logitx._plan import Array, Plan
from logitx.backends.formulas.linear_blocks import block_plan
from logitx.backends.generic.linear import LayerOperands, Samples, scaling
from logitx.backends.jax.primitive import run_primitive


def logits_of(plan: Plan, layer: LayerOperands, hidden: Array) -> Array:
    """Return logits, added up in the dtype computed in."""
    weight = layer.weight
    if hidden.dtype != weight.dtype:
        hidden, weight = hidden.astype(plan.compute), weight.astype(plan.compute)
    x = jnp.matmul(hidden, weight.T, preferred_element_type=plan.compute)
    return x if layer.bias is None else x + layer.bias.astype(plan.compute)[None, :]  # of one rank, as some users ask


@functools.lru_cache(maxsize=1024)
def _rows_plan(plan: Plan, op: str, rows: int) -> Plan:
    return dataclasses.replace(block_plan(plan, rows), op=op)


def from_logits(op: str, plan: Plan, layer: LayerOperands, one: Samples, x: Array) -> tuple[Array, ...]:
    """Return what an operation makes of the logits of rows."""
    softcap, temperature = scaling(layer, one)
    return run_primitive(
        _rows_plan(plan, op, x.shape[0]), x, one.targets, layer.class_weight, one.sample_weight,
        layer.label_smoothing, layer.z_loss, softcap, temperature, None,
    )  # fmt: skip


def classes_of(layer: LayerOperands, start: Any, size: int) -> LayerOperands:
    """Return some classes of a layer."""
    weight, bias = (
        None if x is None else jax.lax.dynamic_slice_in_dim(x, start, size, 0) for x in (layer.weight, layer.bias)
    )
    return layer._replace(weight=weight, bias=bias)


def over(length: int, size: int, step: Callable[[Any, int, Any], Any], state: Any) -> Any:
    """Take steps (start, size, state) over pieces of a length, the odd one first.

    The odd piece comes first: XLA updates the state of the loop in place, but would copy it for a step after the loop.
    """
    whole = (length - 1) // size
    state = step(whole * size, length - whole * size, state)
    return jax.lax.fori_loop(0, whole, lambda i, state: step(i * size, size, state), state) if whole else state
