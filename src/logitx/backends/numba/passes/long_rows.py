"""Long rows: cut into pieces that all threads share, read once where nothing is written for each class.

One pass reduces every piece beside its own maximum. The pieces are merged in their order, which n alone fixes, so that
threads change no bit. What is written for each class are the exponentials of the first pass, where they were `kept` in
the result; they are only multiplied, each piece by a factor of its own. Else it is computed once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import bytes_per_element, make_view
from logitx.backends.numba.memory.load_store import read_lanes, write_back
from logitx.backends.numba.memory.prefetch import Next
from logitx.backends.numba.memory.scratch import is_missing, place_one, release, reserve, take_one
from logitx.backends.numba.passes.blocks import geometry
from logitx.backends.numba.passes.copies import finish_panel, load_block
from logitx.backends.numba.passes.finish import finish_element, weigh_formula
from logitx.backends.numba.passes.reduce import nans_beside_infinity, peak, rest_of, terms_of_row
from logitx.backends.numba.passes.scaling import unscaled
from logitx.backends.numba.passes.sums import add_to_sum
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import difference, exp_of_sum
from logitx.backends.numba.vectors.lanes import fold_maximum, lane, single_lane, width_of

PIECE_CLASSES = 1 << 14  # classes: with its tile, an eighth of a second-level cache
PIECE_MAXIMUM, PIECE_NANS, PIECE_MAXIMA, PIECE_TERMS, PIECE_WEIGHT = range(
    5
)  # what is known of a piece; WEIGHT is exp(its maximum - that of the row)
PIECE_NUMBERS = 5


@primitive
def pieces_of(n: int) -> int:
    """Return into how many pieces a row is cut; the last one takes what is left over."""
    count: int = n // PIECE_CLASSES
    return count


@primitive
def piece_of(memory: Any, row: int, piece: int) -> Any:
    """Return a piece of a row as an array of one row."""
    count = pieces_of(memory.n)
    n = PIECE_CLASSES if piece < count - 1 else memory.n - (count - 1) * PIECE_CLASSES
    start = memory.address + row * memory.outer_stride + piece * PIECE_CLASSES * memory.n_stride
    return make_view(memory, start, 1, n, 1, 0, memory.n_stride, 0)


@primitive
def load_piece(x: Any, row: int, piece: int, tile: Any) -> Any:
    """Copy a piece to a tile; return its geometry, the maximum of each lane, and where the next one lies."""
    source = piece_of(x, row, piece)
    g = geometry(1, source.n, 1, width_of(tile), True)
    tops = load_block(source, g, 0, 1, tile, -np.inf, True)
    return g, tops, Next(source.address + PIECE_CLASSES * source.n_stride, width_of(tile) * source.n_stride)


@primitive
def _reduce_pieces(x: Any, kept: Any, row: int, facts: Any, like: Any, part: int, parts: int) -> bool:
    tile = reserve(2 * PIECE_CLASSES, like)
    if is_missing(tile):
        return False
    count = pieces_of(x.n)
    for piece in range(count * part // parts, count * (part + 1) // parts):
        g, seen, ahead = load_piece(x, row, piece, tile)
        top = peak(tile, 0, g.steps, seen, True, True)
        place_one(
            facts, PIECE_NUMBERS * piece + PIECE_NANS, float(lane(nans_beside_infinity(tile, 0, g.steps, top, True), 0))
        )
        tops, terms = terms_of_row(tile, 0, g.steps, top, unscaled(top), None, ahead)
        place_one(facts, PIECE_NUMBERS * piece + PIECE_MAXIMUM, float(fold_maximum(seen)))
        place_one(facts, PIECE_NUMBERS * piece + PIECE_MAXIMA, tops)
        place_one(facts, PIECE_NUMBERS * piece + PIECE_TERMS, terms)
        if kept is not None:
            finish_panel(tile, 0, piece_of(kept, row, piece), g, 0, True, 0, True)
    release(tile)
    return True


@primitive
def _weight(top: float, peak: float, like: Any) -> float:
    d, lost = difference(single_lane(like, peak), single_lane(like, top))
    weight: float = lane(exp_of_sum(d, lost), 0)
    return weight


@primitive
def reduce_long_row(x: Any, kept: Any, row: int, facts: Any, like: Any, parts: int, crew: int) -> Any:
    """Return (whether there was memory, top, rest, nans) of a row, one lane each; `facts` has room for its pieces.

    exp(x - maximum of its piece) is written to `kept`, unless that is None.
    """
    fine = together(crew, job_of(_reduce_pieces, (x, kept, row, facts, like)), parts)
    top, tops, terms, lost, nans = -np.inf, 0.0, 0.0, 0.0, 0.0
    for piece in range(pieces_of(x.n)):
        found = take_one(facts, PIECE_NUMBERS * piece + PIECE_MAXIMUM)
        top = max(top, found)
    if top == -np.inf:
        top = 0.0
    for piece in range(pieces_of(x.n)):
        place = PIECE_NUMBERS * piece
        found, rest, count = (
            take_one(facts, place + PIECE_MAXIMUM),
            take_one(facts, place + PIECE_TERMS),
            take_one(facts, place + PIECE_MAXIMA),
        )
        weight = _weight(top, found, facts)
        place_one(facts, place + PIECE_WEIGHT, weight)
        nans += take_one(facts, place + PIECE_NANS)
        if found == top:
            tops += count
            terms, lost = add_to_sum(terms, lost, rest)
        else:
            terms, lost = add_to_sum(terms, lost, (count + rest) * weight)
            if top == np.inf and rest != rest:
                nans += 1.0
    lost = lost if lost == lost else 0.0  # inf - inf in the error of an infinite sum is NaN: drop it
    return fine, single_lane(like, top), single_lane(like, (tops - 1.0) + (terms + lost)), single_lane(like, nans)


@primitive
def _rewrite_pieces(out: Any, row: int, how: Any, facts: Any, like: Any, part: int, parts: int) -> bool:
    tile = reserve(2 * PIECE_CLASSES, like)
    if is_missing(tile):
        return False
    lanes = width_of(tile)
    count = pieces_of(out.n)
    for piece in range(count * part // parts, count * (part + 1) // parts):
        weighted = weigh_formula(take_one(facts, PIECE_NUMBERS * piece + PIECE_WEIGHT), how)
        target = piece_of(out, row, piece)
        if target.n_stride == bytes_per_element(out):
            last = (target.n - lanes) * target.n_stride
            y = finish_element(
                read_lanes(target, last, tile), weighted
            )  # it overlaps its neighbor, which is not yet rewritten
            for at in range(0, last, lanes * target.n_stride):
                write_back(target, at, finish_element(read_lanes(target, at, tile), weighted))
            write_back(target, last, y)
        else:
            g, _, _ = load_piece(out, row, piece, tile)
            finish_panel(tile, 0, target, g, 0, True, weighted, True)
    release(tile)
    return True


@primitive
def rewrite_long_row(out: Any, row: int, how: Any, facts: Any, like: Any, parts: int, crew: int) -> Any:
    """Write ``finish(e, how)`` of the exponentials that `reduce_row` kept in `out`."""
    return together(crew, job_of(_rewrite_pieces, (out, row, how, facts, like)), parts)


@primitive
def _write_long_pieces(
    x: Any, out: Any, row: int, top: Any, how: Any, raw: Any, like: Any, part: int, parts: int
) -> bool:
    tile = reserve(2 * PIECE_CLASSES, like)
    if is_missing(tile):
        return False
    count = pieces_of(x.n)
    for piece in range(count * part // parts, count * (part + 1) // parts):
        g, _, ahead = load_piece(x, row, piece, tile)
        if raw is None:
            rest_of(tile, 0, g.steps, top, unscaled(top), None, ahead, True)
        finish_panel(tile, 0, piece_of(out, row, piece), g, 0, True, how, True)
    release(tile)
    return True


@primitive
def write_long_row(x: Any, out: Any, row: int, top: Any, how: Any, raw: Any, like: Any, parts: int, crew: int) -> Any:
    """Write ``finish(y, how)`` of every class, where y is x itself with `raw`, else exp(x - top)."""
    return together(crew, job_of(_write_long_pieces, (x, out, row, top, how, raw, like)), parts)
