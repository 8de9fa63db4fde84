"""The cross-entropy of a block of logits in few passes: XLA computes an exponential once for every sum it is in.

Not to be differentiated: `linear` has the rules for that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from logitx._typing import Array, Plan
from logitx.backends.generic.cross_entropy import sort_out
from logitx.backends.generic.linear import Layer, Samples
from logitx.backends.row_sums import Facts, Rows, Shared, Sums, facts_of, losses_of


class Block(NamedTuple):
    """Logits and what they come down to."""

    x: Array  # as given
    u: Array  # after softcap
    hot: Array  # where the labels are; None for probabilities
    weight: Array  # of all classes, without labels; None where they have none
    bad: Array  # rows with a label out of range; None for probabilities
    softcap: Any
    sums: Sums
    rows: Rows


def _capped(x: Array, softcap: Any) -> Array:
    return x if softcap is None else jnp.where(x == -jnp.inf, x, softcap * jnp.tanh(x / softcap))


def _column(value: Any, compute: str) -> Any:
    return value if value is None or isinstance(value, float) else jnp.asarray(value).astype(compute)


def logits_of(plan: Plan, layer: Layer, hidden: Array) -> Array:
    """Return the logits of a block, added up in the dtype computed in."""
    if hidden.dtype != layer.weight.dtype:
        hidden, layer = hidden.astype(plan.compute), layer._replace(weight=layer.weight.astype(plan.compute))
    x = jnp.matmul(hidden, layer.weight.T, preferred_element_type=plan.compute)
    return x if layer.bias is None else x + layer.bias.astype(plan.compute)


def reduced(plan: Plan, layer: Layer, samples: Samples) -> Block:
    """Compute the logits of a block and reduce its rows."""
    compute, n = plan.compute, plan.layout.n
    x = logits_of(plan, layer, samples.hidden)
    softcap = _column(layer.softcap if samples.softcap is None else samples.softcap, compute)
    temperature = _column(layer.temperature if samples.temperature is None else samples.temperature, compute)
    worst = jnp.max(x, axis=1, keepdims=True)
    # Compared as given: XLA may compute what is derived twice, rounding differently
    is_top, live = x == worst, worst > -jnp.inf
    u, top = _capped(x, softcap), jnp.where(live, _capped(worst, softcap), 0.0)
    scaled = jnp.where(is_top & live, 0.0, u - top)
    scaled = scaled if temperature is None else scaled / temperature
    beside = jnp.sum(jnp.where(is_top, 0.0, jnp.exp(scaled)), axis=1)
    # Without a maximum there is nothing to sum, or a NaN that has to be in the sum
    ties = jnp.sum(is_top, axis=1, dtype=compute)
    rest = jnp.where(worst[:, 0] == -jnp.inf, -1.0, jnp.where(jnp.isnan(worst[:, 0]), jnp.nan, beside + (ties - 1.0)))
    rest = jnp.where(worst[:, 0] == jnp.inf, jnp.nan, rest)
    heat = 1.0 if temperature is None else temperature if jnp.ndim(temperature) == 0 else temperature[:, 0]
    hot = bad = None
    logits = own = jnp.zeros_like(rest)
    if plan.hard:
        _, bad = sort_out(plan, jnp, samples.targets)
        hot = jnp.arange(n)[None, :] == samples.targets[:, None]
        at = jnp.sum(jnp.where(hot, jnp.where(hot, x, 0.0), 0.0), axis=1)
        logits = jnp.where(at == worst[:, 0], top[:, 0], _capped(at, None if softcap is None else _row(softcap)))
        own = samples.classes if layer.label_smoothing is None else samples.classes * (1.0 - layer.label_smoothing)
    weight = _weights(plan, layer, samples)
    terms = total = jnp.zeros_like(rest)
    if weight is not None:
        terms = jnp.sum(jnp.where(weight == 0.0, 0.0, weight * -scaled), axis=1)
        total = jnp.sum(jnp.broadcast_to(weight, x.shape), axis=1)
    sums = Sums(top[:, 0], rest, terms, total)
    rows = Rows(logits, own, samples.classes, samples.sample_weight, heat)
    return Block(x, u, hot, weight, bad, softcap, sums, rows)


def _row(value: Any) -> Any:
    return value if jnp.ndim(value) == 0 else value[:, 0]


def _weights(plan: Plan, layer: Layer, samples: Samples) -> Array:
    """Return class weights times what targets and smoothing want of each class, without labels; None for nothing."""
    compute, smoothing = plan.compute, layer.label_smoothing
    if plan.hard and smoothing is None:
        return None
    weight = jnp.zeros((1, plan.layout.n), compute) if plan.hard else samples.targets.astype(compute)
    if smoothing is not None:
        smoothing = _column(smoothing, compute)
        weight = (1.0 - smoothing) * weight + smoothing / plan.layout.n
    return weight if layer.class_weight is None else layer.class_weight.astype(compute)[None, :] * weight


def losses(plan: Plan, layer: Layer, block: Block) -> Array:
    """Return the loss of every row."""
    value = losses_of(jnp, plan, _shared(plan, layer, 1.0), block.sums, block.rows)
    value = jnp.where(block.rows.sample == 0.0, 0.0, value)
    return value if block.bad is None else jnp.where(block.bad, jnp.nan, value)


def _shared(plan: Plan, layer: Layer, whole: Any) -> Shared:
    smoothing = 0.0 if layer.label_smoothing is None else _column(layer.label_smoothing, plan.compute)
    z_loss = 0.0 if layer.z_loss is None else _column(layer.z_loss, plan.compute)
    return Shared(smoothing / plan.layout.n, z_loss, whole)


def gradient(plan: Plan, layer: Layer, block: Block, whole: Any) -> Array:
    """Return the gradient by the logits, divided by `whole`."""
    facts = facts_of(jnp, _shared(plan, layer, whole), block.sums, block.rows)
    if block.bad is not None:
        facts = facts._replace(inverse=jnp.where(block.bad, jnp.nan, facts.inverse))
        facts = facts._replace(change=jnp.where(block.bad, jnp.nan, facts.change))
    facts = Facts(*(one[:, None] for one in facts))
    heat: Any = block.rows.temperature
    v = (block.u - facts.top) / (heat[:, None] if jnp.ndim(heat) else heat)
    p = jnp.exp(v) * facts.inverse
    if block.weight is None:
        g = facts.factor * (facts.whole + facts.pull) * p
    else:
        complement = jnp.where(v == 0.0, facts.beside, 1.0 - p)
        g = facts.factor * (p * (facts.whole - block.weight) + facts.pull * p - block.weight * complement)
    if block.hot is not None:
        g = jnp.where(block.hot, facts.change, g)
    if block.softcap is not None:  # 1 - tanh^2 cancels, 4 e / (1 + e)^2 does not
        e = jnp.exp(-2.0 * jnp.abs(block.x / block.softcap))
        g = g * (4.0 * e / (1.0 + e) ** 2)
    return jnp.where(block.x == -jnp.inf, 0.0, g)
