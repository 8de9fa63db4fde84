"""Sampling: classes cut off, and class ids drawn from what is left, in the library of the logits."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from logitx._arrays.family import Family
from logitx._plan import Array
from logitx.backends.formulas.ranking import largest, take_along

_SPAN = 256  # classes whose probabilities are added up first, to find one among few
_RANKED = 64  # classes that are ranked first
_BLOCK = 1 << 21  # entries that are looked through at once


def kept_classes(
    family: Family, p: Array, k: int | None, kept_share: float | None, least: float | None
) -> tuple[Array, Array]:
    """Return probabilities, 0 for classes that are cut off, and the ids of their classes; None for all in order."""
    xp, n = family.namespace(p), p.shape[-1]
    if least is not None and least > 0.0:
        p = xp.where(p >= least * xp.max(p, axis=-1, keepdims=True), p, 0.0)
    if (k is None or k >= n) and (kept_share is None or kept_share >= 1.0):
        return p, None
    wanted = None if kept_share is None or k is not None else kept_share * xp.sum(p, axis=-1, keepdims=True)
    count = k or min(n, _RANKED)
    if count < n and k is None and not family.readable(p):
        return _cut_by_sorting(xp, p, wanted, family.has_float64(p)), None
    ids = largest(family, p, count, -1)
    best = take_along(xp, p, ids, -1)
    if wanted is None:
        return best_kept(xp, best, kept_share, None), ids
    if count < n and not bool(xp.all(xp.sum(best, axis=-1, keepdims=True) > wanted)):
        return _cut_by_sorting(xp, p, wanted, family.has_float64(p)), None
    return shortened(xp, best, wanted), ids


def best_kept(xp: Any, best: Array, kept_share: float | None, least: float | None) -> Array:
    """Return the largest probabilities of each row, 0 for those cut off."""
    if least is not None:
        best = xp.where(best >= least * best[..., :1], best, 0.0)
    if kept_share is None:
        return best
    return shortened(xp, best, kept_share * xp.sum(best, axis=-1, keepdims=True))


def shortened(xp: Any, best: Array, wanted: Array) -> Array:
    """Return probabilities in descending order, 0 behind the first whose sum reaches `wanted`."""
    wanted = xp.where(wanted > 0.0, wanted, 1e-37)  # one class is kept
    return xp.where(xp.cumsum(best, axis=-1) - best < wanted, best, 0.0)


def _cut_by_sorting(xp: Any, p: Array, wanted: Array, wide: bool) -> Array:
    """Return probabilities, 0 behind the most probable classes whose sum reaches `wanted`; of equals the first stay."""
    best = -xp.sort(-p, axis=-1)
    terms = xp.astype(best, xp.float64) if wide else best  # a sum of many terms, one after another
    count = xp.sum(xp.cumsum(terms, axis=-1) - terms < wanted, axis=-1, keepdims=True)
    count = xp.where(count < 1, 1, count)
    bound = take_along(xp, best, count - 1, -1)
    above, equal = p > bound, p == bound
    place = xp.cumsum(xp.astype(equal, xp.int32), axis=-1)  # of an equal one among them
    return xp.where(above | (equal & (place <= count - xp.sum(above, axis=-1, keepdims=True))), p, 0.0)


def on_device(family: Family, x: Array) -> dict[str, Any]:
    """Return the argument that puts a new array beside another."""
    device = family.device(x)
    return {} if device is None else {"device": device}


def source_of(family: Family, rng: Any) -> Source:
    """Return how classes are drawn with a source of random numbers."""
    source = SOURCES.get(family.name)
    if source is None:
        raise TypeError(f"logits: no samples are drawn for arrays of {family.name}; allowed are {', '.join(SOURCES)}")
    if not source.accepts(rng):
        raise TypeError(f"rng: {type(rng).__name__} is not allowed; allowed is {source.kind}")
    return source


def gumbel_noise(family: Family, x: Array, rng: Any) -> Array:
    """Return Gumbel noise of the shape and dtype of the logits."""
    return source_of(family, rng).noise(rng, x.shape, x)


class Source(NamedTuple):
    """A source of random numbers."""

    kind: str  # what it is, for messages
    accepts: Callable[[Any], bool]
    places: Callable[[Array, Any, tuple[int, ...]], Array]  # of (probabilities, source, shape of draws)
    noise: Callable[[Any, tuple[int, ...], Array], Array]  # of (source, shape, an array of the dtype)
    uniform: Callable[[Any, tuple[int, ...], Array], Array] | None  # of the same, in float64; None under tracing


def shares_of(source: Source, rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Return the shares of the whole at which classes are drawn, so far below 1 that no rounding leads out of a row."""
    return source.uniform(rng, shape, like) * (1.0 - 2.0**-30)  # type: ignore[misc]  # only of sources that have it


def _inverted(xp: Any, p: Array, shape: tuple[int, ...], source: Source, rng: Any) -> Array:
    """Return the place where the running sum of p crosses a uniform share of its total: by spans, then in one.

    `xp` is NumPy or PyTorch. Sums are added in an order that n alone fixes, spans in float64.
    """
    given, n = p.shape[:-1], p.shape[-1]
    rows = math.prod(given)
    p, draws = p.reshape((rows, n)), math.prod(shape)
    shares = shares_of(source, rng, (draws, rows), p)
    ids = xp.zeros_like(shares, dtype=xp.int64)
    size = max(1, _BLOCK // max(n, _SPAN))
    for first in range(0, rows, size):
        block = p[first : first + size]
        many = max(1, _BLOCK // (_SPAN * block.shape[0]))
        spans = _spans(xp, block)
        for start in range(0, draws, many):
            part = (slice(start, start + many), slice(first, first + size))
            ids[part] = _inverted_block(xp, block, spans, shares[part])
    return ids.reshape((*shape, *given))


def _spans(xp: Any, p: Array) -> Array:
    """Return the sums of spans of classes."""
    whole = p.shape[-1] // _SPAN
    spans = p[:, : whole * _SPAN].reshape((p.shape[0], whole, _SPAN)).sum(-1)
    return xp.concatenate([spans, p[:, whole * _SPAN :].sum(-1)[:, None]], -1)


def _inverted_block(xp: Any, p: Array, spans: Array, shares: Array) -> Array:
    def count(stop: int) -> Array:
        return xp.arange(stop, device=p.device)

    rows, n, many = count(p.shape[0]), p.shape[-1], spans.shape[-1]
    bounds = xp.cumsum(spans, -1, dtype=xp.float64)
    total = bounds[:, -1]
    good = total > 0.0
    relative = xp.where(good[:, None], bounds / xp.where(good, total, 1.0)[:, None], 1.0)
    found = xp.searchsorted((relative + rows[:, None]).reshape(-1), shares + rows, side="right")
    span = (found - rows * many).clip(0, many - 1)
    rest = shares * total - (bounds[rows, span] - spans[rows, span])
    places = span[..., None] * _SPAN + count(_SPAN)
    own = xp.where(places < n, p[rows[:, None], places.clip(0, n - 1)], 0.0)
    passed = (xp.cumsum(own, -1, dtype=xp.float64) <= rest[..., None]).sum(-1)
    last = xp.amax((own > 0.0) * count(_SPAN), -1)  # where rounding leads to the end of a span
    return span * _SPAN + xp.where(passed < _SPAN, passed, last)


def _is_jax_key(rng: Any) -> bool:
    return isinstance(rng, sys.modules["jax"].Array)


def _gumbel_of_jax(key: Any, shape: tuple[int, ...], like: Array) -> Array:
    return sys.modules["jax"].random.gumbel(key, shape, like.dtype)


def _places_of_jax(p: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """Return the places of the maxima of noisy logarithms: one pass, that XLA fuses and splits over devices."""
    jax = sys.modules["jax"]
    return jax.numpy.argmax(jax.numpy.log(p) + jax.random.gumbel(key, (*shape, *p.shape), p.dtype), axis=-1)


def _uniform_of_torch(rng: Any, shape: tuple[int, ...], like: Array) -> Array:
    return like.detach().new_empty(shape, dtype=sys.modules["torch"].float64).uniform_(generator=rng)


SOURCES: dict[str, Source] = {
    "numpy": Source(
        "a numpy.random.Generator",
        lambda rng: isinstance(rng, np.random.Generator),
        lambda p, rng, shape: _inverted(np, p, shape, SOURCES["numpy"], rng),
        lambda rng, shape, like: -np.log(rng.standard_exponential(shape, like.dtype.name)),
        lambda rng, shape, like: rng.random(shape),
    ),
    "torch": Source(
        "a torch.Generator",
        lambda rng: isinstance(rng, sys.modules["torch"].Generator),
        lambda p, rng, shape: _inverted(sys.modules["torch"], p, shape, SOURCES["torch"], rng),
        lambda rng, shape, like: -like.detach().new_empty(shape).exponential_(generator=rng).log(),
        _uniform_of_torch,
    ),
    "jax": Source("a key of jax.random", _is_jax_key, _places_of_jax, _gumbel_of_jax, None),
}
