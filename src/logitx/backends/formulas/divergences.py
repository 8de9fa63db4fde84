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


def _log_over_mixture(xp: Any, part: float, kept: float, d: Array) -> Array:
    """Return -log(kept + part exp(d)) for d <= 0, where kept + part = 1."""
    change = part * xp.expm1(d)
    near = change > -0.5
    far = xp.log(xp.where(near, 1.0, kept + part * xp.exp(d)))
    return -xp.where(near, xp.log1p(xp.where(near, change, 0.0)), far)


def js_terms(xp: Any, weight: float, p: Array, q: Array, d: Array, of_p: Array, of_q: Array) -> Array:
    """Return the terms of weight KL(p, m) + (1 - weight) KL(q, m), with m = weight p + (1 - weight) q."""
    both, other = of_p & of_q, 1.0 - weight
    if weight in (0.0, 1.0):  # m is one of them
        return 0.0 * (p + q)
    d = xp.where(both, d, 0.0)
    rising = xp.where(d > 0.0, d, 0.0)
    falling = xp.where(d > 0.0, 0.0, d)
    above = _log_over_mixture(xp, other, weight, -rising)  # log(p / m) where p > q
    below = _log_over_mixture(xp, weight, other, falling)  # log(q / m) elsewhere
    of_first, of_second = xp.where(d > 0.0, above, below + d), xp.where(d > 0.0, above - d, below)
    m = weight * p + other * q
    together = weight * _gap(xp, p, m, of_first) + other * _gap(xp, q, m, of_second)
    alone = xp.where(of_p, -weight * math.log(weight) * p, xp.where(of_q, -other * math.log(other) * q, 0.0))
    return xp.where(both, together, alone)
