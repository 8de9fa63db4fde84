"""softmax, log_softmax, logsumexp and their gradients as XLA calls them: a call frame becomes what each kernel takes.

All in machine code. A handler serves every version of its kernel: it is given the address of the frame and that of the
kernel, and knows of dtypes only what buffers say. The one attribute of a call is a list of integers, the facts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels import cut_rows, logsumexp, softmax, vjp
from logitx.backends.numba.memory.arguments import OK
from logitx.backends.xla.call_frame import (
    ARRAY,
    INT32,
    absent,
    argument_buffer,
    bytes_of,
    closed_at_once,
    data_of,
    dtype_code,
    entries_of,
    facts_of_call,
    no_memory,
    numbers_at,
    numbers_of,
    real_at,
    result_buffer,
    size_of,
)
from logitx.backends.xla.kernel_call import kernel_call
from logitx.backends.xla.large_pages import in_large_pages
from logitx.backends.xla.threads import CREW_BYTES, allocate, free, parts_in
from logitx.backends.xla.words import peek_half, peek_word, poke_byte, poke_real, poke_word, words

CLASS_AXIS = 1  # of what is given to a kernel here

_call_normalize, _call_normalize_long = kernel_call(softmax.normalize), kernel_call(softmax.normalize_long)
_call_reduce, _call_reduce_long = kernel_call(logsumexp.logsumexp_rows), kernel_call(logsumexp.logsumexp_long)
_call_reduce_part, _call_pull_back = kernel_call(cut_rows.reduce_part), kernel_call(vjp.pull_back)


@primitive
def room_of(crew: int, index: int) -> int:
    """Return the room of an array, in the frame of a handler: behind what threads need."""
    return crew + CREW_BYTES + 8 * ARRAY * index


@primitive
def entries_if(frame: int, index: int, axis: int, room: int) -> Any:
    """Return an argument of the shape of the logits, or what stands for no array."""
    if index == 0:
        return absent()
    return entries_of(argument_buffer(frame, index), axis, room)


@primitive
def numbers_if(frame: int, index: int, room: int) -> Any:
    """Return an argument with one number a row or class, or what stands for no array."""
    if index == 0:
        return absent()
    return numbers_of(argument_buffer(frame, index), room)


@primitive
def blank_entries(frame: int, index: int, axis: int, room: int) -> Any:
    """Return a result of the shape of the logits."""
    buffer = result_buffer(frame, index)
    in_large_pages(data_of(buffer), size_of(buffer) * bytes_of(buffer))
    return entries_of(buffer, axis, room)


@primitive
def parts_of_call(frame: int, crew: int) -> Any:
    """Return into how many parts the kernel is cut, by the bytes of the logits."""
    logits = argument_buffer(frame, 0)
    return parts_in(frame, crew, size_of(logits) * bytes_of(logits))


@primitive
def undefined_of(facts: Any) -> float:
    """Return what a row without a defined result gets."""
    return np.nan if facts.undefined != 0 else 0.0


@primitive
def room_for(frame: int, index: int) -> int:
    """Return the bytes that temperatures need in float64."""
    return 8 * size_of(argument_buffer(frame, index)) if index != 0 else 0


@primitive
def temperatures_if(frame: int, index: int, memory: int, room: int) -> Any:
    """Return temperatures in float64, copied to `memory`."""
    if index == 0:
        return absent()
    buffer = argument_buffer(frame, index)
    count, start, dtype, size = size_of(buffer), data_of(buffer), dtype_code(buffer), bytes_of(buffer)
    for i in range(count):
        poke_real(memory + 8 * i, real_at(dtype, start + size * i))
    return numbers_at(memory, count, 8, room)


@primitive
def ids_if(frame: int, index: int, memory: int, room: int) -> Any:
    """Return class ids, copied to `memory` as int64, or what stands for no array."""
    if index == 0:
        return absent()
    buffer = argument_buffer(frame, index)
    count, start, small = size_of(buffer), data_of(buffer), dtype_code(buffer) == INT32
    for row in range(count):
        poke_word(memory + 8 * row, peek_half(start + 4 * row) if small else peek_word(start + 8 * row))
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
    crew = words()
    closed, code = closed_at_once(frame, crew)
    if closed:
        return code
    facts = facts_of_call(frame)
    memory = allocate(room_for(frame, facts.temperature) + 8)
    if memory == 0:
        return no_memory(frame, crew)
    logits = entries_of(argument_buffer(frame, 0), facts.axis, room_of(crew, 0))
    out = blank_entries(frame, 0, facts.axis, room_of(crew, 1))
    mask = entries_if(frame, facts.where, facts.axis, room_of(crew, 2))
    temperature = temperatures_if(frame, facts.temperature, memory, room_of(crew, 3))
    softcap = numbers_if(frame, facts.softcap, room_of(crew, 4))
    arrays = softmax.NormalizeArrays(logits=logits, where=mask, temperature=temperature, softcap=softcap, out=out)
    options = softmax.NormalizeOptions(CLASS_AXIS, undefined_of(facts))
    code = _call_normalize(kernel, (arrays, options, parts_of_call(frame, crew), crew))
    free(memory)
    return code_of(frame, crew, code)


def normalize_long(frame: int, kernel: int) -> Any:
    """Write softmax or its logarithm of long rows."""
    crew = words()
    closed, code = closed_at_once(frame, crew)
    if closed:
        return code
    facts = facts_of_call(frame)
    logits = entries_of(argument_buffer(frame, 0), facts.axis, room_of(crew, 0))
    out = blank_entries(frame, 0, facts.axis, room_of(crew, 1))
    arrays = softmax.NormalizeLongArrays(logits=logits, out=out, like=absent(), wide=absent())
    options = softmax.NormalizeOptions(CLASS_AXIS, undefined_of(facts))
    code = _call_normalize_long(kernel, (arrays, options, parts_of_call(frame, crew), crew))
    return code_of(frame, crew, code)


def logsumexp_rows(frame: int, kernel: int) -> Any:
    """Write log(sum of b exp(x)) of every row, and the sign of the sum if it is asked for."""
    crew = words()
    closed, code = closed_at_once(frame, crew)
    if closed:
        return code
    facts = facts_of_call(frame)
    logits = entries_of(argument_buffer(frame, 0), facts.axis, room_of(crew, 0))
    value = numbers_of(result_buffer(frame, 0), room_of(crew, 1))
    mask = entries_if(frame, facts.where, facts.axis, room_of(crew, 2))
    b = entries_if(frame, facts.b, facts.axis, room_of(crew, 3))
    sign = absent() if facts.sign == 0 else numbers_of(result_buffer(frame, facts.sign), room_of(crew, 4))
    arrays = logsumexp.LogsumexpArrays(
        logits=logits, b=b, log_b=absent(), where=mask, like=absent(), value=value, sign=sign
    )  # fmt: skip
    code = _call_reduce(kernel, (arrays, CLASS_AXIS, parts_of_call(frame, crew), crew))
    return code_of(frame, crew, code)


def logsumexp_long(frame: int, kernel: int) -> Any:
    """Write log(sum of exp(x)) of long rows."""
    crew = words()
    closed, code = closed_at_once(frame, crew)
    if closed:
        return code
    facts = facts_of_call(frame)
    logits = entries_of(argument_buffer(frame, 0), facts.axis, room_of(crew, 0))
    value = numbers_of(result_buffer(frame, 0), room_of(crew, 1))
    arrays = logsumexp.LogsumexpLongArrays(logits=logits, value=value, like=absent(), wide=absent())
    code = _call_reduce_long(kernel, (arrays, CLASS_AXIS, parts_of_call(frame, crew), crew))
    return code_of(frame, crew, code)


def reduce_part(frame: int, kernel: int) -> Any:
    """Write what parts of a row are merged from, and the logits of labels that are in this one."""
    crew = words()
    closed, code = closed_at_once(frame, crew)
    if closed:
        return code
    facts = facts_of_call(frame)
    ids = room_for(frame, facts.temperature)
    memory = allocate(ids + room_for(frame, facts.labels) + 8)
    if memory == 0:
        return no_memory(frame, crew)
    logits = entries_of(argument_buffer(frame, 0), facts.axis, room_of(crew, 0))
    top, rest = (
        numbers_of(result_buffer(frame, 0), room_of(crew, 1)),
        numbers_of(result_buffer(frame, 1), room_of(crew, 2)),
    )
    mask = entries_if(frame, facts.where, facts.axis, room_of(crew, 3))
    temperature = temperatures_if(frame, facts.temperature, memory, room_of(crew, 4))
    softcap = numbers_if(frame, facts.softcap, room_of(crew, 5))
    labels = ids_if(frame, facts.labels, memory + ids, room_of(crew, 6))
    label_logits = numbers_of(result_buffer(frame, 2), room_of(crew, 7))
    clear(result_buffer(frame, 2))
    arrays = cut_rows.ReducePartArrays(
        logits=logits, where=mask, labels=labels, temperature=temperature, softcap=softcap, top=top, rest=rest,
        label_logits=label_logits,
    )  # fmt: skip
    code = _call_reduce_part(kernel, (arrays, CLASS_AXIS, parts_of_call(frame, crew), crew))
    free(memory)
    return code_of(frame, crew, code)


def pull_back(frame: int, kernel: int) -> Any:
    """Write the gradient by the logits, from softmax, or log_softmax as a fact tells, and the gradient by it."""
    crew = words()
    closed, code = closed_at_once(frame, crew)
    if closed:
        return code
    facts = facts_of_call(frame)
    value = entries_of(argument_buffer(frame, 0), facts.axis, room_of(crew, 0))
    cotangent = entries_of(argument_buffer(frame, 1), facts.axis, room_of(crew, 1))
    out = blank_entries(frame, 0, facts.axis, room_of(crew, 2))
    arrays = vjp.PullBackArrays(value=value, cotangent=cotangent, out=out, like=absent())
    options = vjp.PullBackOptions(CLASS_AXIS, facts.log != 0)
    code = _call_pull_back(kernel, (arrays, options, parts_of_call(frame, crew), crew))
    return code_of(frame, crew, code)
