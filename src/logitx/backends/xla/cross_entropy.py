"""Cross-entropy as XLA calls it: handlers as in `_handlers`, and what class ids need before and after the kernel.

Ids come as int32 or int64 and may be out of range. XLA has no exceptions: the loss and gradient of such a row are NaN.
"""

from __future__ import annotations

from typing import Any

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import FAILED
from logitx.backends.numba.passes.reports import NONE
from logitx.backends.xla.call_frame import (
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
    length_of,
    no_memory,
    numbers_at,
    numbers_of,
    peek,
    peek_byte,
    peek_half,
    poke,
    poke_byte,
    real_at,
    result,
    size_of,
    unfit,
    words,
)
from logitx.backends.xla.softmax import (
    AXIS,
    CLASSES,
    FACTS,
    SOFTCAP,
    TEMPERATURE,
    WHERE,
    blank_entries,
    entries_if,
    numbers_if,
    parts_of,
    place,
    room_for,
    undefined_of,
    widened,
)
from logitx.backends.xla.threads import allocate, free

REDUCTION, IGNORING, IGNORED, HARD, CLASS_WEIGHT, SAMPLE_WEIGHT, SMOOTHING, Z_LOSS = range(FACTS, FACTS + 8)
GRADIENT, Z_PART, LOG_NORMALIZER = range(FACTS + 8, FACTS + 11)  # indices of results; 0 for none

_NANS = (0,) * 10 + (0x7E00, 0x7FC00000, 0x7FF8 << 48) + (0,) * 3 + (0x7FC0,)  # bits by XLA's number of the dtype
_DEAD = (0,) * 10 + (0xFC00, 0xFF800000, -0x10 << 48) + (0,) * 3 + (0xFF80,)  # those of -inf


@primitive
def _id(buffer: int, row: int) -> int:
    """Return a class id."""
    label: int = peek_half(data_of(buffer) + 4 * row) if dtype_of(buffer) == INT32 else peek(data_of(buffer) + 8 * row)
    return label


@primitive
def _is_bad(frame: int, label: int, n: int) -> bool:
    """Tell whether a class id is neither a class nor to be ignored."""
    bad: bool = (label < 0 or label >= n) and not (fact(frame, IGNORING) != 0 and label == fact(frame, IGNORED))
    return bad


@primitive
def _collected(frame: int, memory: int) -> int:
    """Copy the class ids to `memory`, those out of range as one that is not; return how many these are.

    A row that will be NaN counts for the mean of the others: with class weights as one of no weight, else like any.
    """
    buffer, n = argument(frame, 1), _classes(frame)
    ignoring, ignored = fact(frame, IGNORING) != 0, fact(frame, IGNORED)
    instead = n - 1 if ignoring and ignored == 0 else 0
    if fact(frame, CLASS_WEIGHT) != 0:
        instead = ignored if ignoring else -1
    count = size_of(buffer)
    address, small, found = data_of(buffer), dtype_of(buffer) == INT32, 0
    for row in range(count):
        label = peek_half(address + 4 * row) if small else peek(address + 8 * row)
        bad = (label < 0 or label >= n) and not (ignoring and label == ignored)
        found += bad
        poke(memory + 8 * row, instead if bad else label)
    return found


@primitive
def _classes(frame: int) -> int:
    """Return the number of classes."""
    axis = fact(frame, AXIS)
    n: int = length_of(argument(frame, 0), axis, axis + 1)
    return n


@primitive
def _rule(frame: int) -> Any:
    """Return (whether to ignore an id, and which), where ids out of range have been replaced."""
    if fact(frame, IGNORING) == 0:
        return fact(frame, CLASS_WEIGHT) != 0, -1
    return True, fact(frame, IGNORED)


@primitive
def _bits(address: int, size: int) -> int:
    """Return the bits of a number, on a machine whose low bytes come first."""
    bits = 0
    for i in range(size):
        bits |= peek_byte(address + i) << (8 * i)
    return bits


@primitive
def _put_bits(address: int, size: int, bits: int) -> None:
    for i in range(size):
        poke_byte(address + i, (bits >> (8 * i)) & 255)


@primitive
def _put_nan(buffer: int, at: int) -> None:
    """Write NaN to a place in a buffer."""
    size = bytes_of(buffer)
    _put_bits(data_of(buffer) + size * at, size, _NANS[dtype_of(buffer)])


@primitive
def _spoil(frame: int) -> None:
    """Put NaN where a class id was out of range, in the loss and its parts, and in the gradient where it has a say."""
    buffer, n = argument(frame, 1), _classes(frame)
    for row in range(size_of(buffer)):
        if _is_bad(frame, _id(buffer, row), n):
            at = row if fact(frame, REDUCTION) == NONE else 0
            _put_nan(result(frame, 0), at)
            if fact(frame, Z_PART) != 0:
                _put_nan(result(frame, fact(frame, Z_PART)), at)
            if fact(frame, GRADIENT) != 0:
                _spoil_gradient(frame, row)


@primitive
def _spoil_gradient(frame: int, row: int) -> None:
    logits, gradient, masked = argument(frame, 0), result(frame, fact(frame, GRADIENT)), fact(frame, WHERE)
    axis, n = fact(frame, AXIS), _classes(frame)
    inner = size_of(logits) // (length_of(logits, 0, axis) * n)
    start = row // inner * n * inner + row % inner
    size, dead = bytes_of(logits), _DEAD[dtype_of(logits)]
    for j in range(n):
        at = start + j * inner
        hidden = _bits(data_of(logits) + size * at, size) == dead
        if masked != 0:
            hidden = hidden or peek_byte(data_of(argument(frame, masked)) + at) == 0
        if hidden:
            _put_bits(data_of(gradient) + bytes_of(gradient) * at, bytes_of(gradient), 0)
        else:
            _put_nan(gradient, at)


@primitive
def _number(frame: int, index: int) -> float:
    """Return an argument that is one number; 0 where it is absent."""
    if fact(frame, index) == 0:
        return 0.0
    buffer = argument(frame, fact(frame, index))
    value: float = real_at(dtype_of(buffer), data_of(buffer))
    return value


@primitive
def _rows_if(frame: int, index: int, room: int) -> Any:
    """Return a result with one number a row, or what stands for no array."""
    if fact(frame, index) == 0:
        return absent()
    return numbers_of(result(frame, fact(frame, index)), room)


@primitive
def _entries_if(frame: int, index: int, axis: int, room: int) -> Any:
    """Return a result of the shape of the logits, or what stands for no array."""
    if fact(frame, index) == 0:
        return absent()
    return blank_entries(frame, fact(frame, index), axis, room)


def hard(frame: int, kernel: int) -> Any:
    """Write the cross-entropy of class ids, and its gradient where there is room for it."""
    if asks(frame):
        return answer(frame)
    crew = words()
    if not fits(frame):
        return unfit(frame, crew)
    axis, count, hot = fact(frame, AXIS), size_of(argument(frame, 1)), fact(frame, TEMPERATURE)
    memory = allocate(8 * count + room_for(frame, hot) + 8)
    if memory == 0:
        return no_memory(frame, crew)
    x = entries_of(argument(frame, 0), axis, place(crew, 0))
    bad = _collected(frame, memory)
    labels = numbers_at(memory, count, 8, place(crew, 1))
    ignoring, ignored = _rule(frame)
    by_class = numbers_if(frame, fact(frame, CLASS_WEIGHT), place(crew, 2))
    by_row = numbers_if(frame, fact(frame, SAMPLE_WEIGHT), place(crew, 3))
    mask = entries_if(frame, fact(frame, WHERE), axis, place(crew, 4))
    limit = numbers_if(frame, fact(frame, SOFTCAP), place(crew, 5))
    heat = widened(frame, hot, memory + 8 * count, place(crew, 6))
    gradient = _entries_if(frame, GRADIENT, axis, place(crew, 7))
    value = numbers_of(result(frame, 0), place(crew, 8))
    z_part = _rows_if(frame, Z_PART, place(crew, 9))
    logs = _rows_if(frame, LOG_NORMALIZER, place(crew, 10))
    code = call_kernel(kernel, (
        x, labels, by_class, by_row, mask, gradient, value, z_part, logs, CLASSES, None, None, None, ignoring, ignored,
        _number(frame, Z_LOSS), limit, heat, undefined_of(frame), fact(frame, REDUCTION), parts_of(frame, crew), crew,
    ))  # fmt: skip
    if bad > 0:
        _spoil(frame)
    free(memory)
    return no_memory(frame, crew) if code == FAILED else 0


def hard_long(frame: int, kernel: int) -> Any:
    """Write the cross-entropy of class ids of long rows, and its gradient where there is room for it."""
    if asks(frame):
        return answer(frame)
    crew = words()
    if not fits(frame):
        return unfit(frame, crew)
    axis, count = fact(frame, AXIS), size_of(argument(frame, 1))
    memory = allocate(8 * count + 8)
    if memory == 0:
        return no_memory(frame, crew)
    x = entries_of(argument(frame, 0), axis, place(crew, 0))
    bad = _collected(frame, memory)
    labels = numbers_at(memory, count, 8, place(crew, 1))
    ignoring, ignored = _rule(frame)
    gradient = _entries_if(frame, GRADIENT, axis, place(crew, 2))
    value = numbers_of(result(frame, 0), place(crew, 3))
    z_part = _rows_if(frame, Z_PART, place(crew, 4))
    logs = _rows_if(frame, LOG_NORMALIZER, place(crew, 5))
    code = call_kernel(kernel, (
        x, labels, gradient, value, z_part, logs, CLASSES, None, None, ignoring, ignored, _number(frame, Z_LOSS),
        absent(), absent(), undefined_of(frame), fact(frame, REDUCTION), parts_of(frame, crew), crew,
    ))  # fmt: skip
    if bad > 0:
        _spoil(frame)
    free(memory)
    return no_memory(frame, crew) if code == FAILED else 0


def soft(frame: int, kernel: int) -> Any:
    """Write the cross-entropy of probabilities or smoothed class ids, and its gradient where there is room for it."""
    if asks(frame):
        return answer(frame)
    crew = words()
    if not fits(frame):
        return unfit(frame, crew)
    axis, hot, is_hard = fact(frame, AXIS), fact(frame, TEMPERATURE), fact(frame, HARD) != 0
    count = size_of(argument(frame, 1)) if is_hard else 0
    memory = allocate(8 * count + room_for(frame, hot) + 8)
    if memory == 0:
        return no_memory(frame, crew)
    x = entries_of(argument(frame, 0), axis, place(crew, 0))
    labels, targets, bad = absent(), absent(), 0
    if is_hard:
        bad = _collected(frame, memory)
        labels = numbers_at(memory, count, 8, place(crew, 1))
    else:
        targets = entries_of(argument(frame, 1), axis, place(crew, 1))
    ignoring, ignored = _rule(frame)
    by_class = numbers_if(frame, fact(frame, CLASS_WEIGHT), place(crew, 2))
    by_row = numbers_if(frame, fact(frame, SAMPLE_WEIGHT), place(crew, 3))
    mask = entries_if(frame, fact(frame, WHERE), axis, place(crew, 4))
    limit = numbers_if(frame, fact(frame, SOFTCAP), place(crew, 5))
    heat = widened(frame, hot, memory + 8 * count, place(crew, 6))
    gradient = _entries_if(frame, GRADIENT, axis, place(crew, 7))
    value = numbers_of(result(frame, 0), place(crew, 8))
    z_part = _rows_if(frame, Z_PART, place(crew, 9))
    logs = _rows_if(frame, LOG_NORMALIZER, place(crew, 10))
    code = call_kernel(kernel, (
        x, targets, labels, by_class, by_row, mask, gradient, absent(), value, z_part, logs, CLASSES, None, ignoring,
        ignored, _number(frame, SMOOTHING), _number(frame, Z_LOSS), limit, heat, undefined_of(frame),
        fact(frame, REDUCTION), parts_of(frame, crew), crew,
    ))  # fmt: skip
    if bad > 0:
        _spoil(frame)
    free(memory)
    return no_memory(frame, crew) if code == FAILED else 0
