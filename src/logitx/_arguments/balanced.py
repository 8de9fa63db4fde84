"""Class weights that give every class the same total weight, counted from the targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx._arguments import operands as _operands
from logitx._arrays.families import FAMILIES
from logitx._arrays.family import Family, namespace_dtype
from logitx._plan import Array, Plan


def balanced_weights(plan: Plan, targets: Array, value: Any) -> Array:
    """Return the class weights of "balanced", in the order of the class ids."""
    if value != "balanced":
        raise ValueError(f"class_weight: {value!r} is not allowed; allowed are None, 'balanced' and one weight a class")
    family, lay = FAMILIES[plan.family], plan.layout
    if plan.hard:
        return weights_of_ids(family, targets, lay.n, plan.ignore_index)
    xp = family.namespace(targets)
    t = xp.astype(targets, namespace_dtype(xp, plan.compute))
    axes = lay.axes if family.as_given else (lay.axis,)
    counts = xp.sum(t, axis=tuple(axis for axis in range(t.ndim) if axis not in axes))
    if family.as_given and len(axes) > 1:
        order = sorted(axes)
        counts = xp.reshape(xp.permute_dims(counts, tuple(order.index(axis) for axis in axes)), (lay.n,))
    return _weights_of_counts(xp, counts)


def weights_of_ids(family: Family, ids: Array, n: int, ignore_index: int | None) -> Array:
    """Return the balanced weights of class ids; ids that are ignored or out of range are not counted."""
    xp = family.namespace(ids)
    if family.readable(ids):
        found = family.host(ids)[0].reshape(-1)
        found = found[(found >= 0) & (found < n)]
        if ignore_index is not None:
            found = found[found != ignore_index]
        counts = np.bincount(found.astype(np.int64), minlength=n)
        return _operands.adopt("class_weight", _weights_of_counts(np, counts.astype(np.float64)), family, ids)
    ids = xp.reshape(xp.astype(ids, namespace_dtype(xp, "int64"), copy=False), (-1,))
    device = family.device(ids)
    places = xp.arange(n, dtype=ids.dtype, **({} if device is None else {"device": device}))
    hot = places == ids[:, None]
    if ignore_index is not None and 0 <= ignore_index < n:
        hot = hot & (places != ignore_index)
    return _weights_of_counts(xp, xp.sum(xp.astype(hot, namespace_dtype(xp, "float32")), axis=0))


def _weights_of_counts(xp: Any, counts: Array) -> Array:
    """Return total / (classes that occur * count); 0 for a class that does not occur."""
    there = counts > 0.0
    present = xp.sum(xp.astype(there, counts.dtype))
    return xp.where(there, xp.sum(counts) / (xp.where(there, counts, 1.0) * xp.where(present > 0.0, present, 1.0)), 0.0)
