"""Segments: softmax, log-softmax and log-sum-exp of rows of different lengths along one axis.

A block holds whole segments, up to `ENTRIES_AT_ONCE` entries: their maxima and sums are found one after another, their
exponentials together, in lanes. A longer segment is a block of its own, and is read in pieces, once for its maximum,
once for its sum and once for its results. A segment is the work of one thread, and its sum has one order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.signature import Computed, Ids, Mask, OfLogits, OfResult, Way
from logitx.backends.numba.memory.arguments import (
    FAILED,
    OK,
    UNFIT,
    bytes_per_element,
    given,
    view_of_entries,
    view_of_rows,
)
from logitx.backends.numba.memory.load_store import class_id, put_integer, read_lanes, read_one, write_back
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
from logitx.backends.numba.vectors.exp_log import difference, exp_of_sum
from logitx.backends.numba.vectors.lanes import LANES, cast_as, least, spread_as, width_of

FLOAT32_LANES = LANES["float32"]
ENTRIES_AT_ONCE = 2048  # entries; three tiles of float64 fill 48 KiB


class SegmentArrays(NamedTuple):
    """The arrays of `segments`; `like` is absent and has the dtype to compute in."""

    logits: OfLogits
    where: Mask
    offsets: Ids
    out: OfResult  # of the shape of the logits, or with `reducing` one number a segment
    like: Computed


class SegmentOptions(NamedTuple):
    """The numbers of `segments`."""

    axis: int
    undefined: bool  # segments of only -inf are NaN


class Entries(NamedTuple):
    """The arrays of a call, as all parts see them."""

    x: Any
    where: Any
    index: Any  # offsets of segments, or ids
    out: Any


class Tiles(NamedTuple):
    """Scratch memory of a part."""

    x: Any
    top: Any  # the maximum of the segment of each entry; later what its result is divided by, or lowered by
    e: Any


def segments(arrays: SegmentArrays, options: SegmentOptions, reducing: Way, log: Way, parts: int, crew: int) -> int:
    """Write softmax, with `log` log-softmax, or with `reducing` log-sum-exp of each segment."""
    x, fits_x = view_of_entries(arrays.logits, options.axis)
    where, fits_where = view_of_entries(arrays.where, options.axis)
    out, fits_out = view_of_entries(arrays.out, options.axis)
    if not (fits_x and fits_where and fits_out):
        return UNFIT
    entries = Entries(x, where, view_of_rows(arrays.offsets), out)
    like = view_of_rows(arrays.like)
    return OK if together(crew, job_of(_run, (entries, like, options.undefined, reducing, log)), parts) else FAILED


def index_segments(ids: Ids, offsets: Ids) -> int:
    """Write where each segment begins and the last one ends; return UNFIT if ids are not sorted."""
    labels, begins = view_of_rows(ids), view_of_rows(offsets)
    last = -1
    for e in range(labels.outer):
        label = class_id(labels, e)
        if label < last:
            return UNFIT
        for segment in range(last, label):
            put_integer(begins, segment + 1, e)
        last = label
    for segment in range(last, begins.outer - 1):
        put_integer(begins, segment + 1, labels.outer)
    return OK


@primitive
def _first_segment(offsets: Any, count: int, entry: int) -> int:
    """Return the first segment that begins at or after an entry."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if class_id(offsets, middle) < entry:
            low = middle + 1
        else:
            high = middle
    return low


@primitive
def _run(entries: Any, like: Any, undefined: bool, reducing: Any, log: Any, part: int, parts: int) -> bool:
    offsets, n = entries.index, entries.x.n
    count = offsets.outer - 1
    start = 0 if part == 0 else _first_segment(offsets, count, n * part // parts)
    stop = count if part == parts - 1 else _first_segment(offsets, count, n * (part + 1) // parts)
    room = reserve(3 * ENTRIES_AT_ONCE, like)
    if is_missing(room):
        return False
    tiles = Tiles(room, after(room, ENTRIES_AT_ONCE), after(room, 2 * ENTRIES_AT_ONCE))
    while start < stop:
        first = class_id(offsets, start)
        end = start + 1
        while end < stop and class_id(offsets, end + 1) - first <= ENTRIES_AT_ONCE:
            end += 1
        for o in range(entries.out.outer):
            for i in range(entries.out.inner):
                if class_id(offsets, end) - first <= ENTRIES_AT_ONCE:
                    _short(entries, tiles, o, i, start, end, undefined, reducing, log)
                else:
                    _long(entries, tiles, o, i, start, undefined, reducing, log)
        start = end
    release(room)
    return True


@primitive
def load(entries: Any, o: int, i: int, first: int, count: int, tile: Any) -> None:
    """Copy entries to a tile, as -inf where they are masked."""
    x, where, lanes = entries.x, entries.where, width_of(tile)
    start, done = o * x.outer_stride + i * x.inner_stride, 0
    if x.n_stride == bytes_per_element(x):
        done = count // lanes * lanes
        for j in range(0, done, lanes):
            store_lanes(tile, j, read_lanes(x, start + (first + j) * x.n_stride, tile))
    if done < count:
        store_lanes(tile, (count - 1) // lanes * lanes, spread_as(tile, -np.inf))
    for j in range(done, count):
        place_one(tile, j, read_one(x, start + (first + j) * x.n_stride, tile))
    if given(where):
        start = o * where.outer_stride + i * where.inner_stride
        for j in range(count):
            if read_one(where, start + (first + j) * where.n_stride, tile) == 0.0:
                place_one(tile, j, cast_as(-np.inf, tile))


@primitive
def store(entries: Any, o: int, i: int, first: int, count: int, tile: Any, masked: float) -> None:
    """Copy results to where their entries are; what is masked gets a value of its own."""
    out, where, lanes = entries.out, entries.where, width_of(tile)
    if given(where):
        start = o * where.outer_stride + i * where.inner_stride
        for j in range(count):
            if read_one(where, start + (first + j) * where.n_stride, tile) == 0.0:
                place_one(tile, j, cast_as(masked, tile))
    start, done = o * out.outer_stride + i * out.inner_stride, 0
    if out.n_stride == bytes_per_element(out):
        done = count // lanes * lanes
        for j in range(0, done, lanes):
            write_back(out, start + (first + j) * out.n_stride, load_lanes(tile, j))
    for j in range(done, count):
        write_back(out, start + (first + j) * out.n_stride, take_one(tile, j))


@primitive
def largest(tile: Any, first: int, stop: int, top: float) -> float:
    """Return the largest of some entries that are not NaN, and of `top`."""
    for j in range(first, stop):
        x = float(take_one(tile, j))
        if x > top:
            top = x
    return top


@primitive
def fill(tile: Any, first: int, stop: int, value: float) -> None:
    """Write one number to many places."""
    number = cast_as(value, tile)
    for j in range(first, stop):
        place_one(tile, j, number)


@primitive
def exponentials(tiles: Any, count: int) -> None:
    """Write exp(x - top)."""
    for at in range(0, count, width_of(tiles.x)):
        d, lost = difference(load_lanes(tiles.x, at), load_lanes(tiles.top, at))
        store_lanes(tiles.e, at, exp_of_sum(d, lost))


@primitive
def add_term(high: float, low: float, e: float, tile: Any) -> Any:
    """Add an exponential to a sum in two parts; float64 holds a sum of float32 in one."""
    if width_of(tile) == FLOAT32_LANES:
        return high + e, low
    total = high + e
    from_e = total - high
    return total, low + ((high - (total - from_e)) + (e - from_e))


@primitive
def _add_up(tile: Any, first: int, stop: int, high: float, low: float, tops: int) -> Any:
    """Add exponentials beside the maxima to a sum in two parts, and count the maxima."""
    for j in range(first, stop):
        e = float(take_one(tile, j))
        if e == 1.0:
            tops += 1
        else:
            high, low = add_term(high, low, e, tile)
    return high, low, tops


@primitive
def _has_nan(tile: Any, first: int, stop: int) -> bool:
    for j in range(first, stop):
        x = take_one(tile, j)
        if x != x:
            return True
    return False


@primitive
def logarithm_of(top: float, rest: float, tops: int, nan: bool) -> float:
    """Return the log-sum-exp of a segment."""
    if nan:
        return np.nan
    if top == np.inf:
        return np.inf
    return top + math.log1p(rest + (tops - 1)) if tops > 0 else -np.inf


@primitive
def divisor_of(rest: float, tops: int, undefined: bool, log: Any) -> float:
    """Return what exponentials are divided by, or with `log` what logits are lowered by."""
    if rest != rest or (tops == 0 and undefined):
        return np.nan
    if tops == 0:
        return 0.0 if log is not None else 1.0
    return math.log1p(rest + (tops - 1)) if log is not None else rest + tops


@primitive
def finish(tiles: Any, count: int, log: Any) -> None:
    """Write the results of entries over the exponentials; `tiles.top` has the divisors by now."""
    for at in range(0, count, width_of(tiles.x)):
        divisor = load_lanes(tiles.top, at)
        if log is None:
            store_lanes(tiles.e, at, load_lanes(tiles.e, at) / divisor)
        else:
            store_lanes(tiles.e, at, load_lanes(tiles.x, at) - divisor)


@primitive
def lower(tiles: Any, count: int) -> None:
    """Replace x by x - top."""
    for at in range(0, count, width_of(tiles.x)):
        store_lanes(tiles.x, at, load_lanes(tiles.x, at) - load_lanes(tiles.top, at))


@primitive
def _short(
    entries: Any, tiles: Any, o: int, i: int, start: int, end: int, undefined: bool, reducing: Any, log: Any
) -> None:
    """Compute segments of one block."""
    offsets, out = entries.index, entries.out
    first = class_id(offsets, start)
    count = class_id(offsets, end) - first
    if count > 0:
        load(entries, o, i, first, count, tiles.x)
    a = 0
    for segment in range(start, end):
        b = class_id(offsets, segment + 1) - first
        top = largest(tiles.x, a, b, -np.inf)
        fill(tiles.top, a, b, 0.0 if top == -np.inf else top)
        a = b
    exponentials(tiles, count)
    if reducing is None and log is not None:
        lower(tiles, count)
    a = 0
    for segment in range(start, end):
        b = class_id(offsets, segment + 1) - first
        high, low, tops = _add_up(tiles.e, a, b, 0.0, 0.0, 0)
        rest = high + low if high == high else high
        if reducing is not None:
            top = float(take_one(tiles.top, a)) if b > a else 0.0
            nan = rest != rest and _has_nan(tiles.x, a, b)
            place = o * out.outer_stride + segment * out.n_stride + i * out.inner_stride
            write_back(out, place, logarithm_of(top, rest, tops, nan))
        else:
            fill(tiles.top, a, b, divisor_of(rest, tops, undefined, log))
        a = b
    if reducing is None:
        finish(tiles, count, log)
        store(entries, o, i, first, count, tiles.e, -np.inf if log is not None else 0.0)


@primitive
def _long(entries: Any, tiles: Any, o: int, i: int, segment: int, undefined: bool, reducing: Any, log: Any) -> None:
    """Compute a segment that does not fit into a tile."""
    offsets, out = entries.index, entries.out
    begin, end = class_id(offsets, segment), class_id(offsets, segment + 1)
    top, nan = -np.inf, False
    for first in range(begin, end, ENTRIES_AT_ONCE):
        count = least(ENTRIES_AT_ONCE, end - first)
        load(entries, o, i, first, count, tiles.x)
        top = largest(tiles.x, 0, count, top)
        nan = nan or _has_nan(tiles.x, 0, count)
    top = 0.0 if top == -np.inf else top
    fill(tiles.top, 0, ENTRIES_AT_ONCE, top)
    high, low, tops = 0.0, 0.0, 0
    for first in range(begin, end, ENTRIES_AT_ONCE):
        count = least(ENTRIES_AT_ONCE, end - first)
        load(entries, o, i, first, count, tiles.x)
        exponentials(tiles, count)
        high, low, tops = _add_up(tiles.e, 0, count, high, low, tops)
    rest = high + low if high == high else high
    if reducing is not None:
        place = o * out.outer_stride + segment * out.n_stride + i * out.inner_stride
        write_back(out, place, logarithm_of(top, rest, tops, nan))
        return
    divisor = divisor_of(rest, tops, undefined, log)
    for first in range(begin, end, ENTRIES_AT_ONCE):
        count = least(ENTRIES_AT_ONCE, end - first)
        load(entries, o, i, first, count, tiles.x)
        fill(tiles.top, 0, ENTRIES_AT_ONCE, top)
        exponentials(tiles, count)
        if log is not None:
            lower(tiles, count)
        fill(tiles.top, 0, ENTRIES_AT_ONCE, divisor)
        finish(tiles, count, log)
        store(entries, o, i, first, count, tiles.e, -np.inf if log is not None else 0.0)
