"""Tiles: aligned scratch memory of the compute dtype, read and written a vector or a number at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import models, register_model

from logitx.backends.numba.compile.llvm_types import BYTE_POINTER, I64
from logitx.backends.numba.compile.policy import intrinsic
from logitx.backends.numba.vectors.lanes import lanes_of


class Tile(types.Type):
    """The type of scratch memory: an address, aligned to 64 bytes. Whoever makes a tile knows its size."""

    def __init__(self, dtype: Any) -> None:
        """Take the element type."""
        self.dtype = dtype
        super().__init__(name=f"Tile({dtype})")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Tile) -> None:
        super().__init__(dmm, fe_type, dmm.lookup(fe_type.dtype).get_value_type().as_pointer())


@intrinsic
def reserve(_context: Any, count: Any, like: Any) -> Any:
    """Return a tile for `count` numbers of the dtype of `like`, or one that `is_missing` if there is no memory."""
    kind = Tile(like.dtype)

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        pointer = context.get_value_type(kind)
        size = builder.mul(operands[0], I64(context.get_abi_sizeof(pointer.pointee)))
        allocate = ir.FunctionType(BYTE_POINTER, [I64])
        function = cgutils.get_or_insert_function(builder.module, allocate, "NRT_Allocate")
        start = builder.ptrtoint(builder.call(function, [builder.add(size, I64(128))]), I64)
        found = builder.icmp_unsigned("!=", start, I64(0))
        aligned = builder.and_(builder.add(start, I64(127)), I64(-64))
        aligned = builder.select(found, aligned, I64(0))
        with builder.if_then(found):  # the number before a tile is where its memory begins
            builder.store(start, builder.inttoptr(builder.sub(aligned, I64(8)), I64.as_pointer()))
        return builder.inttoptr(aligned, pointer)

    return kind(types.int64, like), emit


@intrinsic
def release(_context: Any, tile: Any) -> Any:
    """Give the memory of a tile back that `reserve` made, if there was any."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        tile = builder.ptrtoint(operands[0], I64)
        with builder.if_then(builder.icmp_unsigned("!=", tile, I64(0))):
            address = builder.sub(tile, I64(8))
            start = builder.load(builder.inttoptr(address, I64.as_pointer()), typ=I64)
            free = ir.FunctionType(ir.VoidType(), [BYTE_POINTER])
            function = cgutils.get_or_insert_function(builder.module, free, "NRT_Free")
            builder.call(function, [builder.inttoptr(start, BYTE_POINTER)])
        return context.get_dummy_value()

    return types.void(tile), emit


@intrinsic
def is_missing(_context: Any, tile: Any) -> Any:
    """Return True if there was no memory for a tile."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.icmp_unsigned("==", builder.ptrtoint(operands[0], I64), I64(0))

    return types.boolean(tile), emit


@intrinsic
def after(_context: Any, tile: Any, index: Any) -> Any:
    """Return the tile that begins at an index of another."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.gep(operands[0], [operands[1]])

    return tile(tile, types.int64), emit


def _load_aligned(context: Any, builder: Any, tile: Any, operands: Any, align: int) -> Any:
    place = builder.gep(operands[0], [operands[1]])
    vector = context.get_value_type(lanes_of(tile.dtype))
    return builder.load(builder.bitcast(place, vector.as_pointer()), align=align, typ=vector)


def _store_aligned(context: Any, builder: Any, tile: Any, operands: Any, align: int) -> Any:
    place = builder.gep(operands[0], [operands[1]])
    builder.store(operands[2], builder.bitcast(place, operands[2].type.as_pointer()), align=align)
    return context.get_dummy_value()


@intrinsic
def load_lanes(_context: Any, tile: Any, index: Any) -> Any:
    """Read lanes from a tile, at an index that is a multiple of the width."""
    kind = lanes_of(tile.dtype)

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return _load_aligned(context, builder, tile, operands, 64)

    return kind(tile, types.int64), emit


@intrinsic
def load_anywhere(_context: Any, tile: Any, index: Any) -> Any:
    """Read lanes from a tile, at any index."""
    kind = lanes_of(tile.dtype)

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return _load_aligned(context, builder, tile, operands, 1)

    return kind(tile, types.int64), emit


@intrinsic
def store_lanes(_context: Any, tile: Any, index: Any, value: Any) -> Any:
    """Write lanes to a tile, at an index that is a multiple of the width."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return _store_aligned(context, builder, tile, operands, 64)

    return types.void(tile, types.int64, value), emit


@intrinsic
def store_anywhere(_context: Any, tile: Any, index: Any, value: Any) -> Any:
    """Write lanes to a tile, at any index."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return _store_aligned(context, builder, tile, operands, 1)

    return types.void(tile, types.int64, value), emit


@intrinsic
def take_one(_context: Any, tile: Any, index: Any) -> Any:
    """Read one number from a tile; Numba's own indexing asks whether the index is negative."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        place = builder.gep(operands[0], [operands[1]])
        return builder.load(place, typ=context.get_value_type(tile.dtype))

    return tile.dtype(tile, types.int64), emit


@intrinsic
def place_one(_context: Any, tile: Any, index: Any, value: Any) -> Any:
    """Write one number to a tile."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        builder.store(operands[2], builder.gep(operands[0], [operands[1]]))
        return context.get_dummy_value()

    return types.void(tile, types.int64, tile.dtype), emit
