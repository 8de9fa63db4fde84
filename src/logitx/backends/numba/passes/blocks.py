"""Blocks: the piece of work of a kernel, copied from the user's arrays into tiles and back.

A kernel sees arrays of shape (outer, n, inner) and works on rows, of which there are outer * inner. There are two ways
to fill lanes with them:

*across*: one row at a time; lanes hold neighboring classes, and a reduction ends by folding the lanes.
*columns*: as many rows at a time as there are lanes; each lane holds one row, and nothing needs folding. This serves
axes that are not the last (neighbors in memory are different rows) and rows of few classes (turned while copied).

Which one depends on n and inner alone, so a row gives the same bits in any batch. In both, a *panel* of a tile is a
sequence of steps, each one vector: n / width steps of a single row, or n steps of `width_of` rows. Panels are compact,
aligned, converted to the compute dtype, and small enough for the cache. From there on a kernel sees no strides, no
storage dtype and no difference between the two ways, except when it folds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.scratch import load_lanes, take_one
from logitx.backends.numba.vectors.lanes import least, single_lane, spread_as, width_of

TILE_BYTES = 1 << 19  # a fraction of the second-level cache of any processor of the last decade
TURNED_BYTES = 1 << 14  # of rows that are turned: half of a first-level cache
MOST_PANELS = 16
LONG = 1 << 18  # classes from which a row is cut into pieces (`long_rows`), 1 MiB of float32


class Geometry(NamedTuple):
    """How the rows of an array are cut into blocks."""

    outer: int
    n: int
    inner: int
    steps: int  # vectors of a panel
    panel: int  # elements of a panel
    size: int  # elements of a tile
    most: int  # rows of a full block
    stretch: int  # no block crosses a multiple of so many rows
    cuts: int  # blocks of a stretch
    blocks: int


@primitive
def vectors_for(count: int, lanes: int) -> int:
    """Return how many vectors hold so many numbers."""
    found: int = (count + lanes - 1) // lanes
    return found


@primitive
def geometry(outer: int, n: int, inner: int, lanes: int, across: Any) -> Any:
    """Choose the size of blocks, from the shape and the compute dtype alone."""
    if outer * n * inner == 0:
        return Geometry(outer, n, inner, 0, 1, 0, 1, 1, 0, 0)
    if across is not None:
        steps = vectors_for(n, lanes)
        return Geometry(outer, n, 1, steps, steps * lanes, steps * lanes, 1, outer, outer, outer)
    stretch = inner if inner >= lanes else outer * inner
    panels = vectors_for(stretch, lanes)
    if panels > MOST_PANELS:
        panels = MOST_PANELS
    most_bytes = TURNED_BYTES if inner == 1 else TILE_BYTES
    if panels * 128 * n > most_bytes:
        panels = most_bytes // (128 * n)
    if panels < 1:
        panels = 1
    most = panels * lanes
    cuts = (stretch + most - 1) // most
    blocks = cuts * (outer * inner // stretch)
    return Geometry(outer, n, inner, n, n * lanes, panels * n * lanes, most, stretch, cuts, blocks)


@primitive
def geometry_of(x: Any, like: Any, across: Any) -> Any:
    """Return the geometry of an array for the compute dtype, that of `like`."""
    return geometry(x.outer, x.n, x.inner, width_of(like), across)


@primitive
def blocks_of_part(g: Any, part: int, parts: int) -> Any:
    """Return the first block of a part, and the one after its last."""
    return g.blocks * part // parts, g.blocks * (part + 1) // parts


@primitive
def place_of_block(g: Any, block: int, across: Any) -> Any:
    """Return the first row of a block and how many rows it has; rows are counted in C order."""
    if across is not None:
        return block, 1
    start = (block // g.cuts) * g.stretch
    at = (block % g.cuts) * g.most
    return start + at, least(g.most, g.stretch - at)


@primitive
def panels_in(g: Any, rows: int, tile: Any, across: Any) -> int:
    """Return how many panels of a tile a block of so many rows fills."""
    if across is not None:
        return 1
    filled: int = vectors_for(rows, width_of(tile))
    return filled


@primitive
def rows_in(rows: int, panel: int, tile: Any, across: Any) -> int:
    """Return how many rows of a block are in one of its panels."""
    if across is not None:
        return 1
    count: int = least(rows - panel * width_of(tile), width_of(tile))
    return count


@primitive
def one_per_row(tile: Any, value: float, across: Any) -> Any:
    """Return one number for the row, or for each of the rows, of a panel."""
    if across is None:
        return spread_as(tile, value)
    return single_lane(tile, value)


@primitive
def load_per_row(tile: Any, at: int, across: Any) -> Any:
    """Read one number for the row, or for each of the rows, of a panel."""
    if across is None:
        return load_lanes(tile, at)
    return single_lane(tile, take_one(tile, at))
