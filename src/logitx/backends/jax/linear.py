"""Cross-entropy of a linear layer in JAX: a scan over blocks of rows, with the gradients made on the way.

A block takes its rows at even distances from the whole array, not side by side: where rows are sharded over devices,
every device has its part of every block. Classes are never cut, so that weights may be sharded along them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from logitx._typing import Array, Plan
from logitx.backends.generic import linear
from logitx.backends.generic.linear import Layer, Samples
from logitx.backends.tiles import block_rows

_FEW = 8  # rows of a padded block are a multiple of this, for devices to share


def _height(count: int, most: int) -> int:
    """Return how many rows a block has: if possible without a rest, which would have to be padded."""
    if most >= count:
        return count
    for rows in range(most, max(1, most * 2 // 3) - 1, -1):
        if count % rows == 0:
            return rows
    return max(1, most // _FEW * _FEW)


def _blocks(plan: Plan, samples: Samples) -> tuple[int, Samples]:
    """Return the number of blocks, and what belongs to rows with a leading axis of blocks."""
    count = plan.layout.outer
    height = _height(count, block_rows(plan, count))
    number = -(-count // height) if height else 0

    def cut(x: Array) -> Array:
        if x is None:
            return None
        # A row of padding weighs nothing; its scaling must only be one that divides
        missing = [(0, number * height - count)] + [(0, 0)] * (x.ndim - 1)
        x = jnp.pad(x, missing, mode="edge") if number * height > count else x
        return jnp.moveaxis(x.reshape(height, number, *x.shape[1:]), 1, 0)

    cuts = Samples(*map(cut, samples))
    if number * height > count:
        row = jnp.arange(height)[None, :] * number + jnp.arange(number)[:, None]
        cuts = cuts._replace(sample_weight=jnp.where(row < count, cuts.sample_weight, 0.0))
    return number, cuts


def _joined(x: Array, count: int) -> Array:
    """Undo the cut of an array."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[:count]


def _losses(plan: Plan, operands: tuple[Any, ...]) -> Array:
    """Return the loss; derivatives of it compute the logits of a block once more rather than keep them."""
    layer, samples, share = linear.split(plan, *operands)
    number, blocks = _blocks(plan, samples)

    @jax.checkpoint
    def block(layer: Layer, samples: Samples) -> Array:
        return linear.losses(plan, layer, samples)

    if number <= 1:
        per_row = block(layer, samples)
    else:
        _, cut = jax.lax.scan(lambda _, one: (None, block(layer, one)), None, blocks)
        per_row = _joined(cut, plan.layout.outer)
    return linear.reduced(plan, per_row, share)


def _losses_and_gradients(plan: Plan, operands: tuple[Any, ...]) -> tuple[Array, Array, Array, Array]:
    """Return the loss and its gradients by hidden features, weights and bias."""
    layer, samples, share = linear.split(plan, *operands)
    number, blocks = _blocks(plan, samples)
    count, shape = plan.layout.outer, operands[0].shape
    if number <= 1:
        per_row, *gradients = linear.losses_and_gradients(plan, layer, samples)
    else:

        def step(total: tuple[Array, ...], one: Samples) -> tuple[tuple[Array, ...], tuple[Array, Array]]:
            loss, dhidden, *more = linear.losses_and_gradients(plan, layer, one)
            return tuple(None if a is None else a + b for a, b in zip(total, more, strict=True)), (loss, dhidden)

        start = tuple(None if x is None else jnp.zeros(x.shape, plan.compute) for x in (layer.weight, layer.bias))
        total, (cut, dhidden) = jax.lax.scan(step, start, blocks)
        per_row, gradients = _joined(cut, count), [_joined(dhidden, count), *total]
    one, two, three = linear.settled(plan, tuple(gradients), shape, share)
    return linear.reduced(plan, per_row, share), one, two, three


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loss(plan: Plan, *operands: Any) -> Array:
    return _losses(plan, operands)


@functools.partial(_loss.defjvp, symbolic_zeros=True)
def _loss_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    zero = jax.custom_derivatives.SymbolicZero
    factors = (0, 1, 3)  # hidden, weight, bias
    others = [leaf for i, one in enumerate(tangents) if i not in factors for leaf in jax.tree.leaves(one)]
    if plan.reduction != "none" and all(isinstance(leaf, zero) for leaf in others):
        # The loss is linear in these tangents, with the gradients for factors
        loss, *gradients = _losses_and_gradients(_exact(plan), primals)
        pairs = [(g, tangents[i]) for g, i in zip(gradients, factors, strict=True) if g is not None]
        terms = [jnp.sum(g * t.astype(g.dtype)) for g, t in pairs if not isinstance(t, zero)]
        return loss, functools.reduce(jnp.add, terms, jnp.zeros_like(loss))
    dense = jax.tree.map(
        lambda tangent: jnp.zeros(tangent.shape, tangent.dtype) if isinstance(tangent, zero) else tangent,
        tangents,
        is_leaf=lambda tangent: isinstance(tangent, zero),
    )
    loss, tangent = jax.jvp(lambda *values: _losses(plan, values), primals, dense)
    return loss, tangent


@functools.lru_cache(maxsize=1024)
def _exact(plan: Plan) -> Plan:
    """Return the plan of gradients that are yet to be scaled: what is small in a half would be lost before."""
    return dataclasses.replace(plan, gradients=(plan.compute,) * len(plan.gradients))


@functools.partial(jax.jit, static_argnums=0)
def value(plan: Plan, *operands: Any) -> Array:
    """Return the loss."""
    return _loss(plan, *operands)


@functools.partial(jax.jit, static_argnums=0)
def value_and_grad(plan: Plan, *operands: Any) -> tuple[Array, Array, Array, Array]:
    """Return the loss and its gradients by hidden features, weights and bias."""
    return _losses_and_gradients(plan, operands)
