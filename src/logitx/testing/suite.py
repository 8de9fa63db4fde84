"""Run cases on targets: the loop that every test of the suite goes through."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

import logitx
from logitx.testing.cases import FLOATS, Case, Data, NDArray, row_shape, to_rows
from logitx.testing.compare import Mismatch, assert_matches, wider
from logitx.testing.expect import Expected
from logitx.testing.ops import OPS, Op, expected
from logitx.testing.targets.labelled import LABELLED
from logitx.testing.targets.table import TARGETS
from logitx.testing.targets.target import Target


class Cell(NamedTuple):
    """One function on one target in one dtype: one test."""

    op: Op
    target: Target
    dtype: str

    @property
    def id(self) -> str:
        """The id of the test."""
        return f"{self.op.name}-{self.target.name}-{self.dtype}"


class Failure(NamedTuple):
    """A case that did not pass."""

    case: str
    message: str


class Report(NamedTuple):
    """The results of the cases of a cell."""

    cases: int
    failures: list[Failure]
    declined: int  # cases that the backend left to another, for a reason in the row of the target


def cells(targets: Iterable[Target] = TARGETS, ops: Iterable[Op] = OPS) -> list[Cell]:
    """Return the product of functions, targets and dtypes."""
    pairs = [(op, target) for op in ops for target in targets if op.labelled or target not in LABELLED]
    return [Cell(op, target, dtype) for op, target in pairs for dtype in op.dtypes]


def cases_of(cell: Cell) -> list[Case]:
    """Return the cases of a cell: all special ones, and the target's share of those of the grid, that fit."""
    share, of = cell.target.share
    cases = cell.op.cases(cell.dtype)
    chosen = [case for i, case in enumerate(cases) if case.special or i % of == share]
    return [case for case in chosen if cell.target.fits(case)]


def check(cell: Cell, cases: Iterable[Case] | None = None) -> Report:
    """Run all cases of a cell, or some.

    Parameters
    ----------
    cell : Cell
        A function, a target and a dtype.
    cases : iterable of Case, optional
        The cases to run; all cases of the cell if not given.

    Returns
    -------
    Report
        Named tuple ``(cases, failures, declined)``; no failures if all cases pass.
    """
    count, failures, declined = 0, [], 0
    for case in cases_of(cell) if cases is None else cases:
        count += 1
        try:
            with using(cell.target.backend):
                try:
                    check_case(cell.op, cell.target, case)
                except ValueError as error:
                    if not _declined(cell.target, error):
                        raise
                    declined += 1
                    with logitx.use_backend(None):
                        check_case(cell.op, cell.target, case)
        except Mismatch as error:
            failures.append(Failure(case.name, str(error)))
        except Exception as error:  # any error of a backend is a failure of this case
            failures.append(Failure(case.name, f"{type(error).__name__}: {error}"))
    return Report(count, failures, declined)


def _declined(target: Target, error: ValueError) -> bool:
    """True if the error is the forced backend's refusal, for a reason listed in the target's row."""
    message = str(error)
    return message.startswith("use_backend:") and any(reason in message for reason in target.declines)


def using(backend: str | None) -> AbstractContextManager[Any]:
    """Return a context in which a backend is forced; None leaves the choice to the library."""
    return contextlib.nullcontext() if backend is None else logitx.use_backend(backend)  # type: ignore[arg-type]  # a name in a row


def check_case(op: Op, target: Target, case: Case) -> float:
    """Run one case; return its largest error in units of the budget.

    Raises
    ------
    Mismatch
        Where the result is wrong, or an input was modified.
    """
    x64 = holds_float64(case)
    with target.session(x64):
        args = tuple(_make(target, one) for one in case.args)
        options = {name: _option(target, name, value) for name, value in case.options.items()}
        dtypes = result_dtypes(target, case, x64)
        outcome = _call(op, target, case, args, options, dtypes["result"])
        arrays = list(_flat(outcome))
        truth = expected(op, case)
        if len(arrays) != len(truth):
            raise Mismatch(f"{len(arrays)} arrays came back; expected are {len(truth)}")
        exact, worst = [], 0.0
        for array, one in zip(arrays, truth, strict=True):
            problem = target.problem(array, one.elementwise or array is options.get("out"))
            if problem is not None:
                raise Mismatch(f"{one.name}: {problem}")
            values, dtype = target.read(array)
            exact.append(values)
            budget = _budget(op, target, case)
            worst = max(worst, _match(case, one, values, dtype, dtypes, budget))
        _unmodified(target, case, args, options)
        for invariant in op.invariants:
            message = invariant(case, exact)
            if message is not None:
                raise Mismatch(message)
    return worst


def holds_float64(case: Case) -> bool:
    """True if a case needs float64 arrays or results."""
    return "float64" in (*(one.dtype for one in case.args), case.options.get("dtype"))


def _make(target: Target, one: Data) -> Any:
    return target.make(one.values, one.dtype, one.memory)


def _option(target: Target, name: str, value: Any) -> Any:
    if isinstance(value, Data):
        return _make(target, value)
    if name == "dtype":  # a half where there is none: the case goes on without it
        return None if value in target.missing else target.dtype(value)
    return value


def result_dtypes(target: Target, case: Case, x64: bool) -> dict[str, str]:
    """Return the dtypes of the contract: "compute", "result" and "loss"."""
    naturals = [one.dtype if one.dtype in FLOATS else target.default_float(x64) for one in case.computed]
    natural = naturals[0]
    if len(naturals) > 1:  # a linear layer: each gradient has the dtype of its array
        compute = wider(*naturals)
        gradients = dict(zip(("hidden", "weight", "bias"), naturals, strict=False))
        return {"compute": compute, "result": natural, "loss": compute, **gradients}
    asked = case.options.get("dtype")
    asked = None if asked in target.missing else asked
    compute = wider(natural, asked or natural)
    has_loss = len(case.args) == 2  # there, dtype= is that of the loss
    result = natural if asked is None or has_loss else asked
    return {"compute": compute, "result": result, "loss": asked or compute}


def _call(op: Op, target: Target, case: Case, args: tuple[Any, ...], options: dict[str, Any], result: str) -> Any:
    function = getattr(logitx, op.name)
    if case.out == "none" or not target.writable:
        return target.call(function, args, options)
    if case.out == "self":
        out = args[0]
    else:
        x, axis = case.args[0], case.options.get("axis", -1)
        keepdims = bool(case.options.get("keepdims"))
        shape = x.values.shape if op.name != "logsumexp" else row_shape(x.values.shape, axis, keepdims)
        memory = "C" if x.memory == "readonly" else x.memory
        out = target.make(np.full(shape, 7.0), result, memory)
    options["out"] = out
    outcome = target.call(function, args, options)
    if outcome is not out:
        raise Mismatch("out: the array that came back is not the one that was given")
    return outcome


def _flat(outcome: Any) -> Iterator[Any]:
    if isinstance(outcome, tuple):
        for one in outcome:
            yield from _flat(one)
    elif outcome is not None:
        yield outcome


def _budget(op: Op, target: Target, case: Case) -> float:
    if not target.serial_sums or not op.reduces:
        return op.ulps
    x, axis = case.args[0].values, case.options.get("axis", -1)
    terms = to_rows(x, axis).shape[1] if len(case.computed) == 1 else max(case.args[1].values.shape)
    return float(op.ulps * max(1.0, terms / 16))


def _match(case: Case, one: Expected, values: NDArray, dtype: str, dtypes: dict[str, str], ulps: float) -> float:
    return assert_matches(
        values.astype(np.float64),
        dtype,
        one,
        ulps=ulps,
        compute=dtypes["compute"],
        result=dtypes[one.kind],
        rows=case.rows,
    )


def _unmodified(target: Target, case: Case, args: Sequence[Any], options: dict[str, Any]) -> None:
    """Check that the call left its inputs alone."""
    given = {f"argument {i}": (one, args[i]) for i, one in enumerate(case.args)}
    given |= {name: (one, options[name]) for name, one in case.options.items() if isinstance(one, Data)}
    if case.out == "self":
        del given["argument 0"]
    for name, (before, after) in given.items():
        if not np.array_equal(target.read(after)[0], before.values, equal_nan=before.values.dtype == np.float64):
            raise Mismatch(f"{name} was modified by the call")
