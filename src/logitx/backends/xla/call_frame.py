"""XLA's call frame: what its typed foreign-function interface hands to a function of machine code, read and answered.

The interface is a C header (`xla/ffi/api/c_api.h`), the same for every compiler: structures that begin with their own
size, 8-byte words at fixed offsets. Nothing here touches Python or takes the GIL. A frame with an extension asks which
version a function was written for; any other one is a call.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types

from logitx.backends.numba.compile.llvm_types import DOUBLE, FLOAT, I64
from logitx.backends.numba.compile.policy import intrinsic, primitive
from logitx.backends.numba.memory.arguments import Lent
from logitx.backends.xla.facts import CallFacts
from logitx.backends.xla.words import call_one, peek_half, peek_word, poke_half, poke_word

_UNSEEN_MINOR = 1
MAJOR, MINOR = 0, 3  # the version of the header that these offsets are from; its major number has never changed

# Offsets in bytes
_EXTENSION, _API_OFFSET, CONTEXT, _ARGUMENTS_OFFSET, _RESULTS, _ATTRIBUTES = 8, 16, 24, 40, 80, 120
_SIZE, _LIST, _NAMED_LIST = 16, 32, 40  # of arguments and results, which have types; of attributes, which have names
_DTYPE, _DATA, _RANK, _LENGTHS = 16, 24, 32, 40  # of a buffer
_FRAME_BYTES, _LISTS_BYTES, _BUFFER_BYTES = 168, 40, 48
_METADATA = 1  # the type of the extension that asks for the version
_ERROR_CREATE, ERROR_DESTROY, SCHEDULE, NUM_THREADS, _API_BYTES = 48, 64, 136, 144, 152  # of the table of functions
_INVALID, _EXHAUSTED = 3, 8  # codes of errors
INT32, FLOAT32 = 4, 11  # dtypes of a buffer
_DTYPE_BYTES = (
    0,
    1,
    1,
    2,
    4,
    8,
    1,
    2,
    4,
    8,
    2,
    4,
    8,
    0,
    0,
    0,
    2,
)  # of the dtypes that there are here, in XLA's numbering
_ARRAY = Lent("float32")  # kernels know the dtypes of their arrays; here they are four words

FACT_COUNT = len(CallFacts._fields)
ARRAY = 6  # words of room that an array needs: three lengths and three strides


def _text(name: str, text: str) -> Any:
    @intrinsic
    def address(_context: Any) -> Any:
        def emit(context: Any, builder: Any, _signature: Any, _operands: Any) -> Any:
            return builder.ptrtoint(context.insert_const_string(builder.module, text), I64)

        return types.int64(), emit

    address.__name__ = name
    return address


_UNFIT_MESSAGE = _text("_unfit", "logitx: the call frame is not of the version that was agreed on when registering")
_NO_MEMORY_MESSAGE = _text("_no_memory", "logitx: the scratch memory of a kernel could not be allocated")


@primitive
def asks(frame: int) -> bool:
    """Return True if a frame asks for the version."""
    extension = peek_word(frame + _EXTENSION)
    found: bool = extension != 0 and peek_half(extension + 8) == _METADATA
    return found


@primitive
def answer(frame: int) -> int:
    """Answer a frame that asks; with a version that nobody has where its table of functions is too short for us.

    XLA before 0.2 (jaxlib 0.5 to 0.8) does not show the table when it asks, and takes no version but its own: all that
    is read here is in its header as well.
    """
    api = peek_word(frame + _API_OFFSET)
    metadata = peek_word(peek_word(frame + _EXTENSION) + 24)
    fits, minor = peek_word(frame) >= _FRAME_BYTES, _UNSEEN_MINOR
    if api != 0:
        fits = fits and peek_word(api) >= _API_BYTES and peek_half(api + 32) == MAJOR
        minor = peek_half(api + 36)
    poke_word(metadata + 8, 24)  # bytes of the structure that begins here
    poke_word(metadata + 16, 0)
    poke_half(metadata + 24, MAJOR if fits else -1)
    poke_half(metadata + 28, min(MINOR, minor))
    poke_half(metadata + 32, 0)
    if peek_word(metadata) > 40:
        poke_word(metadata + 40, 0)
    return 0


@primitive
def api_of(frame: int) -> int:
    """Return the address of XLA's table of functions."""
    api: int = peek_word(frame + _API_OFFSET)
    return api


@primitive
def fits(frame: int) -> bool:
    """Return True if a call has the layout that is read here."""
    good: bool = (
        peek_word(frame) >= _FRAME_BYTES
        and peek_word(api_of(frame)) >= _API_BYTES
        and peek_word(frame + _ARGUMENTS_OFFSET) >= _LISTS_BYTES
        and peek_word(frame + _RESULTS) >= _LISTS_BYTES
        and peek_word(frame + _ARGUMENTS_OFFSET + _SIZE) >= 1
        and peek_word(frame + _RESULTS + _SIZE) >= 1
        and peek_word(frame + _ATTRIBUTES + _SIZE) == 1
        and peek_word(_attribute(frame) + 8) == FACT_COUNT
        and peek_word(argument_buffer(frame, 0)) >= _BUFFER_BYTES
        and peek_word(argument_buffer(frame, 0) + _DATA) != 0
    )
    return good


@primitive
def argument_buffer(frame: int, index: int) -> int:
    """Return the address of the buffer of an argument."""
    buffer: int = peek_word(peek_word(frame + _ARGUMENTS_OFFSET + _LIST) + 8 * index)
    return buffer


@primitive
def result_buffer(frame: int, index: int) -> int:
    """Return the address of the buffer of a result."""
    buffer: int = peek_word(peek_word(frame + _RESULTS + _LIST) + 8 * index)
    return buffer


@intrinsic
def _facts_at(_context: Any, address: Any) -> Any:
    """Return the facts whose integers begin at an address."""
    count = len(CallFacts._fields)
    kind = types.NamedUniTuple(types.int64, count, CallFacts)

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        start = builder.inttoptr(operands[0], I64.as_pointer())
        places = [builder.gep(start, [I64(index)], source_etype=I64) for index in range(count)]
        return context.make_tuple(builder, kind, [builder.load(place, typ=I64) for place in places])

    return kind(types.int64), emit


@primitive
def facts_of_call(frame: int) -> Any:
    """Return the facts of a call, its one attribute."""
    return _facts_at(peek_word(_attribute(frame) + 16))


@primitive
def _attribute(frame: int) -> int:
    array: int = peek_word(peek_word(frame + _ATTRIBUTES + _NAMED_LIST))
    return array


@primitive
def data_of(buffer: int) -> int:
    """Return the address of the numbers of a buffer."""
    address: int = peek_word(buffer + _DATA)
    return address


@primitive
def dtype_code(buffer: int) -> int:
    """Return the number that XLA has for the dtype of a buffer."""
    dtype: int = peek_half(buffer + _DTYPE)
    return dtype


@primitive
def length_of(buffer: int, first: int, last: int) -> int:
    """Return the product of the lengths of some axes."""
    lengths, product = peek_word(buffer + _LENGTHS), 1
    for axis in range(first, last):
        product *= peek_word(lengths + 8 * axis)
    return product


@primitive
def size_of(buffer: int) -> int:
    """Return how many numbers a buffer has."""
    size: int = length_of(buffer, 0, peek_word(buffer + _RANK))
    return size


@primitive
def bytes_of(buffer: int) -> int:
    """Return the bytes of one number of a buffer."""
    size: int = _DTYPE_BYTES[dtype_code(buffer)]
    return size


@intrinsic
def lent(_context: Any, address: Any, ndim: Any, lengths: Any, strides: Any) -> Any:
    """Return an array as kernels take them."""

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        made = cgutils.create_struct_proxy(_ARRAY)(context, builder)
        for name, value in zip(("address", "ndim", "lengths", "strides"), operands, strict=True):
            setattr(made, name, value)
        return made._getvalue()

    return _ARRAY(*[types.int64] * 4), emit


@primitive
def absent() -> Any:
    """Return what stands for no array."""
    return lent(0, 0, 0, 0)


@primitive
def entries_of(buffer: int, axis: int, room: int) -> Any:
    """Return a buffer of the shape of the logits as (outer, n, inner); XLA was asked for C order."""
    size = bytes_of(buffer)
    outer, n = length_of(buffer, 0, axis), length_of(buffer, axis, axis + 1)
    inner = length_of(buffer, axis + 1, peek_word(buffer + _RANK))
    poke_word(room, outer)
    poke_word(room + 8, n)
    poke_word(room + 16, inner)
    poke_word(room + 24, n * inner * size)
    poke_word(room + 32, inner * size)
    poke_word(room + 40, size)
    return lent(data_of(buffer), 3, room, room + 24)


@primitive
def numbers_at(address: int, count: int, size: int, room: int) -> Any:
    """Return contiguous numbers of so many bytes as kernels take them."""
    poke_word(room, count)
    poke_word(room + 24, size)
    return lent(address, 1, room, room + 24)


@primitive
def numbers_of(buffer: int, room: int) -> Any:
    """Return a buffer of one number a row or a class."""
    return numbers_at(data_of(buffer), size_of(buffer), bytes_of(buffer), room)


@intrinsic
def real_at(_context: Any, buffer_dtype: Any, address: Any) -> Any:
    """Return a number of float32 or float64."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        single = builder.icmp_unsigned("==", operands[0], I64(FLOAT32))
        with builder.if_else(single) as (then, otherwise):
            with then:
                low = builder.load(builder.inttoptr(operands[1], FLOAT.as_pointer()), align=4, typ=FLOAT)
                low, one = builder.fpext(low, DOUBLE), builder.block
            with otherwise:
                high, two = (
                    builder.load(builder.inttoptr(operands[1], DOUBLE.as_pointer()), typ=DOUBLE),
                    builder.block,
                )
        value = builder.phi(DOUBLE)
        value.add_incoming(low, one)
        value.add_incoming(high, two)
        return value

    return types.float64(types.int64, types.int64), emit


@primitive
def _error(frame: int, room: int, message: int, code: int) -> int:
    poke_word(room, 28)
    poke_word(room + 8, 0)
    poke_word(room + 16, message)
    poke_half(room + 24, code)
    made: int = call_one(peek_word(api_of(frame) + _ERROR_CREATE), room)
    return made


@primitive
def unfit(frame: int, room: int) -> Any:
    """Return the error for a frame that is not what was agreed on."""
    return _error(frame, room, _UNFIT_MESSAGE(), _INVALID)


@primitive
def no_memory(frame: int, room: int) -> Any:
    """Return the error for a kernel that had no memory."""
    return _error(frame, room, _NO_MEMORY_MESSAGE(), _EXHAUSTED)


@primitive
def closed_at_once(frame: int, room: int) -> Any:
    """Return (True, what to return to XLA) if a frame is no call that can be served, else (False, 0)."""
    if asks(frame):
        return True, answer(frame)
    if not fits(frame):
        return True, unfit(frame, room)
    return False, 0
