"""Sums that carry along what rounding takes from them."""

from __future__ import annotations

from typing import Any

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.scratch import load_lanes
from logitx.backends.numba.vectors.lanes import (
    fma,
    fold_parts,
    fold_sum,
    least,
    select,
    single_lane,
    spread_as,
    width_of,
)

SPAN_STEPS = 8  # steps that are added up without a correction


@primitive
def add_to_sum(high: Any, low: Any, x: Any) -> Any:
    """Add x to a sum in two parts (Knuth's 2Sum)."""
    total = high + x
    from_x = total - high
    from_high = total - from_x
    return total, low + ((high - from_high) + (x - from_x))


@primitive
def fold_rows(high: Any, low: Any, across: Any) -> Any:
    """Return a sum in two parts as one, for each row."""
    low = select(low == low, low, spread_as(low, 0.0))  # inf - inf in the error of an infinite sum is NaN: drop it
    if across is None:
        return high + low
    return single_lane(high, fold_sum(high, low))


@primitive
def sum_of(tile: Any, base: int, steps: int, across: Any) -> Any:
    """Return the sum of the entries."""
    high, low = spread_as(tile, 0.0), spread_as(tile, 0.0)
    end = base + steps * width_of(tile)
    for start in range(base, end, SPAN_STEPS * width_of(tile)):
        part = spread_as(tile, 0.0)
        for at in range(start, least(start + SPAN_STEPS * width_of(tile), end), width_of(tile)):
            part = part + load_lanes(tile, at)
        high, low = add_to_sum(high, low, part)
    return fold_rows(high, low, across)


@primitive
def dot_of_tiles(tile: Any, other: Any, base: int, steps: int, across: Any) -> Any:
    """Return the sum of products with another tile in two parts; where `tile` is 0, so is the product.

    Terms of both signs may cancel: nothing of a product or a sum is dropped before the end.
    """
    zero = spread_as(tile, 0.0)
    high, low = zero, zero
    for at in range(base, base + steps * width_of(tile), width_of(tile)):
        x = load_lanes(tile, at)
        y = select(x == zero, zero, load_lanes(other, at))
        product = x * y
        high, low = add_to_sum(high, low + fma(x, y, zero - product), product)
    return settle_sum(high, low, across)


@primitive
def signed_sum(tile: Any, base: int, steps: int, across: Any) -> Any:
    """Return the sum of entries of both signs, in two parts."""
    high, low = spread_as(tile, 0.0), spread_as(tile, 0.0)
    for at in range(base, base + steps * width_of(tile), width_of(tile)):
        high, low = add_to_sum(high, low, load_lanes(tile, at))
    return settle_sum(high, low, across)


@primitive
def settle_sum(high: Any, low: Any, across: Any) -> Any:
    """Return a sum in two parts, for each row, with nothing in the second that the first can hold."""
    low = select(low == low, low, spread_as(low, 0.0))  # inf - inf in the error of an infinite sum is NaN: drop it
    if across is not None:
        high, low = fold_parts(high, low)
    total = high + low
    lost = (high - total) + low
    return total, select(lost == lost, lost, spread_as(lost, 0.0))
