"""Cross-entropy as XLA calls it: handlers as in `softmax`, and what class ids need before and after the kernel.

Ids come as int32 or int64 and may be out of range. XLA has no exceptions: the loss and gradient of such a row are NaN.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels import cross_entropy_ids, cross_entropy_long, cross_entropy_probabilities
from logitx.backends.numba.memory.arguments import FAILED
from logitx.backends.numba.passes.class_ids import is_bad
from logitx.backends.numba.passes.loss import LossNumbers
from logitx.backends.numba.passes.reports import NONE
from logitx.backends.xla.call_frame import (
    INT32,
    absent,
    argument_buffer,
    bytes_of,
    closed_at_once,
    data_of,
    dtype_code,
    entries_of,
    facts_of_call,
    length_of,
    no_memory,
    numbers_at,
    numbers_of,
    real_at,
    result_buffer,
    size_of,
)
from logitx.backends.xla.kernel_call import kernel_call
from logitx.backends.xla.softmax import (
    CLASS_AXIS,
    blank_entries,
    entries_if,
    numbers_if,
    parts_of_call,
    room_for,
    room_of,
    temperatures_if,
    undefined_of,
)
from logitx.backends.xla.threads import allocate, free
from logitx.backends.xla.words import peek_byte, peek_half, peek_word, poke_byte, poke_word, words

_call_hard, _call_hard_long = kernel_call(cross_entropy_ids.hard), kernel_call(cross_entropy_long.hard_long)
_call_soft = kernel_call(cross_entropy_probabilities.soft)

_NAN_BITS = (0,) * 10 + (0x7E00, 0x7FC00000, 0x7FF8 << 48) + (0,) * 3 + (0x7FC0,)  # bits by XLA's number of the dtype
_DEAD_BITS = (0,) * 10 + (0xFC00, 0xFF800000, -0x10 << 48) + (0,) * 3 + (0xFF80,)  # those of -inf


class LossOperands(NamedTuple):
    """The operands and results of a loss, but for logits and targets."""

    class_weight: Any
    sample_weight: Any
    where: Any
    temperature: Any
    softcap: Any
    grad: Any
    loss: Any
    z_part: Any
    log_normalizer: Any


@primitive
def _id_at(buffer: int, row: int) -> int:
    """Return a class id."""
    label: int = (
        peek_half(data_of(buffer) + 4 * row) if dtype_code(buffer) == INT32 else peek_word(data_of(buffer) + 8 * row)
    )
    return label


@primitive
def _copied_ids(frame: int, facts: Any, memory: int) -> int:
    """Copy the class ids to `memory`, those out of range as one that is not; return how many these are.

    A row that will be NaN counts for the mean of the others: with class weights as one of no weight, else like any.
    """
    buffer, n = argument_buffer(frame, 1), _classes(frame, facts)
    ignoring, ignored = facts.ignoring != 0, facts.ignored
    instead = n - 1 if ignoring and ignored == 0 else 0
    if facts.class_weight != 0:
        instead = ignored if ignoring else -1
    count = size_of(buffer)
    address, small, found = data_of(buffer), dtype_code(buffer) == INT32, 0
    for row in range(count):
        label = peek_half(address + 4 * row) if small else peek_word(address + 8 * row)
        bad = is_bad(label, n, ignoring, ignored)
        found += bad
        poke_word(memory + 8 * row, instead if bad else label)
    return found


@primitive
def _classes(frame: int, facts: Any) -> int:
    """Return the number of classes."""
    n: int = length_of(argument_buffer(frame, 0), facts.axis, facts.axis + 1)
    return n


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
    _put_bits(data_of(buffer) + size * at, size, _NAN_BITS[dtype_code(buffer)])


@primitive
def _spoil(frame: int, facts: Any) -> None:
    """Put NaN in the loss, its parts and the gradient of rows whose class id is out of range."""
    buffer, n = argument_buffer(frame, 1), _classes(frame, facts)
    for row in range(size_of(buffer)):
        if is_bad(_id_at(buffer, row), n, facts.ignoring != 0, facts.ignored):
            at = row if facts.reduction == NONE else 0
            _put_nan(result_buffer(frame, 0), at)
            if facts.z_part != 0:
                _put_nan(result_buffer(frame, facts.z_part), at)
            if facts.gradient != 0:
                _spoil_gradient(frame, facts, row)


@primitive
def _spoil_gradient(frame: int, facts: Any, row: int) -> None:
    """Put NaN in the gradient of a row, but 0 where a logit is masked or -inf."""
    logits, gradient = argument_buffer(frame, 0), result_buffer(frame, facts.gradient)
    axis, n = facts.axis, _classes(frame, facts)
    inner = size_of(logits) // (length_of(logits, 0, axis) * n)
    start = row // inner * n * inner + row % inner
    size, dead = bytes_of(logits), _DEAD_BITS[dtype_code(logits)]
    for j in range(n):
        at = start + j * inner
        hidden = _bits(data_of(logits) + size * at, size) == dead
        if facts.where != 0:
            hidden = hidden or peek_byte(data_of(argument_buffer(frame, facts.where)) + at) == 0
        if hidden:
            _put_bits(data_of(gradient) + bytes_of(gradient) * at, bytes_of(gradient), 0)
        else:
            _put_nan(gradient, at)


@primitive
def _number_if(frame: int, index: int) -> float:
    """Return an operand that is one number; 0 where it is absent."""
    if index == 0:
        return 0.0
    buffer = argument_buffer(frame, index)
    value: float = real_at(dtype_code(buffer), data_of(buffer))
    return value


@primitive
def _rows_if(frame: int, index: int, room: int) -> Any:
    """Return a result with one number a row, or what stands for no array."""
    if index == 0:
        return absent()
    return numbers_of(result_buffer(frame, index), room)


@primitive
def _result_if(frame: int, index: int, axis: int, room: int) -> Any:
    """Return a result of the shape of the logits, or what stands for no array."""
    if index == 0:
        return absent()
    return blank_entries(frame, index, axis, room)


@primitive
def _loss_operands(frame: int, facts: Any, memory: int, crew: int) -> Any:
    """Return the operands and results of a loss; temperatures are copied to `memory`. Rooms 2 to 10 are used."""
    return LossOperands(
        class_weight=numbers_if(frame, facts.class_weight, room_of(crew, 2)),
        sample_weight=numbers_if(frame, facts.sample_weight, room_of(crew, 3)),
        where=entries_if(frame, facts.where, facts.axis, room_of(crew, 4)),
        temperature=temperatures_if(frame, facts.temperature, memory, room_of(crew, 6)),
        softcap=numbers_if(frame, facts.softcap, room_of(crew, 5)),
        grad=_result_if(frame, facts.gradient, facts.axis, room_of(crew, 7)),
        loss=numbers_of(result_buffer(frame, 0), room_of(crew, 8)),
        z_part=_rows_if(frame, facts.z_part, room_of(crew, 9)),
        log_normalizer=_rows_if(frame, facts.log_normalizer, room_of(crew, 10)),
    )


@primitive
def _loss_numbers(frame: int, facts: Any) -> Any:
    """Return the numbers of a loss; ids out of range have been replaced, perhaps by -1, which is then ignored."""
    ignoring = facts.ignoring != 0
    return LossNumbers(
        axis=CLASS_AXIS,
        ignoring=ignoring or facts.class_weight != 0,
        ignored=facts.ignored if ignoring else -1,
        smoothing=_number_if(frame, facts.smoothing),
        z_loss=_number_if(frame, facts.z_loss),
        undefined=undefined_of(facts),
        reduction=facts.reduction,
    )


@primitive
def _closed(frame: int, facts: Any, memory: int, bad: int, code: int, crew: int) -> Any:
    """Return what XLA wants for the code of a kernel; rows with a bad class id become NaN, memory is given back."""
    if bad > 0:
        _spoil(frame, facts)
    free(memory)
    return no_memory(frame, crew) if code == FAILED else 0


def hard(frame: int, kernel: int) -> Any:
    """Write the cross-entropy of class ids, and its gradient where there is room for it."""
    crew = words()
    closed, code = closed_at_once(frame, crew)
    if closed:
        return code
    facts, count = facts_of_call(frame), size_of(argument_buffer(frame, 1))
    memory = allocate(8 * count + room_for(frame, facts.temperature) + 8)
    if memory == 0:
        return no_memory(frame, crew)
    logits = entries_of(argument_buffer(frame, 0), facts.axis, room_of(crew, 0))
    bad = _copied_ids(frame, facts, memory)
    labels = numbers_at(memory, count, 8, room_of(crew, 1))
    given = _loss_operands(frame, facts, memory + 8 * count, crew)
    arrays = cross_entropy_ids.HardArrays(
        logits=logits, labels=labels, class_weight=given.class_weight, sample_weight=given.sample_weight,
        where=given.where, temperature=given.temperature, softcap=given.softcap, grad=given.grad, loss=given.loss,
        z_part=given.z_part, log_normalizer=given.log_normalizer,
    )  # fmt: skip
    code = _call_hard(kernel, (arrays, _loss_numbers(frame, facts), parts_of_call(frame, crew), crew))
    return _closed(frame, facts, memory, bad, code, crew)


def hard_long(frame: int, kernel: int) -> Any:
    """Write the cross-entropy of class ids of long rows, and its gradient where there is room for it."""
    crew = words()
    closed, code = closed_at_once(frame, crew)
    if closed:
        return code
    facts, count = facts_of_call(frame), size_of(argument_buffer(frame, 1))
    memory = allocate(8 * count + 8)
    if memory == 0:
        return no_memory(frame, crew)
    logits = entries_of(argument_buffer(frame, 0), facts.axis, room_of(crew, 0))
    bad = _copied_ids(frame, facts, memory)
    labels = numbers_at(memory, count, 8, room_of(crew, 1))
    given = _loss_operands(frame, facts, memory, crew)
    arrays = cross_entropy_long.HardLongArrays(
        logits=logits, labels=labels, like=absent(), wide=absent(), grad=given.grad, loss=given.loss,
        z_part=given.z_part, log_normalizer=given.log_normalizer,
    )  # fmt: skip
    code = _call_hard_long(kernel, (arrays, _loss_numbers(frame, facts), parts_of_call(frame, crew), crew))
    return _closed(frame, facts, memory, bad, code, crew)


def soft(frame: int, kernel: int) -> Any:
    """Write the cross-entropy of probabilities or smoothed class ids, and its gradient where there is room for it."""
    crew = words()
    closed, code = closed_at_once(frame, crew)
    if closed:
        return code
    facts = facts_of_call(frame)
    count = size_of(argument_buffer(frame, 1)) if facts.hard != 0 else 0
    memory = allocate(8 * count + room_for(frame, facts.temperature) + 8)
    if memory == 0:
        return no_memory(frame, crew)
    logits = entries_of(argument_buffer(frame, 0), facts.axis, room_of(crew, 0))
    labels, targets, bad = absent(), absent(), 0
    if facts.hard != 0:
        bad = _copied_ids(frame, facts, memory)
        labels = numbers_at(memory, count, 8, room_of(crew, 1))
    else:
        targets = entries_of(argument_buffer(frame, 1), facts.axis, room_of(crew, 1))
    given = _loss_operands(frame, facts, memory + 8 * count, crew)
    arrays = cross_entropy_probabilities.SoftArrays(
        logits=logits, targets=targets, labels=labels, class_weight=given.class_weight,
        sample_weight=given.sample_weight, where=given.where, temperature=given.temperature, softcap=given.softcap,
        grad=given.grad, hess=absent(), loss=given.loss, z_part=given.z_part, log_normalizer=given.log_normalizer,
    )  # fmt: skip
    code = _call_soft(kernel, (arrays, _loss_numbers(frame, facts), parts_of_call(frame, crew), crew))
    return _closed(frame, facts, memory, bad, code, crew)
