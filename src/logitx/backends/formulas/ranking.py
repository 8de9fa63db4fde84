"""The largest entries of rows, in descending order, the first among equals."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from logitx._arrays.family import Family, known_values
from logitx._plan import Array

_LEAST_GROUP = 4  # classes of a group of which only the maximum is looked at first


def takes_along(xp: Any) -> bool:
    """Say whether a namespace has what `take_along` calls."""
    return hasattr(xp, "take_along_axis") or hasattr(xp, "take_along_dim")


def take_along(xp: Any, x: Array, ids: Array, axis: int) -> Array:
    """Return the entries of `ids` along an axis; older namespaces of PyTorch have its own name only."""
    return xp.take_along_axis(x, ids, axis=axis) if hasattr(xp, "take_along_axis") else xp.take_along_dim(x, ids, axis)


def largest(family: Family, x: Array, k: int, axis: int) -> Array:
    """Return the places of the k largest entries along an axis; there is no NaN."""
    xp = family.namespace(x)
    along_last = _ALONG_LAST.get(family.name)
    if along_last is not None:
        return xp.moveaxis(along_last(xp.moveaxis(x, axis, -1), k), -1, axis)
    known = None if family.from_numpy is None else known_values(family, xp.moveaxis(x, axis, -1))
    if known is not None:
        found: Array = family.from_numpy(_largest_of_numpy(known, k), "int64")  # type: ignore[misc]
        return xp.moveaxis(found, -1, axis)
    order = xp.argsort(x, axis=axis, descending=True, stable=True)
    return order[(*(slice(None),) * (axis % len(x.shape)), slice(k), ...)]


def _largest_of_numpy(x: np.ndarray[Any, Any], k: int) -> np.ndarray[Any, Any]:
    """Sort only k entries of each row: those above the k-th largest, and the first of those equal to it.

    Classes are folded into `many` groups, each every `many`-th class, so that maxima of groups are vector operations.
    The k largest entries lie in the k groups with the largest maxima, unless other groups have the same maximum.
    """
    n = x.shape[-1]
    if k == n or not x.size:
        return np.argsort(-x, axis=-1, kind="stable")[..., :k]
    size = math.isqrt(n // (2 * k))  # classes of a group
    if size >= _LEAST_GROUP:
        many = n // size
        folded = x[..., : many * size].reshape((*x.shape[:-1], size, many)).max(-2)
        groups = _largest_of_numpy(folded, k)
        least = np.take_along_axis(folded, groups[..., -1:], -1)
        if (np.count_nonzero(folded >= least, axis=-1) == k).all():
            ids = np.sort(groups, axis=-1)[..., None, :] + many * np.arange(size)[:, None]  # in ascending order
            left = np.broadcast_to(np.arange(many * size, n), (*x.shape[:-1], n - many * size))
            ids = np.concatenate([ids.reshape((*x.shape[:-1], -1)), left], axis=-1)
            return np.take_along_axis(ids, _largest_of_numpy(np.take_along_axis(x, ids, -1), k), -1)
    bound = np.partition(x, n - k, axis=-1)[..., n - k, None]
    chosen = x >= bound
    if np.count_nonzero(chosen) > k * (x.size // n):
        above, equal = x > bound, x == bound
        wanted = k - np.count_nonzero(above, axis=-1, keepdims=True)
        chosen = above | (equal & (np.cumsum(equal, axis=-1) <= wanted))
    ids = np.nonzero(chosen)[-1].reshape((*x.shape[:-1], k))
    order = np.argsort(-np.take_along_axis(x, ids, -1), axis=-1, kind="stable")
    return np.take_along_axis(ids, order, -1)


_ALONG_LAST: dict[str, Callable[[Array, int], Array]] = {  # of families that know better than to sort all
    "jax": lambda x, k: sys.modules["jax"].lax.top_k(x, k)[1],  # stable, as documented
}
