"""Rows whose classes lie on several devices: each shard's kernel, and what the devices tell one another of each row.

That is the maximum, the sum beside it and the logit of the label: numbers a row, never the logits.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from logitx._plan import Array, Plan
from logitx.backends.formulas.class_ids import sort_out
from logitx.backends.formulas.pairs import RowOperands, RowSums, Shared, gradient_facts, losses_of
from logitx.backends.jax.kernel_calls import kernel


class MergedRows(NamedTuple):
    """What a shard knows of its rows and of the whole ones; all keep a class axis of length 1."""

    top: Array
    rest: Array
    share: Array  # of the probability of the whole row, in this shard
    fall: Array  # how far the logarithm of a probability is below that within the shard


def merge_shards(plan: Plan, names: tuple[str, ...], x: Array, where: Array, temperature: Array) -> MergedRows:
    """Reduce the rows of a shard and merge them with those of the other shards along mesh axes."""
    heat = 1.0 if temperature is None else temperature.astype(plan.compute)
    found = kernel(dataclasses.replace(plan, op="reduce_rows"), x, where, temperature, None, None)
    own, rest = (jnp.expand_dims(one, plan.layout.axis) for one in found[:2])
    nothing = rest == -1.0
    top = jax.lax.pmax(jnp.where(nothing, -jnp.inf, own), names)
    top = jnp.where(top == -jnp.inf, 0.0, top)
    leads = ~nothing & (own == top)
    gap = jnp.where(nothing | leads, 0.0, (top - own) / heat)
    # Whose maximum is left out of the sum; subtracting it from the whole sum would cancel
    part = jnp.where(nothing, 0.0, jnp.where(leads, rest, (1.0 + rest) * jnp.exp(-gap)))
    whole = jax.lax.psum(part, names) + (jax.lax.psum(leads.astype(plan.compute), names) - 1.0)
    total = jnp.where(whole == -1.0, 1.0, 1.0 + whole)
    share = jnp.where(nothing, 0.0, (1.0 + rest) * jnp.exp(-gap)) / total
    fall = gap + (jnp.log1p(whole) - jnp.log1p(jnp.where(nothing, 0.0, rest)))
    return MergedRows(top, whole, share, fall)


def normalize_shard(plan: Plan, names: tuple[str, ...], x: Array, where: Array, temperature: Array) -> Array:
    """Return softmax or log_softmax of a shard."""
    whole = merge_shards(plan, names, x, where, temperature)
    exact = dataclasses.replace(plan, result=plan.compute, empty="zero")
    (found,) = kernel(exact, x, where, temperature, None)
    known = jnp.where(found == -jnp.inf, found, found - whole.fall) if plan.op == "log_softmax" else found * whole.share
    undefined = jnp.isnan(whole.rest) | (whole.rest == -1.0) if plan.empty == "nan" else jnp.isnan(whole.rest)
    known = jnp.where(undefined, jnp.nan, known)
    if where is not None:
        known = jnp.where(where, known, -jnp.inf if plan.op == "log_softmax" else 0.0)
    return known.astype(plan.result)


def logsumexp_of_shard(plan: Plan, names: tuple[str, ...], x: Array, where: Array) -> Array:
    """Return logsumexp of rows whose shards this is one of."""
    whole = merge_shards(plan, names, x, where, None)
    value = jnp.where(whole.rest == -1.0, -jnp.inf, whole.top + jnp.log1p(whole.rest))
    nans = jax.lax.pmax(jnp.any(_live(x, where) & jnp.isnan(x), axis=plan.layout.axis).astype("int32"), names)
    value = jnp.squeeze(jnp.where(jnp.isposinf(whole.top), jnp.inf, value), plan.layout.axis)
    return jnp.where(nans > 0, jnp.nan, value).astype(plan.result)


def pull_back_shard(plan: Plan, names: tuple[str, ...], value: Array, cotangent: Array) -> Array:
    """Return the product of the Jacobian of softmax or log_softmax, given by its value in a shard, with a cotangent."""
    value, cotangent = value.astype(plan.compute), cotangent.astype(plan.compute)
    live = value != (-jnp.inf if plan.op == "log_softmax_vjp" else 0.0)
    cotangent = jnp.where(live, cotangent, 0.0)
    terms = cotangent if plan.op == "log_softmax_vjp" else value * cotangent
    total = jax.lax.psum(jnp.sum(terms, axis=plan.layout.axis, keepdims=True), names)
    found = cotangent - jnp.exp(value) * total if plan.op == "log_softmax_vjp" else value * (cotangent - total)
    return jnp.where(live, found, 0.0).astype(plan.result)


def _live(x: Array, where: Array) -> Array:
    return True if where is None else where


def merged_along(plan: Plan, a: Array) -> Array:
    """Merge normalizers with those of the other devices along axes of a mesh; to be differentiated as it stands."""
    names = plan.axis_name
    a = a.astype(plan.compute)
    top = jax.lax.pmax(jax.lax.stop_gradient(a), names)  # on the CPU XLA's maximum may lose a NaN, its sum does not
    infinite, leads = jnp.isinf(top), a == top
    shift = jnp.where(jnp.isfinite(top), top, 0.0)
    e = jnp.exp(jnp.where(infinite & ~jnp.isnan(a), -jnp.inf, a) - shift)
    rest, tops = jax.lax.psum((jnp.where(leads, 0.0, e), jnp.where(leads, e, 0.0)), names)
    # `tops` counts the maxima, of which e is 1; as a sum of e it has their derivative
    value = shift + jnp.log1p(jnp.where(infinite, 0.0, rest + (tops - 1.0)))
    merged = jnp.where(infinite, jnp.where(jnp.isnan(rest), jnp.nan, top), value)
    return merged.astype(plan.result)


class ShardLabels(NamedTuple):
    """What class ids and weights say of each row."""

    ids: Array  # 0 where they are none
    classes: Array  # class weight
    sample: Array
    bad: Array  # out of range
    skipped: Array
    share: Array  # the row's part of the denominator of a mean


def shard_labels(
    plan: Plan, names: tuple[str, ...], targets: Array, class_weight: Array, sample_weight: Array, where: Array
) -> ShardLabels:
    """Look class ids up in all classes of the plan; a mask may be sharded along mesh axes."""
    compute = plan.compute
    ignored, bad = sort_out(plan, jnp, targets)
    ids = jnp.where(ignored | bad, 0, targets)
    one = jnp.ones(targets.shape, compute)
    classes = one if class_weight is None else jnp.where(bad, 0.0, class_weight.astype(compute)[ids])
    sample = one if sample_weight is None else sample_weight.astype(compute)
    skipped = ignored
    if where is not None:
        left = jnp.any(where, plan.layout.axis).astype("int32")
        skipped = skipped | ((jax.lax.pmax(left, names) if names else left) == 0)
    return ShardLabels(ids, classes, sample, bad, ignored, jnp.where(skipped, 0.0, sample * classes))


def _logit_of_label(x: Array, at: Array, where: Array, axis: int, names: tuple[str, ...], compute: str) -> Array:
    """Return the logit at a class of each row, from the shard that has it."""
    here = (at >= 0) & (at < x.shape[axis])
    near = jnp.where(here, at, 0)
    logit = jnp.take_along_axis(x, near, axis).astype(compute)
    if where is not None:
        logit = jnp.where(jnp.take_along_axis(where, near, axis), logit, -jnp.inf)
    return jnp.squeeze(jax.lax.psum(jnp.where(here, logit, 0.0), names), axis)


def loss_of_shard(
    plan: Plan, names: tuple[str, ...], start: Array, labels: ShardLabels, x: Array, z_loss: Array, temperature: Array,
    where: Array,
) -> tuple[Array, ...]:  # fmt: skip
    """Return the losses of class ids, of which this shard has those from `start` on, and maybe the gradient of x."""
    compute, axis = plan.compute, plan.layout.axis
    whole = merge_shards(plan, names, x, where, temperature)
    at = jnp.expand_dims(labels.ids - start, axis)
    logit = _logit_of_label(x, at, where, axis, names, compute)
    top, rest = jnp.squeeze(whole.top, axis), jnp.squeeze(whole.rest, axis)
    heat = 1.0 if temperature is None else _without_class_axis(plan, temperature.astype(compute))
    rows = RowOperands(logit, labels.classes, labels.classes, labels.sample, heat)
    shared = Shared(0.0, 0.0 if z_loss is None else z_loss.astype(compute), 1.0)
    sums = RowSums(top, rest, jnp.zeros_like(rest), jnp.zeros_like(rest))
    value = jnp.where(labels.share == 0.0, 0.0, losses_of(jnp, plan, shared, sums, rows))
    value = jnp.where(labels.bad, jnp.nan, value)
    if plan.op == "cross_entropy":
        return (value,)
    facts = gradient_facts(jnp, shared, sums, rows)
    exact = dataclasses.replace(plan, op="softmax", result=compute, empty="zero", reduction="none")
    (p,) = kernel(exact, x, where, temperature, None)
    gradient = p * whole.share * jnp.expand_dims(facts.factor * (facts.whole + facts.pull), axis)
    own = jax.lax.broadcasted_iota("int32", x.shape, axis) == at
    known = ~jnp.expand_dims(labels.bad | labels.skipped, axis)
    gradient = jnp.where(own & known, jnp.expand_dims(facts.change, axis), gradient)
    gradient = jnp.where(jnp.isnan(whole.rest), jnp.nan, gradient)
    gradient = jnp.where(jnp.expand_dims(labels.share == 0.0, axis), 0.0, gradient)
    gradient = jnp.where(jnp.expand_dims(labels.bad, axis), jnp.nan, gradient)
    gradient = jnp.where(x == -jnp.inf, 0.0, gradient)
    return value, gradient if where is None else jnp.where(where, gradient, 0.0)


def _without_class_axis(plan: Plan, value: Array) -> Array:
    return value if value.ndim == 0 else jnp.squeeze(value, plan.layout.axis)
