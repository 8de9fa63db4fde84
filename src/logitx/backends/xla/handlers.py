"""The kernels as XLA calls them, by name: a handler for each kind of kernel, bound to the kernel that a call needs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from numba.core import types

from logitx.backends.numba.compile.cache import sources
from logitx.backends.numba.compile.policy import bound, machine_code, native
from logitx.backends.numba.compile.static import KNOWN
from logitx.backends.numba.kernels import compiled
from logitx.backends.numba.memory.arguments import Lent
from logitx.backends.xla import cross_entropy, softmax


class Kind(NamedTuple):
    """How XLA calls the kernels of one kind."""

    handler: Callable[[int, int], Any]
    kernel: Callable[..., Any]
    arguments: str  # what the handler passes: a letter an argument, as in `_letter`


_KINDS = {
    "normalize": Kind(softmax.normalize, compiled.normalize, "aaaiwwwaafii"),
    "normalize_long": Kind(softmax.normalize_long, compiled.normalize_long, "aaiwwaafii"),
    "reduce": Kind(softmax.reduce, compiled.reduce, "aaaaaaiwwii"),
    "reduce_long": Kind(softmax.reduce_long, compiled.reduce_long, "aaiaaii"),
    "partial": Kind(softmax.partial, compiled.partial, "aaaaaaaaiwwii"),
    "pull_back": Kind(softmax.pull_back, compiled.pull_back, "aaaiwbaii"),
    "hard": Kind(cross_entropy.hard, compiled.hard, "aaaaaaaaaiwwwbifaafiii"),
    "hard_long": Kind(cross_entropy.hard_long, compiled.hard_long, "aaaaaaiwwbifaafiii"),
    "soft": Kind(cross_entropy.soft, compiled.soft, "aaaaaaaaaaaiwbiffaafiii"),
}
_LETTERS = {types.int64: "i", types.float64: "f", types.boolean: "b", types.none: "w", KNOWN: "w"}


class Handler(NamedTuple):
    """A kernel for XLA: its kind, and what a function of `_kernels` is given to choose it."""

    kind: str
    ways: tuple[bool | None, ...]
    dtypes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return a name that nothing else has, not even this handler when its sources have changed."""
        ways = "".join("01"[way is True] for way in self.ways)
        return "_".join(("logitx", self.kind, *filter(None, (ways,)), *self.dtypes, sources()[:12]))


def _letter(kind: Any) -> str:
    return "a" if isinstance(kind, Lent) else _LETTERS[kind]


@functools.cache
def _general(kind: str) -> int:
    """Return the address of the handler for a kind of kernels, a function of a call frame and a kernel."""
    return native(_KINDS[kind].handler, (types.int64, types.int64))


@functools.cache
def address(handler: Handler) -> int:
    """Return the address of what XLA calls, a function of a call frame."""
    kind = _KINDS[handler.kind]
    kernel, arguments = machine_code(kind.kernel(*handler.ways, *handler.dtypes))
    letters = "".join(map(_letter, arguments))
    if letters != kind.arguments:  # machine code would not notice
        raise TypeError(f"{handler.kind}: a kernel takes {letters}, its handler passes {kind.arguments}")
    return bound(_general(handler.kind), kernel)
