"""logcumsumexp: one pass. Exponentials are relative to the largest exponent so far, and the sum is when that grows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.segments import ENTRIES_AT_ONCE, Entries, Tiles, add_term, exponentials, load, store
from logitx.backends.numba.kernels.signature import Computed, Mask, OfLogits, OfResult
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, make_view, view_of_entries, view_of_rows
from logitx.backends.numba.memory.scratch import (
    after,
    is_missing,
    load_lanes,
    place_one,
    release,
    reserve,
    store_lanes,
    take_one,
)
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import log1p_of_sum
from logitx.backends.numba.vectors.lanes import cast_as, least, spread_as, width_of


class CumulativeArrays(NamedTuple):
    """The arrays of `cumulative`; the last two are absent, `like` has the dtype to compute in."""

    logits: OfLogits
    out: OfResult
    where: Mask
    like: Computed


class Sum(NamedTuple):
    """The sum so far: exp(top) times 1 + high + low; `started` if there was a finite exponent."""

    top: float
    high: float
    low: float
    started: bool
    infinite: bool
    nan: bool


def cumulative(arrays: CumulativeArrays, axis: int, reverse: bool, parts: int, crew: int) -> int:
    """Write the logarithms of cumulative sums of exponentials along an axis, from its end if `reverse`."""
    x, fits_x = view_of_entries(arrays.logits, axis)
    out, fits_out = view_of_entries(arrays.out, axis)
    if not (fits_x and fits_out):
        return UNFIT
    if reverse:
        x, out = _reversed(x), _reversed(out)
    absent, _ = view_of_entries(arrays.where, axis)
    entries = Entries(x, absent, view_of_rows(arrays.like), out)
    return OK if together(crew, job_of(_run_rows, (entries, view_of_rows(arrays.like))), parts) else FAILED


@primitive
def _reversed(x: Any) -> Any:
    last = x.address + (x.n - 1) * x.n_stride
    return make_view(x, last, x.outer, x.n, x.inner, x.outer_stride, -x.n_stride, x.inner_stride)


@primitive
def _run_rows(entries: Any, like: Any, part: int, parts: int) -> bool:
    rows, n = entries.x.outer * entries.x.inner, entries.x.n
    room = reserve(3 * ENTRIES_AT_ONCE, like)
    if is_missing(room):
        return False
    tiles = Tiles(room, after(room, ENTRIES_AT_ONCE), after(room, 2 * ENTRIES_AT_ONCE))
    for row in range(rows * part // parts, rows * (part + 1) // parts):
        o, i = row // entries.x.inner, row % entries.x.inner
        total = Sum(0.0, 0.0, 0.0, False, False, False)
        for first in range(0, n, ENTRIES_AT_ONCE):
            count = least(ENTRIES_AT_ONCE, n - first)
            load(entries, o, i, first, count, tiles.x)
            total = _accumulate(tiles, count, total)
            store(entries, o, i, first, count, tiles.e, 0.0)
    release(room)
    return True


@primitive
def _tops(tiles: Any, count: int, total: Any) -> None:
    """Write the largest finite exponent so far; 0 where there was none."""
    top = total.top if total.started else -np.inf
    for j in range(count):
        x = float(take_one(tiles.x, j))
        if x > top and x < np.inf:
            top = x
        place_one(tiles.top, j, cast_as(0.0 if top == -np.inf else top, tiles.x))


@primitive
def _accumulate(tiles: Any, count: int, total: Any) -> Any:
    """Write the results of a block over its exponentials, and return the sum after it."""
    _tops(tiles, count, total)
    exponentials(tiles, count)
    top, high, low, started, infinite, nan = total
    plain = not (infinite or nan) and started
    for j in range(count):
        x, now = take_one(tiles.x, j), float(take_one(tiles.top, j))
        e = float(take_one(tiles.e, j))
        if not (e >= 0.0 and x < np.inf):  # NaN or +inf
            nan = nan or x != x
            infinite, plain = infinite or x == x, False
        elif x != -np.inf:
            if not started or now > top:
                scale = math.exp(top - now) if started else 0.0
                high, low = (high + 1.0) * scale, low * scale
                top, started = now, True
            else:
                high, low = add_term(high, low, e, tiles.x)
        elif not started:
            plain = False
        place_one(tiles.e, j, cast_as(high + low, tiles.x))
    _take_logarithms(tiles, count)
    if not plain:
        _mark(tiles, count, total)
    return Sum(top, high, low, started, infinite, nan)


@primitive
def _take_logarithms(tiles: Any, count: int) -> None:
    for at in range(0, count, width_of(tiles.x)):
        rest = load_lanes(tiles.e, at)
        store_lanes(tiles.e, at, load_lanes(tiles.top, at) + log1p_of_sum(rest, spread_as(rest, 0.0)))


@primitive
def _mark(tiles: Any, count: int, total: Any) -> None:
    """Put in place what is not finite."""
    started, infinite, nan = total.started, total.infinite, total.nan
    for j in range(count):
        x = take_one(tiles.x, j)
        nan = nan or x != x
        infinite = infinite or x == np.inf
        started = started or x > -np.inf
        if nan or infinite or not started:
            place_one(tiles.e, j, cast_as(np.nan if nan else np.inf if infinite else -np.inf, tiles.x))
