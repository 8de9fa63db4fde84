"""The loop of the kernels: a tile of rows is loaded, and then every panel of it is reduced and finished.

*Reduce* turns each row into a few numbers, *finish* makes each element of the output from these. What is reduced and
how that is finished depends on the *task* of a kernel, a NamedTuple; `PASSES` has the primitives for each type of task,
and `by_type` chooses them when a kernel is compiled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.compile.static import Function, by_type
from logitx.backends.numba.memory.arguments import given
from logitx.backends.numba.memory.scratch import after, is_missing, release, reserve
from logitx.backends.numba.passes.blocks import blocks_of_part, geometry_of, panels_in, place_of_block, rows_in
from logitx.backends.numba.passes.copies import load_block, store_block
from logitx.backends.numba.passes.reduce import hide, multiply
from logitx.backends.numba.passes.scaling import cap, limit_at, scale_at
from logitx.backends.numba.vectors.lanes import fold_maximum, single_lane, width_of


class Logits(NamedTuple):
    """The rows of a kernel and what changes a logit before its row is reduced; all but the first may be absent."""

    x: Any
    where: Any
    temperature: Any  # float64
    softcap: Any  # of the dtype to compute in, also where it is absent


class RoomNeeds(NamedTuple):
    """The scratch memory of a task, beside a tile of logits, a mask if there is one, and two vectors."""

    vectors: int  # for the numbers of each row
    tiles: int  # of the size of the one for logits
    more: int  # elements
    masked: bool  # True for a mask in any case
    sloping: bool  # True for the derivatives of a softcap, if there is one
    hidden: float  # what masked entries hold in the result


class Memory(NamedTuple):
    """The scratch memory of a part."""

    scales: Any  # two vectors, in which temperatures and softcaps of rows are collected
    numbers: Any  # of each row, as many vectors as the task needs
    tile: Any
    mask: Any
    slope: Any
    more: Any


class Panel(NamedTuple):
    """Rows that are reduced and finished together."""

    memory: Any
    base: int  # where the panel begins in the tile
    g: Any
    x: Any
    block: int
    first: int  # row of the block
    nth: int  # of its block
    row: int  # the first one
    rows: int  # how many
    scale: Any
    seen: Any  # maximum of each lane, if `unchanged`
    unchanged: bool
    masked: bool
    sloping: bool


class Passes(NamedTuple):
    """The primitives for one type of task, the last argument of each; None where there is nothing to do.

    A task also has a `room`, what it needs of scratch memory.
    """

    begin: Function | None  # (memory, g, across, task): fill what all blocks of a part use
    load: Function | None  # (memory, g, block, first, count, across, task): fill other tiles, once a block
    reduce: Function  # (panel, across, task): the numbers of each row
    finish: Function  # (panel, numbers, across, task): True if the rows are in the result already
    store: Function | None  # (memory, g, first, count, across, task): write the tile to the result


_TABLES: tuple[dict[type, Function | None], ...] = ({}, {}, {}, {}, {})
_run_begin, _run_load, _run_reduce, _run_finish, _run_store = (
    by_type(table, count) for table, count in zip(_TABLES, (4, 7, 3, 4, 6), strict=True)
)


def define_passes(task: type, passes: Passes) -> None:
    """Register the primitives that the loop uses for a type of task."""
    for table, function in zip(_TABLES, passes, strict=True):
        table[task] = function


@inlined
def store_tile(memory: Any, g: Any, first: int, count: int, across: Any, task: Any) -> None:
    """Write the tile to the `out` of a task."""
    store_block(memory.tile, task.out, g, first, count, across)


@inlined
def run_blocks(logits: Any, task: Any, across: Any, masking: Any, scaling: Any, part: int, parts: int) -> bool:
    """Load, reduce and finish the blocks of a part; return False if there is no memory.

    Without `masking` there is no mask, without `scaling` no temperature and no softcap.
    """
    g = geometry_of(logits.x, logits.softcap, across)
    masked, capped = masking is not None and given(logits.where), scaling is not None and given(logits.softcap)
    lanes = width_of(logits.softcap)
    needs = task.room
    sloping = needs.sloping and capped
    hiding = masked or needs.masked
    tiles = 1 + hiding + sloping + needs.tiles
    room = reserve((2 + needs.vectors) * lanes + tiles * g.size + needs.more, logits.softcap)
    if is_missing(room):
        return False
    tile = after(room, (2 + needs.vectors) * lanes)
    mask = after(tile, g.size)
    slope = after(mask, hiding * g.size)
    memory = Memory(room, after(room, 2 * lanes), tile, mask, slope, after(slope, sloping * g.size))
    _run_begin(memory, g, across, task)
    start, stop = blocks_of_part(g, part, parts)
    for block in range(start, stop):
        first, total = place_of_block(g, block, across)
        seen = load_block(logits.x, g, first, total, tile, -np.inf, across)
        if masking is not None and masked:
            load_block(logits.where, g, first, total, mask, 0.0, across)
            hide(tile, mask, g.size, -np.inf)
        _run_load(memory, g, block, first, total, across, task)
        written = False
        for index in range(panels_in(g, total, tile, across)):
            base, row = index * g.panel, first + index * lanes
            count = rows_in(total, index, tile, across)
            if scaling is not None and capped:
                cap(tile, slope, sloping, base, g.steps, limit_at(logits.softcap, row, count, room, across))
            scale = scale_at(logits.temperature, row, count, room, scaling, across)
            panel = Panel(
                memory, base, g, logits.x, block, first, index, row, count, scale, seen, not masked and not capped,
                masked, sloping,
            )  # fmt: skip
            written = _run_finish(panel, _run_reduce(panel, across, task), across, task)
        if not written:
            if scaling is not None and sloping:
                multiply(tile, slope, g.size)
            if masking is not None and masked:
                hide(tile, mask, g.size, needs.hidden)
            _run_store(memory, g, first, total, across, task)
    release(room)
    return True


@inlined
def run_rows(logits: Any, task: Any, across: Any, part: int, parts: int) -> bool:
    """Do what `run_blocks` does, for rows one at a time without mask, temperature and softcap: three rows at once.

    A row is loaded while the one before is reduced and the one before that is finished. To fold a maximum or a sum
    takes time, but few instructions, which run beside those of other rows: rows of 300 take 0.57 ns an entry, not 0.63.
    Return False if there is no memory.
    """
    g = geometry_of(logits.x, logits.softcap, across)
    room = reserve(4 * width_of(logits.softcap) + 3 * g.size, logits.softcap)
    if is_missing(room):
        return False
    tiles = after(room, 4 * width_of(logits.softcap))
    scale = scale_at(logits.temperature, 0, 1, room, None, across)
    start, stop = blocks_of_part(g, part, parts)
    if start < stop:
        seen = _load_row(logits.x, g, start, tiles, across)
        old = _run_reduce(_panel_of_row(room, tiles, g, logits.x, start, scale, seen), across, task)
        if start + 1 < stop:
            seen = _load_row(logits.x, g, start + 1, tiles, across)
        for row in range(start + 1, stop):
            found = _run_reduce(_panel_of_row(room, tiles, g, logits.x, row, scale, seen), across, task)
            if row + 1 < stop:
                seen = _load_row(logits.x, g, row + 1, tiles, across)
            _run_finish(_panel_of_row(room, tiles, g, logits.x, row - 1, scale, seen), old, across, task)
            old = found
        _run_finish(_panel_of_row(room, tiles, g, logits.x, stop - 1, scale, seen), old, across, task)
    release(room)
    return True


@primitive
def _load_row(x: Any, g: Any, row: int, tiles: Any, across: Any) -> Any:
    """Load a row to its tile, and return its maximum."""
    seen = load_block(x, g, row, 1, after(tiles, row % 3 * g.size), -np.inf, across)
    return single_lane(tiles, fold_maximum(seen))


@primitive
def _panel_of_row(room: Any, tiles: Any, g: Any, x: Any, row: int, scale: Any, seen: Any) -> Any:
    tile = after(tiles, row % 3 * g.size)
    memory = Memory(room, room, tile, tile, tile, tile)
    return Panel(memory, 0, g, x, row, row, 0, row, 1, scale, seen, True, False, False)
