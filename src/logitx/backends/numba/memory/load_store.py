"""Reading and writing the memory of the user's arrays: any dtype, any alignment, one number or a vector at a time.

Numba knows neither half type, so memory of float16 is typed uint16 and of bfloat16 int16; both are converted here by
integer arithmetic, which is exact inwards, rounds to nearest even outwards, and needs no instruction or library that
a processor may lack. Offsets count bytes, so that any strides will do.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from logitx.backends.numba.compile.llvm_types import I32, I64
from logitx.backends.numba.compile.policy import intrinsic, primitive
from logitx.backends.numba.memory.halves import _MEMORY, _converted_in, _converted_out
from logitx.backends.numba.vectors.lanes import lanes_of, splat


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


def _first(builder: Any, kind: Any, count: Any) -> Any:
    """Return a mask of the first `count` lanes."""
    places = ir.VectorType(I64, kind.count)
    return builder.icmp_unsigned("<", ir.Constant(places, list(range(kind.count))), splat(builder, count, places))


def _masked(builder: Any, name: str, result: Any, *operands: Any) -> Any:
    """Call `llvm.masked.load` or `llvm.masked.store`."""
    vector = result if name == "load" else operands[0].type
    full = f"llvm.masked.{name}.v{vector.count}{vector.element.intrinsic_name}.p0"
    function = ir.FunctionType(result, [one.type for one in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, full), operands)


@intrinsic
def read_some(_context: Any, array: Any, offset: Any, count: Any, tile: Any, pad: Any) -> Any:
    """Read fewer neighbors than lanes, converted to the dtype of a tile; the other lanes hold `pad`."""
    kind = lanes_of(tile.dtype)

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        view, place, filled, _, other = operands
        memory = ir.VectorType(_MEMORY[array.dtype], kind.width)
        mask, nothing = _first(builder, memory, filled), ir.Constant(memory, None)
        value = _masked(builder, "load", memory, _pointer_to(builder, view, place, memory), I32(1), mask, nothing)
        value = _converted_in(builder, value, array.dtype, context.get_value_type(kind).element)
        other = context.cast(builder, other, types.float64, tile.dtype)
        return builder.select(mask, value, splat(builder, other, value.type))

    return kind(array, types.int64, types.int64, tile, types.float64), emit


@intrinsic
def write_some(_context: Any, array: Any, offset: Any, count: Any, value: Any) -> Any:
    """Write the first `count` lanes, rounded once to the dtype of the array."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        view, place, filled, lanes = operands
        stored = _converted_out(builder, lanes, array.dtype)
        target, mask = _pointer_to(builder, view, place, stored.type), _first(builder, stored.type, filled)
        _masked(builder, "store", ir.VoidType(), stored, target, I32(1), mask)
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


@intrinsic
def put_integer(_context: Any, rows: Any, i: Any, value: Any) -> Any:
    """Write one integer to a view of int64."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        offset = builder.shl(operands[1], I64(3))
        builder.store(operands[2], _pointer_to(builder, operands[0], offset, I64), align=1)
        return context.get_dummy_value()

    return types.void(rows, types.int64, types.int64), emit


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
