"""Numbers of a row as XLA calls them: a call frame becomes what each kernel takes."""

from __future__ import annotations

from typing import Any

from logitx.backends.numba.kernels import entropy as entropies
from logitx.backends.xla.call_frame import (
    absent,
    argument_buffer,
    closed_at_once,
    entries_of,
    facts_of_call,
    no_memory,
    numbers_of,
    result_buffer,
)
from logitx.backends.xla.kernel_call import kernel_call
from logitx.backends.xla.softmax import (
    CLASS_AXIS,
    code_of,
    entries_if,
    numbers_if,
    parts_of_call,
    room_for,
    room_of,
    temperatures_if,
    undefined_of,
)
from logitx.backends.xla.threads import allocate, free
from logitx.backends.xla.words import words

_call_entropy = kernel_call(entropies.entropy_rows)


def entropy(frame: int, kernel: int) -> Any:
    """Write the entropy of every row."""
    crew = words()
    closed, code = closed_at_once(frame, crew)
    if closed:
        return code
    facts = facts_of_call(frame)
    memory = allocate(room_for(frame, facts.temperature) + 8)
    if memory == 0:
        return no_memory(frame, crew)
    logits = entries_of(argument_buffer(frame, 0), facts.axis, room_of(crew, 0))
    value = numbers_of(result_buffer(frame, 0), room_of(crew, 1))
    mask = entries_if(frame, facts.where, facts.axis, room_of(crew, 2))
    temperature = temperatures_if(frame, facts.temperature, memory, room_of(crew, 3))
    softcap = numbers_if(frame, facts.softcap, room_of(crew, 4))
    arrays = entropies.EntropyArrays(
        logits=logits, where=mask, temperature=temperature, softcap=softcap, share=absent(), value=value,
        gradient=absent(),
    )  # fmt: skip
    options = entropies.EntropyOptions(CLASS_AXIS, undefined_of(facts))
    code = _call_entropy(kernel, (arrays, options, parts_of_call(frame, crew), crew))
    free(memory)
    return code_of(frame, crew, code)
