"""Cross-entropy of a linear layer in JAX: a scan over blocks of rows, with the gradients made on the way.

A block takes its rows at even distances from the whole array, not side by side: where rows are sharded over devices,
every device has its part of every block. Classes are never cut, so that weights may be sharded along them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from logitx._typing import Array, Plan
from logitx.backends import generic
from logitx.backends.generic import linear
from logitx.backends.generic.linear import Layer, Samples
from logitx.backends.jax import blocks
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


def _scanned(plan: Plan, samples: Samples, losses: Callable[[Samples], Array]) -> Array:
    """Return the losses of all rows, one block after the other."""
    number, cuts = _blocks(plan, samples)
    if number <= 1:
        return losses(samples)
    _, cut = jax.lax.scan(lambda _, one: (None, losses(one)), None, cuts)
    return _joined(cut, plan.layout.outer)


def _by_formulas(plan: Plan, operands: tuple[Any, ...]) -> Array:
    """Return the loss, to be differentiated: derivatives compute the logits of a block once more, not keep them."""
    layer, samples, share = linear.split(plan, *operands)
    block = jax.checkpoint(lambda layer, one: linear.losses(plan, layer, one))
    return linear.reduced(plan, _scanned(plan, samples, lambda one: block(layer, one)), share)


def _gradients_by_formulas(plan: Plan, operands: tuple[Any, ...]) -> tuple[Array, Array, Array, Array]:
    """Return loss and gradients, to be differentiated."""
    return generic.linear_cross_entropy_value_and_grad(plan, *operands)


def _products(plan: Plan, layer: Layer, hidden: Array, g: Array, total: Array) -> tuple[Array, Array]:
    """Return the gradient by the hidden features of a block, and `total` with that by the weights added.

    Some classes at a time, so that what is added needs no array of the size of the weights. Not so where there are
    several devices, which may hold some of the classes each.
    """
    n, features = layer.weight.shape
    width = _height(n, max(1, plan.block_bytes // (4 * max(1, features))))
    if width == n or jax.device_count() > 1:
        return g @ layer.weight.astype(g.dtype), total + g.T @ hidden.astype(g.dtype)

    def step(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        dhidden, total = carry
        start = jnp.minimum(i * width, n - width)  # the last piece begins early; what is done twice is put to 0
        part = jax.lax.dynamic_slice_in_dim(g, start, width, 1)
        part = jnp.where(start + jnp.arange(width) >= i * width, part, 0.0)
        weight = jax.lax.dynamic_slice_in_dim(layer.weight, start, width)
        more = jax.lax.dynamic_slice_in_dim(total, start, width) + part.T @ hidden.astype(g.dtype)
        total = jax.lax.dynamic_update_slice_in_dim(total, more, start, 0)
        return (dhidden + part @ weight.astype(g.dtype), total), None

    carry: tuple[Array, Array]
    carry, _ = jax.lax.scan(step, (jnp.zeros(hidden.shape, g.dtype), total), jnp.arange(-(-n // width)))
    return carry


def _losses_and_gradients(plan: Plan, operands: tuple[Any, ...]) -> tuple[Array, Array, Array, Array]:
    """Return the loss and its gradients by hidden features, weights and bias."""
    layer, samples, share = linear.split(plan, *operands)
    whole = jnp.sum(share) if plan.reduction == "mean" else 1.0
    number, cuts = _blocks(plan, samples)

    def step(total: tuple[Array, Array], one: Samples) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        block = blocks.reduced(plan, layer, one)
        g = blocks.gradient(plan, layer, block, whole)
        dhidden, dweight = _products(plan, layer, one.hidden, g, total[0])
        dbias = None if layer.bias is None else total[1] + jnp.sum(g, axis=0)
        return (dweight, dbias), (blocks.losses(plan, layer, block), dhidden)

    dweight, dbias = (None if x is None else jnp.zeros(x.shape, plan.compute) for x in (layer.weight, layer.bias))
    if number <= 1:
        (dweight, dbias), (per_row, dhidden) = step((dweight, dbias), samples)
    else:
        (dweight, dbias), (cut, dhidden) = jax.lax.scan(step, (dweight, dbias), cuts)
        per_row, dhidden = (_joined(x, plan.layout.outer) for x in (cut, dhidden))
    made = (dhidden.reshape(operands[0].shape), dweight, dbias)
    kinds = (*plan.gradients, None)
    one, two, three = (None if x is None else x.astype(kind) for x, kind in zip(made, kinds, strict=False))
    return linear.reduced(plan, per_row, share), one, two, three


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loss(plan: Plan, *operands: Any) -> Array:
    layer, samples, share = linear.split(plan, *operands)
    per_row = _scanned(plan, samples, lambda one: blocks.losses(plan, layer, blocks.reduced(plan, layer, one)))
    return linear.reduced(plan, per_row, share)


@functools.partial(_loss.defjvp, symbolic_zeros=True)
def _loss_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    zero = jax.custom_derivatives.SymbolicZero
    factors = (0, 1, 3)  # hidden, weight, bias
    others = [leaf for i, one in enumerate(tangents) if i not in factors for leaf in jax.tree.leaves(one)]
    if plan.reduction != "none" and all(isinstance(leaf, zero) for leaf in others):
        # The loss is linear in these tangents, with the gradients for factors
        loss, *gradients = _value_and_grad(_exact(plan), *primals)
        pairs = [(g, tangents[i]) for g, i in zip(gradients, factors, strict=True) if g is not None]
        terms = [jnp.sum(g * t.astype(g.dtype)) for g, t in pairs if not isinstance(t, zero)]
        return loss, functools.reduce(jnp.add, terms, jnp.zeros_like(loss))
    loss, tangent = jax.jvp(lambda *values: _by_formulas(plan, values), primals, _dense(tangents))
    return loss, tangent


def _dense(tangents: tuple[Any, ...]) -> tuple[Any, ...]:
    zero = jax.custom_derivatives.SymbolicZero
    result: tuple[Any, ...] = jax.tree.map(
        lambda tangent: jnp.zeros(tangent.shape, tangent.dtype) if isinstance(tangent, zero) else tangent,
        tangents,
        is_leaf=lambda tangent: isinstance(tangent, zero),
    )
    return result


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _value_and_grad(plan: Plan, *operands: Any) -> tuple[Array, Array, Array, Array]:
    return _losses_and_gradients(plan, operands)


@functools.partial(_value_and_grad.defjvp, symbolic_zeros=True)
def _value_and_grad_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    made: tuple[Any, Any] = jax.jvp(lambda *values: _gradients_by_formulas(plan, values), primals, _dense(tangents))
    return made


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
    return _value_and_grad(plan, *operands)  # type: ignore[no-any-return]
