"""Copies: a block of the caller's memory into a tile, and back, whatever the strides and dtypes.

Rows that lie next to each other, or at one stride, are turned into lanes 32 at a time; the rest goes one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import itemsize
from logitx.backends.numba.memory.load_store import gather_lanes, read_lanes, read_one, scatter_lanes, stream, write
from logitx.backends.numba.memory.prefetch import is_streamed, start_of
from logitx.backends.numba.memory.scratch import load, load_anywhere, place_one, store, store_anywhere, take_one
from logitx.backends.numba.passes.finish import finish
from logitx.backends.numba.vectors.lanes import lane, least, maximum, spread, width


@primitive
def load_block(source: Any, g: Any, first: int, rows: int, tile: Any, pad: float, across: Any) -> Any:
    """Copy a block into a tile; places of a panel that no entry belongs to hold `pad`.

    Return the maximum of each lane where the block is one row, so that no pass has to look for it.
    """
    if across is None:
        _load_columns(source, g, first, rows, tile, pad)
        return spread(tile, pad)
    return _load_row(source, g, first, tile, pad)


@primitive
def _load_row(source: Any, g: Any, row: int, tile: Any, pad: float) -> Any:
    lanes = width(tile)
    stride = source.n_stride
    start = row * source.outer_stride
    top = spread(tile, -np.inf)
    if stride == itemsize(source):
        whole = g.n // lanes * lanes
        for j in range(0, whole, lanes):
            x = read_lanes(source, start + j * stride, tile)
            store(tile, j, x)
            top = maximum(x, top)
        if whole < g.n:  # the last vector overlaps its neighbor
            store(tile, whole, spread(tile, pad))
            x = read_lanes(source, start + (g.n - lanes) * stride, tile)
            store_anywhere(tile, g.n - lanes, x)
            top = maximum(x, top)
    else:
        store(tile, g.size - lanes, spread(tile, pad))
        for j in range(g.n):
            place_one(tile, j, read_one(source, start + j * stride, tile))
        for at in range(0, g.size, lanes):
            top = maximum(load(tile, at), top)
    return top


@primitive
def row_stride(memory: Any, g: Any) -> int:
    """Return the distance of neighboring rows; of those with the same place before the class axis, if there is one."""
    stride: int = memory.outer_stride if g.inner == 1 else memory.inner_stride
    return stride


@primitive
def _load_columns(source: Any, g: Any, first: int, rows: int, tile: Any, pad: float) -> None:
    lanes = width(tile)
    stride = row_stride(source, g)
    done = rows // lanes if g.inner == 1 or first % g.inner + rows <= g.inner else 0
    start = start_of(source, g, first)
    if stride == itemsize(source):
        for j in range(g.n):
            for panel in range(done):
                place = start + j * source.n_stride + panel * lanes * stride
                store(tile, panel * g.panel + j * lanes, read_lanes(source, place, tile))
    else:
        for panel in range(done):
            for j in range(g.n):
                place = start + j * source.n_stride + panel * lanes * stride
                store(tile, panel * g.panel + j * lanes, gather_lanes(source, place, stride, tile))
    if done * lanes == rows:
        return
    for panel in range(done, (rows + lanes - 1) // lanes):
        if (panel + 1) * lanes > rows:
            for j in range(g.n):
                store(tile, panel * g.panel + j * lanes, spread(tile, pad))
    for row in range(done * lanes, rows):
        start = start_of(source, g, first + row)
        at = (row // lanes) * g.panel + row % lanes
        for j in range(g.n):
            place_one(tile, at + j * lanes, read_one(source, start + j * source.n_stride, tile))


@primitive
def store_block(tile: Any, target: Any, g: Any, first: int, rows: int, across: Any) -> None:
    """Copy a tile to where its block belongs, rounded once to the dtype of the target."""
    if across is None:
        _store_columns(tile, target, g, first, rows)
    else:
        _write_row(tile, target, g, first, 0)


@primitive
def finish_panel(tile: Any, base: int, target: Any, g: Any, first: int, final: bool, facts: Any, across: Any) -> None:
    """Make ``finish(x, facts)`` of every x of a panel; a row of which that is final goes where it belongs at once."""
    if across is not None and final:
        _write_row(tile, target, g, first, facts)
    else:
        for at in range(base, base + g.steps * width(tile), width(tile)):
            store(tile, at, finish(load(tile, at), facts))


@primitive
def _write_row(tile: Any, target: Any, g: Any, row: int, facts: Any) -> None:
    """Write ``finish(x, facts)`` of every x of a row: the last pass of a kernel and the copy in one."""
    lanes = width(tile)
    stride = target.n_stride
    start = row * target.outer_stride
    if stride != itemsize(target):
        for j in range(0, g.n, lanes):
            y = finish(load(tile, j), facts)
            for i in range(least(lanes, g.n - j)):
                write(target, start + (j + i) * stride, lane(y, i))
        return
    last = g.n - lanes
    at = 0
    if is_streamed(target, g):
        write(target, start, finish(load(tile, 0), facts))
        at = (64 - (target.address + start) % 64) % 64 // stride
        if (target.address + start + at * stride) % 64 == 0:
            for j in range(at, last, lanes):
                stream(target, start + j * stride, finish(load_anywhere(tile, j), facts))
            at = last
    for j in range(at, last, lanes):
        write(target, start + j * stride, finish(load(tile, j), facts))
    write(target, start + last * stride, finish(load_anywhere(tile, last), facts))


@primitive
def _store_columns(tile: Any, target: Any, g: Any, first: int, rows: int) -> None:
    lanes = width(tile)
    stride = row_stride(target, g)
    done = rows // lanes if g.inner == 1 or first % g.inner + rows <= g.inner else 0
    start = start_of(target, g, first)
    if stride == itemsize(target):
        for j in range(g.n):
            for panel in range(done):
                place = start + j * target.n_stride + panel * lanes * stride
                write(target, place, load(tile, panel * g.panel + j * lanes))
    else:
        for panel in range(done):
            for j in range(g.n):
                place = start + j * target.n_stride + panel * lanes * stride
                scatter_lanes(target, place, stride, load(tile, panel * g.panel + j * lanes))
    for row in range(done * lanes, rows):
        start = start_of(target, g, first + row)
        at = (row // lanes) * g.panel + row % lanes
        for j in range(g.n):
            write(target, start + j * target.n_stride, take_one(tile, at + j * lanes))
