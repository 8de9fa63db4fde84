"""Sums that carry along what rounding takes from them."""

from __future__ import annotations

from typing import Any

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.scratch import load
from logitx.backends.numba.vectors.lanes import fma, fold_parts, fold_sum, least, select, single, spread, width

SPAN = 8  # steps that are added up without a correction


@primitive
def add(high: Any, low: Any, x: Any) -> Any:
    """Add x to a sum in two parts (Knuth's 2Sum)."""
    total = high + x
    from_x = total - high
    from_high = total - from_x
    return total, low + ((high - from_high) + (x - from_x))


@primitive
def folded(high: Any, low: Any, across: Any) -> Any:
    """Return a sum in two parts as one, for each row."""
    low = select(low == low, low, spread(low, 0.0))  # an infinite sum loses NaN, which says nothing
    if across is None:
        return high + low
    return single(high, fold_sum(high, low))


@primitive
def sum_of(tile: Any, base: int, steps: int, across: Any) -> Any:
    """Return the sum of the entries."""
    high, low = spread(tile, 0.0), spread(tile, 0.0)
    end = base + steps * width(tile)
    for start in range(base, end, SPAN * width(tile)):
        part = spread(tile, 0.0)
        for at in range(start, least(start + SPAN * width(tile), end), width(tile)):
            part = part + load(tile, at)
        high, low = add(high, low, part)
    return folded(high, low, across)


@primitive
def dot(tile: Any, other: Any, base: int, steps: int, across: Any) -> Any:
    """Return the sum of products with another tile in two parts; where `tile` is 0, the other has no say.

    Terms of both signs may cancel: nothing of a product or a sum is dropped before the end.
    """
    zero = spread(tile, 0.0)
    high, low = zero, zero
    for at in range(base, base + steps * width(tile), width(tile)):
        x = load(tile, at)
        y = select(x == zero, zero, load(other, at))
        product = x * y
        high, low = add(high, low + fma(x, y, zero - product), product)
    return settled(high, low, across)


@primitive
def signed_sum(tile: Any, base: int, steps: int, across: Any) -> Any:
    """Return the sum of entries of both signs, in two parts."""
    high, low = spread(tile, 0.0), spread(tile, 0.0)
    for at in range(base, base + steps * width(tile), width(tile)):
        high, low = add(high, low, load(tile, at))
    return settled(high, low, across)


@primitive
def settled(high: Any, low: Any, across: Any) -> Any:
    """Return a sum in two parts, for each row, with nothing in the second that the first can hold."""
    low = select(low == low, low, spread(low, 0.0))  # an infinite sum loses NaN, which says nothing
    if across is not None:
        high, low = fold_parts(high, low)
    total = high + low
    lost = (high - total) + low
    return total, select(lost == lost, lost, spread(lost, 0.0))
