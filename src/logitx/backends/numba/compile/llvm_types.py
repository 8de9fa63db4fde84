"""The types of LLVM that intrinsics use."""

from __future__ import annotations

from llvmlite import ir

I8 = ir.IntType(8)
I16 = ir.IntType(16)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
FLOAT = ir.FloatType()
DOUBLE = ir.DoubleType()
BYTE_POINTER = ir.IntType(8).as_pointer()
