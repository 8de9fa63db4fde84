"""Prepared calls: a plain call that was made before costs one look-up in a cache."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._dispatch import choose, forced, run
from logitx._operations import OPERATIONS, check
from logitx._plan import Array
from logitx.backends.protocol import Prepared, Prepares


def call(op: str, first: Array, second: Array, *options: Any) -> Any:
    """Run a call: by one look-up if a call with the same types, shapes, dtypes and options came before.

    `first` and `second` are the arrays of the call; `second` is the output of softmax, log_softmax and logsumexp, and
    may be None. `options` are the other arguments of the operation's check. A prepared call skips checks, plan and
    choice: a softmax of ten numbers takes 0.4 us in the kernel, and 3 us on the way through `_dispatch.run`.
    """
    cls: Any = type(first)
    differentiated: bool | None = False
    if cls is not np.ndarray:
        source = _source(cls)
        differentiated = None if source is None else source.differentiated(first)
    if differentiated is not None and (second is None or type(second) is cls):
        try:
            shape, dtype = (None, None) if second is None else (second.shape, second.dtype)
            key = op, cls, differentiated, first.shape, first.dtype, shape, dtype, forced.get()
            prepared = _prepared(key, *options)
        except (TypeError, RuntimeError):  # an option that is an array, or a nested tensor, which has no shape
            prepared = None
        if prepared is not None:
            result = prepared(first, second)
            if result is not None:
                return result
    return run(op, first, second, *options)


@functools.lru_cache(maxsize=64)
def _source(cls: Any) -> Any:
    family = next((family for family in FAMILIES.values() if family.recognizes(cls)), None)
    return None if family is None else family.settles(cls)


def _example(shape: tuple[int, ...], dtype: Any, _differentiated: bool) -> Array:
    return np.empty(shape, dtype)


_PLAIN = (type(None), bool, int, float, str, type, np.generic, np.dtype)  # an option of another type is not looked up


# The look-up compares the types of options, so that an axis of True is not the one of 1 that has been seen. It does not
# compare the types of what `key` holds: they are the same in each call, and that took 3 % of a call on ten numbers.
@functools.lru_cache(maxsize=1024, typed=True)
def _prepared(key: tuple[Any, ...], *options: Any) -> Prepared | None:
    op, cls, differentiated, shape, dtype, other_shape, other_dtype, _ = key
    row = OPERATIONS[op]
    if not row.prepares or not all(isinstance(option, _PLAIN) for option in options):
        return None
    if row.out is not None and other_shape is not None and (row.out == "copied" or cls is not np.ndarray):
        return None
    example = _example if cls is np.ndarray else _source(cls).example
    try:
        first = example(shape, dtype, differentiated)
        second = None if other_shape is None else example(other_shape, other_dtype, False)
        plan, operands, *_ = check(op, first, second, *options)
    except (TypeError, ValueError, MemoryError):
        return None  # `_dispatch.run` says what is wrong
    backend = choose(plan, operands)
    return backend.prepare(plan, operands) if isinstance(backend, Prepares) else None
