"""Cross-entropy of a linear layer: the cross-entropy of one block of rows after the other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import namespace_dtype
from logitx._options import LinearLayer, LossOptions
from logitx._plan import Array, Plan, Scalar
from logitx.backends.formulas.class_ids import class_weights_and_shares, refuse_labels, signed_ids, sort_out
from logitx.backends.formulas.linear_blocks import block_plan, block_rows, pieces
from logitx.backends.formulas.numbers import mean_of, quiet, to_compute
from logitx.backends.formulas.pairs import reduce_losses
from logitx.backends.generic.cross_entropy import cross_entropy, cross_entropy_value_and_grad


class LayerOperands(NamedTuple):
    """Operands that all rows share."""

    weight: Array
    bias: Array
    class_weight: Array
    label_smoothing: Scalar
    z_loss: Scalar
    softcap: Scalar  # None where there is one a row, or none
    temperature: Scalar  # as softcap


class Samples(NamedTuple):
    """Operands with one entry for each row; everything but `hidden` and `targets` may be None."""

    hidden: Array  # 0 in rows that do not count: 0 times a NaN would leak into the gradient by the weights
    targets: Array
    sample_weight: Array  # 0 in rows that do not count
    softcap: Array
    temperature: Array
    classes: Array  # class weight of each row


def scaling(layer: LayerOperands, samples: Samples) -> tuple[Scalar, Scalar]:
    """Return softcap and temperature, of all rows or one each."""
    return (
        layer.softcap if samples.softcap is None else samples.softcap,
        layer.temperature if samples.temperature is None else samples.temperature,
    )


def split(plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions) -> tuple[LayerOperands, Samples, Array]:
    """Return the operands that all rows share, those of each row, and each row's share of the mean's denominator."""
    hidden, softcap, temperature = layer.hidden, options.softcap, options.temperature
    sample_weight, class_weight = options.sample_weight, options.class_weight
    family = FAMILIES[plan.family]
    xp, count = family.namespace(hidden), plan.layout.outer
    shared: dict[str, Any] = {"softcap": None, "temperature": None}
    single: dict[str, Any] = dict(shared)
    for name, value in (("softcap", softcap), ("temperature", temperature)):
        per_row = value is not None and not isinstance(value, float) and value.ndim > 0
        (single if per_row else shared)[name] = xp.reshape(value, (count, 1)) if per_row else value
    flat = xp.reshape(targets, (count,) if plan.hard else (count, plan.layout.n))
    if plan.hard:
        bad = sort_out(plan, xp, signed_ids(plan, xp, flat))[1]
        if family.readable(bad):  # concrete class ids are not enough where something around them is traced
            refuse_labels(plan, xp, targets, bad)
    weights = None if sample_weight is None else to_compute(plan, xp.reshape(sample_weight, (count,)))
    classes, share = class_weights_and_shares(plan, xp, flat, class_weight, weights)
    dead = share == 0.0
    features = xp.reshape(hidden, (count, hidden.shape[-1]))
    features = xp.where(xp.reshape(dead, (count, 1)), xp.zeros_like(features), features)
    weights = xp.where(dead, 0.0, xp.ones_like(share) if weights is None else weights)
    operands = LayerOperands(layer.weight, layer.bias, class_weight, options.label_smoothing, options.z_loss, **shared)
    return operands, Samples(features, flat, weights, **single, classes=classes), share


def _block_arguments(plan: Plan, layer: LayerOperands, samples: Samples) -> tuple[Any, ...]:
    """Return the cross-entropy's arguments for a block of rows."""
    xp = FAMILIES[plan.family].namespace(samples.hidden)
    hidden, weight = to_compute(plan, samples.hidden), to_compute(plan, layer.weight)
    if hidden.shape[-1]:
        logits = hidden @ xp.matrix_transpose(weight)
    else:  # graphs of TensorFlow end the process where a bias is added to a product of nothing
        logits = xp.sum(hidden, axis=-1, keepdims=True) + xp.sum(weight, axis=-1)
    if layer.bias is not None:
        logits = logits + to_compute(plan, layer.bias)[None, :]
    softcap, temperature = scaling(layer, samples)
    return (
        block_plan(plan, samples.hidden.shape[0]), logits, samples.targets, LossOptions(
            layer.class_weight, samples.sample_weight, layer.label_smoothing, layer.z_loss, softcap, temperature
        ),
    )  # fmt: skip


def losses_of_block(plan: Plan, layer: LayerOperands, samples: Samples) -> Array:
    """Return the losses of a block of rows."""
    return cross_entropy(*_block_arguments(plan, layer, samples))[0]


def losses_and_gradients_of_block(
    plan: Plan, layer: LayerOperands, samples: Samples
) -> tuple[Array, Array, Array, Array]:
    """Return the losses of a block of rows, and the gradients of their sum; that by the bias where there is one."""
    loss, g, _, _ = cross_entropy_value_and_grad(*_block_arguments(plan, layer, samples))
    xp = FAMILIES[plan.family].namespace(g)
    dhidden = g @ to_compute(plan, layer.weight)
    dweight = xp.matrix_transpose(g) @ to_compute(plan, samples.hidden)
    return loss, dhidden, dweight, None if layer.bias is None else xp.sum(g, axis=0)


def divided_gradients(
    plan: Plan, gradients: tuple[Array, ...], shape: tuple[int, ...], share: Array
) -> tuple[Array, ...]:
    """Divide gradients of the sum by the mean's denominator if the reduction is the mean, and round once."""
    xp = FAMILIES[plan.family].namespace(share)
    dhidden, *others = gradients
    result = []
    for gradient, dtype in zip((xp.reshape(dhidden, shape), *others), (*plan.gradients, ""), strict=False):
        if gradient is not None and plan.reduction == "mean":
            whole = xp.sum(share)
            gradient = mean_of(xp, gradient, whole, 0.0)
        result.append(gradient if gradient is None else xp.astype(gradient, namespace_dtype(xp, dtype), copy=False))
    return tuple(result)


def _counted_samples(plan: Plan, samples: Samples, share: Array) -> tuple[Samples, Array]:
    """Return the operands of the rows that count, and the index of each row among these (None: all rows were kept).

    All rows are kept, with hidden features of 0 if they do not count, while tracing: no shape can depend on a value.
    """
    family = FAMILIES[plan.family]
    if not family.readable(share):
        return samples, None
    (known,) = family.host(family.detach(share))
    rows = np.flatnonzero(known)
    if rows.size == known.size:
        return samples, None
    place = np.full(known.size, rows.size)  # a row that does not count: the index after all that do
    place[rows] = np.arange(rows.size)
    xp, chosen = family.namespace(share), family.adopt(rows, share)
    counted = (None if one is None else xp.take(one, chosen, axis=0) for one in samples)
    return Samples(*counted), family.adopt(place, share)


def _nothing(plan: Plan, rows: Array) -> Array:
    """Return a row of zeros, or none where there are no rows."""
    return FAMILIES[plan.family].namespace(rows).zeros_like(rows[: min(1, rows.shape[0]), ...])


def _rows_in_place(plan: Plan, parts: list[Array], nothing: Array, place: Array) -> Array:
    """Join the results of blocks and return them in the order of all rows; rows that do not count get `nothing`."""
    xp = FAMILIES[plan.family].namespace(nothing)
    if place is None:
        return xp.concat([*parts, nothing[:0, ...]], axis=0)
    return xp.take(xp.concat([*parts, nothing], axis=0), place, axis=0)


def _of(samples: Samples, piece: slice) -> Samples:
    return Samples(*(None if one is None else one[piece, ...] for one in samples))


@quiet
def linear_cross_entropy(plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions) -> Array:
    """The cross-entropy of hidden @ weight.T + bias."""
    shared, samples, share = split(plan, layer, targets, options)
    nothing = _nothing(plan, share)
    samples, place = _counted_samples(plan, samples, share)
    count = samples.hidden.shape[0]
    blocks = [losses_of_block(plan, shared, _of(samples, piece)) for piece in pieces(count, block_rows(plan, count))]
    return reduce_losses(plan, _rows_in_place(plan, blocks, nothing, place), share)


@quiet
def linear_cross_entropy_value_and_grad(
    plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions
) -> tuple[Array, Array, Array, Array]:
    """The loss, and with g its gradient by the logits: g @ weight, g.T @ hidden and the sum of g over the rows."""
    shared, samples, share = split(plan, layer, targets, options)
    xp = FAMILIES[plan.family].namespace(share)
    no_loss, no_hidden = _nothing(plan, share), to_compute(plan, _nothing(plan, samples.hidden))
    samples, place = _counted_samples(plan, samples, share)
    count = samples.hidden.shape[0]
    loss, dhidden = [], []
    dweight, dbias = (
        to_compute(plan, xp.zeros_like(layer.weight)),
        None if layer.bias is None else to_compute(plan, xp.zeros_like(layer.bias)),
    )
    for piece in pieces(count, block_rows(plan, count)):
        part, by_hidden, by_weight, by_bias = losses_and_gradients_of_block(plan, shared, _of(samples, piece))
        loss.append(part)
        dhidden.append(by_hidden)
        dweight = dweight + by_weight
        dbias = None if dbias is None else dbias + by_bias
    gradients = (_rows_in_place(plan, dhidden, no_hidden, place), dweight, dbias)
    one, two, three = divided_gradients(plan, gradients, tuple(layer.hidden.shape), share)
    return reduce_losses(plan, _rows_in_place(plan, loss, no_loss, place), share), one, two, three
