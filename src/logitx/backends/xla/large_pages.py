"""Pages of memory: large ones for large results, where the system gives them to who asks.

The memory of a fresh result is not there before it is first written to. In pages of 4 KiB that takes longer than the
kernel: 52 ms for 128 MiB where it was measured, and 9 ms in pages of 2 MiB. NumPy asks for these, XLA does not.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from logitx.backends.numba.compile.llvm_types import I32, I64
from logitx.backends.numba.compile.policy import intrinsic, primitive

_LARGE = 1 << 21  # bytes of a large page
_MADV_HUGEPAGE = 14


@intrinsic
def _advise_pages(_context: Any, address: Any, size: Any) -> Any:
    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        if sys.platform == "linux":
            byte = ir.IntType(8).as_pointer()
            kind = ir.FunctionType(I32, [byte, I64, I32])
            function = cgutils.get_or_insert_function(builder.module, kind, "madvise")
            builder.call(function, [builder.inttoptr(operands[0], byte), operands[1], I32(_MADV_HUGEPAGE)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@primitive
def in_large_pages(address: int, size: int) -> None:
    """Advise the system to give large pages to memory that is about to be written; it may not, and nothing changes."""
    start = (address + _LARGE - 1) // _LARGE * _LARGE
    stop = (address + size) // _LARGE * _LARGE
    if stop > start:
        _advise_pages(start, stop - start)
