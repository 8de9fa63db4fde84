"""Gradients by the logits of rows whose classes are neighbors in memory, read where they lie.

A row is read once for its sum and once more, from the cache, for its gradient. Copying it to a tile costs more (4096
rows of 1000: 2.2 ms, and 1.0 ms without). Long rows are cut into pieces that all threads share. Sums have the terms,
and the order, of `dot_of_tiles` and `signed_sum`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import bytes_per_element, make_view
from logitx.backends.numba.memory.load_store import read_lanes, stream, write_back
from logitx.backends.numba.memory.prefetch import is_streamed, prefetch, prefetch_to_write
from logitx.backends.numba.memory.scratch import (
    is_missing,
    load_lanes,
    place_one,
    release,
    reserve,
    store_anywhere,
    store_lanes,
    take_one,
)
from logitx.backends.numba.passes.blocks import blocks_of_part, geometry_of
from logitx.backends.numba.passes.long_rows import piece_of, pieces_of
from logitx.backends.numba.passes.sums import add_to_sum, settle_sum
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import exp_any
from logitx.backends.numba.vectors.lanes import fma, lane, least, select, single_lane, spread_as, wide, width_of


@primitive
def neighbors(memory: Any) -> bool:
    """Return True if the classes of a row are neighbors in memory."""
    adjoin: bool = memory.n_stride == bytes_per_element(memory)
    return adjoin


@primitive
def short_rows(value: Any, cotangent: Any, out: Any, log: bool, like: Any, part: int, parts: int) -> bool:
    """Write the gradients of a part of the rows."""
    end = reserve(2 * width_of(like), like)
    if is_missing(end):
        return False
    g = geometry_of(value, like, True)
    streamed = is_streamed(out, g)
    start, stop = blocks_of_part(g, part, parts)
    for row in range(start, stop):
        one, two, target = _row_view(value, row), _row_view(cotangent, row), _row_view(out, row)
        later = least(row + 1, stop - 1)
        one_later, two_later = _row_view(value, later).address, _row_view(cotangent, later).address
        if log:
            total, lost = _sum_of_row(one, two, target, True, end, streamed, one_later)
            _write_pulled_row(one, two, target, True, end, streamed, two_later, total, lost)
        else:
            total, lost = _sum_of_row(one, two, target, None, end, streamed, one_later)
            _write_pulled_row(one, two, target, None, end, streamed, two_later, total, lost)
    release(end)
    return True


@primitive
def _row_view(memory: Any, row: int) -> Any:
    """Return a row as an array of one row."""
    return make_view(memory, memory.address + row * memory.outer_stride, 1, memory.n, 1, 0, memory.n_stride, 0)


@primitive
def _read_at(memory: Any, j: int, like: Any) -> Any:
    return read_lanes(memory, j * bytes_per_element(memory), like)


@primitive
def _sum_of_row(value: Any, cotangent: Any, out: Any, log: Any, end: Any, streamed: bool, later: int) -> Any:
    """Return the sum of p dp, or with `log` of dlog_p, over a row: in two parts, one lane each.

    Fetched meanwhile: the next row, which begins at `later`, and memory for the result of this one.
    """
    lanes = width_of(end)
    high, low = spread_as(end, 0.0), spread_as(end, 0.0)
    whole = value.n // lanes * lanes
    goal = later if streamed else out.address
    for j in range(0, whole, lanes):
        high, low = plus_cotangent(high, low, _read_at(value, j, end), _read_at(cotangent, j, end), log)
        prefetch(later + j * bytes_per_element(value))
        prefetch_to_write(goal + j * bytes_per_element(out))
    if whole < value.n:
        pad = 0.0 if log is None else -np.inf
        high, low = plus_cotangent(high, low, _left_over(value, end, pad), _left_over(cotangent, end, 0.0), log)
    return settle_sum(high, low, True)


@primitive
def _left_over(memory: Any, end: Any, pad: float) -> Any:
    """Read what whole vectors leave of a row."""
    lanes = width_of(end)
    last = memory.n - lanes
    store_lanes(end, lanes, spread_as(end, pad))
    store_anywhere(end, last % lanes, _read_at(memory, last, end))
    return load_lanes(end, lanes)


@primitive
def plus_cotangent(high: Any, low: Any, x: Any, y: Any, log: Any) -> Any:
    """Add what one vector contributes to a sum in two parts; nothing where p is 0."""
    zero = spread_as(x, 0.0)
    if log is None:
        y = select(x == zero, zero, y)
        product = x * y
        return add_to_sum(high, low + fma(x, y, zero - product), product)
    return add_to_sum(high, low, select(x == spread_as(x, -np.inf), zero, y))


@primitive
def pulled_back_vector(x: Any, y: Any, total: Any, lost: Any, log: Any) -> Any:
    """Return p (dp - total - lost), or with `log` dlog_p - p (total + lost); 0 where p is 0."""
    zero = spread_as(x, 0.0)
    if log is None:
        return select(x == zero, zero, x * ((y - wide(x, total)) - wide(x, lost)))
    p = exp_any(x)
    return select(x == spread_as(x, -np.inf), zero, fma(p, zero - wide(x, total), y) - p * wide(x, lost))


@primitive
def _write_pulled_row(
    value: Any, cotangent: Any, out: Any, log: Any, end: Any, streamed: bool, later: int, total: Any, lost: Any
) -> None:
    """Write the gradient of a row, whose last vector overlaps its neighbor; `later` is fetched meanwhile."""
    lanes, size = width_of(end), bytes_per_element(out)
    last = value.n - lanes
    at = 0
    if streamed:
        write_back(out, 0, pulled_back_vector(_read_at(value, 0, end), _read_at(cotangent, 0, end), total, lost, log))
        at = (64 - out.address % 64) % 64 // size
        if (out.address + at * size) % 64 == 0:
            for j in range(at, last, lanes):
                stream(
                    out,
                    j * size,
                    pulled_back_vector(_read_at(value, j, end), _read_at(cotangent, j, end), total, lost, log),
                )
                prefetch(later + j * bytes_per_element(cotangent))
            at = last
    for j in range(at, last, lanes):
        write_back(
            out, j * size, pulled_back_vector(_read_at(value, j, end), _read_at(cotangent, j, end), total, lost, log)
        )
        prefetch(later + j * bytes_per_element(cotangent))
    write_back(
        out,
        last * size,
        pulled_back_vector(_read_at(value, last, end), _read_at(cotangent, last, end), total, lost, log),
    )


# -- long rows --------------------------------------------------------------------------------------------------------


@primitive
def _sum_pieces(
    value: Any, cotangent: Any, out: Any, row: int, log: bool, sums: Any, like: Any, part: int, parts: int
) -> bool:
    end = reserve(2 * width_of(like), like)
    if is_missing(end):
        return False
    count = pieces_of(value.n)
    for piece in range(count * part // parts, count * (part + 1) // parts):
        one, two, target = piece_of(value, row, piece), piece_of(cotangent, row, piece), piece_of(out, row, piece)
        if log:
            total, lost = _sum_of_row(one, two, target, True, end, True, one.address)
        else:
            total, lost = _sum_of_row(one, two, target, None, end, True, one.address)
        place_one(sums, 2 * piece, lane(total, 0))
        place_one(sums, 2 * piece + 1, lane(lost, 0))
    release(end)
    return True


@primitive
def _write_pulled_pieces(
    value: Any, cotangent: Any, out: Any, row: int, log: bool, total: Any, lost: Any, like: Any, part: int, parts: int
) -> bool:
    end = reserve(2 * width_of(like), like)
    if is_missing(end):
        return False
    count = pieces_of(value.n)
    streamed = is_streamed(out, geometry_of(out, like, True))
    for piece in range(count * part // parts, count * (part + 1) // parts):
        one, two, target = piece_of(value, row, piece), piece_of(cotangent, row, piece), piece_of(out, row, piece)
        if log:
            _write_pulled_row(one, two, target, True, end, streamed, two.address, total, lost)
        else:
            _write_pulled_row(one, two, target, None, end, streamed, two.address, total, lost)
    release(end)
    return True


@primitive
def long_rows(value: Any, cotangent: Any, out: Any, log: bool, like: Any, parts: int, crew: int) -> bool:
    """Write the gradients of rows that are cut into pieces, whose sums are added up in their order."""
    sums = reserve(2 * pieces_of(value.n), like)
    if is_missing(sums):
        return False
    fine = True
    for row in range(value.outer):
        summed = together(crew, job_of(_sum_pieces, (value, cotangent, out, row, log, sums, like)), parts)
        high, low = spread_as(sums, 0.0), spread_as(sums, 0.0)
        for piece in range(pieces_of(value.n)):
            one, two = take_one(sums, 2 * piece), take_one(sums, 2 * piece + 1)
            high, low = add_to_sum(high, low + spread_as(sums, two), spread_as(sums, one))
        total, lost = settle_sum(high, low, None)
        total, lost = single_lane(sums, lane(total, 0)), single_lane(sums, lane(lost, 0))
        written = together(
            crew, job_of(_write_pulled_pieces, (value, cotangent, out, row, log, total, lost, like)), parts
        )
        fine = fine and summed and written
    release(sums)
    return fine
