"""Gradients by the logits of rows whose classes are neighbors in memory, read where they lie.

They are read once for a sum, and once more, from the cache, for what is written; a tile would be written and read for
nothing (4096 rows of 1000: 2.2 ms, and so 1.0 ms). Long rows are cut into pieces that all threads share.
Sums have the terms, and the order, of `dot` and `signed_sum`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import itemsize, view
from logitx.backends.numba.memory.load_store import read_lanes, stream, write
from logitx.backends.numba.memory.prefetch import is_streamed, prefetch, prefetch_to_write
from logitx.backends.numba.memory.scratch import (
    load,
    missing,
    place_one,
    release,
    reserve,
    store,
    store_anywhere,
    take_one,
)
from logitx.backends.numba.passes.blocks import blocks_of, geometry_of
from logitx.backends.numba.passes.long_rows import piece_of, pieces_of
from logitx.backends.numba.passes.sums import add, settled
from logitx.backends.numba.threads.workers import job, together
from logitx.backends.numba.vectors.exp_log import exp_any
from logitx.backends.numba.vectors.lanes import fma, lane, least, select, single, spread, wide, width


@primitive
def neighbors(memory: Any) -> bool:
    """Tell whether the classes of a row are neighbors in memory."""
    adjoin: bool = memory.n_stride == itemsize(memory)
    return adjoin


@primitive
def short_rows(value: Any, cotangent: Any, out: Any, log: bool, like: Any, part: int, parts: int) -> bool:
    """Write the gradients of a part of the rows."""
    end = reserve(2 * width(like), like)
    if missing(end):
        return False
    g = geometry_of(value, like, True)
    streamed = is_streamed(out, g)
    start, stop = blocks_of(g, part, parts)
    for row in range(start, stop):
        one, two, target = _row_of(value, row), _row_of(cotangent, row), _row_of(out, row)
        later = least(row + 1, stop - 1)
        one_later, two_later = _row_of(value, later).address, _row_of(cotangent, later).address
        if log:
            total, lost = _total(one, two, target, True, end, streamed, one_later)
            _write(one, two, target, True, end, streamed, two_later, total, lost)
        else:
            total, lost = _total(one, two, target, None, end, streamed, one_later)
            _write(one, two, target, None, end, streamed, two_later, total, lost)
    release(end)
    return True


@primitive
def _row_of(memory: Any, row: int) -> Any:
    """Return a row as an array of one row."""
    return view(memory, memory.address + row * memory.outer_stride, 1, memory.n, 1, 0, memory.n_stride, 0)


@primitive
def _read(memory: Any, j: int, like: Any) -> Any:
    return read_lanes(memory, j * itemsize(memory), like)


@primitive
def _total(value: Any, cotangent: Any, out: Any, log: Any, end: Any, streamed: bool, later: int) -> Any:
    """Return the sum of p dp, or with `log` of dlog_p, over a row: in two parts, one lane each.

    Fetched meanwhile: the next row, which begins at `later`, and memory for the result of this one.
    """
    lanes = width(end)
    high, low = spread(end, 0.0), spread(end, 0.0)
    whole = value.n // lanes * lanes
    goal = later if streamed else out.address
    for j in range(0, whole, lanes):
        high, low = _plus(high, low, _read(value, j, end), _read(cotangent, j, end), log)
        prefetch(later + j * itemsize(value))
        prefetch_to_write(goal + j * itemsize(out))
    if whole < value.n:
        pad = 0.0 if log is None else -np.inf
        high, low = _plus(high, low, _left_over(value, end, pad), _left_over(cotangent, end, 0.0), log)
    return settled(high, low, True)


@primitive
def _left_over(memory: Any, end: Any, pad: float) -> Any:
    """Read what whole vectors leave of a row."""
    lanes = width(end)
    last = memory.n - lanes
    store(end, lanes, spread(end, pad))
    store_anywhere(end, last % lanes, _read(memory, last, end))
    return load(end, lanes)


@primitive
def _plus(high: Any, low: Any, x: Any, y: Any, log: Any) -> Any:
    """Add what one vector contributes to a sum in two parts; nothing where p is 0."""
    zero = spread(x, 0.0)
    if log is None:
        y = select(x == zero, zero, y)
        product = x * y
        return add(high, low + fma(x, y, zero - product), product)
    return add(high, low, select(x == spread(x, -np.inf), zero, y))


@primitive
def _gradient(x: Any, y: Any, total: Any, lost: Any, log: Any) -> Any:
    zero = spread(x, 0.0)
    if log is None:
        return select(x == zero, zero, x * ((y - wide(x, total)) - wide(x, lost)))
    p = exp_any(x)
    return select(x == spread(x, -np.inf), zero, fma(p, zero - wide(x, total), y) - p * wide(x, lost))


@primitive
def _write(
    value: Any, cotangent: Any, out: Any, log: Any, end: Any, streamed: bool, later: int, total: Any, lost: Any
) -> None:
    """Write the gradient of a row, whose last vector overlaps its neighbor; `later` is fetched meanwhile."""
    lanes, size = width(end), itemsize(out)
    last = value.n - lanes
    at = 0
    if streamed:
        write(out, 0, _gradient(_read(value, 0, end), _read(cotangent, 0, end), total, lost, log))
        at = (64 - out.address % 64) % 64 // size
        if (out.address + at * size) % 64 == 0:
            for j in range(at, last, lanes):
                stream(out, j * size, _gradient(_read(value, j, end), _read(cotangent, j, end), total, lost, log))
                prefetch(later + j * itemsize(cotangent))
            at = last
    for j in range(at, last, lanes):
        write(out, j * size, _gradient(_read(value, j, end), _read(cotangent, j, end), total, lost, log))
        prefetch(later + j * itemsize(cotangent))
    write(out, last * size, _gradient(_read(value, last, end), _read(cotangent, last, end), total, lost, log))


# -- long rows --------------------------------------------------------------------------------------------------------


@primitive
def _sum_pieces(
    value: Any, cotangent: Any, out: Any, row: int, log: bool, sums: Any, like: Any, part: int, parts: int
) -> bool:
    end = reserve(2 * width(like), like)
    if missing(end):
        return False
    count = pieces_of(value.n)
    for piece in range(count * part // parts, count * (part + 1) // parts):
        one, two, target = piece_of(value, row, piece), piece_of(cotangent, row, piece), piece_of(out, row, piece)
        if log:
            total, lost = _total(one, two, target, True, end, True, one.address)
        else:
            total, lost = _total(one, two, target, None, end, True, one.address)
        place_one(sums, 2 * piece, lane(total, 0))
        place_one(sums, 2 * piece + 1, lane(lost, 0))
    release(end)
    return True


@primitive
def _write_pieces(
    value: Any, cotangent: Any, out: Any, row: int, log: bool, total: Any, lost: Any, like: Any, part: int, parts: int
) -> bool:
    end = reserve(2 * width(like), like)
    if missing(end):
        return False
    count = pieces_of(value.n)
    streamed = is_streamed(out, geometry_of(out, like, True))
    for piece in range(count * part // parts, count * (part + 1) // parts):
        one, two, target = piece_of(value, row, piece), piece_of(cotangent, row, piece), piece_of(out, row, piece)
        if log:
            _write(one, two, target, True, end, streamed, two.address, total, lost)
        else:
            _write(one, two, target, None, end, streamed, two.address, total, lost)
    release(end)
    return True


@primitive
def long_rows(value: Any, cotangent: Any, out: Any, log: bool, like: Any, parts: int, crew: int) -> bool:
    """Write the gradients of rows that are cut into pieces, whose sums are added up in their order."""
    sums = reserve(2 * pieces_of(value.n), like)
    if missing(sums):
        return False
    fine = True
    for row in range(value.outer):
        summed = together(crew, job(_sum_pieces, (value, cotangent, out, row, log, sums, like)), parts)
        high, low = spread(sums, 0.0), spread(sums, 0.0)
        for piece in range(pieces_of(value.n)):
            one, two = take_one(sums, 2 * piece), take_one(sums, 2 * piece + 1)
            high, low = add(high, low + spread(sums, two), spread(sums, one))
        total, lost = settled(high, low, None)
        total, lost = single(sums, lane(total, 0)), single(sums, lane(lost, 0))
        written = together(crew, job(_write_pieces, (value, cotangent, out, row, log, total, lost, like)), parts)
        fine = fine and summed and written
    release(sums)
    return fine
