"""OPS: one row for every function of the library.

A row holds the cases of a function, its oracle, what must hold beside the values, and its error budget. Tests,
benchmarks and documentation iterate it; a new function is one more row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from logitx.testing import expect, grids, linear, special, special_loss
from logitx.testing.cases import DTYPES, FLOATS, Case, NDArray, to_rows
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
        ``oracle(case)``: what the case must give.
    ulps : float
        The error budget: how often the textbook formula may round where it rounds once in theory, in units of eps of
        the computing dtype times the slack of the oracle. See `logitx.testing.compare`.
    why : str
        What the budget pays for.
    invariants : tuple of callable
        ``invariant(case, results)``: None, or what does not hold. Results are exact NumPy arrays.
    dtypes : tuple of str
        Columns of the table of cells.
    reduces : bool
        It sums over classes.
    """

    name: str
    grid: Callable[[], list[Case]]
    special: Callable[[], list[Case]]
    oracle: Callable[[Case], list[Expected]]
    ulps: float
    why: str
    invariants: tuple[Invariant, ...] = ()
    dtypes: tuple[str, ...] = DTYPES
    reduces: bool = True

    def cases(self, dtype: str | None = None) -> tuple[Case, ...]:
        """Return the cases of one column of the table of cells, or of all."""
        return tuple(case for case in _cases(self) if dtype is None or case.dtype == dtype)

    def case(self, name: str, dtype: str | None = None) -> Case:
        """Return the case of this name; without a dtype, the first one."""
        return next(case for case in self.cases(dtype) if case.name == name)


@functools.cache
def _cases(op: Op) -> tuple[Case, ...]:
    return tuple(op.grid() + op.special())


@functools.cache
def expected(op: Op, case: Case) -> tuple[Expected, ...]:
    """Return what a case must give; computed once for all targets."""
    return tuple(op.oracle(case))


# -- what must hold beside the values ---------------------------------------------------------------------------------


def _rows(case: Case, result: NDArray) -> NDArray:
    return to_rows(result, case.options.get("axis", -1))


def probabilities_sum_to_one(case: Case, results: Sequence[NDArray]) -> str | None:
    """Each row of probabilities sums to 1, or is all 0, or holds a NaN."""
    rows = _rows(case, results[0])
    eps = 2.0**-7 if "bfloat16" in (case.dtype, case.options.get("dtype")) else 2.0**-10
    sums = rows.sum(axis=1)
    good = np.isnan(sums) | (rows == 0).all(axis=1) | (np.abs(sums - 1) < eps * np.sqrt(rows.shape[1] + 3))
    return None if good.all() else f"rows of probabilities sum to {sums[~good].tolist()}; expected is 1"


def log_probabilities_not_positive(case: Case, results: Sequence[NDArray]) -> str | None:
    """No log-probability is above 0."""
    return "a log-probability is positive" if (results[0] > 0).any() else None


def signs_are_signs(case: Case, results: Sequence[NDArray]) -> str | None:
    """The sign of a sum is -1, 0, 1 or NaN."""
    signs = results[1] if case.options.get("return_sign") else np.zeros(())
    return None if (np.isin(signs, (-1, 0, 1)) | np.isnan(signs)).all() else "a sign is not -1, 0, 1 or NaN"


def losses_not_negative(case: Case, results: Sequence[NDArray]) -> str | None:
    """With weights that are not negative, no loss is."""
    return "a loss is negative" if (results[0] < 0).any() else None


def hessian_not_negative(case: Case, results: Sequence[NDArray]) -> str | None:
    """The loss is convex in the logits."""
    return "an entry of the Hessian is negative" if (results[1] < 0).any() else None


OPS: tuple[Op, ...] = (
    Op(
        "softmax",
        functools.partial(grids.cases_of, grids.SOFTMAX, grids.softmax_case),
        special.softmax_cases,
        expect.softmax,
        ulps=2.0,
        why="x - max, the division by temperature, exp, the sum and the division by it",
        invariants=(probabilities_sum_to_one,),
    ),
    Op(
        "log_softmax",
        functools.partial(grids.cases_of, grids.SOFTMAX, grids.softmax_case),
        special.softmax_cases,
        expect.log_softmax,
        ulps=2.0,
        why="x - max, the division by temperature, exp, the sum, log1p and the subtraction of it",
        invariants=(log_probabilities_not_positive,),
    ),
    Op(
        "logsumexp",
        functools.partial(grids.cases_of, grids.LOGSUMEXP, grids.logsumexp_case),
        special.logsumexp_cases,
        expect.logsumexp,
        ulps=2.0,
        why="x - max, exp, the sum, log1p and the addition of the maximum",
        invariants=(signs_are_signs,),
    ),
    Op(
        "cross_entropy",
        functools.partial(grids.cases_of, grids.CROSS_ENTROPY, grids.cross_entropy_case),
        special_loss.cross_entropy_cases,
        expect.cross_entropy,
        ulps=2.0,
        why="log-probabilities, their products with the targets, two sums, weights and the division by the denominator",
        invariants=(losses_not_negative,),
    ),
    Op(
        "cross_entropy_value_and_grad",
        functools.partial(grids.cases_of, grids.CROSS_ENTROPY, grids.cross_entropy_case),
        special_loss.cross_entropy_cases,
        expect.cross_entropy_value_and_grad,
        ulps=2.0,
        why="as cross_entropy; for the gradient two products of a probability, three factors and the slope of softcap",
        invariants=(losses_not_negative,),
    ),
    Op(
        "cross_entropy_grad_hess",
        functools.partial(grids.cases_of, grids.GRAD_HESS, grids.grad_hess_case),
        special_loss.grad_hess_cases,
        expect.cross_entropy_grad_hess,
        ulps=2.0,
        why="p, 1 - p, their products and weights",
        invariants=(hessian_not_negative,),
    ),
    Op(
        "linear_cross_entropy",
        linear.grid_cases,
        linear.special_cases,
        expect.linear_cross_entropy,
        ulps=2.0,
        why="as cross_entropy, of logits that are exact; where classes come in tiles, the merging of their sums",
        invariants=(losses_not_negative,),
        dtypes=FLOATS,
    ),
    Op(
        "linear_cross_entropy_value_and_grad",
        linear.grid_cases,
        linear.special_cases,
        expect.linear_cross_entropy_value_and_grad,
        ulps=2.0,
        why="as cross_entropy_value_and_grad, and products with the gradient by the logits, added up over blocks",
        invariants=(losses_not_negative,),
        dtypes=FLOATS,
    ),
    Op(
        "softmax_vjp",
        functools.partial(grids.cases_of, grids.VJP, grids.softmax_vjp_case),
        special.softmax_vjp_cases,
        expect.softmax_vjp,
        ulps=2.0,
        why="products, their sum, a subtraction and a product",
        dtypes=FLOATS,
    ),
    Op(
        "log_softmax_vjp",
        functools.partial(grids.cases_of, grids.VJP, grids.log_softmax_vjp_case),
        special.log_softmax_vjp_cases,
        expect.log_softmax_vjp,
        ulps=2.0,
        why="exp, the sum, a product and a subtraction",
        dtypes=FLOATS,
    ),
    Op(
        "merge_logsumexp",
        functools.partial(grids.cases_of, grids.MERGE, grids.merge_case),
        special.merge_cases,
        expect.merge_logsumexp,
        ulps=2.0,
        why="a difference, exp, log1p and the addition of the maximum",
        reduces=False,
    ),
)


def op(name: str) -> Op:
    """Return the row of a function."""
    return next(row for row in OPS if row.name == name)
