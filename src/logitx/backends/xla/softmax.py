"""softmax, log_softmax, logsumexp and their gradients as XLA calls them: a call frame becomes what each kernel takes.

All in machine code. A handler serves every version of its kernel: it is given the address of the frame and that of the
kernel, and knows of dtypes only what buffers say. The one attribute of a call is a list of integers, the facts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import OK
from logitx.backends.xla.call_frame import (
    ARRAY,
    INT32,
    absent,
    answer,
    argument,
    asks,
    bytes_of,
    call_kernel,
    data_of,
    dtype_of,
    entries_of,
    fact,
    fits,
    no_memory,
    numbers_at,
    numbers_of,
    peek,
    peek_half,
    poke,
    poke_byte,
    poke_real,
    real_at,
    result,
    size_of,
    unfit,
    words,
)
from logitx.backends.xla.large_pages import in_large_pages
from logitx.backends.xla.threads import CREW_BYTES, allocate, free, parts_in

CLASSES = 1  # the axis of the classes in what is given to a kernel here
AXIS, UNDEFINED, LOG, WHERE, TEMPERATURE, SOFTCAP = range(6)  # facts; an operand that is absent has the index 0
FACTS = 6
LABELS = FACTS  # the index of class ids, for `partial` alone


@primitive
def place(crew: int, index: int) -> int:
    """Return the room of an array, in the frame of a handler: behind what threads need."""
    return crew + CREW_BYTES + 8 * ARRAY * index


@primitive
def entries_if(frame: int, index: int, axis: int, room: int) -> Any:
    """Return an argument of the shape of the logits, or what stands for no array."""
    if index == 0:
        return absent()
    return entries_of(argument(frame, index), axis, room)


@primitive
def numbers_if(frame: int, index: int, room: int) -> Any:
    """Return an argument with one number a row or class, or what stands for no array."""
    if index == 0:
        return absent()
    return numbers_of(argument(frame, index), room)


@primitive
def blank_entries(frame: int, index: int, axis: int, room: int) -> Any:
    """Return a result of the shape of the logits."""
    buffer = result(frame, index)
    in_large_pages(data_of(buffer), size_of(buffer) * bytes_of(buffer))
    return entries_of(buffer, axis, room)


@primitive
def parts_of(frame: int, crew: int) -> Any:
    """Return into how many parts the kernel is cut, by the bytes of the logits."""
    logits = argument(frame, 0)
    return parts_in(frame, crew, size_of(logits) * bytes_of(logits))


@primitive
def undefined_of(frame: int) -> float:
    """Return what a row without a defined result gets."""
    return np.nan if fact(frame, UNDEFINED) != 0 else 0.0


@primitive
def room_for(frame: int, index: int) -> int:
    """Return the bytes that temperatures need in float64."""
    return 8 * size_of(argument(frame, index)) if index != 0 else 0


@primitive
def widened(frame: int, index: int, memory: int, room: int) -> Any:
    """Return temperatures in float64, copied to `memory`."""
    if index == 0:
        return absent()
    buffer = argument(frame, index)
    count, start, dtype, size = size_of(buffer), data_of(buffer), dtype_of(buffer), bytes_of(buffer)
    for i in range(count):
        poke_real(memory + 8 * i, real_at(dtype, start + size * i))
    return numbers_at(memory, count, 8, room)


@primitive
def ids_if(frame: int, index: int, memory: int, room: int) -> Any:
    """Return class ids, copied to `memory` as int64, or what stands for no array."""
    if index == 0:
        return absent()
    buffer = argument(frame, index)
    count, start, small = size_of(buffer), data_of(buffer), dtype_of(buffer) == INT32
    for row in range(count):
        poke(memory + 8 * row, peek_half(start + 4 * row) if small else peek(start + 8 * row))
    return numbers_at(memory, count, 8, room)


@primitive
def clear(buffer: int) -> None:
    """Put 0 everywhere in a small buffer."""
    for at in range(size_of(buffer) * bytes_of(buffer)):
        poke_byte(data_of(buffer) + at, 0)


@primitive
def code_of(frame: int, crew: int, code: int) -> Any:
    """Return what XLA wants for the code of a kernel."""
    return 0 if code == OK else no_memory(frame, crew)


def normalize(frame: int, kernel: int) -> Any:
    """Write softmax or its logarithm."""
    if asks(frame):
        return answer(frame)
    crew = words()
    if not fits(frame):
        return unfit(frame, crew)
    axis, hot = fact(frame, AXIS), fact(frame, TEMPERATURE)
    memory = allocate(room_for(frame, hot) + 8)
    if memory == 0:
        return no_memory(frame, crew)
    x = entries_of(argument(frame, 0), axis, place(crew, 0))
    out = blank_entries(frame, 0, axis, place(crew, 1))
    mask = entries_if(frame, fact(frame, WHERE), axis, place(crew, 2))
    heat = widened(frame, hot, memory, place(crew, 3))
    limit = numbers_if(frame, fact(frame, SOFTCAP), place(crew, 4))
    code = call_kernel(kernel, (
        x, mask, out, CLASSES, None, None, None, heat, limit, undefined_of(frame), parts_of(frame, crew), crew
    ))  # fmt: skip
    free(memory)
    return code_of(frame, crew, code)


def normalize_long(frame: int, kernel: int) -> Any:
    """Write softmax or its logarithm of long rows."""
    if asks(frame):
        return answer(frame)
    crew = words()
    if not fits(frame):
        return unfit(frame, crew)
    axis = fact(frame, AXIS)
    x = entries_of(argument(frame, 0), axis, place(crew, 0))
    out = blank_entries(frame, 0, axis, place(crew, 1))
    code = call_kernel(kernel, (
        x, out, CLASSES, None, None, absent(), absent(), undefined_of(frame), parts_of(frame, crew), crew
    ))  # fmt: skip
    return code_of(frame, crew, code)


def reduce(frame: int, kernel: int) -> Any:
    """Write log(sum of exp(x)) of every row."""
    if asks(frame):
        return answer(frame)
    crew = words()
    if not fits(frame):
        return unfit(frame, crew)
    axis = fact(frame, AXIS)
    x = entries_of(argument(frame, 0), axis, place(crew, 0))
    value = numbers_of(result(frame, 0), place(crew, 1))
    mask = entries_if(frame, fact(frame, WHERE), axis, place(crew, 2))
    code = call_kernel(kernel, (
        x, absent(), mask, value, absent(), absent(), CLASSES, None, None, parts_of(frame, crew), crew
    ))  # fmt: skip
    return code_of(frame, crew, code)


def reduce_long(frame: int, kernel: int) -> Any:
    """Write log(sum of exp(x)) of long rows."""
    if asks(frame):
        return answer(frame)
    crew = words()
    if not fits(frame):
        return unfit(frame, crew)
    x = entries_of(argument(frame, 0), fact(frame, AXIS), place(crew, 0))
    value = numbers_of(result(frame, 0), place(crew, 1))
    code = call_kernel(kernel, (x, value, CLASSES, absent(), absent(), parts_of(frame, crew), crew))
    return code_of(frame, crew, code)


def partial(frame: int, kernel: int) -> Any:
    """Write what parts of a row are merged from, and the logits of labels that are in this one."""
    if asks(frame):
        return answer(frame)
    crew = words()
    if not fits(frame):
        return unfit(frame, crew)
    axis, hot = fact(frame, AXIS), fact(frame, TEMPERATURE)
    ids = room_for(frame, hot)
    memory = allocate(ids + room_for(frame, fact(frame, LABELS)) + 8)
    if memory == 0:
        return no_memory(frame, crew)
    x = entries_of(argument(frame, 0), axis, place(crew, 0))
    top, rest = numbers_of(result(frame, 0), place(crew, 1)), numbers_of(result(frame, 1), place(crew, 2))
    mask = entries_if(frame, fact(frame, WHERE), axis, place(crew, 3))
    heat = widened(frame, hot, memory, place(crew, 4))
    limit = numbers_if(frame, fact(frame, SOFTCAP), place(crew, 5))
    labels = ids_if(frame, fact(frame, LABELS), memory + ids, place(crew, 6))
    logits = numbers_of(result(frame, 2), place(crew, 7))
    clear(result(frame, 2))
    code = call_kernel(kernel, (
        x, mask, top, rest, labels, logits, heat, limit, CLASSES, None, None, parts_of(frame, crew), crew
    ))  # fmt: skip
    free(memory)
    return code_of(frame, crew, code)


def pull_back(frame: int, kernel: int) -> Any:
    """Write the gradient by the logits, from softmax, or log_softmax as a fact tells, and the gradient by it."""
    if asks(frame):
        return answer(frame)
    crew = words()
    if not fits(frame):
        return unfit(frame, crew)
    axis = fact(frame, AXIS)
    value = entries_of(argument(frame, 0), axis, place(crew, 0))
    cotangent = entries_of(argument(frame, 1), axis, place(crew, 1))
    out = blank_entries(frame, 0, axis, place(crew, 2))
    log = fact(frame, LOG) != 0
    code = call_kernel(kernel, (
        value, cotangent, out, CLASSES, None, log, absent(), parts_of(frame, crew), crew
    ))  # fmt: skip
    return code_of(frame, crew, code)
