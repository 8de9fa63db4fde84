"""Memory that will be needed: fetched while something else is computed, a vector a step."""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types

from logitx.backends.numba.compile.llvm_types import I32, I64
from logitx.backends.numba.compile.policy import intrinsic, primitive
from logitx.backends.numba.compile.static import by_type
from logitx.backends.numba.memory.arguments import bytes_per_element
from logitx.backends.numba.vectors.lanes import least, width_of

STREAMED = 1 << 25  # bytes of a result from which it is written past the caches


class Next(NamedTuple):
    """Where the same panel of the next block begins, and how far on it is at each step."""

    address: int
    step: int


class NextAndResult(NamedTuple):
    """The same, and where the result of this panel goes."""

    address: int
    step: int
    target: int
    target_step: int


@primitive
def _fetch_next(step: int, facts: Any) -> None:
    prefetch(facts.address + step * facts.step)


@primitive
def _fetch_both(step: int, facts: Any) -> None:
    prefetch(facts.address + step * facts.step)
    prefetch_to_write(facts.target + step * facts.target_step)


fetch_ahead = by_type({Next: _fetch_next, NextAndResult: _fetch_both})


@primitive
def start_of(memory: Any, g: Any, row: int) -> int:
    """Return where a row begins."""
    start: int = row // g.inner * memory.outer_stride + row % g.inner * memory.inner_stride
    return start


@primitive
def is_streamed(target: Any, g: Any) -> bool:
    """Return True if a result is too large to stay in the caches until it is read."""
    large: bool = g.outer * g.inner * g.n * bytes_per_element(target) >= STREAMED
    return large


@primitive
def _panel_of(memory: Any, g: Any, row: int, panel: int, like: Any, across: Any) -> Any:
    """Return where a panel of the block that starts at a row begins, and how far on it is at each step."""
    if across is not None:
        return memory.address + row * memory.outer_stride, width_of(like) * bytes_per_element(memory)
    start = start_of(memory, g, row) + panel * width_of(like) * bytes_per_element(memory)
    return memory.address + start, memory.n_stride


@primitive
def ahead_of(source: Any, g: Any, first: int, panel: int, like: Any, across: Any) -> Any:
    """Return what to fetch while a panel is reduced: the next block."""
    row = least(first + g.most, g.outer * g.inner - 1)
    address, step = _panel_of(source, g, row, panel, like, across)
    return Next(address, step)


@primitive
def ahead_of_both(source: Any, target: Any, g: Any, first: int, panel: int, like: Any, across: Any) -> Any:
    """Return what to fetch while a panel is reduced: the next block, and memory for the result of this one."""
    row = least(first + g.most, g.outer * g.inner - 1)
    address, step = _panel_of(source, g, row, panel, like, across)
    if is_streamed(target, g):
        return NextAndResult(address, step, address, step)
    place, target_step = _panel_of(target, g, first, panel, like, across)
    return NextAndResult(address, step, place, target_step)


def _prefetch(context: Any, builder: Any, address: Any, writing: int) -> Any:
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    for line in (0, 64):
        place = builder.inttoptr(builder.add(address, I64(line)), byte)
        builder.call(function, [place, I32(writing), I32(2), I32(1)])
    return context.get_dummy_value()


@intrinsic
def prefetch(_context: Any, address: Any) -> Any:
    """Ask for 128 bytes that will be read."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return _prefetch(context, builder, operands[0], 0)

    return types.void(types.int64), emit


@intrinsic
def prefetch_to_write(_context: Any, address: Any) -> Any:
    """Ask for 128 bytes that will be written."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return _prefetch(context, builder, operands[0], 1)

    return types.void(types.int64), emit
