"""Cross-entropy of a linear layer in JAX: block by block of rows, with the gradients made on the way.

On several devices classes are never cut, so that weights may be sharded along them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from logitx._options import LinearLayer, LossOptions, flat, nested
from logitx._plan import Array, Plan
from logitx.backends import generic
from logitx.backends.formulas.pairs import reduce_losses
from logitx.backends.generic import linear
from logitx.backends.generic.linear import LayerOperands, Samples
from logitx.backends.jax.cross_entropy import checked_class_ids
from logitx.backends.jax.linear import class_tiles, gradients
from logitx.backends.jax.linear.layer import from_logits, logits_of
from logitx.backends.jax.linear.row_blocks import block_sizes, over_blocks, scan_blocks
from logitx.backends.jax.primitive import zeros_among


def _loss_by_formulas(plan: Plan, operands: tuple[Any, ...]) -> Array:
    """Return the loss, to be differentiated: derivatives compute the logits of a block once more, not keep them."""
    layer, samples, share = linear.split(plan, *nested(plan.op, operands))
    block = jax.checkpoint(lambda layer, one: linear.losses_of_block(plan, layer, one))
    _, per_row = scan_blocks(plan, samples, lambda _, one: (None, block(layer, one)), None)
    return reduce_losses(plan, per_row, share)


def _gradients_by_formulas(plan: Plan, operands: tuple[Any, ...]) -> tuple[Array, Array, Array, Array]:
    """Return loss and gradients, to be differentiated."""
    return generic.linear_cross_entropy_value_and_grad(plan, *nested(plan.op, operands))


def _gradients_by_blocks(
    plan: Plan, layer: LayerOperands, samples: Samples, part: Array
) -> tuple[Array, Array, Array, Array]:
    """Return losses and gradients as `_gradients` does, by blocks that devices share, or in one block."""

    def step(total: Any, one: Samples) -> tuple[Any, tuple[Array, Array]]:
        loss, g = from_logits("cross_entropy_value_and_grad", plan, layer, one, logits_of(plan, layer, one.hidden))
        # The factors of the products are scaled, which are small, not g
        dweight = g.T @ (one.hidden.astype(g.dtype) * part)
        dbias = None if layer.bias is None else part * jnp.sum(g, axis=0)
        found = (dweight, dbias) if total is None else jax.tree.map(jnp.add, total, (dweight, dbias))
        return found, (loss, part * (g @ layer.weight.astype(g.dtype)))

    one_block = block_sizes(plan)[1] <= 1
    given = layer.weight, layer.bias
    zeros = (None if x is None else zeros_among(x.shape, plan.compute, layer, samples) for x in given)
    (dweight, dbias), (losses, dhidden) = scan_blocks(plan, samples, step, None if one_block else tuple(zeros))
    return losses, dhidden, dweight, dbias


def _compute_gradients(plan: Plan, operands: tuple[Any, ...]) -> tuple[Array, Array, Array, Array]:
    """Return the loss and its gradients by hidden features, weights and bias."""
    layer, samples, share = linear.split(plan, *nested(plan.op, operands))
    whole = jnp.sum(share) if plan.reduction == "mean" else jnp.ones((), plan.compute)
    part = jnp.where(whole == 0.0, 0.0, 1.0 / jnp.where(whole == 0.0, 1.0, whole))
    if block_sizes(plan)[1] <= 1 or jax.device_count() > 1:
        per_row, dhidden, dweight, dbias = _gradients_by_blocks(plan, layer, samples, part)
    else:
        per_row, dhidden, dweight, dbias = gradients.gradients_on_one_device(plan, layer, samples, share, part)
    made = (dhidden.reshape(operands[0].shape), dweight, dbias)
    kinds = (*plan.gradients, None)
    one, two, three = (None if x is None else x.astype(kind) for x, kind in zip(made, kinds, strict=False))
    return reduce_losses(plan, per_row, share), one, two, three


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _layer_loss(plan: Plan, *operands: Any) -> Array:
    layer, samples, share = linear.split(plan, *nested(plan.op, operands))
    if class_tiles.suits_tiles(plan, layer):
        return reduce_losses(plan, class_tiles.losses_by_tiles(plan, layer, samples, share), share)

    def step(one: Samples) -> Array:
        return from_logits("cross_entropy", plan, layer, one, logits_of(plan, layer, one.hidden))[0]

    return reduce_losses(plan, over_blocks(plan, layer, samples, share, step), share)


@functools.partial(_layer_loss.defjvp, symbolic_zeros=True)
def _layer_loss_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    zero = jax.custom_derivatives.SymbolicZero
    factors = (0, 1, 2)  # hidden, weight, bias
    others = [leaf for i, one in enumerate(tangents) if i not in factors for leaf in jax.tree.leaves(one)]
    if plan.reduction != "none" and all(isinstance(leaf, zero) for leaf in others):
        # The loss is linear in these tangents, with the gradients for factors
        loss, *gradients = _layer_gradients(_unrounded_plan(plan), *primals)
        pairs = [(g, tangents[i]) for g, i in zip(gradients, factors, strict=True) if g is not None]
        terms = [jnp.sum(g * t.astype(g.dtype)) for g, t in pairs if not isinstance(t, zero)]
        return loss, functools.reduce(jnp.add, terms, jnp.zeros_like(loss))
    loss, tangent = jax.jvp(lambda *values: _loss_by_formulas(plan, values), primals, _dense(tangents))
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
def _layer_gradients(plan: Plan, *operands: Any) -> tuple[Array, Array, Array, Array]:
    return _compute_gradients(plan, operands)


@functools.partial(_layer_gradients.defjvp, symbolic_zeros=True)
def _layer_gradients_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    made: tuple[Any, Any] = jax.jvp(lambda *values: _gradients_by_formulas(plan, values), primals, _dense(tangents))
    return made


@functools.lru_cache(maxsize=1024)
def _unrounded_plan(plan: Plan) -> Plan:
    """Return the plan of gradients that are yet to be scaled: what is small in a half would be lost before."""
    return dataclasses.replace(plan, gradients=(plan.compute,) * len(plan.gradients))


@functools.partial(jax.jit, static_argnums=0)
def jitted_layer_loss(plan: Plan, *operands: Any) -> Array:
    """Return the loss."""
    return _layer_loss(plan, *operands)


@functools.partial(jax.jit, static_argnums=0)
def jitted_layer_gradients(plan: Plan, *operands: Any) -> tuple[Array, Array, Array, Array]:
    """Return the loss and its gradients by hidden features, weights and bias."""
    return _layer_gradients(plan, *operands)  # type: ignore[no-any-return]


def linear_cross_entropy(plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions) -> Array:
    """The cross-entropy of hidden @ weight.T + bias."""
    targets = checked_class_ids(plan, targets)
    return jitted_layer_loss(plan, *flat((layer, targets, options)))


def linear_cross_entropy_value_and_grad(
    plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions
) -> tuple[Array, Array, Array, Array]:
    """The loss, and with g its gradient by the logits: g @ weight, g.T @ hidden and the sum of g over the rows."""
    targets = checked_class_ids(plan, targets)
    result: tuple[Array, Array, Array, Array] = jitted_layer_gradients(plan, *flat((layer, targets, options)))
    return result
