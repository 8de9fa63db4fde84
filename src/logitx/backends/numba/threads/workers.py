"""The crew: how the parts of a call are shared among threads, without Python and without the GIL.

A kernel hands `together` a body, its arguments and a number of parts. The calling thread draws parts until none is
left; so does every worker, in `serve_jobs`. They agree through a block of integers (the *words*): a ticket that is odd
while a job is open, the next part, and how many workers are inside. A worker that comes late finds the ticket even and
nothing is lost; a second caller finds the crew taken and runs all of its parts itself. Nobody ever waits for a thread
that has not begun, so there is nothing to deadlock on, also after a fork. A worker for which nothing comes waits in
the system, on a lock of its own that the next caller opens: Python's locks, which need no GIL.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from logitx.backends.numba.compile.llvm_types import BYTE_POINTER, I32, I64
from logitx.backends.numba.compile.policy import intrinsic, primitive

_PART = ir.FunctionType(I32, [I64, I64, I64])  # (address of the arguments, part, parts) -> 0, or 1 if it failed

# The words, those that threads contend for on cache lines of their own
OWNER, TICKET, NEXT, INSIDE = 0, 8, 16, 24
JOB_FUNCTION, JOB_ARGUMENTS, JOB_PARTS, JOB_FAILED, JOB_MODE = 32, 33, 34, 35, 36
HELPERS, STARTED, ASSEMBLE = 40, 41, 42
YIELD, ACQUIRE, RELEASE, WHERE, ALLOWED, ALLOW, WHO = 48, 49, 50, 51, 52, 53, 54  # addresses of C functions
PROCESSORS, SET_WORDS = 56, 16  # a set of up to 1024 processors
ASLEEP, WORKER_LOCK, THREAD, AVOIDS, CREW_ADDRESS, INDEX = 72, 73, 74, 75, 76, 77  # of the first worker
WORKER = 8  # how far apart the workers' words lie
MOST = 255  # workers
CREW_WORDS = ASLEEP + WORKER * MOST
TURNS = 10_000  # of waiting before a worker sleeps: 0.28 ms where it was measured; waking it takes some 40 us
PATIENCE = 1000  # turns of waiting for a worker to finish its part before the processor is offered to others


def _word(builder: Any, words: Any, index: Any) -> Any:
    return builder.gep(builder.inttoptr(words, I64.as_pointer()), [index], source_etype=I64)


@intrinsic
def _get(_context: Any, words: Any, index: Any) -> Any:
    """Read a word, after everything that its writer did before."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.load_atomic(_word(builder, *operands), ordering="seq_cst", align=8, typ=I64)

    return types.int64(types.int64, types.int64), emit


@intrinsic
def _put(_context: Any, words: Any, index: Any, value: Any) -> Any:
    """Write a word, after everything that this thread did before."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        builder.store_atomic(operands[2], _word(builder, *operands[:2]), ordering="seq_cst", align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def _add_to_word(_context: Any, words: Any, index: Any, value: Any) -> Any:
    """Add to a word; return what it was."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.atomic_rmw("add", _word(builder, *operands[:2]), operands[2], "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), emit


@intrinsic
def _turn(_context: Any, words: Any, index: Any, old: Any, new: Any) -> Any:
    """Change a word from one value to another; return True if it had the first one."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        found = builder.cmpxchg(_word(builder, *operands[:2]), *operands[2:], "seq_cst")
        return builder.extract_value(found, 1)

    return types.boolean(*[types.int64] * 4), emit


@intrinsic
def _pause(_context: Any) -> Any:
    """Wait for a moment in a waiting loop: `pause` of x86-64; on Arm `isb`, as its `yield` may do nothing."""

    def emit(context: Any, builder: Any, _signature: Any, _operands: Any) -> Any:
        if _X86 or _ARM:
            name, operands = ("llvm.x86.sse2.pause", []) if _X86 else ("llvm.aarch64.isb", [I32(15)])
            kind = ir.FunctionType(ir.VoidType(), [one.type for one in operands])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)
        return context.get_dummy_value()

    return types.void(), emit


_X86, _ARM = (platform.machine().lower() in names for names in (("x86_64", "amd64"), ("aarch64", "arm64")))


@intrinsic
def float_mode(_context: Any) -> Any:
    """Return how this thread rounds, and whether it takes subnormal numbers for 0; 0 where that is not known."""

    def emit(_context: Any, builder: Any, _signature: Any, _operands: Any) -> Any:
        if _X86:
            room = builder.bitcast(cgutils.alloca_once(builder, I32), BYTE_POINTER)
            kind = ir.FunctionType(ir.VoidType(), [BYTE_POINTER])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.stmxcsr"), [room])
            return builder.zext(builder.load(builder.bitcast(room, I32.as_pointer()), typ=I32), I64)
        if _ARM:
            kind = ir.FunctionType(I64, [])
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.get.fpcr"), [])
        return I64(0)

    return types.int64(), emit


@intrinsic
def set_float_mode(_context: Any, mode: Any) -> Any:
    """Compute as the thread of which this is the `float_mode`, so that no result depends on who computed it."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        if _X86:
            room = cgutils.alloca_once(builder, I32)
            builder.store(builder.trunc(operands[0], I32), room)
            kind = ir.FunctionType(ir.VoidType(), [BYTE_POINTER])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.ldmxcsr")
            builder.call(function, [builder.bitcast(room, BYTE_POINTER)])
        if _ARM:
            kind = ir.FunctionType(ir.VoidType(), [I64])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.set.fpcr"), operands)
        return context.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def _call_part(_context: Any, function: Any, arguments: Any, part: Any, parts: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        pointer = builder.inttoptr(operands[0], _PART.as_pointer())
        return builder.sext(builder.call(pointer, operands[1:]), I64)

    return types.int64(types.int64, types.int64, types.int64, types.int64), emit


@intrinsic
def _call_system(_context: Any, function: Any, arguments: Any) -> Any:
    """Call a C function at an address with integers; its result, an int, or nothing of use where it returns none."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        values = cgutils.unpack_tuple(builder, operands[1])
        kind = ir.FunctionType(I32, [I64] * len(values))
        return builder.sext(builder.call(builder.inttoptr(operands[0], kind.as_pointer()), values), I64)

    return types.int64(types.int64, arguments), emit


@intrinsic
def job_of(context: Any, body: Any, arguments: Any) -> Any:
    """Return (function, arguments), two addresses, for `together`: a call of ``body(*arguments, part, parts)``.

    A body returns False where it could not do its work.
    The arguments lie in the frame of the function that this stands in, so `together` has to be called from it as well.
    """
    wanted = (*arguments.types, types.int64, types.int64)
    call = body.get_call_type(context, wanted, {})

    def emit(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        compiled = body.dispatcher.get_compile_result(call)
        context.active_code_library.add_linking_library(compiled.library)
        kind = context.get_value_type(arguments)
        function = ir.Function(builder.module, _PART, builder.module.get_unique_name(f"{builder.function.name}.part"))
        function.linkage = "internal"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block())
        packed = inner.load(inner.inttoptr(function.args[0], kind.as_pointer()), typ=kind)
        values = [*cgutils.unpack_tuple(inner, packed), *function.args[1:]]
        callee = context.declare_function(builder.module, compiled.fndesc)
        status, fine = context.call_conv.call_function(
            inner, callee, compiled.fndesc.restype, compiled.fndesc.argtypes, values
        )
        inner.fence("seq_cst")  # what was written past the caches is there before the part counts as done
        inner.ret(inner.zext(inner.or_(status.is_error, inner.not_(fine)), I32))
        place = cgutils.alloca_once_value(builder, operands[1])
        pair = builder.ptrtoint(function, I64), builder.ptrtoint(place, I64)
        return context.make_tuple(builder, signature.return_type, pair)

    return types.UniTuple(types.int64, 2)(body, arguments), emit


@primitive
def _draw(words: int, function: int, arguments: int, parts: int) -> None:
    """Run parts until none is left."""
    part = _add_to_word(words, NEXT, 1)
    while part < parts:
        if _call_part(function, arguments, part, parts) != 0:
            _put(words, JOB_FAILED, 1)
        part = _add_to_word(words, NEXT, 1)


@intrinsic
def _call_assemble(_context: Any, address: Any, words: Any, function: Any, arguments: Any, parts: Any) -> Any:
    kind = ir.FunctionType(I64, [I64] * 4)

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.call(builder.inttoptr(operands[0], kind.as_pointer()), operands[1:])

    return types.int64(*[types.int64] * 5), emit


@primitive
def together(words: int, work: Any, parts: int) -> Any:
    """Run every part of a job, on this thread and on those that are awake; return True if no part failed."""
    function, arguments = work
    if parts == 1:
        return _call_part(function, arguments, 0, 1) == 0
    return _call_assemble(_get(words, ASSEMBLE), words, function, arguments, parts) == 0


@primitive
def _make_room(words: int, worker: int) -> None:
    """Keep a worker that is woken off the processor of this thread, if there is another processor.

    Linux wakes a thread beside the one that wakes it where the processor it last ran on seems busy, and in a virtual
    machine one that idles does. It then takes turns with its caller until the scheduler parts them: on two processors a
    woken thread began after 306 us in the median (most of it spent in the caller's place), and so after 40 us.
    """
    here = _call_system(_get(words, WHERE), ())
    if here < 0 or here == _get(words, AVOIDS + worker):
        return
    processors = words + 8 * PROCESSORS
    if _call_system(_get(words, ALLOWED), (0, 8 * SET_WORDS, processors)) != 0:
        return
    others = _get(words, PROCESSORS + here // 64) & ~(1 << (here % 64))
    _put(words, PROCESSORS + here // 64, others)
    if _call_system(_get(words, ALLOW), (_get(words, THREAD + worker), 8 * SET_WORDS, processors)) == 0:
        _put(words, AVOIDS + worker, here)


def run_with_workers(words: int, function: int, arguments: int, parts: int) -> Any:
    """Run every part of a job; return how many failed. Compiled once, apart from the kernels that call it."""
    if not _turn(words, OWNER, 0, 1):
        failed = 0
        for part in range(parts):
            failed += _call_part(function, arguments, part, parts)
        return failed
    _put(words, JOB_FUNCTION, function)
    _put(words, JOB_ARGUMENTS, arguments)
    _put(words, JOB_PARTS, parts)
    _put(words, JOB_FAILED, 0)
    _put(words, JOB_MODE, float_mode())
    _put(words, NEXT, 0)
    _add_to_word(words, TICKET, 1)
    for index in range(min(parts - 1, _get(words, HELPERS), _get(words, STARTED))):
        if _turn(words, ASLEEP + WORKER * index, 1, 0):
            if _get(words, WHERE) != 0:
                _make_room(words, WORKER * index)
            _call_system(_get(words, RELEASE), (_get(words, WORKER_LOCK + WORKER * index),))
    _draw(words, function, arguments, parts)
    _add_to_word(words, TICKET, 1)
    turns = 0
    while _get(words, INSIDE) != 0:
        _pause()
        turns += 1
        if turns > PATIENCE and _get(words, YIELD) != 0:
            _call_system(_get(words, YIELD), ())
    failed = _get(words, JOB_FAILED)
    _put(words, OWNER, 0)
    return failed


def serve_jobs(own: int) -> int:
    """Take part in every job that is opened, forever; sleep when there was none for `TURNS` turns.

    A worker is a thread of the operating system that starts here, with the address of its own words.
    """
    words, index = _get(own, CREW_ADDRESS - ASLEEP), _get(own, INDEX - ASLEEP)
    if _get(words, WHO) != 0:
        _put(own, THREAD - ASLEEP, _call_system(_get(words, WHO), ()))
    seen, turns = 0, 0
    while words != 0:
        ticket = _get(words, TICKET)
        if ticket & 1 == 1 and ticket != seen:
            _add_to_word(words, INSIDE, 1)
            if _get(words, TICKET) == ticket and index < _get(words, HELPERS):
                set_float_mode(_get(words, JOB_MODE))
                _draw(words, _get(words, JOB_FUNCTION), _get(words, JOB_ARGUMENTS), _get(words, JOB_PARTS))
            _add_to_word(words, INSIDE, -1)
            seen, turns = ticket, 0
        elif turns < TURNS:
            _pause()
            turns += 1
        else:
            _put(own, 0, 1)
            # A job that was opened before its caller could see this word must not wait for the next one
            if _get(words, TICKET) == ticket or not _turn(own, 0, 1, 0):
                _call_system(_get(words, ACQUIRE), (_get(own, WORKER_LOCK - ASLEEP), 1))
            turns = 0
    return 0
