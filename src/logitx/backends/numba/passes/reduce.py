"""Row primitives: what kernels are made of. Each works on one panel of a tile, ``tile[base : base + steps * width]``.

A row of logits reduces to the pair (max, rest), where rest is the sum of exp(x - max) without one maximum; what is
masked or -inf is -inf in a tile and counts for nothing by itself. Sums add up 8 steps in the compute dtype, then these
blocks with the error of every addition carried along, so a row of a million entries is summed as well as one of a
thousand, in an order fixed by n and the dtype alone.

`across` says how rows lie in lanes (`blocks`): a panel is one row, or, if `across` is None, holds a row in every lane.
Per-row values (top, rest, ...) are one lane if a panel is one row, else a vector; `wide` makes both a vector.

Rows that have no plain answer need no branch. A NaN or +inf makes rest NaN; where nothing counts, rest is -1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import primitive, separate
from logitx.backends.numba.memory.arguments import given
from logitx.backends.numba.memory.load_store import write_back
from logitx.backends.numba.memory.prefetch import fetch_ahead
from logitx.backends.numba.memory.scratch import load_lanes, store_lanes
from logitx.backends.numba.passes.scaling import exponent
from logitx.backends.numba.passes.sums import SPAN_STEPS, add_to_sum, fold_rows
from logitx.backends.numba.vectors.exp_log import exp_of_sum
from logitx.backends.numba.vectors.lanes import (
    any_of,
    biggest,
    fma,
    fold_maximum,
    fold_sum,
    lane,
    least,
    maximum_of_two,
    select,
    single_lane,
    spread_as,
    wide,
    width_of,
)

FEW_CLASSES = (
    64  # classes of a column up to which a logarithm, where errors average out less, corrects each: 1.4 ulp, not 2.5
)


class MaximumAndSum(NamedTuple):
    """The numbers that every row is reduced to."""

    top: Any  # the maximum
    rest: Any  # the sum of exponentials without one maximum, rounded
    lost: Any  # what the rounding took from it


@primitive
def peak(tile: Any, base: int, steps: int, seen: Any, unchanged: bool, across: Any) -> Any:
    """Return the maximum of what is not NaN; 0 where nothing counts.

    `seen` is the maximum of each lane when the block was loaded, of use if that is one row and `unchanged` since.
    """
    found = wide(tile, seen)
    if across is None or not unchanged:
        found = spread_as(tile, -np.inf)
        for at in range(base, base + steps * width_of(tile), width_of(tile)):
            found = maximum_of_two(load_lanes(tile, at), found)
    top = found if across is None else single_lane(tile, fold_maximum(found))
    return select(top == spread_as(top, -np.inf), spread_as(top, 0.0), top)


@primitive
def rest_of(tile: Any, base: int, steps: int, top: Any, scale: Any, raw: Any, ahead: Any, across: Any) -> Any:
    """Return the sum of exp((x - top) / temperature) without one maximum, and what was lost in rounding it.

    The terms take the place of x in the tile, unless it has to stay `raw`.
    """
    if across is None:
        return _rest_of_columns(tile, base, steps, top, scale, raw, ahead)
    return _rest_of_row(tile, base, steps, top, scale, raw, ahead)


@primitive
def _rest_of_columns(tile: Any, base: int, steps: int, top: Any, scale: Any, raw: Any, ahead: Any) -> Any:
    if raw is None or steps > FEW_CLASSES:
        high, low, tops = _terms_of_lanes(tile, base, steps, top, scale, raw, ahead)
    else:
        high, low, tops = _terms_of_few(tile, base, steps, top, scale, ahead)
    rest, lost = add_to_sum(high, low, tops - spread_as(tile, 1.0))
    total = rest + lost
    return total, (rest - total) + lost


@separate
def _terms_of_few(tile: Any, base: int, steps: int, top: Any, scale: Any, ahead: Any) -> Any:
    """Return what `_terms_of_lanes` returns, with every addition corrected; the tile stays."""
    zero, one = spread_as(tile, 0.0), spread_as(tile, 1.0)
    high, low, tops = zero, zero, zero
    for at in range(base, base + steps * width_of(tile), width_of(tile)):
        v, lost = exponent(load_lanes(tile, at), top, scale)
        e = exp_of_sum(v, lost)
        fetch_ahead((at - base) // width_of(tile), ahead)
        is_top = e == one
        high, low = add_to_sum(high, low, select(is_top, zero, e))
        tops = select(is_top, tops + one, tops)
    return high, low, tops


@primitive
def _rest_of_row(tile: Any, base: int, steps: int, top: Any, scale: Any, raw: Any, ahead: Any) -> Any:
    tops, terms = terms_of_row(tile, base, steps, top, scale, raw, ahead)
    total = (tops - 1.0) + terms
    rest = single_lane(tile, total)
    return rest, single_lane(tile, total - float(lane(rest, 0)))


@primitive
def terms_of_row(tile: Any, base: int, steps: int, top: Any, scale: Any, raw: Any, ahead: Any) -> Any:
    """Return how many entries of one row are its maximum, and the sum of the exponentials of the others."""
    high, low, tops = _terms_of_lanes(tile, base, steps, top, scale, raw, ahead)
    return fold_sum(tops, spread_as(tile, 0.0)), fold_sum(high, low)


@primitive
def _terms_of_lanes(tile: Any, base: int, steps: int, top: Any, scale: Any, raw: Any, ahead: Any) -> Any:
    """Return the sum beside the maxima in two parts, and how many maxima there are, for each lane.

    A maximum would swallow the low bits of the others.
    """
    zero = spread_as(tile, 0.0)
    high, low, tops = zero, zero, zero
    end = base + steps * width_of(tile)
    for start in range(base, end, SPAN_STEPS * width_of(tile)):
        stop = least(start + SPAN_STEPS * width_of(tile), end)
        part, found = _terms_of_span(tile, base, start, stop, top, scale, raw, ahead)
        high, low = add_to_sum(high, low, part)
        tops = tops + found
    return high, low, tops


@separate
def _terms_of_span(tile: Any, base: int, start: int, stop: int, top: Any, scale: Any, raw: Any, ahead: Any) -> Any:
    """Return the sum of exponentials beside the maxima, added up without a correction, and how many maxima there are.

    Exponentials are written to the tile, unless it has to stay `raw`. A branch for spans that hold a maximum saves two
    instructions a step, and is guessed wrong so often that a row of 1000 takes longer.
    """
    zero, one = spread_as(tile, 0.0), spread_as(tile, 1.0)
    part, tops = zero, zero
    for at in range(start, stop, width_of(tile)):
        v, lost = exponent(load_lanes(tile, at), top, scale)
        e = exp_of_sum(v, lost)
        fetch_ahead((at - base) // width_of(tile), ahead)
        if raw is None:
            store_lanes(tile, at, e)
        is_top = e == one
        part = select(is_top, part, part + e)
        tops = select(is_top, tops + one, tops)
    return part, tops


class RowSums(NamedTuple):
    """Sums over a row, with v = (x - top) / temperature."""

    rest: Any  # of exp(v) without one maximum, rounded
    lost: Any  # what the rounding took from it
    tops: Any  # how many exponentials are 1
    fall: Any  # of exp(v) (-v)
    spread: Any  # of exp(v) v^2
    squares: Any  # of exp(v)^2


@primitive
def sums_of_rows(tile: Any, base: int, steps: int, top: Any, scale: Any, raw: Any, ahead: Any, across: Any) -> Any:
    """Return what `rest_of` returns, to the same bits for tiles of exponentials, and the other sums.

    The terms take the place of x in the tile, unless it has to stay `raw`.
    """
    zero, one, floor = spread_as(tile, 0.0), spread_as(tile, 1.0), spread_as(tile, -biggest(tile))
    high, low, tops, fall, shed, spread, slack, squares, cut = zero, zero, zero, zero, zero, zero, zero, zero, zero
    end = base + steps * width_of(tile)
    for start in range(base, end, SPAN_STEPS * width_of(tile)):
        part, down, wider, square = zero, zero, zero, zero
        for at in range(start, least(start + SPAN_STEPS * width_of(tile), end), width_of(tile)):
            v, lost = exponent(load_lanes(tile, at), top, scale)
            e = exp_of_sum(v, lost)
            fetch_ahead((at - base) // width_of(tile), ahead)
            if raw is None:
                store_lanes(tile, at, e)
            is_top = e == one
            part = part + select(is_top, zero, e)
            tops = tops + select(is_top, one, zero)
            v = maximum_of_two(v, floor)  # 0 times -inf would be NaN
            term = e * v
            down, wider, square = down - term, fma(term, v, wider), fma(e, e, square)
        high, low = add_to_sum(high, low, part)
        fall, shed = add_to_sum(fall, shed, down)
        spread, slack = add_to_sum(spread, slack, wider)
        squares, cut = add_to_sum(squares, cut, square)
    rest, lost = settle_rest(high, low, tops, across)
    tops, fall = fold_rows(tops, zero, across), fold_rows(fall, shed, across)
    return RowSums(rest, lost, tops, fall, fold_rows(spread, slack, across), fold_rows(squares, cut, across))


@primitive
def settle_rest(high: Any, low: Any, tops: Any, across: Any) -> Any:
    """Return the rest of each row and what was lost in rounding it, from sums beside the maxima and their number."""
    if across is None:
        rest, lost = add_to_sum(high, low, tops - spread_as(tops, 1.0))
        total = rest + lost
        return total, (rest - total) + lost
    sum_of_row = (fold_sum(tops, spread_as(tops, 0.0)) - 1.0) + fold_sum(high, low)
    rest = single_lane(high, sum_of_row)
    return rest, single_lane(high, sum_of_row - float(lane(rest, 0)))


@primitive
def nans_beside_infinity(tile: Any, base: int, steps: int, top: Any, across: Any) -> Any:
    """Return how many entries are NaN, where the maximum is +inf; such rows are rare, so others are not counted."""
    zero, one = spread_as(tile, 0.0), spread_as(tile, 1.0)
    count = zero
    if any_of(top == spread_as(top, np.inf)):
        for at in range(base, base + steps * width_of(tile), width_of(tile)):
            x = load_lanes(tile, at)
            count = count + select(x == x, zero, one)
    return fold_rows(count, zero, across)


@primitive
def log_normalizer_of(top: Any, rest: Any, nans: Any, value: Any) -> Any:
    """Return `value`, the logarithm of the normalizer, put right where a row has no plain one."""
    infinity, nan = spread_as(top, np.inf), spread_as(top, np.nan)
    value = select(rest < spread_as(top, 0.0), spread_as(top, -np.inf), value)
    return select(top == infinity, select(nans == spread_as(top, 0.0), infinity, nan), value)


@primitive
def emit(target: Any, first: int, count: int, value: Any) -> None:
    """Write one number a row to an array of rows, if the caller wants that array."""
    if given(target):
        if count == width_of(value):
            write_back(target, first * target.outer_stride, value)
        else:
            for i in range(count):
                write_back(target, (first + i) * target.outer_stride, lane(value, i))


@primitive
def inverse_of_sum(rest: Any, lost: Any) -> Any:
    """Return 1 / (1 + rest + lost) in two parts, so that a product with it is rounded once."""
    one = spread_as(rest, 1.0)
    total, beside = add_to_sum(one, lost, rest)
    high = one / total
    return high, (fma(spread_as(rest, 0.0) - total, high, one) - beside * high) * high


@primitive
def multiply(tile: Any, factor: Any, size: int) -> None:
    """Multiply a tile by another."""
    for at in range(0, size, width_of(tile)):
        store_lanes(tile, at, load_lanes(tile, at) * load_lanes(factor, at))


@primitive
def hide(tile: Any, mask: Any, size: int, value: float) -> None:
    """Put `value` where the mask is 0."""
    hidden, zero = spread_as(tile, value), spread_as(tile, 0.0)
    for at in range(0, size, width_of(tile)):
        store_lanes(tile, at, select(load_lanes(mask, at) == zero, hidden, load_lanes(tile, at)))
