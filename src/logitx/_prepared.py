"""Prepared calls: a call that was made before costs one look-up in a cache instead of checks, plan and choice."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from logitx._arguments.ranges import are_ordinary
from logitx._arrays.families import FAMILIES
from logitx._arrays.family import FLOATS, dtype_name
from logitx._dispatch import choose, forced, forget_unfit, run
from logitx._operations import OPERATIONS, check
from logitx._options import flat, nested
from logitx._plan import Array, Plan
from logitx._results import finished
from logitx._unfit import Unfit
from logitx.backends.protocol import Backend, Prepared, Prepares

_NDARRAY, _forced = np.ndarray, forced.get  # looked up once: 25 ns of each call


class Facts(NamedTuple):
    """What a prepared call depends on of a NumPy array that is an option: it stands for the array in the cache."""

    shape: tuple[int, ...]
    dtype: Any


def call(op: str, first: Array, second: Array, *options: Any) -> Any:
    """Run a call: by one look-up if a call with the same types, shapes, dtypes and options came before.

    `first` and `second` are the arrays of the call; `second` is the output of softmax, log_softmax and logsumexp, and
    may be None. `options` are the other arguments of the operation's check. A prepared call skips checks, plan and
    choice: a softmax of ten numbers takes 0.4 us in the kernel, and 3 us on the way through `_dispatch.run`.
    """
    cls: Any = type(first)
    differentiated: bool | None = False
    if cls is not _NDARRAY:
        source = _source(cls)
        plain = source is not None and _PLAIN.issuperset(map(type, options))  # the cache must not keep a tensor
        differentiated = source.differentiated(first) if plain else None
    if differentiated is not None and (second is None or type(second) is cls):
        try:
            try:
                if second is None:
                    key = op, cls, differentiated, first.shape, first.dtype, None, None, _forced()
                else:
                    other, kind = second.shape, second.dtype
                    key = op, cls, differentiated, first.shape, first.dtype, other, kind, _forced()
                prepared = _prepared(key, *options)
            except RuntimeError:  # a nested tensor has no shape
                prepared = None
            except TypeError as error:  # an array among the options, say
                if "unhashable" not in str(error):
                    raise
                prepared = _with_arrays(key, options)
            if prepared is not None:
                result = prepared(first, second)
                if result is not None:
                    return result
        except Unfit:
            _prepared.cache_clear()
            forget_unfit()
    return run(op, first, second, *options)


def _with_arrays(key: tuple[Any, ...], options: tuple[Any, ...]) -> Prepared | None:
    """Return the prepared call with the arrays that are options; None where an option cannot be looked up at all.

    The check of the call may choose another plan for extreme numbers (`_arguments.ranges`): of weights, and of what is
    wider than the dtype to compute in. A call whose numbers are not ordinary is not looked up.
    """
    facts, arrays = list(options), []
    weighs, held = OPERATIONS[key[0]].weighs, max(4, key[4].itemsize)
    for i, one in enumerate(options):
        if type(one) is np.ndarray:
            matters = weighs or one.dtype.itemsize > held
            if matters and dtype_name(one.dtype) in FLOATS and not are_ordinary(one):
                return None
            arrays.append(one)
            facts[i] = Facts(one.shape, one.dtype)
    try:
        prepared = _prepared(key, *facts)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return None
    return None if prepared is None else lambda first, second: prepared(first, second, *arrays)


@functools.lru_cache(maxsize=64)
def _source(cls: Any) -> Any:
    family = next((family for family in FAMILIES.values() if family.recognizes(cls)), None)
    return None if family is None else family.settles(cls)


def _example(shape: tuple[int, ...], dtype: Any, _differentiated: bool) -> Array:
    return np.zeros(shape, dtype)


# Options of these types are looked up as they are
_PLAIN = frozenset((type(None), bool, int, float, str, type, np.float32, np.float64, np.int64))


# The look-up compares the types of options, so that an axis of True is not the one of 1 that has been seen. It does not
# compare the types of what `key` holds: they are the same in each call, and that took 3 % of a call on ten numbers.
@functools.lru_cache(maxsize=1024, typed=True)
def _prepared(key: tuple[Any, ...], *options: Any) -> Prepared | None:
    op, cls, differentiated, shape, dtype, other_shape, other_dtype, _ = key
    if not all(isinstance(one, (*_PLAIN, np.generic, np.dtype, Facts)) for one in options):
        return None
    row = OPERATIONS[op]
    if row.reads:
        return None
    if row.out is not None and other_shape is not None and (row.out == "copied" or cls is not np.ndarray):
        return None
    example = _example if cls is np.ndarray else _source(cls).example
    try:
        first = example(shape, dtype, differentiated)
        second = None if other_shape is None else example(other_shape, other_dtype, False)
        examples = [np.zeros(*one) if type(one) is Facts else one for one in options]
        plan, operands, *_ = check(op, first, second, *examples)
    except (TypeError, ValueError, MemoryError):
        return None  # `_dispatch.run` says what is wrong
    backend = choose(plan, operands)
    arrays = [one for one in examples if type(one) is np.ndarray]
    if row.prepares and not arrays and isinstance(backend, Prepares):
        prepared = backend.prepare(plan, operands)
        if prepared is not None:
            return prepared
    if cls is not np.ndarray or (row.out is not None and second is not None):
        return None
    return _repeated(plan, backend, operands, [first, second, *arrays])


def _repeated(plan: Plan, backend: Backend, operands: tuple[Any, ...], examples: list[Array]) -> Prepared | None:
    """Return a call that gives new arrays to a method of a backend in the places of `examples`; None if it cannot.

    `operands` are what the check of the call made of `examples`. An example that is an operand itself was not
    converted, and no check depends on its numbers: any array of its shape and dtype may take its place.
    """
    values: list[Any] = list(flat(operands))
    places = [(i, n) for i, value in enumerate(values) for n, one in enumerate(examples) if value is one is not None]
    made = sum(type(value) is np.ndarray for value in values)  # balanced class weights are made of the labels
    if not len(places) == made == sum(one is not None for one in examples):
        return None
    for i, _ in places:
        values[i] = None  # so that the cache keeps no array
    op, row = plan.op, OPERATIONS[plan.op]

    def repeat(*given: Array) -> Any:
        each = values.copy()
        for i, n in places:
            each[i] = given[n]
        return row.assemble(
            plan, finished(row.outputs, plan, getattr(backend, op)(plan, *nested(op, tuple(each))), None)
        )

    return repeat
