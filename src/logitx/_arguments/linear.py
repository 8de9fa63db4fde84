"""Argument rules of the cross-entropies of a linear layer, whose logits are ``hidden @ weight.T + bias``."""

from __future__ import annotations

from typing import Any

from logitx._arguments import cures
from logitx._arguments import operands as _operands
from logitx._arguments.cross_entropy import target_facts, targets_and_options
from logitx._arguments.operands import adopt, is_integer
from logitx._arguments.plans import planned, positive, widest
from logitx._arguments.ranges import fit_weights
from logitx._arrays.family import FLOATS, Family, dtype_name, namespace_dtype
from logitx._options import LinearLayer, LossOptions
from logitx._plan import Array, Call, unknown


def factors(family: Family, hidden: Array, weight: Any, bias: Any) -> LinearLayer:
    """Check that the shapes of hidden, weight and bias fit; return them as floating arrays of one family."""
    weight = adopt("weight", weight, family, hidden)
    bias = None if bias is None else adopt("bias", bias, family, hidden)
    if hidden.ndim == 0:
        raise ValueError("hidden: shape () is not allowed; allowed are shapes with the features on the last axis")
    for name, x in (("hidden", hidden), ("weight", weight)):
        if any(map(unknown, x.shape[1 if name == "hidden" and family.as_given else 0 :])):
            raise ValueError(
                f"{name}: shape {tuple(x.shape)} has a length that is not known; allowed are known lengths, set them"
                " with tensorflow.ensure_shape or compute_chunk_sizes of Dask"
            )
    if weight.ndim != 2 or weight.shape[0] == 0:
        raise ValueError(
            f"weight: shape {tuple(weight.shape)} is not allowed; allowed is (classes, features), with 1 class or more"
        )
    if weight.shape[1] != hidden.shape[-1]:
        raise ValueError(
            f"weight: shape {tuple(weight.shape)} does not fit that of hidden, {tuple(hidden.shape)}: dimension 1 of"
            f" weight is {weight.shape[1]}, dimension {hidden.ndim - 1} of hidden {hidden.shape[-1]}; allowed are as"
            f" many features in both{cures.of_weight(weight.shape, hidden.shape[-1])}"
        )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        sizes = ""
        if bias.ndim == 1:
            sizes = f": dimension 0 of bias is {bias.shape[0]}, dimension 0 of weight {weight.shape[0]}"
        raise ValueError(
            f"bias: shape {tuple(bias.shape)} does not fit that of weight, {tuple(weight.shape)}{sizes}; allowed is"
            f" {(weight.shape[0],)}, one number a class"
        )
    named = (("hidden", hidden), ("weight", weight), ("bias", bias))
    return LinearLayer(*(None if x is None else _floating(name, x, family) for name, x in named))


def _floating(name: str, x: Array, family: Family) -> Array:
    """Return integers as the library's default float."""
    dtype = dtype_name(x.dtype)
    if dtype in family.floats:
        return x
    if dtype != "bool" and not is_integer(dtype):
        raise TypeError(f"{name}: dtype {dtype} is not allowed; allowed are {', '.join(FLOATS)}, integers and bool")
    xp = family.namespace(x)
    return xp.astype(x, namespace_dtype(xp, family.default_float(x)))


def linear_cross_entropy(
    op: str,
    hidden: Any,
    weight: Any,
    targets: Any,
    bias: Any,
    class_weight: Any,
    sample_weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    z_loss: Any,
    softcap: Any,
    temperature: Any,
    reduction: Any,
    empty: Any,
    block_bytes: Any,
) -> Call:
    """Check linear_cross_entropy and linear_cross_entropy_value_and_grad; the layout is that of the logits."""
    labels = target_facts(hidden, targets, ignore_index)
    family, array = _operands.first_array("hidden", hidden)
    layer = factors(family, array, weight, bias)
    gradients = tuple(dtype_name(one.dtype) for one in layer if one is not None)
    facts = (
        ("reduction", reduction), ("empty", empty), ("gradients", gradients),
        ("block_bytes", positive("block_bytes", block_bytes)), *labels,
    )  # fmt: skip
    shape = (*layer.hidden.shape[:-1], layer.weight.shape[0])
    plan = planned(op, "hidden", family, shape, layer.hidden.dtype, -1, None, widest(*gradients), True, facts)
    given = LossOptions(class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature)
    targets, options = targets_and_options(plan, family, layer.hidden, targets, given)
    plan, options = fit_weights(plan, family, layer.hidden, options)
    return Call(plan, (layer, targets, options))
