"""The most probable classes of a row whose sum reaches a share of the whole: found without sorting the row.

The exponentials of a row are in a tile. The least one that is kept is searched for in an interval, which is cut into
five parts in every pass over the tile, until few are left in it, which are sorted.
"""

from __future__ import annotations

from typing import Any

from logitx.backends.numba.compile.policy import primitive, separate
from logitx.backends.numba.memory.scratch import load_lanes, place_one, store_lanes, take_one
from logitx.backends.numba.passes.sums import SPAN_STEPS
from logitx.backends.numba.vectors.lanes import bits_of, cast_as, first_of, fold_sum, least, select, spread_as, width_of

FEW = 128  # exponentials that are sorted
_MOST_PASSES = 24  # after so many, what is left in the interval differs by roundings
_ABOVE = 2.0  # all exponentials


@separate
def keep_share(tile: Any, base: int, steps: int, share: float, room: Any) -> None:
    """Put 0 in the place of exponentials behind those that reach `share` of the sum; of equal ones the first stay.

    `room` holds `FEW` numbers.
    """
    total, from_b, from_c, from_d = _sums_from(tile, base, steps, 0.0, 2.0**-7, 2.0**-4, 2.0**-2)
    wanted = share * total if share * total > 0.0 else 1e-37  # one class is kept
    low, high, reached, above = 0.0, _ABOVE, total, 0.0
    if from_d >= wanted:
        low, reached = 2.0**-2, from_d
    elif from_c >= wanted:
        low, high, reached, above = 2.0**-4, 2.0**-2, from_c, from_d
    elif from_b >= wanted:
        low, high, reached, above = 2.0**-7, 2.0**-4, from_b, from_c
    else:
        high, above = 2.0**-7, from_b
    count = -1
    for attempt in range(_MOST_PASSES):
        if reached - above < FEW * high:
            count = _collect(tile, base, steps, low, high, room)
            if count >= 0:
                break
        size = high - low
        a, b, c, d = low + 0.2 * size, low + 0.4 * size, low + 0.6 * size, low + 0.8 * size
        if attempt % 2 == 0:  # near to where it lies if the sum falls evenly, which it does not always
            middle = low + size * min(max((reached - wanted) / (reached - above), 0.2), 0.8)
            a, b, c, d = middle - 0.15 * size, middle - 0.03 * size, middle + 0.03 * size, middle + 0.15 * size
        from_a, from_b, from_c, from_d = _sums_from(tile, base, steps, a, b, c, d)
        if from_d >= wanted:
            low, reached = d, from_d
        elif from_c >= wanted:
            low, high, reached, above = c, d, from_c, from_d
        elif from_b >= wanted:
            low, high, reached, above = b, c, from_b, from_c
        elif from_a >= wanted:
            low, high, reached, above = a, b, from_a, from_b
        else:
            high, above = a, from_a
    if count > 0:
        low, high, above = _last_kept(room, count, high, above, wanted)
    _drop_others(tile, base, steps, low, high, wanted - above)


@separate
def _sums_from(tile: Any, base: int, steps: int, a: float, b: float, c: float, d: float) -> Any:
    """Return the sums of the exponentials from each of four bounds on."""
    zero = spread_as(tile, 0.0)
    from_a, from_b, from_c, from_d = spread_as(tile, a), spread_as(tile, b), spread_as(tile, c), spread_as(tile, d)
    sum_a, sum_b, sum_c, sum_d = zero, zero, zero, zero
    end, width = base + steps * width_of(tile), width_of(tile)
    for start in range(base, end, SPAN_STEPS * width):
        of_a, of_b, of_c, of_d = zero, zero, zero, zero
        for at in range(start, least(start + SPAN_STEPS * width, end), width):
            e = load_lanes(tile, at)
            of_a, of_b = select(from_a <= e, of_a + e, of_a), select(from_b <= e, of_b + e, of_b)
            of_c, of_d = select(from_c <= e, of_c + e, of_c), select(from_d <= e, of_d + e, of_d)
        sum_a, sum_b, sum_c, sum_d = sum_a + of_a, sum_b + of_b, sum_c + of_c, sum_d + of_d
    return fold_sum(sum_a, zero), fold_sum(sum_b, zero), fold_sum(sum_c, zero), fold_sum(sum_d, zero)


@primitive
def _inside(e: Any, low: Any, high: Any) -> Any:
    return select(low <= e, e < high, e < e)


@separate
def _collect(tile: Any, base: int, steps: int, low: float, high: float, room: Any) -> int:
    """Copy the exponentials of an interval, in descending order; return how many, or -1 if there are more than FEW."""
    count, width = 0, width_of(tile)
    bottom, top = spread_as(tile, low), spread_as(tile, high)
    for at in range(base, base + steps * width, width):
        found = bits_of(_inside(load_lanes(tile, at), bottom, top))
        while found != 0:
            if count == FEW:
                return -1
            place_one(room, count, take_one(tile, at + first_of(found)))
            found &= found - 1
            count += 1
    for i in range(1, count):
        e, place = take_one(room, i), i
        while place > 0 and take_one(room, place - 1) < e:
            place_one(room, place, take_one(room, place - 1))
            place -= 1
        place_one(room, place, e)
    return count


@primitive
def _last_kept(room: Any, count: int, high: float, above: float, wanted: float) -> Any:
    """Return the least exponential that is kept, the next larger one, and the sum from that on."""
    low, total = float(take_one(room, 0)), above
    for i in range(count):
        e = float(take_one(room, i))
        if e < low:
            if total >= wanted:
                break
            low, high, above = e, low, total
        total += e
    return low, high, above


@separate
def _drop_others(tile: Any, base: int, steps: int, low: float, high: float, wanted: float) -> None:
    """Put 0 for exponentials below `low`, and for those up to `high` that come after the first which reach `wanted`."""
    width, zero, found = width_of(tile), spread_as(tile, 0.0), 0.0
    bottom, top = spread_as(tile, low), spread_as(tile, high)
    for at in range(base, base + steps * width, width):
        e = load_lanes(tile, at)
        store_lanes(tile, at, select(e < bottom, zero, e))
        inside = bits_of(_inside(e, bottom, top))
        while inside != 0:
            i = at + first_of(inside)
            inside &= inside - 1
            one = take_one(tile, i)
            if found >= wanted:
                place_one(tile, i, cast_as(0.0, tile))
            found += one
