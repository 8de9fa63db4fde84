"""Rules for the factors of logits that are themselves a product: ``hidden @ weight.T + bias``."""

from __future__ import annotations

from typing import Any

from logitx._arguments.axes import unknown
from logitx._arguments.operands import adopt, is_integer
from logitx._arrays import FLOATS, Family, dtype_name, namespace_dtype
from logitx._typing import Array


def factors(family: Family, hidden: Array, weight: Any, bias: Any) -> tuple[Array, Array, Array]:
    """Check that the factors fit each other; return them as floating arrays of one family."""
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
            " many features in both"
        )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        sizes = f": dimension 0 of bias is {bias.shape[0]}, dimension 0 of weight {weight.shape[0]}" * (bias.ndim == 1)
        raise ValueError(
            f"bias: shape {tuple(bias.shape)} does not fit that of weight, {tuple(weight.shape)}{sizes}; allowed is"
            f" {(weight.shape[0],)}, one number a class"
        )
    named = (("hidden", hidden), ("weight", weight), ("bias", bias))
    one, two, three = (None if x is None else _floating(name, x, family) for name, x in named)
    return one, two, three


def _floating(name: str, x: Array, family: Family) -> Array:
    """Return integers as the library's default float."""
    dtype = dtype_name(x.dtype)
    if dtype in FLOATS:
        return x
    if dtype != "bool" and not is_integer(dtype):
        raise TypeError(f"{name}: dtype {dtype} is not allowed; allowed are {', '.join(FLOATS)}, integers and bool")
    xp = family.namespace(x)
    return xp.astype(x, namespace_dtype(xp, family.default_float(x)))
