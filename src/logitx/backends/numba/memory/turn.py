"""Rows turned into columns, and back: square blocks that are read, transposed in registers and written.

One number at a time, turning took half the time of softmax on rows of 16 to 192 classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types

from logitx.backends.numba.compile.llvm_types import I32, I64
from logitx.backends.numba.compile.policy import intrinsic
from logitx.backends.numba.memory.halves import _MEMORY, _converted_in, _converted_out
from logitx.backends.numba.memory.load_store import _pointer_to
from logitx.backends.numba.vectors.lanes import WIDTH


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the columns of a square block: numbers change places over growing distances."""
    rows, size, distance = list(rows), len(rows), 1
    lanes = ir.VectorType(I32, size)
    while distance < size:
        upper = [lane + size - distance if lane & distance else lane for lane in range(size)]
        lower = [lane + size if lane & distance else lane + distance for lane in range(size)]
        for i in range(size):
            if not i & distance:
                a, b = rows[i], rows[i + distance]
                rows[i] = builder.shuffle_vector(a, b, ir.Constant(lanes, upper))
                rows[i + distance] = builder.shuffle_vector(a, b, ir.Constant(lanes, lower))
        distance *= 2
    return rows


def _place_in(builder: Any, tile: Any, index: Any, kind: Any) -> Any:
    return builder.bitcast(builder.gep(tile, [index]), kind.as_pointer())


def _reader(share: int) -> Callable[..., Any]:
    def read_turned(_context: Any, array: Any, offset: Any, stride: Any, tile: Any, index: Any) -> Any:
        """Read neighbors out of as many rows, and write them to a tile at `index`, one row in each lane."""
        width = WIDTH[tile.dtype]
        size = width // share

        def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
            view, place, step, memory, at = operands
            element, block = context.get_value_type(tile.dtype), ir.VectorType(_MEMORY[array.dtype], size)
            rows = []
            for _ in range(size):
                row = builder.load(_pointer_to(builder, view, place, block), align=1, typ=block)
                rows.append(_converted_in(builder, row, array.dtype, element))
                place = builder.add(place, step)
            for column in _transposed(builder, rows):
                builder.store(column, _place_in(builder, memory, at, column.type), align=4 * size)
                at = builder.add(at, I64(width))
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64, tile, types.int64), emit

    return intrinsic(read_turned)


def _writer(share: int) -> Callable[..., Any]:
    def write_turned(_context: Any, array: Any, offset: Any, stride: Any, tile: Any, index: Any) -> Any:
        """Write lanes of a tile, from `index` on, back to neighbors of as many rows, rounded once."""
        width = WIDTH[tile.dtype]
        size = width // share

        def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
            view, place, step, memory, at = operands
            block, columns = ir.VectorType(context.get_value_type(tile.dtype), size), []
            for _ in range(size):
                columns.append(builder.load(_place_in(builder, memory, at, block), align=4 * size, typ=block))
                at = builder.add(at, I64(width))
            for row in _transposed(builder, columns):
                stored = _converted_out(builder, row, array.dtype)
                builder.store(stored, _pointer_to(builder, view, place, stored.type), align=1)
                place = builder.add(place, step)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64, tile, types.int64), emit

    return intrinsic(write_turned)


# Blocks of half or a quarter as many rows and classes as a tile has lanes
read_half, read_quarter = map(_reader, (2, 4))
write_half, write_quarter = map(_writer, (2, 4))
