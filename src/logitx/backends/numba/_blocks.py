"""Blocks: the piece of work of a kernel, copied from the user's arrays into tiles and back.

A kernel sees arrays of shape (outer, n, inner) and works on rows, of which there are outer * inner. There are two ways
to fill lanes with them:

*across*: one row at a time; lanes hold neighboring classes, and a reduction ends by folding the lanes.
*columns*: as many rows at a time as there are lanes; each lane holds one row, and nothing needs folding. This serves
axes that are not the last (neighbors in memory are different rows) and rows of few classes (turned while copied).

Which one depends on n and inner alone, so a row gives the same bits in any batch. In both, a *panel* of a tile is a
sequence of steps, each one vector: n / width steps of a single row, or n steps of `width` rows. Panels are compact,
aligned, converted to the compute dtype, and small enough for the cache. From there on a kernel sees no strides, no
storage dtype and no difference between the two ways, except when it folds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload
from numba.np.numpy_support import as_dtype

from logitx.backends.numba._compile import primitive
from logitx.backends.numba._lanes import least, load, misalignment, spread, store, width
from logitx.backends.numba._storage import read_lanes, read_one, write

FEW = 6  # up to so many vectors of classes, turning rows into columns costs less than folding each row
TILE_BYTES = 1 << 18  # a fraction of the second-level cache of any processor of the last decade
MOST_PANELS = 16


class Geometry(NamedTuple):
    """How the rows of an array are cut into blocks."""

    across: bool
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
def geometry(outer: int, n: int, inner: int, lanes: int) -> Any:
    """Choose how to fill lanes and the size of blocks: from the shape and the compute dtype alone."""
    if outer * n * inner == 0:
        return Geometry(True, outer, n, inner, 0, 0, 0, 1, 1, 0, 0)
    if inner == 1 and n > FEW * lanes:
        steps = (n + lanes - 1) // lanes
        return Geometry(True, outer, n, 1, steps, steps * lanes, steps * lanes, 1, outer, outer, outer)
    stretch = inner if inner >= lanes else outer * inner
    panels = (stretch + lanes - 1) // lanes
    if panels > MOST_PANELS:
        panels = MOST_PANELS
    if panels * 128 * n > TILE_BYTES:
        panels = TILE_BYTES // (128 * n)
    if panels < 1:
        panels = 1
    most = panels * lanes
    cuts = (stretch + most - 1) // most
    blocks = cuts * (outer * inner // stretch)
    return Geometry(False, outer, n, inner, n, n * lanes, panels * n * lanes, most, stretch, cuts, blocks)


@primitive
def geometry_of(x: Any, like: Any) -> Any:
    """Return the geometry of an array for the compute dtype, that of `like`."""
    outer, n, inner = x.shape
    return geometry(outer, n, inner, width(like))


@primitive
def place(g: Any, block: int) -> Any:
    """Return the first row of a block and how many rows it has; rows are counted in C order."""
    if g.across:
        return block, 1
    start = (block // g.cuts) * g.stretch
    at = (block % g.cuts) * g.most
    return start + at, least(g.most, g.stretch - at)


@primitive
def used(g: Any, rows: int, tile: Any) -> Any:
    """Return how many elements of a tile a block of so many rows fills: whole panels."""
    return (rows + width(tile) - 1) // width(tile) * g.panel


def scratch(size: int, like: Any) -> Any:
    """Return aligned memory for `size` numbers of the dtype of the array `like`."""
    raise NotImplementedError("only for kernels")


@overload(scratch)
def _scratch(size: Any, like: Any) -> Any:
    dtype = as_dtype(like.dtype)
    spare = 64 // dtype.itemsize

    def make(size: Any, like: Any) -> Any:
        memory = np.empty(size + spare, dtype)
        first = ((64 - misalignment(memory)) % 64) // memory.itemsize
        return memory[first : first + size]

    return make


@primitive
def load_block(source: Any, g: Any, first: int, rows: int, tile: Any, pad: float) -> None:
    """Copy a block into a tile; places of a panel that no entry belongs to hold `pad`."""
    if g.across:
        _load_row(source, g, first, tile, pad)
    else:
        _load_columns(source, g, first, rows, tile, pad)


@primitive
def _load_row(source: Any, g: Any, row: int, tile: Any, pad: float) -> None:
    lanes = width(tile)
    stride = source.strides[1]
    start = row * source.strides[0]
    store(tile, g.size - lanes, spread(tile, pad))
    if stride == source.itemsize:
        for j in range(0, g.n - lanes + 1, lanes):
            store(tile, j, read_lanes(source, start + j * stride, tile))
        if g.n < g.size:  # the last vector overlaps its neighbor
            last = g.n - lanes
            write(tile, last * tile.itemsize, read_lanes(source, start + last * stride, tile))
    else:
        for j in range(g.n):
            tile[j] = read_one(source, start + j * stride, tile)


@primitive
def _load_columns(source: Any, g: Any, first: int, rows: int, tile: Any, pad: float) -> None:
    lanes = width(tile)
    o, i = first // g.inner, first % g.inner
    done = 0
    if source.strides[2] == source.itemsize and i + rows <= g.inner:
        done = rows // lanes
        start = o * source.strides[0] + i * source.itemsize
        for j in range(g.n):
            for panel in range(done):
                place = start + j * source.strides[1] + panel * lanes * source.itemsize
                store(tile, panel * g.panel + j * lanes, read_lanes(source, place, tile))
        i += done * lanes
    for row in range(done * lanes, rows):
        if i >= g.inner:
            o, i = o + 1, 0
        start = o * source.strides[0] + i * source.strides[2]
        at = (row // lanes) * g.panel + row % lanes
        for j in range(g.n):
            tile[at + j * lanes] = read_one(source, start + j * source.strides[1], tile)
        i += 1
    for row in range(rows, (rows + lanes - 1) // lanes * lanes):
        for j in range(g.n):
            tile[(row // lanes) * g.panel + row % lanes + j * lanes] = pad


@primitive
def store_block(tile: Any, target: Any, g: Any, first: int, rows: int) -> None:
    """Copy a tile to where its block belongs, rounded once to the dtype of the target."""
    if g.across:
        _store_row(tile, target, g, first)
    else:
        _store_columns(tile, target, g, first, rows)


@primitive
def _store_row(tile: Any, target: Any, g: Any, row: int) -> None:
    lanes = width(tile)
    stride = target.strides[1]
    start = row * target.strides[0]
    if stride == target.itemsize:
        for j in range(0, g.n - lanes + 1, lanes):
            write(target, start + j * stride, load(tile, j))
        if g.n < g.size:
            last = g.n - lanes
            write(target, start + last * stride, read_lanes(tile, last * tile.itemsize, tile))
    else:
        for j in range(g.n):
            write(target, start + j * stride, tile[j])


@primitive
def _store_columns(tile: Any, target: Any, g: Any, first: int, rows: int) -> None:
    lanes = width(tile)
    o, i = first // g.inner, first % g.inner
    done = 0
    if target.strides[2] == target.itemsize and i + rows <= g.inner:
        done = rows // lanes
        start = o * target.strides[0] + i * target.itemsize
        for j in range(g.n):
            for panel in range(done):
                place = start + j * target.strides[1] + panel * lanes * target.itemsize
                write(target, place, load(tile, panel * g.panel + j * lanes))
        i += done * lanes
    for row in range(done * lanes, rows):
        if i >= g.inner:
            o, i = o + 1, 0
        start = o * target.strides[0] + i * target.strides[2]
        at = (row // lanes) * g.panel + row % lanes
        for j in range(g.n):
            write(target, start + j * target.strides[1], tile[at + j * lanes])
        i += 1
