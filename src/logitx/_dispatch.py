"""Choose a backend for a plan, run it, and give its results back in the shape and type of the input.

The only file that names a choice. A backend is imported on first use; whether it can serve a call it says itself.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, cast

import numpy as np

from logitx import _arguments
from logitx._arguments.labels import Labels, dress
from logitx._arrays import FAMILIES, Family, fold_as_view, unfold
from logitx._typing import Array, Backend, Explains, LossParts, Merges, Plan, Prepared, Prepares
from logitx.backends import BACKENDS, BackendRow


class BackendInfo(NamedTuple):
    """A backend, whether it can be used here, and why (not)."""

    name: str
    available: bool
    reason: str
    families: tuple[str, ...]


class Declined(NamedTuple):
    """A backend that would not run a call, and why."""

    backend: str
    reason: str


class Choice(NamedTuple):
    """The backend that would run a call, why, and those that would not."""

    backend: str
    reason: str
    declined: tuple[Declined, ...]


_forced: ContextVar[str | None] = ContextVar("logitx_backend", default=None)
_NAMES = tuple(row.name for row in BACKENDS)


@functools.cache
def _missing(row: BackendRow) -> str | None:
    if row.requires is not None and importlib.util.find_spec(row.requires) is None:
        return f"{row.requires} is not installed"
    return None


@functools.cache
def _load(row: BackendRow) -> Backend:
    return cast(Backend, importlib.import_module(row.module))


def _rows(family: str) -> Iterator[tuple[BackendRow, str | None]]:
    """Yield every backend in order, with the reason why it does not come into question."""
    forced = _forced.get()
    for row in BACKENDS:
        if forced is not None and row.name != forced:
            yield row, f"use_backend({forced!r}) is in force"
        elif family not in row.families:
            yield row, f"does not take arrays of {family}; takes those of {', '.join(row.families)}"
        else:
            yield row, _missing(row)


@functools.lru_cache(maxsize=64)
def _candidates(family: str, forced: str | None) -> tuple[Backend, ...]:
    return tuple(_load(row) for row, reason in _rows(family) if reason is None)


def _refuse(plan: Plan, operands: tuple[Any, ...]) -> ValueError | TypeError:
    chosen = which(plan, operands)
    if _forced.get() is None:
        tried = [row.name for row in BACKENDS if plan.family in row.families]
        reasons = "; ".join(f"{name}: {reason}" for name, reason in chosen.declined if name in tried)
        return TypeError(f"{plan.op}: no backend can run this call ({reasons})")
    declined = "; ".join(f"{name}: {reason}" for name, reason in chosen.declined if name == _forced.get())
    others = [row.name for row in BACKENDS if row.name != _forced.get() and plan.family in row.families]
    return ValueError(
        f"use_backend: {_forced.get()!r} cannot run {plan.op} here ({declined}); allowed are {', '.join(others)}"
    )


def choose(plan: Plan, operands: tuple[Any, ...]) -> Backend:
    """Return the first backend that accepts the call."""
    for backend in _candidates(plan.family, _forced.get()):
        if backend.accepts(plan, operands) is None:
            return backend
    raise _refuse(plan, operands)


def merging(plan: Plan, operands: tuple[Any, ...]) -> Merges:
    """Return the first backend that accepts the call and can be given some of the classes of a row."""
    for backend in _candidates(plan.family, _forced.get()):
        if isinstance(backend, Merges) and backend.accepts(plan, operands) is None:
            return backend
    raise _refuse(plan, operands)


def which(plan: Plan, operands: tuple[Any, ...], labels: Labels | None = None) -> Choice:
    """Say which backend `choose` returns, and why the others do not come first."""
    choice, declined = None, []
    for row, reason in _rows(plan.family):
        if reason is None:
            reason = _load(row).accepts(plan, operands)
        if choice is None and reason is None:
            choice = row
        elif choice is None or reason is not None:
            declined.append(Declined(row.name, str(reason)))
        else:
            declined.append(Declined(row.name, f"{choice.name} comes first"))
    if choice is None:
        return Choice("", "no backend accepts this call", tuple(declined))
    backend = _load(choice)
    why = backend.explain(plan, operands) if isinstance(backend, Explains) else choice.summary
    return Choice(choice.name, why, tuple(declined))


def at_once(op: str, x: Array, y: Array, *options: Any) -> Any:
    """Run a call if one look-up tells all there is to check and choose; else return None.

    `y` is the output of softmax and log_softmax, or None, or the targets of a loss, or a gradient to pull back; the
    options are those of the check.
    The kernel takes 0.4 us for a softmax of ten numbers, the way through checks, plan and choice 3 us.
    """
    cls: Any = type(x)
    differentiated = False
    if cls is not np.ndarray:
        source = _source(cls)
        if source is None or (differentiated := source.differentiated(x)) is None:
            return None
    shape = dtype = None
    if y is not None:
        if type(y) is not cls:
            return None
        shape, dtype = y.shape, y.dtype
    try:
        call = _prepared(op, cls, differentiated, x.shape, x.dtype, shape, dtype, _forced.get(), *options)
    except TypeError:  # an option that is an array cannot be looked up
        return None
    return None if call is None else call(x, y)


def is_apart(x: Array, out: Array) -> bool:
    """Tell whether an output may be written to as it is: a NumPy array that is the input itself or apart from it."""
    plain = type(x) is type(out) is np.ndarray and out.shape == x.shape and out.flags.writeable
    return plain and (out is x or not np.may_share_memory(out, x))


@functools.lru_cache(maxsize=64)
def _source(cls: Any) -> Any:
    family = next((family for family in FAMILIES.values() if family.recognizes(cls)), None)
    return None if family is None else family.settles(cls)


def _example(shape: tuple[int, ...], dtype: Any, _differentiated: bool) -> Array:
    return np.empty(shape, dtype)


_SETTLED = (type(None), bool, int, float, str, type, np.generic, np.dtype)  # what an option is as a key


@functools.lru_cache(maxsize=1024, typed=True)  # so that an axis of True is not the one of 1 that has been seen
def _prepared(
    op: str,
    cls: Any,
    differentiated: bool,
    shape: tuple[int, ...],
    dtype: Any,
    other_shape: tuple[int, ...] | None,
    other_dtype: Any,
    forced: str | None,
    *options: Any,
) -> Prepared | None:
    if not all(isinstance(option, _SETTLED) for option in options):
        return None
    example = _example if cls is np.ndarray else _source(cls).example
    try:
        x = example(shape, dtype, differentiated)
        y = None if other_shape is None else example(other_shape, other_dtype, False)
        if op in ("softmax", "log_softmax"):
            plan, operands, *_ = _arguments.over_axis(*(op, x, *options, y))
        elif op == "logsumexp":
            plan, operands, *_ = _arguments.logsumexp(*(x, *options, y))
        elif op in ("softmax_vjp", "log_softmax_vjp"):
            plan, operands, *_ = _arguments.vjp(*(op, ("", ""), x, y, *options))
        else:
            plan, operands, *_ = _arguments.cross_entropy(*(op, x, y, *options))
    except (TypeError, ValueError, MemoryError):
        return None  # the ordinary way says what is wrong
    backend = choose(plan, operands)
    return backend.prepare(plan, operands) if isinstance(backend, Prepares) else None


def run(plan: Plan, operands: tuple[Any, ...], labels: Labels | None = None) -> Any:
    """Run an operation on the chosen backend and wrap its results."""
    result = _WRAP[plan.op](FAMILIES[plan.family], plan, getattr(choose(plan, operands), plan.op)(plan, *operands))
    return result if labels is None else dress(labels, plan, result)


def run_into(plan: Plan, operands: tuple[Any, ...], labels: Labels | None = None) -> Any:
    """Run an operation whose last operand is an output, of the shape of the logits."""
    *inputs, out = operands
    if out is None:
        return run(plan, operands, labels)
    family = FAMILIES[plan.family]
    folded = fold_as_view(family, out, plan.layout)
    result = getattr(choose(plan, operands), plan.op)(plan, *inputs, folded)
    if result is not folded:  # the backend cannot write, or this output has no folded view
        out[...] = unfold(family, result, plan.layout)
    family.written(out)
    return out


def run_reduction_into(plan: Plan, operands: tuple[Any, ...], labels: Labels | None = None) -> Any:
    """Run logsumexp, whose output is too small to be worth a backend's writing to it."""
    *inputs, out = operands
    result = run(plan, tuple(inputs), labels)
    if out is None:
        return result
    value = result[0] if plan.return_sign else result
    out[...] = value
    return (out, result[1]) if plan.return_sign else out


# -- results ----------------------------------------------------------------------------------------------------------


def _full(family: Family, plan: Plan, x: Array) -> Array:
    x = unfold(family, x, plan.layout)
    return family.scalar(x) if plan.scalar else x


def _fulls(family: Family, plan: Plan, result: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(_full(family, plan, x) for x in result)


def _small(family: Family, x: Array) -> Array:
    return family.scalar(x) if x.ndim == 0 else x


def _normalizer(family: Family, plan: Plan, result: tuple[Array, Array]) -> Any:
    shape = plan.layout.kept if plan.keepdims else plan.layout.rows
    xp = family.namespace(result[0])
    shaped = (x if family.as_given else xp.reshape(x, shape) for x in result if x is not None)
    value, *sign = (_small(family, x) for x in shaped)
    return (value, sign[0]) if plan.return_sign else value


def _loss(family: Family, plan: Plan, result: tuple[Array, Array, Array]) -> Any:
    loss, *parts = (None if x is None else _small(family, x) for x in result)
    return (loss, LossParts(*parts)) if plan.return_parts else loss


def _loss_and_grad(family: Family, plan: Plan, result: tuple[Array, Array, Array, Array]) -> Any:
    loss, dlogits, *parts = result
    dlogits = _full(family, plan, dlogits)
    loss, *small = (None if x is None else _small(family, x) for x in (loss, *parts))
    return (loss, dlogits, LossParts(*small)) if plan.return_parts else (loss, dlogits)


def _linear_loss(family: Family, plan: Plan, loss: Array) -> Array:
    return _small(family, loss)


def _linear_loss_and_grad(family: Family, plan: Plan, result: tuple[Array, ...]) -> Any:
    loss, *gradients = result
    return _small(family, loss), tuple(gradients)


def _merged(family: Family, plan: Plan, x: Array) -> Array:
    return _small(family, x)


_WRAP: dict[str, Any] = {
    "softmax": _full,
    "log_softmax": _full,
    "logsumexp": _normalizer,
    "cross_entropy": _loss,
    "cross_entropy_value_and_grad": _loss_and_grad,
    "cross_entropy_grad_hess": _fulls,
    "linear_cross_entropy": _linear_loss,
    "linear_cross_entropy_value_and_grad": _linear_loss_and_grad,
    "softmax_vjp": _full,
    "log_softmax_vjp": _full,
    "merge_logsumexp": _merged,
}


# -- what users may ask and set ---------------------------------------------------------------------------------------


def backends() -> tuple[BackendInfo, ...]:
    """Return what there is, in the order in which it is tried."""
    infos = []
    for row in BACKENDS:
        missing = _missing(row)
        infos.append(BackendInfo(row.name, missing is None, missing or row.summary, row.families))
    return tuple(infos)


def force(name: str | None) -> str | None:
    """Put a backend (None: the automatic choice) in force in this context; return what was in force before."""
    if name is not None and name not in _NAMES:
        raise ValueError(f"name: {name!r} is not allowed; allowed are None, {', '.join(map(repr, _NAMES))}")
    before = _forced.get()
    _forced.set(name)
    return before


def set_num_threads(n: int) -> None:
    """Limit the threads of the backend that has threads of its own."""
    _load(next(row for row in BACKENDS if row.name == "numba")).set_num_threads(n)  # type: ignore[attr-defined]


# -- torch.compile ----------------------------------------------------------------------------------------------------

CHECKS: tuple[Callable[..., Any], ...] = (
    _arguments.over_axis,
    _arguments.logsumexp,
    _arguments.cross_entropy,
    _arguments.cross_entropy_grad_hess,
    _arguments.linear_cross_entropy,
    _arguments.vjp,
    _arguments.merge_logsumexp,
)
RUNS: tuple[Callable[..., Any], ...] = (run, run_into, run_reduction_into)


def _check_later(check: Callable[..., Any]) -> Callable[..., Any]:
    name = check.__name__
    return lambda *arguments: (name, arguments)


def _run_in_graph(run: Callable[..., Any]) -> Callable[..., Any]:
    name = run.__name__

    def run_in_graph(check: str, arguments: tuple[Any, ...]) -> Any:
        from logitx._graphs import NODES

        return NODES[name, check](*arguments)

    return run_in_graph


# Dynamo reads what is named here instead of the function: `run(*check(...))` becomes one node of its graph, that does
# both. Nobody else looks at this name, so that it costs an ordinary call nothing.
at_once._torchdynamo_inline = lambda *_: None  # type: ignore[attr-defined]
is_apart._torchdynamo_inline = lambda *_: False  # type: ignore[attr-defined]
for _check in CHECKS:
    _check._torchdynamo_inline = _check_later(_check)  # type: ignore[attr-defined]
for _run in RUNS:
    _run._torchdynamo_inline = _run_in_graph(_run)  # type: ignore[attr-defined]
