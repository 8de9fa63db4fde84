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
    read_some,
    scatter_lanes,
    stream,
    write_back,
    write_some,
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
from logitx.backends.numba.memory.turn import read_half, read_quarter, write_half, write_quarter
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


def _by_blocks(of_half: Any, of_quarter: Any) -> Any:
    """Return a primitive that turns a panel, block by block; the last block of a row overlaps its neighbor."""

    def turn_panel(memory: Any, place: int, stride: int, tile: Any, base: int, n: int) -> None:
        lanes, step = width_of(tile), bytes_per_element(memory)
        half, quarter = lanes // 2, lanes // 4
        for row in range(0, lanes, half if n >= half else quarter):
            start, at = place + row * stride, base + row
            if n >= half:
                for j in range(0, n, half):
                    j = least(j, n - half)
                    of_half(memory, start + j * step, stride, tile, at + j * lanes)
            else:
                for j in range(0, n, quarter):
                    j = least(j, n - quarter)
                    of_quarter(memory, start + j * step, stride, tile, at + j * lanes)

    return primitive(turn_panel)


_turn_in, _turn_out = _by_blocks(read_half, read_quarter), _by_blocks(write_half, write_quarter)


@primitive
def _load_columns(source: Any, g: Any, first: int, rows: int, tile: Any, pad: float) -> None:
    lanes = width_of(tile)
    stride = row_stride(source, g)
    done = rows // lanes if g.inner == 1 or first % g.inner + rows <= g.inner else 0
    start = start_of(source, g, first)
    if stride == bytes_per_element(source) and (g.inner == 1 or first % g.inner + rows <= g.inner):
        left = rows - done * lanes
        for j in range(g.n):
            place = start + j * source.n_stride
            for panel in range(done):
                x = read_lanes(source, place + panel * lanes * stride, tile)
                store_lanes(tile, panel * g.panel + j * lanes, x)
            if left > 0:
                x = read_some(source, place + done * lanes * stride, left, tile, pad)
                store_lanes(tile, done * g.panel + j * lanes, x)
        return
    if source.n_stride == bytes_per_element(source) and g.n >= lanes // 4:
        for panel in range(done):
            _turn_in(source, start + panel * lanes * stride, stride, tile, panel * g.panel, g.n)
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
    if stride == bytes_per_element(target) and (g.inner == 1 or first % g.inner + rows <= g.inner):
        left = rows - done * lanes
        for j in range(g.n):
            place = start + j * target.n_stride
            for panel in range(done):
                write_back(target, place + panel * lanes * stride, load_lanes(tile, panel * g.panel + j * lanes))
            if left > 0:
                write_some(target, place + done * lanes * stride, left, load_lanes(tile, done * g.panel + j * lanes))
        return
    if target.n_stride == bytes_per_element(target) and g.n >= lanes // 4:
        for panel in range(done):
            _turn_out(target, start + panel * lanes * stride, stride, tile, panel * g.panel, g.n)
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
