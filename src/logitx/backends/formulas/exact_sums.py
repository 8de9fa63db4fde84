"""Sums of products whose terms may cancel: the rounding error of each product and sum is carried along.

By Dekker's splitting and Knuth's 2Sum, which need nothing but products and additions that round once. XLA fuses a
product with the sum that it feeds, and so does not round it; all products here are exact, so that it does not matter.

Source: T. Ogita, S. M. Rump and S. Oishi, "Accurate sum and dot product", SIAM Journal on Scientific Computing 26
(2005), doi:10.1137/030601818.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import LONG_DOUBLE
from logitx._plan import Array, Plan

HALF_OF_THE_BITS = {
    "float32": 2.0**12,
    LONG_DOUBLE: 2.0 ** (np.finfo(np.longdouble).nmant // 2 + 1),
    "float64": 2.0**27,
}


def exact_dot(plan: Plan, xp: Any, factors: Array, terms: Array) -> Array:
    """Return the sum of products along the class axis, which stays with length 1."""
    axis, n, detach = plan.layout.axis, plan.layout.n, FAMILIES[plan.family].detach
    plain = xp.sum(factors * terms, axis=axis, keepdims=True)
    if n is None:  # TensorFlow while it traces: what has no known length cannot be halved
        return plain
    high, low = in_two_parts(axis, n, detach(factors), detach(terms), HALF_OF_THE_BITS[plan.compute])
    exact = high + low
    kept = xp.isfinite(exact)  # else there is an infinity, a NaN, or a factor too large to be split
    return xp.where(kept, exact + (plain - detach(plain)), plain)  # value of `exact`, derivative of `plain`


def in_two_parts(axis: int, n: int, factors: Array, terms: Array, scale: float) -> tuple[Array, Array]:
    """Return the sum of n products and its rounding error."""
    (one, less), (two, rest) = _split_in_two(factors, scale), _split_in_two(terms, scale)
    middle, lost = two_sum(one * rest, less * two)
    high, low = two_sum(one * two, middle)
    return _sum_of_neighbors(axis, n, high, low + lost + less * rest)


def _split_in_two(x: Array, scale: float) -> tuple[Array, Array]:
    """Return x as a sum of two numbers of half its bits each, so that products of such are exact."""
    wide = x * scale + x
    high = wide - (wide - x)
    return high, x - high


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a sum and its rounding error."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _sum_of_neighbors(axis: int, n: int, high: Array, low: Array) -> tuple[Array, Array]:
    """Add neighbors, then sums of neighbors, until one pair is left; `low` holds the rounding errors of `high`.

    Neighbors, not one half and the other: of classes split over devices, neighbors are on the same device.
    """

    def cut(start: int, stop: int, step: int = 1) -> tuple[Array, Array]:
        entries = (*(slice(None),) * axis, slice(start, stop, step), ...)
        return high[entries], low[entries]

    odd: list[tuple[Array, Array]] = []
    while n > 1:
        half = n // 2
        if n % 2:
            odd.append(cut(n - 1, n))
        high, low = _add_pairs(cut(0, 2 * half, 2), cut(1, 2 * half, 2))
        n = half
    for part in odd:
        high, low = _add_pairs((high, low), part)
    return high, low


def _add_pairs(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
    total, lost = two_sum(one[0], two[0])
    return total, (one[1] + two[1]) + lost
