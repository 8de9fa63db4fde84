"""How logits that are never in memory as a whole are cut up: those of a linear cross-entropy.

A block of all classes of some rows needs nothing computed twice: its logits become its losses and then, in place, its
gradient. But a matrix product of few rows spends its time on reading the weights. Where the budget holds too few, tiles
of many rows by some of the classes do better: the maximum and sum of each row are merged from tile to tile, and for the
gradient each tile is computed once more when these are known. A loss alone has no such price; with gradients it is one
product more than three, but for rows whose logits can wait in memory that is there anyway: the gradient by the weights
has room for as many rows as there are features, until the first product is written to it. Measured, seconds for the
three products of (2048, 768) by 50257 classes: in blocks of 512 rows 2.4 (OpenBLAS) and 2.9 (MKL), of 158 rows 2.7 and
3.4, of 64 rows 3.1 and 4.1; the four products of tiles 3.2 and 4.1. Whole calls with a budget of 32 MiB, where logits
wait and where they do not: 2.5 and 2.7, with products twice as fast (OpenBLAS for AVX-512) 1.4 and 1.8; (1024, 1024) by
128256 classes, where all can wait, 4.2 and 5.3, 2.4 and 3.4.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

from logitx._arrays.family import LONG_DOUBLE
from logitx._plan import Plan

ENOUGH = 512  # rows of a block from which its products cost what they cost over all rows
ENOUGH_FOR_GRADIENTS = 128  # rows from which they cost less than a product more
ALIGNED = 64  # rows of a tile in memory begin where cache lines do
_BYTES_OF_A_LOGIT = {"float32": 4, LONG_DOUBLE: 16, "float64": 8}


class Tiles(NamedTuple):
    """The size of a tile."""

    rows: int
    classes: int


class RowBlock(NamedTuple):
    """Rows that are reduced together, and the pieces that their classes are cut into."""

    rows: slice
    classes: tuple[slice, ...]
    held: bool  # whether the logits of all pieces wait in memory


def evenly(length: int, most: int) -> int:
    """Return the size of the pieces where `length` is cut into as few as can be."""
    length = max(1, length)
    count = -(-length // max(1, min(length, most)))
    return -(-length // count)


def tiles(plan: Plan, rows: int) -> Tiles:
    """Cut so many rows into blocks of all classes, or where those would be too low into tiles."""
    n, budget = plan.layout.n, budget_of(plan)
    enough = ENOUGH_FOR_GRADIENTS if plan.op.endswith("value_and_grad") else ENOUGH
    if budget // n >= min(max(1, rows), enough):
        return Tiles(evenly(rows, budget // n), n)
    height = evenly(rows, max(1, budget // n, math.isqrt(budget // 2)))
    return Tiles(height, _tile_width(n, max(1, budget // height)))


def _tile_width(n: int, most: int) -> int:
    width = evenly(n, most)
    aligned = -(-width // ALIGNED) * ALIGNED
    return aligned if aligned <= min(n, most) else width


def budget_of(plan: Plan) -> int:
    """Return how many logits may be in memory at once."""
    return plan.block_bytes // _BYTES_OF_A_LOGIT[plan.compute]


def row_blocks(plan: Plan, rows: int, room: int) -> list[RowBlock]:
    """Cut so many rows into blocks, where there is memory in which the logits of `room` of them can wait."""
    n, cut, room = plan.layout.n, tiles(plan, rows), min(rows, room)
    low = cut.rows < min(room, ENOUGH) if cut.classes == n else room >= min(rows, ENOUGH_FOR_GRADIENTS)
    room = room if low else 0
    cut = tiles(plan, rows - room)
    classes = tuple(pieces(n, cut.classes))
    found = [
        RowBlock(slice(room + one.start, room + one.stop), classes, False) for one in pieces(rows - room, cut.rows)
    ]
    if room:
        held = tuple(pieces(n, _tile_width(n, max(1, budget_of(plan) // room))))
        found.insert(0, RowBlock(slice(0, room), held, True))
    return found


def block_rows(plan: Plan, rows: int) -> int:
    """Return how many rows a block of all classes has, whatever that costs."""
    return evenly(rows, budget_of(plan) // plan.layout.n)


def pieces(length: int, size: int) -> Iterator[slice]:
    """Yield pieces of a size; the last one may be smaller."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def block_plan(plan: Plan, rows: int) -> Plan:
    """Return the plan of the cross-entropy of a block: a loss a row, the gradient of their sum."""
    return tile_plan(plan, rows, plan.layout.n)


@functools.lru_cache(maxsize=1024)
def tile_plan(plan: Plan, rows: int, n: int) -> Plan:
    """Return the plan of the cross-entropy of some rows and classes."""
    layout = dataclasses.replace(
        plan.layout, given=(rows, n), axes=(1,), permuted=(rows, n), shape=(rows, n), axis=1, outer=rows, n=n,
        rows=(rows,), kept=(rows, 1), column=(rows, 1),
    )  # fmt: skip
    return dataclasses.replace(
        plan, op="cross_entropy", layout=layout, dtype=plan.compute, result=plan.compute, loss=plan.compute,
        reduction="none", gradients=(), block_bytes=0, scalar=False,
    )  # fmt: skip
