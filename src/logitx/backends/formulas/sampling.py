"""Sampling: classes cut off, noise, and the places of its maxima, in the library of the logits."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from logitx._arrays.family import Family
from logitx._plan import Array
from logitx.backends.formulas.ranking import largest, take_along

_BLOCK = 1 << 22  # entries for which noise is drawn at once
_FIRST = 64  # most probable classes that are tried first for `top_p`


def cut_classes(
    family: Family, u: Array, k: int | None, kept_share: float | None, least: float | None
) -> tuple[Array, Array]:
    """Return the logits of the classes that are left, and their ids, or None for the order as it is."""
    xp, n, order = family.namespace(u), u.shape[-1], None
    if least is not None and least > 0.0:
        u = xp.where(u >= math.log(least), u, -xp.inf)
    if k is not None and k < n:
        order = largest(family, u, k, -1)
        u = take_along(xp, u, order, -1)
    if kept_share is None or kept_share >= 1.0:
        return u, order
    total, size = xp.sum(xp.exp(u), axis=-1, keepdims=True), u.shape[-1]
    count = min(_FIRST, size) if family.readable(u) else size
    while True:
        first = largest(family, u, count, -1)
        best = take_along(xp, u, first, -1)
        p = xp.exp(best) / total
        before = xp.cumsum(p, axis=-1) - p
        if count == size or bool(xp.all(before[..., -1] + p[..., -1] >= kept_share)):
            break
        count = min(8 * count, size)
    crossed = (before >= kept_share) & (xp.arange(count, **on_device(family, u)) > 0)
    order = first if order is None else take_along(xp, order, first, -1)
    return xp.where(crossed, -xp.inf, best), order


def on_device(family: Family, x: Array) -> dict[str, Any]:
    """Return the argument that puts a new array beside another."""
    device = family.device(x)
    return {} if device is None else {"device": device}


Noise = Callable[[Array, tuple[int, ...]], Array]


def noise_of(family: Family, rng: Any) -> Noise:
    """Return a function of logits and a shape of draws: the places of the maxima of noisy logits."""
    source = SOURCES.get(family.name)
    if source is None:
        raise TypeError(f"logits: no samples are drawn for arrays of {family.name}; allowed are {', '.join(SOURCES)}")
    if not source.accepts(rng):
        raise TypeError(f"rng: {type(rng).__name__} is not allowed; allowed is {source.kind}")
    return lambda u, shape: source.maxima(u, rng, shape)


def gumbel_noise(family: Family, x: Array, rng: Any) -> Array:
    """Return Gumbel noise of the shape and dtype of the logits."""
    noise_of(family, rng)  # refuses what is no source
    return SOURCES[family.name].noise(rng, x.shape, x)


class Source(NamedTuple):
    """A source of random numbers."""

    kind: str  # what it is, for messages
    accepts: Callable[[Any], bool]
    maxima: Callable[[Array, Any, tuple[int, ...]], Array]  # of (logits, source, shape of draws)
    noise: Callable[[Any, tuple[int, ...], Array], Array]  # of (source, shape, an array of the dtype)


def _maxima(xp: Any, u: Array, shape: tuple[int, ...], exponential: Callable[[tuple[int, ...]], Array]) -> Array:
    """Return the places of the maxima, some rows at a time, draw by draw."""
    rows, draws = u.reshape((-1, u.shape[-1])), math.prod(shape)
    size = max(1, _BLOCK // u.shape[-1])  # rows at once
    many = max(1, size // max(1, rows.shape[0]))  # draws of all rows at once
    found = []
    for start in range(0, draws, many):
        for first in range(0, rows.shape[0], size):
            block = rows[first : first + size]
            block = xp.broadcast_to(block, (min(many, draws - start), *block.shape))
            found.append((block - xp.log(exponential(tuple(block.shape)))).argmax(-1).reshape(-1))
    ids = xp.concatenate(found) if found else xp.zeros(0, dtype=xp.int64)
    return ids.reshape((*shape, *u.shape[:-1]))


def _maxima_of_blocks(u: Array, rng: Any, shape: tuple[int, ...], draw: Callable[..., Array], xp: Any) -> Array:
    return _maxima(xp, u, shape, lambda size: draw(rng, size, u))


def _is_jax_key(rng: Any) -> bool:
    return isinstance(rng, sys.modules["jax"].Array)


def _gumbel_of_jax(key: Any, shape: tuple[int, ...], like: Array) -> Array:
    return sys.modules["jax"].random.gumbel(key, shape, like.dtype)


def _exponential_of_numpy(rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    return rng.standard_exponential(shape, like.dtype.name)


def _exponential_of_torch(rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    return like.detach().new_empty(shape).exponential_(generator=rng)


SOURCES = {
    "numpy": Source(
        "a numpy.random.Generator",
        lambda rng: isinstance(rng, np.random.Generator),
        lambda u, rng, shape: _maxima_of_blocks(u, rng, shape, _exponential_of_numpy, np),
        lambda rng, shape, like: -np.log(_exponential_of_numpy(rng, shape, like)),
    ),
    "torch": Source(
        "a torch.Generator",
        lambda rng: isinstance(rng, sys.modules["torch"].Generator),
        lambda u, rng, shape: _maxima_of_blocks(u, rng, shape, _exponential_of_torch, sys.modules["torch"]),
        lambda rng, shape, like: -_exponential_of_torch(rng, shape, like).log(),
    ),
    "jax": Source(
        "a key of jax.random",
        _is_jax_key,
        lambda u, key, shape: (u + _gumbel_of_jax(key, (*shape, *u.shape), u)).argmax(-1),
        _gumbel_of_jax,
    ),
}
