"""The rows of OPS: one function each, with its cases, oracle and examples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import logitx
from logitx.testing.cases import DTYPES, Case, NDArray
from logitx.testing.examples import ASPECTS, Arguments, Example, Inputs, bind
from logitx.testing.expect import Expected

Invariant = Callable[[Case, Sequence[NDArray]], str | None]


@dataclass(frozen=True, eq=False)
class Op:
    """One function.

    Attributes
    ----------
    name : str
        The name of the function in ``logitx``, and of the operation of a backend.
    grid : callable
        Makes the cases that cover all pairs of levels of the options.
    special : callable
        Makes the cases with special values.
    oracle : callable
        ``oracle(case)``: the expected results of the case.
    ulps : float
        The error budget: how often the textbook formula may round where it rounds once in theory, in units of eps of
        the computing dtype times the slack of the oracle. See `logitx.testing.compare`.
    why : str
        What the budget pays for.
    invariants : tuple of callable
        ``invariant(case, results)``: None, or the property that fails. Results are exact NumPy arrays.
    dtypes : tuple of str
        Columns of the table of cells.
    labelled : bool
        Its results have labels that tests of labelled arrays expect: those of the logits or of their rows.
    reduces : bool
        It sums over classes.
    examples : tuple of Example
        Calls on small arrays. The first one is the plainest; tests that take long are run with it alone.
    fuzz : str
        How the random calls of ``tests/test_fuzz.py`` are drawn: "rows", "numbers" (of rows, at least float32),
        "losses", "layers", "cotangents", "pairs", "elements" or "binary losses", each with the options that the
        signature of the function has.
    lacks : mapping of str to str
        The entries of `ASPECTS` without a test, each with the reason.
    """

    name: str
    grid: Callable[[], list[Case]]
    special: Callable[[], list[Case]]
    oracle: Callable[[Case], list[Expected]]
    ulps: float
    why: str
    invariants: tuple[Invariant, ...] = ()
    dtypes: tuple[str, ...] = DTYPES
    labelled: bool = True
    reduces: bool = True
    examples: tuple[Example, ...] = ()
    fuzz: str = ""
    lacks: Mapping[str, str] = field(default_factory=dict)

    def cases(self, dtype: str | None = None) -> tuple[Case, ...]:
        """Return the cases of one column of the table of cells, or of all."""
        return tuple(case for case in _cases(self) if dtype is None or case.dtype == dtype)

    def case(self, name: str, dtype: str | None = None) -> Case:
        """Return the case of this name; without a dtype, the first one."""
        return next(case for case in self.cases(dtype) if case.name == name)


@functools.cache
def _cases(op: Op) -> tuple[Case, ...]:
    return tuple(op.grid() + op.special())


class Use(NamedTuple):
    """One function and one of its examples: one test."""

    op: Op
    example: Example

    @property
    def id(self) -> str:
        """The id of the test."""
        return f"{self.op.name}, {self.example.name}"

    def bound(
        self, inputs: Inputs, array: Callable[[NDArray], Any], **more: Any
    ) -> tuple[Callable[..., tuple[Any, ...]], tuple[Any, ...]]:
        """Return the function of the arguments that it has derivatives by, and these; `more` are options."""
        args, options = self.arguments(inputs)
        return bind(getattr(logitx, self.op.name), (args, options | more), self.example.by, array)

    def arguments(self, inputs: Inputs) -> Arguments:
        """Return the positional arguments and the options of the call."""
        return self.example.call(inputs)


def gaps(op: Op) -> list[str]:
    """Return the `ASPECTS` for which a row has neither an entry nor a reason, and unknown keys of `Op.lacks`."""
    has = dict.fromkeys(ASPECTS, bool(op.examples)) | {
        "derivative": any(example.by for example in op.examples),
        "fuzz": bool(op.fuzz),
    }
    missing = [aspect for aspect in ASPECTS if not has[aspect] and aspect not in op.lacks]
    unreasoned = [key for key, reason in op.lacks.items() if not reason or key not in ASPECTS]
    return missing + unreasoned


@functools.cache
def expected(op: Op, case: Case) -> tuple[Expected, ...]:
    """Return the expected results of a case; computed once for all targets."""
    return tuple(op.oracle(case))
