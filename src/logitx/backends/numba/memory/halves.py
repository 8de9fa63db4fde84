"""float16 and bfloat16: read as float32, rounded once when written."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from logitx.backends.numba.compile.llvm_types import DOUBLE, FLOAT, I16, I32, I64
from logitx.backends.numba.vectors.lanes import constant, with_element

_MEMORY = {
    types.boolean: ir.IntType(8),
    types.uint16: I16,
    types.int16: I16,
    types.float32: FLOAT,
    types.float64: DOUBLE,
    types.int64: I64,
}


def _cast_numbers(builder: Any, value: Any, element: Any) -> Any:
    """Change between float32 and float64."""
    kind = with_element(value.type, element)
    if value.type == kind:
        return value
    return builder.fpext(value, kind) if element == DOUBLE else builder.fptrunc(value, kind)


def _widen_float16(builder: Any, half: Any) -> Any:
    """Return float32 for the bits of float16."""
    wide = with_element(half.type, I32)
    bits = builder.zext(half, wide)
    sign = builder.shl(builder.and_(bits, constant(builder, wide, 0x8000)), constant(builder, wide, 16))
    magnitude = builder.and_(bits, constant(builder, wide, 0x7FFF))
    rebias = constant(builder, wide, 112 << 23)
    normal = builder.add(builder.shl(magnitude, constant(builder, wide, 13)), rebias)
    special = builder.icmp_unsigned(">=", magnitude, constant(builder, wide, 0x7C00))
    normal = builder.select(special, builder.add(normal, rebias), normal)
    floats = with_element(half.type, FLOAT)
    small = builder.fmul(
        builder.uitofp(magnitude, floats), constant(builder, floats, 2.0**-24)
    )  # exact: no subnormal float32
    is_small = builder.icmp_unsigned("<", magnitude, constant(builder, wide, 0x400))
    return builder.bitcast(builder.or_(builder.select(is_small, builder.bitcast(small, wide), normal), sign), floats)


def _widen_bfloat16(builder: Any, half: Any) -> Any:
    """Return float32 for the bits of bfloat16."""
    wide = with_element(half.type, I32)
    return builder.bitcast(
        builder.shl(builder.zext(half, wide), constant(builder, wide, 16)), with_element(half.type, FLOAT)
    )


def _to_odd(builder: Any, value: Any) -> Any:
    """Return the bits of float32; inexact ones end in 1, so that a second rounding does not see a false tie."""
    wide = with_element(value.type, I32)
    single = _cast_numbers(builder, value, FLOAT)
    bits = builder.bitcast(single, wide)
    if single.type == value.type:
        return bits
    back = _cast_numbers(builder, single, DOUBLE)
    zero = constant(builder, value.type, 0.0)
    positive = builder.fcmp_ordered(">", value, zero)
    away = builder.select(positive, builder.fcmp_ordered(">", back, value), builder.fcmp_ordered("<", back, value))
    towards_zero = builder.select(away, builder.sub(bits, constant(builder, wide, 1)), bits)
    odd = builder.or_(towards_zero, constant(builder, wide, 1))
    return builder.select(builder.fcmp_ordered("!=", back, value), odd, bits)


def _nearest(builder: Any, bits: Any, drop: int) -> Any:
    """Drop low bits, to nearest even."""
    last = builder.and_(builder.lshr(bits, constant(builder, bits.type, drop)), constant(builder, bits.type, 1))
    half = constant(builder, bits.type, (1 << (drop - 1)) - 1)
    return builder.lshr(builder.add(builder.add(bits, half), last), constant(builder, bits.type, drop))


def _narrow_float16(builder: Any, value: Any) -> Any:
    """Return the bits of float16."""
    bits = _to_odd(builder, value)
    wide = bits.type
    floats = with_element(wide, FLOAT)
    sign = builder.lshr(builder.and_(bits, constant(builder, wide, 0x80000000)), constant(builder, wide, 16))
    magnitude = builder.and_(bits, constant(builder, wide, 0x7FFFFFFF))
    half = constant(builder, floats, 0.5)  # its last place is that of a subnormal float16
    small = builder.bitcast(builder.fadd(builder.bitcast(magnitude, floats), half), wide)
    small = builder.sub(small, constant(builder, wide, 0x3F000000))
    normal = builder.sub(_nearest(builder, magnitude, 13), constant(builder, wide, 112 << 10))
    result = builder.select(builder.icmp_unsigned("<", magnitude, constant(builder, wide, 0x38800000)), small, normal)
    overflow = builder.icmp_unsigned(">=", magnitude, constant(builder, wide, 0x477FF000))
    result = builder.select(overflow, constant(builder, wide, 0x7C00), result)
    nan = builder.icmp_unsigned(">", magnitude, constant(builder, wide, 0x7F800000))
    result = builder.select(nan, constant(builder, wide, 0x7E00), result)
    return builder.trunc(builder.or_(result, sign), with_element(wide, I16))


def _narrow_bfloat16(builder: Any, value: Any) -> Any:
    """Return the bits of bfloat16."""
    bits = _to_odd(builder, value)
    wide = bits.type
    magnitude = builder.and_(bits, constant(builder, wide, 0x7FFFFFFF))
    nan = builder.icmp_unsigned(">", magnitude, constant(builder, wide, 0x7F800000))
    quiet = builder.or_(builder.lshr(bits, constant(builder, wide, 16)), constant(builder, wide, 0x40))
    return builder.trunc(builder.select(nan, quiet, _nearest(builder, bits, 16)), with_element(wide, I16))


def _converted_in(builder: Any, value: Any, dtype: Any, element: Any) -> Any:
    """Convert what memory holds to a compute dtype."""
    if dtype is types.boolean:
        truth = builder.icmp_unsigned("!=", value, constant(builder, value.type, 0))
        return builder.uitofp(truth, with_element(value.type, element))
    if dtype is types.int64:
        return builder.sitofp(value, with_element(value.type, element))
    if dtype is types.uint16:
        value = _widen_float16(builder, value)
    elif dtype is types.int16:
        value = _widen_bfloat16(builder, value)
    return _cast_numbers(builder, value, element)


def _converted_out(builder: Any, value: Any, dtype: Any) -> Any:
    """Convert a compute dtype to what memory holds."""
    if dtype is types.uint16:
        return _narrow_float16(builder, value)
    if dtype is types.int16:
        return _narrow_bfloat16(builder, value)
    return _cast_numbers(builder, value, _MEMORY[dtype])
