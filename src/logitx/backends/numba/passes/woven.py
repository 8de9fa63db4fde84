"""Woven rows: a slab of (n, inner) entries that lie together, read in the order of memory, whatever `inner` is.

A vector of a slab holds neighbors, so its lanes belong to different rows. After a *period* of vectors every lane
belongs to the same row again: each lane of a period has a part of a row, with a maximum and a sum of its own. The parts
of a row are put together at the end of a pass. Where a period would have too many vectors it is one class, and its last
vector is filled in part.

Three passes read the slab: maxima, sums, and what is written. Pieces of the slab have sums of their own, which are
added in their order, so that threads change no bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.compile.static import Function, by_type
from logitx.backends.numba.memory.arguments import bytes_per_element
from logitx.backends.numba.memory.load_store import read_lanes, read_one, read_some, stream, write_back, write_some
from logitx.backends.numba.memory.scratch import (
    after,
    load_anywhere,
    load_lanes,
    place_one,
    reserve,
    store_lanes,
    take_one,
)
from logitx.backends.numba.passes.scaling import exponent, unscaled
from logitx.backends.numba.passes.sums import SPAN_STEPS, add_to_sum
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import exp_of_sum
from logitx.backends.numba.vectors.lanes import any_of, least, maximum_of_two, select, spread_as, width_of

CHAINS = 4  # vectors of a period, at least: additions to one accumulator wait for each other
MOST_VECTORS = 128  # of a period of whole vectors
PIECE_ENTRIES = 1 << 15  # 128 KiB of float32
PIECE_SPANS = 4  # of a piece, at least: so the sums of all pieces take 10 % of the memory of the logits


class Weave(NamedTuple):
    """How a slab is cut."""

    size: int  # entries of the slab
    inner: int
    base: int  # vectors after which every lane belongs to the same row again
    vectors: int  # of a period: a few times `base`
    step: int  # entries of a period
    periods: int  # the last may be cut short
    piece: int  # periods
    pieces: int


class Room(NamedTuple):
    """The scratch memory for a slab."""

    tops: Any  # of the row of each lane of a period, and one vector more; the next two as well
    rests: Any
    lost: Any
    sums: Any


class Slab(NamedTuple):
    """A slab, and what is known of it."""

    w: Any
    room: Any
    nth: int  # of the slabs of an array
    start: int  # where it begins in the logits
    to: int  # and in the result


class Slabs(NamedTuple):
    """The slabs that a thread goes through one after the other, and the threads that share each of them."""

    first: int
    stop: int
    parts: int
    crew: int


@primitive
def own_slabs(outer: int, part: int, parts: int) -> Any:
    """Return the slabs of a part, each computed by this thread alone."""
    return Slabs(outer * part // parts, outer * (part + 1) // parts, 1, 0)


@primitive
def weave_of(n: int, inner: int, like: Any) -> Any:
    """Choose how a slab is cut, from its shape and the dtype to compute in alone."""
    lanes = width_of(like)
    base, common = inner, 1
    while common < lanes and base % 2 == 0:
        base, common = base // 2, common * 2
    vectors = base * ((CHAINS + base - 1) // base)
    step = vectors * lanes
    if base > MOST_VECTORS:
        base = (inner + lanes - 1) // lanes
        vectors, step = base, inner
    periods = (n * inner + step - 1) // step
    spans = PIECE_ENTRIES // (step * SPAN_STEPS)
    if spans < PIECE_SPANS:
        spans = PIECE_SPANS
    pieces = periods // (SPAN_STEPS * spans)
    if pieces < 1:
        pieces = 1
    return Weave(n * inner, inner, base, vectors, step, periods, SPAN_STEPS * spans, pieces)


@primitive
def periods_of_piece(w: Any, piece: int) -> Any:
    """Return the first period of a piece, and the one after its last; the last piece takes what is left over."""
    return piece * w.piece, w.periods if piece == w.pieces - 1 else (piece + 1) * w.piece


@primitive
def lies_together(x: Any) -> bool:
    """Return True if the entries of a slab lie together in the order of (n, inner)."""
    size = bytes_per_element(x)
    together: bool = x.inner_stride == size and x.n_stride == x.inner * size
    return together or x.outer == 0  # NumPy gives an empty array no strides


@primitive
def entries_at(x: Any, start: int, at: int, count: int, like: Any, pad: float) -> Any:
    """Read neighbors of the slab that begins at an offset; behind the first `count` is `pad`."""
    if count >= width_of(like):
        return read_lanes(x, start + at * bytes_per_element(x), like)
    return read_some(x, start + at * bytes_per_element(x), count, like, pad)


@primitive
def _write_entries(out: Any, to: int, at: int, count: int, y: Any) -> None:
    """Write neighbors to the slab that begins at an offset: the first `count`."""
    if count >= width_of(y):
        write_back(out, to + at * bytes_per_element(out), y)
    else:
        write_some(out, to + at * bytes_per_element(out), count, y)


@primitive
def _maxima_of_piece(x: Any, slab: Any, piece: int, found: Any) -> None:
    """Write the maximum of every lane of a period to `found`."""
    w, lanes = slab.w, width_of(found)
    first, stop = periods_of_piece(w, piece)
    for at in range(0, w.vectors * lanes, lanes):
        store_lanes(found, at, spread_as(found, -np.inf))
    for period in range(first, stop):
        begin = period * w.step
        left = least(w.step, w.size - begin)
        for at in range(0, left, lanes):
            x_at = entries_at(x, slab.start, begin + at, left - at, found, -np.inf)
            store_lanes(found, at, maximum_of_two(x_at, load_lanes(found, at)))


@primitive
def _tops_of_rows(w: Any, found: Any, tops: Any) -> None:
    """Write the maximum of the row of every lane to `tops`, from the maxima of lanes of all pieces; 0 for none."""
    lanes = width_of(found)
    size = w.vectors * lanes
    for piece in range(1, w.pieces):
        other = after(found, piece * size)
        for at in range(0, size, lanes):
            store_lanes(found, at, maximum_of_two(load_lanes(other, at), load_lanes(found, at)))
    for at in range(w.base * lanes, size, lanes):
        into = at % (w.base * lanes)
        store_lanes(found, into, maximum_of_two(load_lanes(found, at), load_lanes(found, into)))
    for row in range(w.inner):
        top = take_one(found, row)
        for at in range(row + w.inner, w.base * lanes, w.inner):
            top = max(top, take_one(found, at))
        place_one(tops, row, 0.0 if top == -np.inf else top)
    repeat_rows(w, tops)


@primitive
def repeat_rows(w: Any, numbers: Any) -> None:
    """Repeat the numbers of all rows over the lanes of a period and one vector more."""
    lanes = width_of(numbers)
    for at in range(w.inner, w.base * lanes):
        place_one(numbers, at, take_one(numbers, at - w.inner))
    for at in range(w.base * lanes, (w.vectors + 1) * lanes, lanes):
        store_lanes(numbers, at, load_anywhere(numbers, at - least(w.base * lanes, w.step)))


@primitive
def _sums_of_piece(x: Any, kept: Any, slab: Any, piece: int, sums: Any) -> None:
    """Write to `sums` the sum beside the maxima of every lane in two parts, and the number of maxima.

    `sums` has four times the lanes of a period. Exponentials are written to the slab of `kept`, unless that is None.
    """
    w, tops, lanes = slab.w, slab.room.tops, width_of(sums)
    size = w.vectors * lanes
    part, low, maxima = after(sums, size), after(sums, 2 * size), after(sums, 3 * size)
    zero, one, scale = spread_as(tops, 0.0), spread_as(tops, 1.0), unscaled(tops)
    first, stop = periods_of_piece(w, piece)
    for at in range(0, 4 * size, lanes):
        store_lanes(sums, at, zero)
    for span in range(first, stop, SPAN_STEPS):
        for period in range(span, least(span + SPAN_STEPS, stop)):
            begin = period * w.step
            left = least(w.step, w.size - begin)
            for at in range(0, left, lanes):
                x_at = entries_at(x, slab.start, begin + at, left - at, tops, -np.inf)
                v, lost = exponent(x_at, load_lanes(tops, at), scale)
                e = exp_of_sum(v, lost)
                if kept is not None:
                    _write_entries(kept, slab.to, begin + at, left - at, e)
                is_top = e == one
                if any_of(is_top):
                    store_lanes(maxima, at, load_lanes(maxima, at) + select(is_top, one, zero))
                    e = select(is_top, zero, e)
                store_lanes(part, at, load_lanes(part, at) + e)
        for at in range(0, size, lanes):
            total, lost = add_to_sum(load_lanes(sums, at), load_lanes(low, at), load_lanes(part, at))
            store_lanes(sums, at, total)
            store_lanes(low, at, lost)
            store_lanes(part, at, zero)


@primitive
def _rests_of_rows(w: Any, sums: Any, rests: Any, lost: Any) -> None:
    """Write the rest of the row of every lane, and what was lost in rounding it, from the sums of all pieces."""
    lanes = width_of(sums)
    size = w.vectors * lanes
    low, maxima = after(sums, 2 * size), after(sums, 3 * size)
    for piece in range(1, w.pieces):
        other = after(sums, 4 * size * piece)
        for at in range(0, size, lanes):
            total, beside = add_to_sum(load_lanes(sums, at), load_lanes(low, at), load_lanes(other, at))
            store_lanes(sums, at, total)
            store_lanes(low, at, beside + load_lanes(other, 2 * size + at))
            store_lanes(maxima, at, load_lanes(maxima, at) + load_lanes(other, 3 * size + at))
    for at in range(w.base * lanes, size, lanes):
        into = at % (w.base * lanes)
        total, beside = add_to_sum(load_lanes(sums, into), load_lanes(low, into), load_lanes(sums, at))
        store_lanes(sums, into, total)
        store_lanes(low, into, beside + load_lanes(low, at))
        store_lanes(maxima, into, load_lanes(maxima, into) + load_lanes(maxima, at))
    for row in range(w.inner):
        terms, count = 0.0, 0.0
        for at in range(row, w.base * lanes, w.inner):
            terms += float(take_one(sums, at)) + float(take_one(low, at))
            count += float(take_one(maxima, at))
        total = (count - 1.0) + terms
        place_one(rests, row, total)
        place_one(lost, row, total - float(take_one(rests, row)))
    repeat_rows(w, rests)
    repeat_rows(w, lost)


@primitive
def room_for_slab(w: Any, like: Any) -> Any:
    """Return the scratch memory for a slab; its first part is missing if there is none, and is what to release."""
    numbers = (w.vectors + 1) * width_of(like)
    memory = reserve(3 * numbers + 4 * w.vectors * width_of(like) * w.pieces, like)
    return Room(memory, after(memory, numbers), after(memory, 2 * numbers), after(memory, 3 * numbers))


@primitive
def reduce_slab(x: Any, kept: Any, slab: Any, parts: int, crew: int) -> None:
    """Reduce every row of a slab to its maximum and rest; the pieces are shared among threads."""
    room = slab.room
    together(crew, job_of(_find_maxima, (x, slab)), parts)
    _tops_of_rows(slab.w, room.sums, room.tops)
    together(crew, job_of(_add_up, (x, kept, slab)), parts)
    _rests_of_rows(slab.w, room.sums, room.rests, room.lost)


@primitive
def _find_maxima(x: Any, slab: Any, part: int, parts: int) -> bool:
    w, sums = slab.w, slab.room.sums
    for piece in range(w.pieces * part // parts, w.pieces * (part + 1) // parts):
        _maxima_of_piece(x, slab, piece, after(sums, piece * w.vectors * width_of(sums)))
    return True


@primitive
def _add_up(x: Any, kept: Any, slab: Any, part: int, parts: int) -> bool:
    w, sums = slab.w, slab.room.sums
    for piece in range(w.pieces * part // parts, w.pieces * (part + 1) // parts):
        _sums_of_piece(x, kept, slab, piece, after(sums, 4 * piece * w.vectors * width_of(sums)))
    return True


@primitive
def count_nans(x: Any, slab: Any) -> None:
    """Write the number of NaN in each row whose maximum is +inf, else 0, to `sums`, which have been used."""
    w, sums, tops = slab.w, slab.room.sums, slab.room.tops
    for at in range(0, w.vectors * width_of(sums), width_of(sums)):
        store_lanes(sums, at, spread_as(sums, 0.0))
    for row in range(w.inner):
        if take_one(tops, row) == np.inf:
            count = 0.0
            for at in range(row, w.size, w.inner):
                entry = read_one(x, slab.start + at * bytes_per_element(x), tops)
                count += 0.0 if entry == entry else 1.0
            place_one(sums, row, count)


# -- what is written ---------------------------------------------------------------------------------------------------

_FINISHES: dict[type, Function | None] = {}
_finish = by_type(_FINISHES, 4)


def define_finish(facts: type, function: Function) -> None:
    """Register the primitive that makes results for a type of facts.

    Its arguments are an entry of the slab, how many there are from it on, its place in its period, and the facts.
    """
    _FINISHES[facts] = function


@primitive
def write_slab(out: Any, slab: Any, streamed: bool, facts: Any, part: int, parts: int) -> bool:
    """Write the pieces of a part; what is `streamed` goes past the caches."""
    w, to, lanes, step = slab.w, slab.to, width_of(slab.room.tops), bytes_per_element(out)
    for piece in range(w.pieces * part // parts, w.pieces * (part + 1) // parts):
        first, stop = periods_of_piece(w, piece)
        at, end, phase = first * w.step, least(stop * w.step, w.size), 0
        if streamed:
            phase = least((64 - (out.address + to + at * step) % 64) % 64 // step, end - at)
            streamed = (out.address + to + (at + phase) * step) % 64 == 0
            if phase > 0:
                _write_entries(out, to, at, phase, _finish(at, end - at, 0, facts))
                at += phase
        while at < end:
            if phase >= w.step:
                phase -= w.step
            y = _finish(at, end - at, phase, facts)
            if streamed and at + lanes <= end:
                stream(out, to + at * step, y)
            else:
                _write_entries(out, to, at, end - at, y)
            at, phase = at + lanes, phase + lanes
    return True
