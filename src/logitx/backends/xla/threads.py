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

from logitx.backends.numba.compile.llvm_types import I64
from logitx.backends.numba.compile.policy import intrinsic, primitive
from logitx.backends.numba.threads.workers import (
    ASSEMBLE,
    INSIDE,
    JOB_ARGUMENTS,
    JOB_FAILED,
    JOB_FUNCTION,
    JOB_MODE,
    JOB_PARTS,
    NEXT,
    _add_to_word,
    _call_part,
    _draw,
    _get,
    _pause,
    _put,
    float_mode,
    set_float_mode,
)
from logitx.backends.numba.vectors.lanes import least
from logitx.backends.xla.call_frame import CONTEXT, ERROR_DESTROY, NUM_THREADS, SCHEDULE, api_of
from logitx.backends.xla.words import call_one, peek_word, poke_word

TASK_WORDS = 1 + max(
    NEXT, INSIDE, JOB_FUNCTION, JOB_ARGUMENTS, JOB_PARTS, JOB_FAILED, ASSEMBLE
)  # of a crew, without workers of its own
API_WORD, CALL_WORD = 0, 1  # words of the block that a kernel takes for its crew, beside `workers.ASSEMBLE`
CREW_BYTES = 8 * (TASK_WORDS + 6)  # what a handler keeps of its own frame for its crew
HOLDERS = 8  # word of what tasks share: how many will still look at it
XLA_PARTS_PER_THREAD = 4  # a thread that is held up leaves its later parts to the others
XLA_PART_BYTES = 1 << 16  # no part is smaller than this
XLA_SERIAL_BYTES = 1 << 18  # bytes of input below which a task costs more than it saves


@intrinsic
def address_of(_context: Any, body: Any, count: Any) -> Any:
    """Return the address of a primitive as a C function of words; `count` is a tuple with one word for each."""
    wanted = tuple(count.types)
    call = body.get_call_type(_context, wanted, {})

    def emit(context: Any, builder: Any, _signature: Any, _operands: Any) -> Any:
        compiled = body.dispatcher.get_compile_result(call)
        context.active_code_library.add_linking_library(compiled.library)
        kind = ir.FunctionType(I64, [I64] * len(wanted))
        function = ir.Function(builder.module, kind, builder.module.get_unique_name(f"{builder.function.name}.task"))
        function.linkage = "internal"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block())
        callee = context.declare_function(builder.module, compiled.fndesc)
        _, value = context.call_conv.call_function(
            inner, callee, compiled.fndesc.restype, compiled.fndesc.argtypes, function.args
        )
        inner.ret(value)
        return builder.ptrtoint(function, I64)

    return types.int64(body, count), emit


@intrinsic
def allocate(_context: Any, size: Any) -> Any:
    """Return the address of so many bytes, or 0."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(8).as_pointer(), [I64])
        function = cgutils.get_or_insert_function(builder.module, kind, "NRT_Allocate")
        return builder.ptrtoint(builder.call(function, [operands[0]]), I64)

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
    if _add_to_word(shared, HOLDERS, -holders) == holders:
        free(shared)


@primitive
def _help(shared: int) -> int:
    """Draw parts of a job that may be over by now: a task of XLA's threads."""
    mode = float_mode()
    _add_to_word(shared, INSIDE, 1)
    set_float_mode(_get(shared, JOB_MODE))
    _draw(shared, _get(shared, JOB_FUNCTION), _get(shared, JOB_ARGUMENTS), _get(shared, JOB_PARTS))
    set_float_mode(mode)  # the thread is not ours
    _add_to_word(shared, INSIDE, -1)
    _leave(shared, 1)
    return 0


@primitive
def _schedule(crew: int, shared: int) -> bool:
    """Give XLA a task; return True if XLA accepted it."""
    room = crew + 8 * TASK_WORDS  # the arguments of its function: they are read before it returns
    api = _get(crew, API_WORD)
    poke_word(room, 40)
    poke_word(room + 8, 0)
    poke_word(room + 16, _get(crew, CALL_WORD))
    poke_word(room + 24, address_of(_help, (shared,)))
    poke_word(room + 32, shared)
    error = call_one(peek_word(api + SCHEDULE), room)
    if error == 0:
        return True
    poke_word(room, 24)
    poke_word(room + 16, error)
    call_one(peek_word(api + ERROR_DESTROY), room)
    return False


@primitive
def _run_with_tasks(crew: int, function: int, arguments: int, parts: int) -> Any:
    """Run every part of a job, on this thread and on those of XLA that come; return how many failed."""
    shared = allocate(8 * TASK_WORDS)
    if shared == 0:
        failed = 0
        for part in range(parts):
            failed += _call_part(function, arguments, part, parts)
        return failed
    helpers = least(_get(crew, JOB_PARTS), parts) - 1
    _put(shared, JOB_FUNCTION, function)
    _put(shared, JOB_ARGUMENTS, arguments)
    _put(shared, JOB_PARTS, parts)
    _put(shared, JOB_FAILED, 0)
    _put(shared, JOB_MODE, float_mode())
    _put(shared, INSIDE, 0)
    _put(shared, HOLDERS, 1 + helpers)
    _put(shared, NEXT, 0)
    for _ in range(helpers):
        if not _schedule(crew, shared):
            _leave(shared, 1)
    _draw(shared, function, arguments, parts)
    while _get(shared, INSIDE) != 0:
        _pause()
    failed = _get(shared, JOB_FAILED)
    _leave(shared, 1)
    return failed


@primitive
def threads_of(frame: int, room: int) -> Any:
    """Return how many threads XLA has for this call; 1 where it does not say."""
    api = api_of(frame)
    poke_word(room, 32)
    poke_word(room + 8, 0)
    poke_word(room + 16, peek_word(frame + CONTEXT))
    poke_word(room + 24, room + 40)
    poke_word(room + 40, 1)
    error = call_one(peek_word(api + NUM_THREADS), room)
    if error != 0:
        poke_word(room, 24)
        poke_word(room + 16, error)
        call_one(peek_word(api + ERROR_DESTROY), room)
        return 1
    return peek_word(room + 40)


@primitive
def parts_in(frame: int, crew: int, nbytes: int) -> Any:
    """Fill in the crew of a call; return into how many parts a kernel on so many bytes is cut."""
    threads = threads_of(frame, crew + 8 * TASK_WORDS)
    if threads < 2 or nbytes < XLA_SERIAL_BYTES:
        return 1
    poke_word(crew + 8 * API_WORD, api_of(frame))
    poke_word(crew + 8 * CALL_WORD, peek_word(frame + CONTEXT))
    poke_word(crew + 8 * JOB_PARTS, threads)
    poke_word(crew + 8 * ASSEMBLE, address_of(_run_with_tasks, (crew, crew, crew, crew)))
    return least(threads * XLA_PARTS_PER_THREAD, nbytes // XLA_PART_BYTES)
