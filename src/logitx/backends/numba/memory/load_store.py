"""Reading and writing the memory of the user's arrays: any dtype, any alignment, one number or a vector at a time.

Numba knows neither half type, so memory of float16 is typed uint16 and of bfloat16 int16; both are converted here by
integer arithmetic, which is exact inwards, rounds to nearest even outwards, and needs no instruction or library that
a processor may lack. Offsets count bytes, so that any strides will do.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from logitx.backends.numba.compile.llvm_types import I32, I64
from logitx.backends.numba.compile.policy import intrinsic, primitive
from logitx.backends.numba.memory.halves import _MEMORY, _converted_in, _converted_out
from logitx.backends.numba.vectors.lanes import lanes_of


def _pointer_to(builder: Any, view: Any, offset: Any, kind: Any) -> Any:
    address = builder.add(builder.extract_value(view, 0), offset)
    return builder.inttoptr(address, kind.as_pointer())


@intrinsic
def read_lanes(_context: Any, array: Any, offset: Any, tile: Any) -> Any:
    """Read neighbors in memory, converted to the dtype of a tile."""
    kind = lanes_of(tile.dtype)

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        memory = ir.VectorType(_MEMORY[array.dtype], kind.width)
        place = _pointer_to(builder, operands[0], operands[1], memory)
        return _converted_in(
            builder, builder.load(place, align=1, typ=memory), array.dtype, context.get_value_type(kind).element
        )

    return kind(array, types.int64, tile), emit


@intrinsic
def gather_lanes(_context: Any, array: Any, offset: Any, stride: Any, tile: Any) -> Any:
    """Read numbers at a stride, converted to the dtype of a tile."""
    kind = lanes_of(tile.dtype)

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        memory = _MEMORY[array.dtype]
        place, step = operands[1], operands[2]
        vector = ir.Constant(ir.VectorType(memory, kind.width), ir.Undefined)
        for index in range(kind.width):
            one = builder.load(_pointer_to(builder, operands[0], place, memory), align=1, typ=memory)
            vector = builder.insert_element(vector, one, I32(index))
            place = builder.add(place, step)
        return _converted_in(builder, vector, array.dtype, context.get_value_type(kind).element)

    return kind(array, types.int64, types.int64, tile), emit


@intrinsic
def scatter_lanes(_context: Any, array: Any, offset: Any, stride: Any, value: Any) -> Any:
    """Write lanes at a stride, rounded once to the dtype of the array."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        stored = _converted_out(builder, operands[3], array.dtype)
        place = operands[1]
        for index in range(value.width):
            one = builder.extract_element(stored, I32(index))
            builder.store(one, _pointer_to(builder, operands[0], place, one.type), align=1)
            place = builder.add(place, operands[2])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, value), emit


@intrinsic
def read_one(_context: Any, array: Any, offset: Any, tile: Any) -> Any:
    """Read one number, converted to the dtype of a tile."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        memory = _MEMORY[array.dtype]
        place = _pointer_to(builder, operands[0], operands[1], memory)
        return _converted_in(
            builder, builder.load(place, align=1, typ=memory), array.dtype, context.get_value_type(tile.dtype)
        )

    return tile.dtype(array, types.int64, tile), emit


@intrinsic
def write_back(_context: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write one number or lanes, rounded once to the dtype of the array."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        stored = _converted_out(builder, operands[2], array.dtype)
        place = _pointer_to(builder, operands[0], operands[1], stored.type)
        builder.store(stored, place, align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), emit


@intrinsic
def stream(_context: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write lanes of the dtype of the array to a multiple of 64 bytes, past the caches."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        stored = _converted_out(builder, operands[2], array.dtype)
        place = _pointer_to(builder, operands[0], operands[1], stored.type)
        instruction = builder.store(stored, place, align=64)
        instruction.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
        return context.get_dummy_value()

    return types.void(array, types.int64, value), emit


@primitive
def number_at(rows: Any, i: int, tile: Any) -> Any:
    """Return one number of a view of rows, converted to the dtype of a tile."""
    return read_one(rows, i * rows.outer_stride, tile)


@intrinsic
def class_id(_context: Any, rows: Any, i: Any) -> Any:
    """Return one class id."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        offset = builder.shl(operands[1], I64(3))
        return builder.load(_pointer_to(builder, operands[0], offset, I64), align=1, typ=I64)

    return types.int64(rows, types.int64), emit
