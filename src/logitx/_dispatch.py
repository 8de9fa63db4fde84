"""Choose a backend for a plan, run it, and give its results back in the shape and type of the input.

The only file that names a choice. A backend is imported on first use; whether it can serve a call it says itself.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, cast

from logitx._arrays.families import FAMILIES
from logitx._arrays.folding import fold_as_view, unfold_axes
from logitx._operations import OPERATIONS, check
from logitx._plan import Array, Plan
from logitx._results import finished
from logitx._undisturbed import undisturbed
from logitx._unfit import Unfit, given_up, why_unfit
from logitx.backends import BACKENDS, BackendRow
from logitx.backends.protocol import Backend, Explains, Merges


class BackendInfo(NamedTuple):
    """A backend, whether it can be used here, and why (not)."""

    name: str
    available: bool
    reason: str
    families: tuple[str, ...]


class Backends(tuple[BackendInfo, ...]):
    """All backends, printed one a line."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join(f"{info.name:12} {'yes' if info.available else 'no':4} {info.reason}" for info in self)


class Declined(NamedTuple):
    """A backend that would not run a call, and why."""

    backend: str
    reason: str


class Choice(NamedTuple):
    """The backend that would run a call, why, and those that would not."""

    backend: str
    reason: str
    declined: tuple[Declined, ...]

    def __repr__(self) -> str:
        chosen = f"{self.backend or 'none'}: {self.reason}"
        return "\n".join((chosen, *(f"    not {name}: {reason}" for name, reason in self.declined)))


forced: ContextVar[str | None] = ContextVar("logitx_backend", default=None)
_ROWS = {row.name: row for row in BACKENDS}


@functools.cache
def _not_installed(requires: str | None) -> str | None:
    if requires is not None and importlib.util.find_spec(requires) is None:
        return f"{requires} is not installed"
    return None


def _missing(row: BackendRow) -> str | None:
    """Return why a backend is known not to be there, without importing it."""
    reason = why_unfit(row.name) or _not_installed(row.requires)
    if reason is None and row.around is not None:
        reason = _missing(_ROWS[row.around])
    return reason


@functools.cache
def _load(row: BackendRow) -> Backend:
    if row.around is not None:
        _load(_ROWS[row.around])
    with undisturbed():
        try:
            return cast(Backend, importlib.import_module(row.module))
        except Exception as error:
            raise given_up(row.name, error) from error


def _why_not(row: BackendRow) -> str | None:
    """Return why a backend is not there, None once it is imported."""
    reason = _missing(row)
    if reason is None:
        try:
            _load(row)
        except Unfit as error:
            return str(error)
    return reason


def _rows(family: str) -> Iterator[tuple[BackendRow, str | None]]:
    """Yield every backend in order, with the reason why it does not come into question."""
    only = forced.get()
    for row in BACKENDS:
        if only is not None and row.name != only:
            yield row, f"use_backend({only!r}) is in force"
        elif family not in row.families:
            yield row, f"does not take arrays of {family}; takes those of {', '.join(row.families)}"
        else:
            yield row, _why_not(row)


@functools.lru_cache(maxsize=64)
def _tried(family: str, only: str | None) -> tuple[BackendRow, ...]:
    return tuple(row for row in BACKENDS if family in row.families and only in (None, row.name))


@functools.cache
def _loaded(row: BackendRow) -> Backend | None:
    """Return a backend, imported when the first call comes to it; None if it is not there."""
    return _load(row) if _why_not(row) is None else None


def _candidates(family: str) -> Iterator[Backend]:
    """Yield the backends that come into question, in order: one that is not reached is not imported."""
    for row in _tried(family, forced.get()):
        backend = _loaded(row)
        if backend is not None:
            yield backend


def _refuse(plan: Plan, operands: tuple[Any, ...]) -> ValueError | TypeError:
    chosen = which(plan, operands)
    if forced.get() is None:
        tried = [row.name for row in BACKENDS if plan.family in row.families]
        reasons = "; ".join(f"{name}: {reason}" for name, reason in chosen.declined if name in tried)
        return TypeError(f"{plan.op}: no backend can run this call ({reasons})")
    declined = "; ".join(f"{name}: {reason}" for name, reason in chosen.declined if name == forced.get())
    others = [row.name for row in BACKENDS if row.name != forced.get() and plan.family in row.families]
    return ValueError(
        f"use_backend: {forced.get()!r} cannot run {plan.op} here ({declined}); allowed are {', '.join(others)}"
    )


def forget_unfit() -> None:
    """Choose anew for every kind of array: a backend has been given up."""
    _loaded.cache_clear()
    _load.cache_clear()


def choose(plan: Plan, operands: tuple[Any, ...]) -> Backend:
    """Return the first backend that accepts the call."""
    for backend in _candidates(plan.family):
        if backend.accepts(plan, operands) is None:
            return backend
    raise _refuse(plan, operands)


def on_backend(
    plan: Plan, operands: tuple[Any, ...], use: Callable[[Any], Any], find: Callable[..., Any] = choose
) -> Any:
    """Return what `use` makes of the backend that `find` returns: of the next one, if that does not work here.

    A backend that does not work has compiled nothing, and so has written nothing.
    """
    backend = find(plan, operands)
    try:
        return use(backend)
    except Unfit:
        forget_unfit()
        if find(plan, operands) is backend:
            raise
        return on_backend(plan, operands, use, find)


def _merging(plan: Plan, operands: tuple[Any, ...]) -> Merges:
    """Return the first backend that accepts the call and can be given some of the classes of a row."""
    for backend in _candidates(plan.family):
        if isinstance(backend, Merges) and backend.accepts(plan, operands) is None:
            return backend
    raise _refuse(plan, operands)


def run_on_part(operation: str, plan: Plan, operands: tuple[Any, ...], seen: tuple[Any, ...]) -> Any:
    """Run an operation of `Merges` on the first backend that accepts what is `seen` of the operands."""
    return on_backend(plan, seen, lambda backend: getattr(backend, operation)(plan, *operands), _merging)


def which(plan: Plan, operands: tuple[Any, ...]) -> Choice:
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


def run(op: str, *arguments: Any) -> Any:
    """Check a call, run it on the chosen backend, and give its results back.

    `arguments` are those of the operation's check: the two arrays of the call first (the second is an output, or None),
    then the options.
    """
    row = OPERATIONS[op]
    plan, operands, out, labels = check(op, *arguments)
    if row.out == "written" and out is not None:
        return on_backend(plan, operands, lambda backend: _written(plan, getattr(backend, plan.op), operands, out))
    found = on_backend(plan, operands, lambda backend: getattr(backend, plan.op)(plan, *operands))
    values = finished(row.outputs, plan, found, labels)
    if out is None:
        return row.assemble(plan, values)
    out[...] = values[0]
    return row.assemble(plan, (out, *values[1:]))


def _written(plan: Plan, method: Callable[..., Array], operands: tuple[Any, ...], out: Array) -> Array:
    """Write the result to `out`: by the backend itself if it can, else by a copy."""
    family = FAMILIES[plan.family]
    folded = fold_as_view(family, out, plan.layout)
    result = method(plan, *operands[:-1], folded)
    if result is not folded:  # the backend cannot write, or this output has no folded view
        out[...] = unfold_axes(family, result, plan.layout)
    family.written(out)
    return out


# -- what users may ask and set ---------------------------------------------------------------------------------------


def backends() -> Backends:
    """Return what there is, in the order in which it is tried."""
    infos = []
    for row in BACKENDS:
        missing = _missing(row)
        infos.append(BackendInfo(row.name, missing is None, missing or row.summary, row.families))
    return Backends(infos)


def _installed() -> tuple[str, ...]:
    return tuple(row.name for row in BACKENDS if _missing(row) is None)


def force(name: str | None) -> str | None:
    """Put a backend (None: the automatic choice) in force in this context; return what was in force before."""
    if name is not None:
        row = _ROWS.get(name)
        missing = None if row is None else _missing(row)
        if row is None or missing is not None:
            why, names = ("", tuple(_ROWS)) if missing is None else (f", {missing}", _installed())
            raise ValueError(f"name: {name!r} is not allowed{why}; allowed are None, {', '.join(map(repr, names))}")
    before = forced.get()
    forced.set(name)
    return before


def load_present() -> None:
    """Import the backends of the frameworks that are imported; that of PyTorch registers its operators."""
    for row in BACKENDS:
        if row.requires in sys.modules:
            _why_not(row)


def why_no_kernels() -> str | None:
    """Return why there are no kernels on the CPU; None if they are there, imported."""
    return _why_not(_ROWS["numba"])


def set_num_threads(n: int) -> None:
    """Limit the threads of the backend that has threads of its own, if it is there."""
    if why_no_kernels() is None:
        _load(_ROWS["numba"]).set_num_threads(n)  # type: ignore[attr-defined]
