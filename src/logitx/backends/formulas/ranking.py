"""The largest entries of rows, in descending order, the first among equals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from logitx._arrays.family import Family
from logitx._plan import Array


def take_along(xp: Any, x: Array, ids: Array, axis: int) -> Array:
    """Return the entries of `ids` along an axis; older namespaces of PyTorch have its own name only."""
    return xp.take_along_axis(x, ids, axis=axis) if hasattr(xp, "take_along_axis") else xp.take_along_dim(x, ids, axis)


def largest(family: Family, x: Array, k: int, axis: int) -> Array:
    """Return the places of the k largest entries along an axis; there is no NaN."""
    xp = family.namespace(x)
    along_last = _ALONG_LAST.get(family.name)
    if along_last is not None:
        return xp.moveaxis(along_last(xp.moveaxis(x, axis, -1), k), -1, axis)
    order = xp.argsort(x, axis=axis, descending=True, stable=True)
    return order[(*(slice(None),) * (axis % len(x.shape)), slice(k), ...)]


def _largest_of_numpy(x: np.ndarray[Any, Any], k: int) -> np.ndarray[Any, Any]:
    """Sort only k entries of each row: those above the k-th largest, and the first of those equal to it."""
    n = x.shape[-1]
    if k == n or not x.size:
        return np.argsort(-x, axis=-1, kind="stable")[..., :k]
    bound = np.partition(x, n - k, axis=-1)[..., n - k, None]
    equal = x == bound
    wanted = k - (x > bound).sum(axis=-1, keepdims=True)
    chosen = (x > bound) | (equal & (np.cumsum(equal, axis=-1) <= wanted))
    ids = np.nonzero(chosen)[-1].reshape((*x.shape[:-1], k))
    order = np.argsort(-np.take_along_axis(x, ids, -1), axis=-1, kind="stable")
    return np.take_along_axis(ids, order, -1)


_ALONG_LAST: dict[str, Callable[[Array, int], Array]] = {  # of families that know better than to sort all
    "numpy": _largest_of_numpy,
    "jax": lambda x, k: sys.modules["jax"].lax.top_k(x, k)[1],  # stable, as documented
}
