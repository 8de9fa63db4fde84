"""The kernels as XLA calls them, by name: a handler for each kind of kernel, bound to the kernel that a call needs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from numba.core import types

from logitx.backends.numba import kernels
from logitx.backends.numba.compile.cache import sources
from logitx.backends.numba.compile.policy import bind_word, machine_code, native
from logitx.backends.numba.kernels.signature import Dtypes, compiled_kernel
from logitx.backends.xla import cross_entropy, row_numbers, softmax


class HandlerKind(NamedTuple):
    """The handler of a kind of kernels, and the entry function of these."""

    handler: Callable[[int, int], Any]
    entry: Callable[..., Any]


_HANDLERS = {
    "normalize": HandlerKind(softmax.normalize, kernels.softmax.normalize),
    "normalize_long": HandlerKind(softmax.normalize_long, kernels.softmax.normalize_long),
    "normalize_woven": HandlerKind(softmax.normalize_long, kernels.softmax_woven.normalize_woven),
    "reduce": HandlerKind(softmax.logsumexp_rows, kernels.logsumexp.logsumexp_rows),
    "reduce_long": HandlerKind(softmax.logsumexp_long, kernels.logsumexp.logsumexp_long),
    "reduce_woven": HandlerKind(softmax.logsumexp_long, kernels.logsumexp_woven.logsumexp_woven),
    "entropy": HandlerKind(row_numbers.entropy, kernels.entropy.entropy_rows),
    "reduce_part": HandlerKind(softmax.reduce_part, kernels.cut_rows.reduce_part),
    "pull_back": HandlerKind(softmax.pull_back, kernels.vjp.pull_back),
    "pull_back_woven": HandlerKind(softmax.pull_back, kernels.vjp_woven.pull_back_woven),
    "hard": HandlerKind(cross_entropy.hard, kernels.cross_entropy_ids.hard),
    "hard_long": HandlerKind(cross_entropy.hard_long, kernels.cross_entropy_long.hard_long),
    "hard_woven": HandlerKind(cross_entropy.hard_long, kernels.cross_entropy_woven.hard_woven),
    "soft": HandlerKind(cross_entropy.soft, kernels.cross_entropy_probabilities.soft),
}


class Handler(NamedTuple):
    """A kernel for XLA: its kind, and the ways and dtypes that it is compiled for."""

    kind: str
    ways: tuple[bool | None, ...]
    dtypes: Dtypes

    @property
    def name(self) -> str:
        """Return a name that nothing else has, not even this handler when its sources have changed."""
        ways = "".join("01"[way is True] for way in self.ways)
        return "_".join(
            ("logitx", self.kind, *filter(None, (ways,)), *(one or "none" for one in self.dtypes), sources()[:12])
        )


@functools.cache
def _general(kind: str) -> int:
    """Return the address of the handler for a kind of kernels, a function of a call frame and a kernel."""
    return native(_HANDLERS[kind].handler, (types.int64, types.int64))


@functools.cache
def address_of_handler(handler: Handler) -> int:
    """Return the address of what XLA calls, a function of a call frame."""
    kind = _HANDLERS[handler.kind]
    kernel = machine_code(compiled_kernel(kind.entry, handler.ways, handler.dtypes))
    return bind_word(_general(handler.kind), kernel)
