"""Long rows: cut into pieces that all threads share, twice read, never in scratch memory as a whole.

One pass finds the maximum of every piece, the next the sums beside the maximum of the row; both are merged in the order
of the pieces, which n alone fixes, so that threads change no bit. What is written for each class is computed once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba._ahead import Next
from logitx.backends.numba._blocks import geometry
from logitx.backends.numba._compile import primitive
from logitx.backends.numba._copies import finish_panel, load_block
from logitx.backends.numba._crew import job, together
from logitx.backends.numba._lanes import fold_maximum, lane, single, spread, width
from logitx.backends.numba._memory import view
from logitx.backends.numba._rows import Scale, nans_beside_infinity, rest_of, terms_of
from logitx.backends.numba._tiles import missing, place_one, release, reserve, take_one

PIECE = 1 << 14  # classes: with its tile, an eighth of a second-level cache
PEAK, NANS, TOPS, TERMS = range(4)  # what is known of a piece
FACTS = 4


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
    """Copy a piece to a tile; return its geometry, the maximum of each lane, and where it lies."""
    source = piece_of(x, row, piece)
    g = geometry(1, source.n, 1, width(tile), True)
    tops = load_block(source, g, 0, 1, tile, -np.inf, True)
    return g, tops, Next(source.address, 0)


@primitive
def _find_peaks(x: Any, row: int, facts: Any, like: Any, part: int, parts: int) -> bool:
    tile = reserve(2 * PIECE, like)
    if missing(tile):
        return False
    count = pieces_of(x.n)
    for piece in range(count * part // parts, count * (part + 1) // parts):
        _, tops, _ = load_piece(x, row, piece, tile)
        place_one(facts, FACTS * piece + PEAK, float(fold_maximum(tops)))
    release(tile)
    return True


@primitive
def _add_terms(x: Any, row: int, top: float, facts: Any, like: Any, part: int, parts: int) -> bool:
    tile = reserve(2 * PIECE, like)
    if missing(tile):
        return False
    peak = single(tile, top)
    count = pieces_of(x.n)
    for piece in range(count * part // parts, count * (part + 1) // parts):
        g, _, ahead = load_piece(x, row, piece, tile)
        nans = nans_beside_infinity(tile, 0, g.steps, peak, True)
        tops, terms = terms_of(tile, 0, g.steps, peak, unscaled(peak), True, ahead)
        place_one(facts, FACTS * piece + NANS, float(lane(nans, 0)))
        place_one(facts, FACTS * piece + TOPS, tops)
        place_one(facts, FACTS * piece + TERMS, terms)
    release(tile)
    return True


@primitive
def reduce_row(x: Any, row: int, facts: Any, like: Any, parts: int, crew: int) -> Any:
    """Return (whether there was memory, top, rest, nans) of a row, one lane each; `facts` has room for its pieces."""
    count = pieces_of(x.n)
    fine = together(crew, job(_find_peaks, (x, row, facts, like)), parts)
    top = -np.inf
    for piece in range(count):
        found = take_one(facts, FACTS * piece + PEAK)
        top = max(top, found)
    if top == -np.inf:
        top = 0.0
    fine = fine and together(crew, job(_add_terms, (x, row, top, facts, like)), parts)
    tops, terms, nans = 0.0, 0.0, 0.0
    for piece in range(count):
        tops += take_one(facts, FACTS * piece + TOPS)
        terms += take_one(facts, FACTS * piece + TERMS)
        nans += take_one(facts, FACTS * piece + NANS)
    return fine, single(like, top), single(like, (tops - 1.0) + terms), single(like, nans)


@primitive
def _write_pieces(x: Any, out: Any, row: int, top: Any, facts: Any, raw: Any, like: Any, part: int, parts: int) -> bool:
    tile = reserve(2 * PIECE, like)
    if missing(tile):
        return False
    count = pieces_of(x.n)
    for piece in range(count * part // parts, count * (part + 1) // parts):
        g, _, ahead = load_piece(x, row, piece, tile)
        if raw is None:
            rest_of(tile, 0, g.steps, top, unscaled(top), None, ahead, True)
        finish_panel(tile, 0, piece_of(out, row, piece), g, 0, True, facts, True)
    release(tile)
    return True


@primitive
def write_row(x: Any, out: Any, row: int, top: Any, facts: Any, raw: Any, like: Any, parts: int, crew: int) -> Any:
    """Write ``finish(y, facts)`` of every class, where y is x itself with `raw`, else exp(x - top)."""
    return together(crew, job(_write_pieces, (x, out, row, top, facts, raw, like)), parts)
