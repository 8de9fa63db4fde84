"""Terms of divergences, each of them 0 or more: so sums of them are never negative, and exactly 0 for equal logits.

Since p and q sum to 1, sum of p log(p / q) is also the sum of q - p + p log(p / q): these terms are small where p is
near q, where those of the first sum cancel.
"""

from __future__ import annotations

import math
from typing import Any

from logitx._plan import Array

_NEAR = 0.5  # up to this distance of logarithms the series is used
_SERIES = tuple(1.0 / math.factorial(k + 2) for k in range(15))  # of (exp(-t) - 1 + t) / t^2 in powers of -t


def _gap(xp: Any, p: Array, m: Array, t: Array) -> Array:
    """Return m - p + p t, where t = log(p / m)."""
    near = xp.abs(t) < _NEAR
    close, far = xp.where(near, t, 0.0), xp.where(near | (p == 0.0), 0.0, t)
    series = xp.full_like(close, _SERIES[-1])
    for coefficient in reversed(_SERIES[:-1]):
        series = coefficient - close * series
    return xp.where(near, p * (close * close * series), (m - p) + p * far)


def kl_terms(xp: Any, p: Array, q: Array, d: Array, of_p: Array, of_q: Array) -> Array:
    """Return the terms of KL(p, q). `d` is log(p / q) where both are possible, by the masks `of_p` and `of_q`."""
    both = of_p & of_q
    alone = xp.where(of_p, xp.inf, xp.where(of_q, q, 0.0))
    return xp.where(both, _gap(xp, p, q, xp.where(both, d, 0.0)), alone)


def logs_over_mixture(xp: Any, weight: float, d: Array) -> tuple[Array, Array]:
    """Return log(p / m) and log(q / m) for m = weight p + (1 - weight) q, from d = log(p / q): both 0 where d is 0."""
    other, rises, size = 1.0 - weight, d > 0.0, xp.abs(d)
    part = xp.where(rises, other, xp.full_like(d, weight))
    kept = xp.where(rises, weight, xp.full_like(d, other))
    change = part * xp.expm1(-size)  # of m, relative to the larger of p and q; near -1 the sum with 1 would cancel
    near = change > -0.5
    far = xp.log(xp.where(near, 1.0, kept + part * xp.exp(-size)))
    larger = -xp.where(near, xp.log1p(xp.where(near, change, 0.0)), far)
    return xp.where(rises, larger, larger + d), xp.where(rises, larger - d, larger)


def js_terms(xp: Any, weight: float, p: Array, q: Array, d: Array, of_p: Array, of_q: Array) -> Array:
    """Return the terms of weight KL(p, m) + (1 - weight) KL(q, m), with m = weight p + (1 - weight) q."""
    both, other = of_p & of_q, 1.0 - weight
    if weight in (0.0, 1.0):  # m is one of them
        return 0.0 * (p + q)
    d = xp.where(both, d, 0.0)
    of_first, of_second = logs_over_mixture(xp, weight, d)
    m = weight * p + other * q
    together = weight * _gap(xp, p, m, of_first) + other * _gap(xp, q, m, of_second)
    alone = xp.where(of_p, -weight * math.log(weight) * p, xp.where(of_q, -other * math.log(other) * q, 0.0))
    return xp.where(both, together, alone)
