"""Words of memory at an address, read and written by handlers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from logitx.backends.numba.compile.llvm_types import DOUBLE, I8, I32, I64
from logitx.backends.numba.compile.policy import intrinsic


@intrinsic
def peek_word(_context: Any, address: Any) -> Any:
    """Read a word."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.load(builder.inttoptr(operands[0], I64.as_pointer()), typ=I64)

    return types.int64(types.int64), emit


@intrinsic
def peek_half(_context: Any, address: Any) -> Any:
    """Read half a word, with its sign."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        half = builder.load(builder.inttoptr(operands[0], I32.as_pointer()), align=4, typ=I32)
        return builder.sext(half, I64)

    return types.int64(types.int64), emit


@intrinsic
def poke_word(_context: Any, address: Any, value: Any) -> Any:
    """Write a word."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        builder.store(operands[1], builder.inttoptr(operands[0], I64.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def poke_half(_context: Any, address: Any, value: Any) -> Any:
    """Write half a word."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        half = builder.trunc(operands[1], I32)
        builder.store(half, builder.inttoptr(operands[0], I32.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def peek_byte(_context: Any, address: Any) -> Any:
    """Read a byte."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.zext(builder.load(builder.inttoptr(operands[0], I8.as_pointer()), typ=I8), I64)

    return types.int64(types.int64), emit


@intrinsic
def poke_byte(_context: Any, address: Any, value: Any) -> Any:
    """Write a byte."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        builder.store(builder.trunc(operands[1], I8), builder.inttoptr(operands[0], I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def poke_real(_context: Any, address: Any, value: Any) -> Any:
    """Write a number of float64."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        builder.store(operands[1], builder.inttoptr(operands[0], DOUBLE.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.float64), emit


@intrinsic
def words(_context: Any) -> Any:
    """Return the address of 160 words in the frame of the function that this stands in."""

    def emit(_context: Any, builder: Any, _signature: Any, _operands: Any) -> Any:
        place = cgutils.alloca_once(builder, ir.ArrayType(I64, 160))
        return builder.ptrtoint(place, I64)

    return types.int64(), emit


@intrinsic
def call_one(_context: Any, function: Any, argument: Any) -> Any:
    """Call a C function of one word at an address."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        kind = ir.FunctionType(I64, [I64])
        return builder.call(builder.inttoptr(operands[0], kind.as_pointer()), [operands[1]])

    return types.int64(types.int64, types.int64), emit
