"""What a kernel takes, read from the annotations of its entry function: the one declaration of its signature.

An entry function takes its arrays as one NamedTuple and its options as another, then one argument for each *way* that
it is compiled with or without, the number of parts and the address of the crew. Python passes tuples, XLA's handlers
the same NamedTuples; both build them by name.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, NamedTuple, get_type_hints

from numba.core import types

from logitx.backends.numba.compile.policy import compile_kernel
from logitx.backends.numba.compile.static import KNOWN, Function
from logitx.backends.numba.memory.arguments import Lent

Way = Annotated[Any, KNOWN]  # True or None: two types, so that only the branch that is asked for is compiled
Mask = Annotated[Any, Lent("bool")]
Ids = Annotated[Any, Lent("int64")]
Wide = Annotated[Any, Lent("float64")]
# Arrays whose dtypes a `Dtypes` has, each under the name that stands here; an array that is absent has a dtype as well
OfLogits = Annotated[Any, "logits"]
Computed = Annotated[Any, "compute"]
OfResult = Annotated[Any, "result"]
OfLoss = Annotated[Any, "loss"]
OfOther = Annotated[Any, "other"]
_PLAIN_TYPES = {bool: types.boolean, int: types.int64, float: types.float64}


class Dtypes(NamedTuple):
    """The dtypes of the arrays of a kernel that may have any."""

    logits: str
    compute: str
    result: str = ""
    loss: str = ""
    other: str = ""  # of targets, or of a gradient to pull back


def _hints(function: Any) -> list[Any]:
    found = get_type_hints(function, include_extras=True)
    return [found[name] for name in found if name != "return"]


def type_of(hint: Any, dtypes: Dtypes) -> Any:
    """Return the Numba type of an annotation."""
    if hasattr(hint, "_fields"):
        return types.BaseTuple.from_types([type_of(one, dtypes) for one in _hints(hint)], hint)
    if hint in _PLAIN_TYPES:
        return _PLAIN_TYPES[hint]
    (kind,) = hint.__metadata__
    return Lent(getattr(dtypes, kind)) if isinstance(kind, str) else kind


def arguments_of(entry: Function, dtypes: Dtypes) -> list[Any]:
    """Return the Numba types of the arguments of an entry function, KNOWN for every way."""
    return [type_of(hint, dtypes) for hint in _hints(entry)]


def signature_of(entry: Function, ways: tuple[bool | None, ...], dtypes: Dtypes) -> tuple[Any, ...]:
    """Return the Numba types of the arguments of an entry function, `ways` being True or None in their order."""
    found, left = arguments_of(entry, dtypes), iter(ways)
    if sum(kind is KNOWN for kind in found) != len(ways):
        raise TypeError(f"{entry.__qualname__} is not compiled in the ways {ways}")
    return tuple(types.none if kind is KNOWN and next(left) is None else kind for kind in found)


@functools.cache
def compiled_kernel(entry: Function, ways: tuple[bool | None, ...], dtypes: Dtypes) -> Function:
    """Return the machine code of a kernel for some ways and dtypes, compiled when it is first asked for."""
    return compile_kernel(entry, signature_of(entry, ways, dtypes))
