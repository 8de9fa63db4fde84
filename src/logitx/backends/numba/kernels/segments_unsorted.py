"""Segments whose entries lie in any order: a table of all segments is filled while the entries are read as they lie.

Sorting the entries first takes ten times as long: it goes through memory at random, the tables of 100,000 segments stay
in the cache. Entries of a segment are added up in the order in which they lie, as in `segments`: the same bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.segments import (
    ENTRIES_AT_ONCE,
    Entries,
    SegmentOptions,
    Tiles,
    add_term,
    divisor_of,
    exponentials,
    fill,
    finish,
    load,
    logarithm_of,
    lower,
    store,
)
from logitx.backends.numba.kernels.signature import Computed, Ids, Mask, OfLogits, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, view_of_entries, view_of_rows
from logitx.backends.numba.memory.load_store import class_id, write_back
from logitx.backends.numba.memory.scratch import after, is_missing, place_one, release, reserve, take_one
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.lanes import cast_as, least


class UnsortedArrays(NamedTuple):
    """The arrays of `segments_unsorted`; the last two are absent and have the dtype to compute in, and float64."""

    logits: OfLogits
    where: Mask
    ids: Ids
    out: OfResult
    like: Computed
    wide: Wide


class Table(NamedTuple):
    """One number a segment each."""

    top: Any  # the maximum
    high: Any  # the sum of exponentials beside the maxima, in two parts; NaN with a NaN or +inf
    low: Any  # NaN with a NaN; later what results are divided by, or lowered by
    tops: Any  # how many maxima


def segments_unsorted(
    arrays: UnsortedArrays, options: SegmentOptions, count: int, reducing: Way, log: Way, parts: int, crew: int
) -> int:
    """Write softmax, with `log` log-softmax, or with `reducing` log-sum-exp of each of `count` segments."""
    x, fits_x = view_of_entries(arrays.logits, options.axis)
    where, fits_where = view_of_entries(arrays.where, options.axis)
    out, fits_out = view_of_entries(arrays.out, options.axis)
    if not (fits_x and fits_where and fits_out):
        return UNFIT
    entries = Entries(x, where, view_of_rows(arrays.ids), out)
    like, wide = view_of_rows(arrays.like), view_of_rows(arrays.wide)
    work = job_of(_run_columns, (entries, like, wide, count, options.undefined, reducing, log))
    return OK if together(crew, work, parts) else FAILED


@primitive
def _run_columns(
    entries: Any, like: Any, wide: Any, count: int, undefined: bool, reducing: Any, log: Any, part: int, parts: int
) -> bool:
    """Compute some of the columns: all segments of one place beside the axis of segments each."""
    columns = entries.x.outer * entries.x.inner
    room, sums = reserve(3 * ENTRIES_AT_ONCE + count, like), reserve(3 * count, wide)
    if is_missing(room) or is_missing(sums):
        release(room)
        release(sums)
        return False
    tiles = Tiles(room, after(room, ENTRIES_AT_ONCE), after(room, 2 * ENTRIES_AT_ONCE))
    table = Table(after(room, 3 * ENTRIES_AT_ONCE), sums, after(sums, count), after(sums, 2 * count))
    for column in range(columns * part // parts, columns * (part + 1) // parts):
        o, i = column // entries.x.inner, column % entries.x.inner
        _reduce(entries, tiles, table, count, o, i)
        if reducing is not None:
            _write_sums(entries, tiles, table, count, o, i)
        else:
            _write_entries(entries, tiles, table, count, o, i, undefined, log)
    release(room)
    release(sums)
    return True


@primitive
def _reduce(entries: Any, tiles: Any, table: Any, count: int, o: int, i: int) -> None:
    ids, n = entries.index, entries.x.n
    fill(table.top, 0, count, -np.inf)
    fill(table.high, 0, 3 * count, 0.0)
    for first in range(0, n, ENTRIES_AT_ONCE):
        size = least(ENTRIES_AT_ONCE, n - first)
        load(entries, o, i, first, size, tiles.x)
        for j in range(size):
            x, segment = take_one(tiles.x, j), class_id(ids, first + j)
            if x > take_one(table.top, segment):
                place_one(table.top, segment, x)
    for segment in range(count):
        if take_one(table.top, segment) == -np.inf:
            place_one(table.top, segment, cast_as(0.0, tiles.x))
    for first in range(0, n, ENTRIES_AT_ONCE):
        size = least(ENTRIES_AT_ONCE, n - first)
        load(entries, o, i, first, size, tiles.x)
        _load_tops(tiles, table, ids, first, size)
        exponentials(tiles, size)
        for j in range(size):
            _add(tiles, table, j, class_id(ids, first + j))


@primitive
def _load_tops(tiles: Any, table: Any, ids: Any, first: int, size: int) -> None:
    for j in range(size):
        place_one(tiles.top, j, take_one(table.top, class_id(ids, first + j)))


@primitive
def _add(tiles: Any, table: Any, j: int, segment: int) -> None:
    """Add one exponential to its segment."""
    e = float(take_one(tiles.e, j))
    if e == 1.0:
        place_one(table.tops, segment, take_one(table.tops, segment) + 1.0)
    elif e == e:
        high = take_one(table.high, segment)
        if high == high:
            high, low = add_term(high, take_one(table.low, segment), e, tiles.x)
            place_one(table.high, segment, high)
            place_one(table.low, segment, low)
    else:
        x = take_one(tiles.x, j)
        place_one(table.high, segment, np.nan)
        if x != x:
            place_one(table.low, segment, np.nan)


@primitive
def _write_sums(entries: Any, tiles: Any, table: Any, count: int, o: int, i: int) -> None:
    out = entries.out
    for segment in range(count):
        low = take_one(table.low, segment)
        rest = take_one(table.high, segment) + low
        value = logarithm_of(float(take_one(table.top, segment)), rest, int(take_one(table.tops, segment)), low != low)
        write_back(out, o * out.outer_stride + segment * out.n_stride + i * out.inner_stride, value)


@primitive
def _write_entries(entries: Any, tiles: Any, table: Any, count: int, o: int, i: int, undefined: bool, log: Any) -> None:
    ids, n = entries.index, entries.x.n
    for segment in range(count):
        rest = take_one(table.high, segment) + take_one(table.low, segment)
        place_one(table.low, segment, divisor_of(rest, int(take_one(table.tops, segment)), undefined, log))
    for first in range(0, n, ENTRIES_AT_ONCE):
        size = least(ENTRIES_AT_ONCE, n - first)
        load(entries, o, i, first, size, tiles.x)
        _load_tops(tiles, table, ids, first, size)
        exponentials(tiles, size)
        if log is not None:
            lower(tiles, size)
        for j in range(size):
            place_one(tiles.top, j, cast_as(take_one(table.low, class_id(ids, first + j)), tiles.top))
        finish(tiles, size, log)
        store(entries, o, i, first, size, tiles.e, -np.inf if log is not None else 0.0)
