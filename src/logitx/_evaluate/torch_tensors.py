"""Which tensors a file of `torch.save` holds: its pickle is read as a list of instructions, of which none is run.

An unpickler imports and calls what the file names. Here a name stays a text: those of tensors are known, and the rest
of what a file may hold becomes a placeholder. So PyTorch need not be installed either.
"""

from __future__ import annotations

import pickletools
from typing import Any, NamedTuple

_DTYPES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
}  # fmt: skip
STORAGES = {f"torch {name}Storage": dtype for name, dtype in _DTYPES.items()}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PUT, _GET = ("BINPUT", "LONG_BINPUT", "PUT"), ("BINGET", "LONG_BINGET", "GET")
_LITERALS = (
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES",
)  # fmt: skip
_IGNORED = ("PROTO", "FRAME", "BINPERSID")  # a storage is the tuple that names it
_DEEPEST = 8  # containers within each other


class Tensor(NamedTuple):
    """What a file says of a tensor; nothing of it is checked yet."""

    storage: Any  # ("storage", name of its class, key, device, length)
    offset: Any
    shape: Any
    strides: Any


class _Name(str):
    """The name of a class or a function."""

    __slots__ = ()


class _Other:
    """The place of what is no tensor, container, number or text."""


class _Reader:
    """The stack of an unpickler, and the values that instructions refer to by number."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        """Take the values since the last mark off the stack."""
        mark = self.marks.pop()
        found, self.stack[mark:] = self.stack[mark:], []
        return found

    def take(self, count: int) -> list[Any]:
        """Take `count` values off the stack."""
        found = [self.stack.pop() for _ in range(count)]
        return found[::-1]

    def step(self, name: str, value: Any) -> None:
        """Do what an instruction does to the stack."""
        stack = self.stack
        if name == "MARK":
            self.marks.append(len(stack))
        elif name in _PUT or name == "MEMOIZE":
            self.memo[len(self.memo) if name == "MEMOIZE" else value] = stack[-1]
        elif name in _GET:
            stack.append(self.memo[value])
        elif name == "TUPLE":
            stack.append(tuple(self.since_mark()))
        elif name in _TUPLES:
            stack.append(tuple(self.take(_TUPLES[name])))
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("APPEND", "APPENDS"):
            values = self.since_mark() if name == "APPENDS" else self.take(1)
            stack[-1].extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            pairs = self.since_mark() if name == "SETITEMS" else self.take(2)
            stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(_Name(value))
        elif name == "STACK_GLOBAL":
            stack.append(_Name(" ".join(self.take(2))))
        elif name in ("REDUCE", "NEWOBJ"):
            stack.append(_made(*self.take(2)))
        elif name == "BUILD":
            stack.pop()
        elif name in _CONSTANTS or name in _LITERALS:
            stack.append(_CONSTANTS.get(name, value))
        elif name not in _IGNORED:
            raise ValueError(f"holds objects that are not read here (instruction {name})")


def _made(function: Any, arguments: Any) -> Any:
    """Return a tensor for the call that makes it."""
    if function == "torch._utils _rebuild_tensor_v2":
        return Tensor(*arguments[:4])
    if function == "torch._utils _rebuild_parameter":
        return arguments[0]
    return {} if function == "collections OrderedDict" else _Other()


def tensors(pickled: bytes) -> dict[str, Tensor]:
    """Return the tensors by name: keys and positions, joined by dots; the name of a tensor alone is empty."""
    reader = _Reader()
    try:
        for instruction, value, _ in pickletools.genops(pickled):
            if instruction.name != "STOP":
                reader.step(instruction.name, value)
        waiting: list[tuple[tuple[str, ...], Any]] = [((), reader.stack.pop())]
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError("its list of tensors is damaged") from error
    found, seen = {}, set()
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, Tensor):
            found[".".join(keys)] = value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen and len(keys) < _DEEPEST:
            seen.add(id(value))  # a container may hold itself
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [((*keys, str(key)), one) for key, one in items if isinstance(key, str | int)]
    return found
