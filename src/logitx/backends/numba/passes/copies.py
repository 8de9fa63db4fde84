"""Copies: a block of the caller's memory into a tile, and back, whatever the strides and dtypes.

Rows that lie next to each other, or at one stride, are turned into lanes 32 at a time; the rest goes one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import bytes_per_element
from logitx.backends.numba.memory.load_store import (
    gather_lanes,
    read_lanes,
    read_one,
    scatter_lanes,
    stream,
    write_back,
)
from logitx.backends.numba.memory.prefetch import is_streamed, start_of
from logitx.backends.numba.memory.scratch import (
    load_anywhere,
    load_lanes,
    place_one,
    store_anywhere,
    store_lanes,
    take_one,
)
from logitx.backends.numba.passes.finish import finish_element
from logitx.backends.numba.vectors.lanes import lane, least, maximum_of_two, spread_as, width_of


@primitive
def load_block(source: Any, g: Any, first: int, rows: int, tile: Any, pad: float, across: Any) -> Any:
    """Copy a block into a tile; places of a panel that no entry belongs to hold `pad`.

    Return the maximum of each lane where the block is one row, so that no pass has to look for it.
    """
    if across is None:
        _load_columns(source, g, first, rows, tile, pad)
        return spread_as(tile, pad)
    return _load_row(source, g, first, tile, pad)


@primitive
def _load_row(source: Any, g: Any, row: int, tile: Any, pad: float) -> Any:
    lanes = width_of(tile)
    stride = source.n_stride
    start = row * source.outer_stride
    top = spread_as(tile, -np.inf)
    if stride == bytes_per_element(source):
        whole = g.n // lanes * lanes
        for j in range(0, whole, lanes):
            x = read_lanes(source, start + j * stride, tile)
            store_lanes(tile, j, x)
            top = maximum_of_two(x, top)
        if whole < g.n:  # the last vector overlaps its neighbor
            store_lanes(tile, whole, spread_as(tile, pad))
            x = read_lanes(source, start + (g.n - lanes) * stride, tile)
            store_anywhere(tile, g.n - lanes, x)
            top = maximum_of_two(x, top)
    else:
        store_lanes(tile, g.size - lanes, spread_as(tile, pad))
        for j in range(g.n):
            place_one(tile, j, read_one(source, start + j * stride, tile))
        for at in range(0, g.size, lanes):
            top = maximum_of_two(load_lanes(tile, at), top)
    return top


@primitive
def row_stride(memory: Any, g: Any) -> int:
    """Return the distance of neighboring rows; of those with the same place before the class axis, if there is one."""
    stride: int = memory.outer_stride if g.inner == 1 else memory.inner_stride
    return stride


@primitive
def _load_columns(source: Any, g: Any, first: int, rows: int, tile: Any, pad: float) -> None:
    lanes = width_of(tile)
    stride = row_stride(source, g)
    done = rows // lanes if g.inner == 1 or first % g.inner + rows <= g.inner else 0
    start = start_of(source, g, first)
    if stride == bytes_per_element(source):
        for j in range(g.n):
            for panel in range(done):
                place = start + j * source.n_stride + panel * lanes * stride
                store_lanes(tile, panel * g.panel + j * lanes, read_lanes(source, place, tile))
    else:
        for panel in range(done):
            for j in range(g.n):
                place = start + j * source.n_stride + panel * lanes * stride
                store_lanes(tile, panel * g.panel + j * lanes, gather_lanes(source, place, stride, tile))
    if done * lanes == rows:
        return
    for panel in range(done, (rows + lanes - 1) // lanes):
        if (panel + 1) * lanes > rows:
            for j in range(g.n):
                store_lanes(tile, panel * g.panel + j * lanes, spread_as(tile, pad))
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
        _write_finished_row(tile, target, g, first, 0)


@primitive
def finish_panel(tile: Any, base: int, target: Any, g: Any, first: int, final: bool, facts: Any, across: Any) -> None:
    """Replace every x of a panel by ``finish_element(x, facts)``; if `final`, write a row to the target instead."""
    if across is not None and final:
        _write_finished_row(tile, target, g, first, facts)
    else:
        for at in range(base, base + g.steps * width_of(tile), width_of(tile)):
            store_lanes(tile, at, finish_element(load_lanes(tile, at), facts))


@primitive
def _write_finished_row(tile: Any, target: Any, g: Any, row: int, facts: Any) -> None:
    """Write ``finish_element(x, facts)`` of every x of a row: the last pass of a kernel and the copy in one."""
    lanes = width_of(tile)
    stride = target.n_stride
    start = row * target.outer_stride
    if stride != bytes_per_element(target):
        for j in range(0, g.n, lanes):
            y = finish_element(load_lanes(tile, j), facts)
            for i in range(least(lanes, g.n - j)):
                write_back(target, start + (j + i) * stride, lane(y, i))
        return
    last = g.n - lanes
    at = 0
    if is_streamed(target, g):
        write_back(target, start, finish_element(load_lanes(tile, 0), facts))
        at = (64 - (target.address + start) % 64) % 64 // stride
        if (target.address + start + at * stride) % 64 == 0:
            for j in range(at, last, lanes):
                stream(target, start + j * stride, finish_element(load_anywhere(tile, j), facts))
            at = last
    for j in range(at, last, lanes):
        write_back(target, start + j * stride, finish_element(load_lanes(tile, j), facts))
    write_back(target, start + last * stride, finish_element(load_anywhere(tile, last), facts))


@primitive
def _store_columns(tile: Any, target: Any, g: Any, first: int, rows: int) -> None:
    lanes = width_of(tile)
    stride = row_stride(target, g)
    done = rows // lanes if g.inner == 1 or first % g.inner + rows <= g.inner else 0
    start = start_of(target, g, first)
    if stride == bytes_per_element(target):
        for j in range(g.n):
            for panel in range(done):
                place = start + j * target.n_stride + panel * lanes * stride
                write_back(target, place, load_lanes(tile, panel * g.panel + j * lanes))
    else:
        for panel in range(done):
            for j in range(g.n):
                place = start + j * target.n_stride + panel * lanes * stride
                scatter_lanes(target, place, stride, load_lanes(tile, panel * g.panel + j * lanes))
    for row in range(done * lanes, rows):
        start = start_of(target, g, first + row)
        at = (row // lanes) * g.panel + row % lanes
        for j in range(g.n):
            write_back(target, start + j * target.n_stride, take_one(tile, at + j * lanes))
