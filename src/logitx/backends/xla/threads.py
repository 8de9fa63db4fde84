"""XLA's own threads: how the parts of a kernel are shared when XLA calls it, without Python and without ours.

XLA runs a function on one of its threads and lets it give tasks to the others, with no promise that they run soon, or
on another thread at all. So nobody waits for a task that has not begun: the caller draws parts until none is left, and
then waits only for those who are inside. A task that comes late finds nothing to draw. What tasks share lies in memory
of its own, which the last to leave gives back, as the frame of the caller may be gone by then.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from logitx.backends.numba.compile.policy import intrinsic, primitive
from logitx.backends.numba.threads.workers import (
    ARGUMENTS,
    ASSEMBLE,
    FAILED,
    FUNCTION,
    INSIDE,
    NEXT,
    PARTS,
    _add,
    _call_part,
    _draw,
    _get,
    _pause,
    _put,
)
from logitx.backends.numba.vectors.lanes import least
from logitx.backends.xla.call_frame import CONTEXT, ERROR_DESTROY, NUM_THREADS, SCHEDULE, api_of, call_one, peek, poke

_I64 = ir.IntType(64)
WORDS = 1 + max(NEXT, INSIDE, FUNCTION, ARGUMENTS, PARTS, FAILED, ASSEMBLE)  # of a crew, without workers of its own
API, CALL = 0, 1  # words of the block that a kernel takes for its crew, beside that of _crew.ASSEMBLE
CREW_BYTES = 8 * (WORDS + 6)  # what a handler keeps of its own frame for its crew
HOLDERS = 8  # word of what tasks share: how many will still look at it
PARTS_PER_THREAD = 4  # a thread that is held up leaves its later parts to the others
PART_BYTES = 1 << 16  # no part is smaller than this
SERIAL = 1 << 18  # bytes of input below which a task costs more than it saves


@intrinsic
def address_of(_context: Any, body: Any, count: Any) -> Any:
    """Return the address of a primitive as a C function of words; `count` is a tuple with one word for each."""
    wanted = tuple(count.types)
    call = body.get_call_type(_context, wanted, {})

    def emit(context: Any, builder: Any, _signature: Any, _operands: Any) -> Any:
        compiled = body.dispatcher.get_compile_result(call)
        context.active_code_library.add_linking_library(compiled.library)
        kind = ir.FunctionType(_I64, [_I64] * len(wanted))
        function = ir.Function(builder.module, kind, builder.module.get_unique_name(f"{builder.function.name}.task"))
        function.linkage = "internal"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block())
        callee = context.declare_function(builder.module, compiled.fndesc)
        _, value = context.call_conv.call_function(
            inner, callee, compiled.fndesc.restype, compiled.fndesc.argtypes, function.args
        )
        inner.ret(value)
        return builder.ptrtoint(function, _I64)

    return types.int64(body, count), emit


@intrinsic
def allocate(_context: Any, size: Any) -> Any:
    """Return the address of so many bytes, or 0."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(8).as_pointer(), [_I64])
        function = cgutils.get_or_insert_function(builder.module, kind, "NRT_Allocate")
        return builder.ptrtoint(builder.call(function, [operands[0]]), _I64)

    return types.int64(types.int64), emit


@intrinsic
def free(_context: Any, address: Any) -> Any:
    """Give memory back."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [byte]), "NRT_Free")
        builder.call(function, [builder.inttoptr(operands[0], byte)])
        return context.get_dummy_value()

    return types.void(types.int64), emit


@primitive
def _leave(shared: int, holders: int) -> None:
    """Give up what tasks share; the last one to leave frees it."""
    if _add(shared, HOLDERS, -holders) == holders:
        free(shared)


@primitive
def _help(shared: int) -> int:
    """Draw parts of a job that may be over by now: a task of XLA's threads."""
    _add(shared, INSIDE, 1)
    _draw(shared, _get(shared, FUNCTION), _get(shared, ARGUMENTS), _get(shared, PARTS))
    _add(shared, INSIDE, -1)
    _leave(shared, 1)
    return 0


@primitive
def _schedule(crew: int, shared: int) -> bool:
    """Give XLA a task; tell whether it took it."""
    room = crew + 8 * WORDS  # the arguments of its function: they are read before it returns
    api = _get(crew, API)
    poke(room, 40)
    poke(room + 8, 0)
    poke(room + 16, _get(crew, CALL))
    poke(room + 24, address_of(_help, (shared,)))
    poke(room + 32, shared)
    error = call_one(peek(api + SCHEDULE), room)
    if error == 0:
        return True
    poke(room, 24)
    poke(room + 16, error)
    call_one(peek(api + ERROR_DESTROY), room)
    return False


@primitive
def _assemble(crew: int, function: int, arguments: int, parts: int) -> Any:
    """Run every part of a job, on this thread and on those of XLA that come; return how many failed."""
    shared = allocate(8 * WORDS)
    if shared == 0:
        failed = 0
        for part in range(parts):
            failed += _call_part(function, arguments, part, parts)
        return failed
    helpers = least(_get(crew, PARTS), parts) - 1
    _put(shared, FUNCTION, function)
    _put(shared, ARGUMENTS, arguments)
    _put(shared, PARTS, parts)
    _put(shared, FAILED, 0)
    _put(shared, INSIDE, 0)
    _put(shared, HOLDERS, 1 + helpers)
    _put(shared, NEXT, 0)
    for _ in range(helpers):
        if not _schedule(crew, shared):
            _leave(shared, 1)
    _draw(shared, function, arguments, parts)
    while _get(shared, INSIDE) != 0:
        _pause()
    failed = _get(shared, FAILED)
    _leave(shared, 1)
    return failed


@primitive
def threads_of(frame: int, room: int) -> Any:
    """Return how many threads XLA has for this call; 1 where it does not say."""
    api = api_of(frame)
    poke(room, 32)
    poke(room + 8, 0)
    poke(room + 16, peek(frame + CONTEXT))
    poke(room + 24, room + 40)
    poke(room + 40, 1)
    error = call_one(peek(api + NUM_THREADS), room)
    if error != 0:
        poke(room, 24)
        poke(room + 16, error)
        call_one(peek(api + ERROR_DESTROY), room)
        return 1
    return peek(room + 40)


@primitive
def parts_in(frame: int, crew: int, nbytes: int) -> Any:
    """Fill in the crew of a call; return into how many parts a kernel on so many bytes is cut."""
    threads = threads_of(frame, crew + 8 * WORDS)
    if threads < 2 or nbytes < SERIAL:
        return 1
    poke(crew + 8 * API, api_of(frame))
    poke(crew + 8 * CALL, peek(frame + CONTEXT))
    poke(crew + 8 * PARTS, threads)
    poke(crew + 8 * ASSEMBLE, address_of(_assemble, (crew, crew, crew, crew)))
    return least(threads * PARTS_PER_THREAD, nbytes // PART_BYTES)
