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
from logitx.backends.jax._primitive import run
from logitx.backends.tiles import block_plan, block_rows, evenly

Step = Callable[[Any, Samples], tuple[Any, Any]]  # (what is carried, rows of a block) -> (that, results of rows)

_FEW = 8  # rows of a padded block are a multiple of this, for devices to share


def _height(count: int, most: int) -> int:
    """Return how many rows a block has: if possible without a rest, which would have to be padded."""
    if most >= count:
        return count
    for rows in range(most, max(1, most * 2 // 3) - 1, -1):
        if count % rows == 0:
            return rows
    return max(1, most // _FEW * _FEW)


def _cut(plan: Plan, samples: Samples) -> Samples:
    """Return what belongs to rows with a leading axis of blocks."""
    count = plan.layout.outer
    height, number = _blocks(plan)

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
    return cuts


def _blocks(plan: Plan) -> tuple[int, int]:
    """Return how many rows a block has, and how many blocks there are."""
    count = plan.layout.outer
    most = block_rows(plan, count)
    height = most if jax.device_count() == 1 else _height(count, most)
    return height, -(-count // height) if height else 0


def _joined(x: Array, count: int) -> Array:
    """Undo the cut of an array."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[:count]


def _order(number: int, share: Array) -> tuple[Array, Array]:
    """Return an order of rows in which those that count fill one block after the other, and how many these fill."""
    count = share.shape[0]
    row, (each, rest) = jnp.arange(count), divmod(count, number)
    block = row % number
    counting = jnp.argsort(share == 0.0)[block * each + jnp.minimum(block, rest) + row // number]
    first = jnp.arange(number) * each + jnp.minimum(jnp.arange(number), rest)
    return counting, jnp.sum(first < jnp.sum(share != 0.0))


def _over_blocks(plan: Plan, samples: Samples, share: Array, step: Step, carry: Any) -> tuple[Any, Any]:
    """Take one step a block; return what is carried, and what the steps return of all rows.

    Rows that do not count are put into blocks of their own, which are skipped: that leaves 0 for them. Not so where
    there are several devices, of which each has its rows.
    """
    count, (_, number) = plan.layout.outer, _blocks(plan)
    if number <= 1:
        return step(carry, samples)
    if jax.device_count() > 1:
        carry, found = jax.lax.scan(step, carry, _cut(plan, samples))
        return carry, jax.tree.map(lambda x: _joined(x, count), found)
    order, active = _order(number, share)
    cuts = _cut(plan, Samples(*(None if one is None else one[order] for one in samples)))

    def body(i: Array, state: tuple[Any, Any]) -> tuple[Any, Any]:
        carry, rows = step(state[0], jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, 0, False), cuts))
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0)
        return carry, jax.tree.map(put, state[1], rows)

    _, rows = jax.eval_shape(step, carry, jax.tree.map(lambda x: x[0], cuts))
    found = jax.tree.map(lambda x: jnp.zeros((number, *x.shape), x.dtype), rows)
    carry, found = jax.lax.fori_loop(0, active, body, (carry, found))
    back = jnp.argsort(order)
    return carry, jax.tree.map(lambda x: _joined(x, count)[back], found)


def _by_formulas(plan: Plan, operands: tuple[Any, ...]) -> Array:
    """Return the loss, to be differentiated: derivatives compute the logits of a block once more, not keep them."""
    layer, samples, share = linear.split(plan, *operands)
    block = jax.checkpoint(lambda layer, one: linear.losses(plan, layer, one))
    if _blocks(plan)[1] <= 1:
        return linear.reduced(plan, block(layer, samples), share)
    _, cut = jax.lax.scan(lambda _, one: (None, block(layer, one)), None, _cut(plan, samples))
    return linear.reduced(plan, _joined(cut, plan.layout.outer), share)


def _gradients_by_formulas(plan: Plan, operands: tuple[Any, ...]) -> tuple[Array, Array, Array, Array]:
    """Return loss and gradients, to be differentiated."""
    return generic.linear_cross_entropy_value_and_grad(plan, *operands)


def _products(plan: Plan, layer: Layer, hidden: Array, g: Array, total: Array) -> tuple[Array, Array]:
    """Return the gradient by the hidden features of a block, and `total` with that by the weights added.

    Some classes at a time, so that what is added needs no array of the size of the weights. Not so where there are
    several devices, which may hold some of the classes each. Pieces of weights are a quarter of the budget: of 8 MiB,
    gradients of (1024, 1024) by 128256 classes take 3.3 s, of 32 MiB 3.8 s.
    """
    n, features = layer.weight.shape
    width = evenly(n, max(1, plan.block_bytes // (16 * max(1, features))))
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


def _of_block(op: str, plan: Plan, layer: Layer, one: Samples) -> tuple[Array, ...]:
    """Return what an operation makes of the logits of a block."""
    softcap = layer.softcap if one.softcap is None else one.softcap
    temperature = layer.temperature if one.temperature is None else one.temperature
    return run(
        _plan_of(plan, op, one.hidden.shape[0]), _logits(plan, layer, one.hidden), one.targets, layer.class_weight,
        one.sample_weight, layer.label_smoothing, layer.z_loss, softcap, temperature, None,
    )  # fmt: skip


def _logits(plan: Plan, layer: Layer, hidden: Array) -> Array:
    """Return the logits of a block, added up in the dtype computed in."""
    weight = layer.weight
    if hidden.dtype != weight.dtype:
        hidden, weight = hidden.astype(plan.compute), weight.astype(plan.compute)
    x = jnp.matmul(hidden, weight.T, preferred_element_type=plan.compute)
    return x if layer.bias is None else x + layer.bias.astype(plan.compute)


@functools.lru_cache(maxsize=1024)
def _plan_of(plan: Plan, op: str, rows: int) -> Plan:
    return dataclasses.replace(block_plan(plan, rows), op=op)


def _losses_and_gradients(plan: Plan, operands: tuple[Any, ...]) -> tuple[Array, Array, Array, Array]:
    """Return the loss and its gradients by hidden features, weights and bias."""
    layer, samples, share = linear.split(plan, *operands)
    whole = jnp.sum(share) if plan.reduction == "mean" else jnp.ones((), plan.compute)
    part = jnp.where(whole == 0.0, 0.0, 1.0 / jnp.where(whole == 0.0, 1.0, whole))

    def step(total: tuple[Array, Array], one: Samples) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        loss, g = _of_block("cross_entropy_value_and_grad", plan, layer, one)
        # The factors of the products are scaled, which are small, not g
        dhidden, dweight = _products(plan, layer, one.hidden.astype(plan.compute) * part, g, total[0])
        dbias = None if layer.bias is None else total[1] + part * jnp.sum(g, axis=0)
        return (dweight, dbias), (loss, part * dhidden)

    dweight, dbias = (None if x is None else jnp.zeros(x.shape, plan.compute) for x in (layer.weight, layer.bias))
    (dweight, dbias), (per_row, dhidden) = _over_blocks(plan, samples, share, step, (dweight, dbias))
    made = (dhidden.reshape(operands[0].shape), dweight, dbias)
    kinds = (*plan.gradients, None)
    one, two, three = (None if x is None else x.astype(kind) for x, kind in zip(made, kinds, strict=False))
    return linear.reduced(plan, per_row, share), one, two, three


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loss(plan: Plan, *operands: Any) -> Array:
    layer, samples, share = linear.split(plan, *operands)

    def step(_: None, one: Samples) -> tuple[None, Array]:
        return None, _of_block("cross_entropy", plan, layer, one)[0]

    _, per_row = _over_blocks(plan, samples, share, step, None)
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
