"""Long rows: cut into pieces that all threads share, read once where nothing is written for each class.

One pass reduces every piece beside its own maximum. The pieces are merged in their order, which n alone fixes, so that
threads change no bit. What is written for each class are the exponentials of the first pass, where they were `kept` in
the result; they are only multiplied, each piece by a factor of its own. Else it is computed once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import itemsize, view
from logitx.backends.numba.memory.load_store import read_lanes, write
from logitx.backends.numba.memory.prefetch import Next
from logitx.backends.numba.memory.scratch import missing, place_one, release, reserve, take_one
from logitx.backends.numba.passes.blocks import geometry
from logitx.backends.numba.passes.copies import finish_panel, load_block
from logitx.backends.numba.passes.finish import finish, weigh
from logitx.backends.numba.passes.reduce import nans_beside_infinity, peak, rest_of, terms_of
from logitx.backends.numba.passes.scaling import Scale
from logitx.backends.numba.passes.sums import add
from logitx.backends.numba.threads.workers import job, together
from logitx.backends.numba.vectors.exp_log import difference, exp
from logitx.backends.numba.vectors.lanes import fold_maximum, lane, single, spread, width

PIECE = 1 << 14  # classes: with its tile, an eighth of a second-level cache
PEAK, NANS, TOPS, TERMS, WEIGHT = range(5)  # what is known of a piece; WEIGHT is exp(its maximum - that of the row)
FACTS = 5


@primitive
def pieces_of(n: int) -> int:
    """Return into how many pieces a row is cut; the last one takes what is left over."""
    count: int = n // PIECE
    return count


@primitive
def piece_of(memory: Any, row: int, piece: int) -> Any:
    """Return a piece of a row as an array of one row."""
    count = pieces_of(memory.n)
    n = PIECE if piece < count - 1 else memory.n - (count - 1) * PIECE
    start = memory.address + row * memory.outer_stride + piece * PIECE * memory.n_stride
    return view(memory, start, 1, n, 1, 0, memory.n_stride, 0)


@primitive
def unscaled(top: Any) -> Any:
    """Return the scale of rows without a temperature."""
    return Scale(False, spread(top, 1.0), spread(top, 0.0))


@primitive
def load_piece(x: Any, row: int, piece: int, tile: Any) -> Any:
    """Copy a piece to a tile; return its geometry, the maximum of each lane, and where the next one lies."""
    source = piece_of(x, row, piece)
    g = geometry(1, source.n, 1, width(tile), True)
    tops = load_block(source, g, 0, 1, tile, -np.inf, True)
    return g, tops, Next(source.address + PIECE * source.n_stride, width(tile) * source.n_stride)


@primitive
def _reduce_pieces(x: Any, kept: Any, row: int, facts: Any, like: Any, part: int, parts: int) -> bool:
    tile = reserve(2 * PIECE, like)
    if missing(tile):
        return False
    count = pieces_of(x.n)
    for piece in range(count * part // parts, count * (part + 1) // parts):
        g, seen, ahead = load_piece(x, row, piece, tile)
        top = peak(tile, 0, g.steps, seen, True, True)
        place_one(facts, FACTS * piece + NANS, float(lane(nans_beside_infinity(tile, 0, g.steps, top, True), 0)))
        tops, terms = terms_of(tile, 0, g.steps, top, unscaled(top), None, ahead)
        place_one(facts, FACTS * piece + PEAK, float(fold_maximum(seen)))
        place_one(facts, FACTS * piece + TOPS, tops)
        place_one(facts, FACTS * piece + TERMS, terms)
        if kept is not None:
            finish_panel(tile, 0, piece_of(kept, row, piece), g, 0, True, 0, True)
    release(tile)
    return True


@primitive
def _weight(top: float, peak: float, like: Any) -> float:
    d, lost = difference(single(like, peak), single(like, top))
    weight: float = lane(exp(d, lost), 0)
    return weight


@primitive
def reduce_row(x: Any, kept: Any, row: int, facts: Any, like: Any, parts: int, crew: int) -> Any:
    """Return (whether there was memory, top, rest, nans) of a row, one lane each; `facts` has room for its pieces.

    exp(x - maximum of its piece) is written to `kept`, unless that is None.
    """
    fine = together(crew, job(_reduce_pieces, (x, kept, row, facts, like)), parts)
    top, tops, terms, lost, nans = -np.inf, 0.0, 0.0, 0.0, 0.0
    for piece in range(pieces_of(x.n)):
        found = take_one(facts, FACTS * piece + PEAK)
        top = max(top, found)
    if top == -np.inf:
        top = 0.0
    for piece in range(pieces_of(x.n)):
        place = FACTS * piece
        found, rest, count = (
            take_one(facts, place + PEAK),
            take_one(facts, place + TERMS),
            take_one(facts, place + TOPS),
        )
        weight = _weight(top, found, facts)
        place_one(facts, place + WEIGHT, weight)
        nans += take_one(facts, place + NANS)
        if found == top:
            tops += count
            terms, lost = add(terms, lost, rest)
        else:
            terms, lost = add(terms, lost, (count + rest) * weight)
            if top == np.inf and rest != rest:
                nans += 1.0
    lost = lost if lost == lost else 0.0  # an infinite sum loses NaN, which says nothing
    return fine, single(like, top), single(like, (tops - 1.0) + (terms + lost)), single(like, nans)


@primitive
def _rewrite_pieces(out: Any, row: int, how: Any, facts: Any, like: Any, part: int, parts: int) -> bool:
    tile = reserve(2 * PIECE, like)
    if missing(tile):
        return False
    lanes = width(tile)
    count = pieces_of(out.n)
    for piece in range(count * part // parts, count * (part + 1) // parts):
        weighted = weigh(take_one(facts, FACTS * piece + WEIGHT), how)
        target = piece_of(out, row, piece)
        if target.n_stride == itemsize(out):
            last = (target.n - lanes) * target.n_stride
            y = finish(read_lanes(target, last, tile), weighted)  # it overlaps its neighbor, which is not yet rewritten
            for at in range(0, last, lanes * target.n_stride):
                write(target, at, finish(read_lanes(target, at, tile), weighted))
            write(target, last, y)
        else:
            g, _, _ = load_piece(out, row, piece, tile)
            finish_panel(tile, 0, target, g, 0, True, weighted, True)
    release(tile)
    return True


@primitive
def rewrite_row(out: Any, row: int, how: Any, facts: Any, like: Any, parts: int, crew: int) -> Any:
    """Write ``finish(e, how)`` of the exponentials that `reduce_row` kept in `out`."""
    return together(crew, job(_rewrite_pieces, (out, row, how, facts, like)), parts)


@primitive
def _write_pieces(x: Any, out: Any, row: int, top: Any, how: Any, raw: Any, like: Any, part: int, parts: int) -> bool:
    tile = reserve(2 * PIECE, like)
    if missing(tile):
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
def write_row(x: Any, out: Any, row: int, top: Any, how: Any, raw: Any, like: Any, parts: int, crew: int) -> Any:
    """Write ``finish(y, how)`` of every class, where y is x itself with `raw`, else exp(x - top)."""
    return together(crew, job(_write_pieces, (x, out, row, top, how, raw, like)), parts)
