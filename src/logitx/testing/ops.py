"""OPS: one row for every function of the library.

A row holds the cases of a function, its oracle, what must hold beside the values, its error budget, and examples of
calls for all other tests: derivatives, graphs, lazy arrays, memory. Tests, benchmarks and documentation iterate it; a
new function is one more row, and `gaps` says what a row lacks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from logitx.testing import expect, grids, linear, special, special_loss
from logitx.testing.binary_ops import BINARY
from logitx.testing.cases import FLOATS, Case, NDArray, to_rows
from logitx.testing.contrastive import CONTRASTIVE
from logitx.testing.examples import Example, Inputs, given
from logitx.testing.operation import Op, Use, expected
from logitx.testing.ops_of_log_space import LOG_SPACE
from logitx.testing.ops_of_segments import SEGMENTS
from logitx.testing.row_numbers import ROW_NUMBERS
from logitx.testing.row_pairs import ROW_PAIRS

__all__ = ["OPS", "Op", "expected", "op", "uses"]


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


# -- the rows ---------------------------------------------------------------------------------------------------------

EVERYTHING = ("class_weight", "sample_weight", "label_smoothing", "z_loss", "softcap", "temperature")


def _everything(i: Inputs) -> dict[str, Any]:
    """Every option of a loss that has a derivative, and a mask."""
    return {
        "class_weight": i.class_weight,
        "sample_weight": i.sample_weight,
        "label_smoothing": i.tenth,
        "z_loss": i.tenth,
        "softcap": i.three,
        "temperature": i.half,
        "where": i.where,
    }


_NO_FACTORS = {"b": ("none",), "return_sign": (False,), "out": ("none",)}

OPS: tuple[Op, ...] = (
    Op(
        "softmax",
        functools.partial(grids.cases_of, grids.SOFTMAX, grids.softmax_case),
        special.softmax_cases,
        expect.softmax,
        ulps=2.0,
        why="x - max, the division by temperature, exp, the sum and the division by it",
        invariants=(probabilities_sum_to_one,),
        examples=(
            Example("plain", lambda i: given(i.x), kernel="normalize", settled=True),
            Example("empty=zero", lambda i: given(i.x, empty="zero"), kernel="normalize", settled=True),
            Example("along the first axis, masked", lambda i: given(i.x, axis=0, where=i.where), kernel="normalize"),
            Example("of all axes", lambda i: given(i.x, axis=None, softcap=2.0, temperature=0.5), kernel="normalize"),
            Example(
                "masked, scaled", lambda i: given(i.x, where=i.where, softcap=4.0, temperature=0.7), kernel="normalize"
            ),
            Example(
                "by numbers",
                lambda i: given(i.x, temperature=i.half, softcap=i.three),
                (0, "temperature", "softcap"),
                "normalize",
            ),
            Example(
                "by a number a row",
                lambda i: given(i.x, temperature=i.positive, where=i.where),
                (0, "temperature"),
                "normalize",
            ),
        ),
        fuzz="rows",
    ),
    Op(
        "log_softmax",
        functools.partial(grids.cases_of, grids.SOFTMAX, grids.softmax_case),
        special.softmax_cases,
        expect.log_softmax,
        ulps=2.0,
        why="x - max, the division by temperature, exp, the sum, log1p and the subtraction of it",
        invariants=(log_probabilities_not_positive,),
        examples=(
            Example("plain", lambda i: given(i.x), kernel="normalize", settled=True),
            Example("empty=zero", lambda i: given(i.x, empty="zero"), kernel="normalize", settled=True),
            Example("masked", lambda i: given(i.x, where=i.where, temperature=2.0), kernel="normalize"),
            Example("along the first axis", lambda i: given(i.x, axis=0), kernel="normalize", settled=True),
            Example(
                "of two axes, masked", lambda i: given(i.x, axis=(1, 0), softcap=3.0, where=i.where), kernel="normalize"
            ),
            Example(
                "by numbers",
                lambda i: given(i.x, temperature=i.half, softcap=i.three),
                (0, "temperature", "softcap"),
                "normalize",
            ),
        ),
        fuzz="rows",
    ),
    Op(
        "logsumexp",
        functools.partial(grids.cases_of, grids.LOGSUMEXP, grids.logsumexp_case),
        special.logsumexp_cases,
        expect.logsumexp,
        ulps=2.0,
        why="x - max, exp, the sum, log1p and the addition of the maximum",
        invariants=(signs_are_signs,),
        examples=(
            Example("plain", lambda i: given(i.x), kernel="reduce", settled=True),
            Example("kept", lambda i: given(i.x, keepdims=True), kernel="reduce", settled=True),
            Example("along the first axis, masked", lambda i: given(i.x, axis=0, where=i.where), kernel="reduce"),
            Example("with sign", lambda i: given(i.x, axis=(0, 1), return_sign=True, keepdims=True), kernel="reduce"),
            Example("by log-factors", lambda i: given(i.x, log_b=i.y), (0, "log_b"), "reduce"),
            Example("by factors", lambda i: given(i.x, b=i.y, return_sign=True), (0, "b"), "reduce"),
        ),
        fuzz="rows",
    ),
    Op(
        "cross_entropy",
        functools.partial(grids.cases_of, grids.CROSS_ENTROPY, grids.cross_entropy_case),
        special_loss.cross_entropy_cases,
        expect.cross_entropy,
        ulps=2.0,
        why="log-probabilities, their products with the targets, two sums, weights and the division by the denominator",
        invariants=(losses_not_negative,),
        examples=(
            Example("plain", lambda i: given(i.x, i.some), kernel="hard", settled=True),
            Example("sum", lambda i: given(i.x, i.some, reduction="sum"), kernel="hard", settled=True),
            Example("of each row", lambda i: given(i.x, i.some, reduction="none"), kernel="hard", settled=True),
            Example(
                "scaled",
                lambda i: given(i.x, i.some, z_loss=0.1, temperature=2.0, softcap=5.0, empty="zero"),
                kernel="hard",
                settled=True,
            ),
            Example(
                "along the first axis",
                lambda i: given(i.x.T, i.labels, axis=0, ignore_index=1),
                kernel="hard",
                settled=True,
            ),
            Example(
                "smoothed", lambda i: given(i.x, i.some, label_smoothing=0.1, z_loss=0.1, softcap=5.0), kernel="soft"
            ),
            Example(
                "weighted",
                lambda i: given(i.x, i.some, class_weight=i.class_weight, reduction="none"),
                (0, "class_weight"),
                "hard",
            ),
            Example("with parts", lambda i: given(i.x, i.some, z_loss=0.1, reduction="none", return_parts=True)),
            Example(
                "of soft targets",
                lambda i: given(i.x, i.probabilities, class_weight=i.class_weight),
                (0, 1, "class_weight"),
                "soft",
            ),
            Example("by everything", lambda i: given(i.x, i.some, **_everything(i)), (0, *EVERYTHING), "soft"),
            Example(
                "by everything, of each row",
                lambda i: given(i.x, i.some, **_everything(i), reduction="none"),
                (0, *EVERYTHING),
                "soft",
            ),
            Example(
                "by a weight alone",
                lambda i: given(i.x, i.some, sample_weight=i.sample_weight),
                ("sample_weight",),
                "hard",
            ),
        ),
        fuzz="losses",
    ),
    Op(
        "cross_entropy_value_and_grad",
        functools.partial(grids.cases_of, grids.CROSS_ENTROPY, grids.cross_entropy_case),
        special_loss.cross_entropy_cases,
        expect.cross_entropy_value_and_grad,
        ulps=2.0,
        why="as cross_entropy; for the gradient two products of a probability, three factors and the slope of softcap",
        invariants=(losses_not_negative,),
        examples=(
            Example("plain", lambda i: given(i.x, i.some), kernel="hard"),
            Example("masked", lambda i: given(i.x, i.some, where=i.where, label_smoothing=0.1), kernel="soft"),
            Example(
                "weighted",
                lambda i: given(i.x, i.some, sample_weight=i.sample_weight, softcap=3.0),
                (0, "sample_weight"),
                "hard",
            ),
        ),
        fuzz="losses",
    ),
    Op(
        "cross_entropy_grad_hess",
        functools.partial(grids.cases_of, grids.GRAD_HESS, grids.grad_hess_case),
        special_loss.grad_hess_cases,
        expect.cross_entropy_grad_hess,
        ulps=2.0,
        why="p, 1 - p, their products and weights",
        invariants=(hessian_not_negative,),
        examples=(Example("plain", lambda i: given(i.x, i.labels)),),
        fuzz="losses",
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
        examples=(
            Example("plain", lambda i: given(i.hidden, i.weight, i.some), (0, 1), "hard"),
            Example(
                "smoothed",
                lambda i: given(i.hidden, i.weight, i.some, bias=i.bias, label_smoothing=0.1),
                (0, 1, "bias"),
                "soft",
            ),
        ),
        fuzz="layers",
        lacks={"memory": "block_bytes says how much of the logits is in memory; tests/test_linear.py counts it"},
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
        examples=(
            Example("plain", lambda i: given(i.hidden, i.weight, i.some), (0, 1), "hard"),
            Example(
                "smoothed",
                lambda i: given(i.hidden, i.weight, i.some, bias=i.bias, label_smoothing=0.1),
                (0, 1, "bias"),
                "soft",
            ),
        ),
        fuzz="layers",
        lacks={"memory": "block_bytes says how much of the logits is in memory; tests/test_linear.py counts it"},
    ),
    Op(
        "softmax_vjp",
        functools.partial(grids.cases_of, grids.VJP, grids.softmax_vjp_case),
        special.softmax_vjp_cases,
        expect.softmax_vjp,
        ulps=2.0,
        why="products, their sum, a subtraction and a product",
        dtypes=FLOATS,
        examples=(Example("plain", lambda i: given(i.probabilities, i.y), (0, 1), "pull_back"),),
        fuzz="cotangents",
    ),
    Op(
        "log_softmax_vjp",
        functools.partial(grids.cases_of, grids.VJP, grids.log_softmax_vjp_case),
        special.log_softmax_vjp_cases,
        expect.log_softmax_vjp,
        ulps=2.0,
        why="exp, the sum, a product and a subtraction",
        dtypes=FLOATS,
        examples=(Example("plain", lambda i: given(np.log(i.probabilities), i.y), (0, 1), "pull_back"),),
        fuzz="cotangents",
    ),
    Op(
        "logmeanexp",
        functools.partial(grids.cases_of, grids.LOGSUMEXP | _NO_FACTORS, grids.logsumexp_case),
        functools.partial(special.without, special.logsumexp_cases, ("b", "log_b", "return_sign")),
        expect.logmeanexp,
        ulps=3.0,
        why="as logsumexp, and the subtraction of the logarithm of the count",
        examples=(
            Example("plain", lambda i: given(i.x), kernel="reduce"),
            Example("along the first axis", lambda i: given(i.x, axis=0, keepdims=True), kernel="reduce"),
        ),
        fuzz="rows",
        lacks={"memory": "one more array of the shape of the result than logsumexp"},
    ),
    Op(
        "merge_logsumexp",
        functools.partial(grids.cases_of, grids.MERGE, grids.merge_case),
        special.merge_cases,
        expect.merge_logsumexp,
        ulps=2.0,
        why="a difference, exp, log1p and the addition of the maximum",
        reduces=False,
        examples=(Example("plain", lambda i: given(i.x, i.y), (0, 1)),),
        fuzz="pairs",
        lacks={"memory": "formulas of NumPy on every backend, of arrays that reductions have made small"},
    ),
    *ROW_NUMBERS,
    *ROW_PAIRS,
    Op(
        "logaddexp",
        functools.partial(grids.cases_of, grids.MERGE, grids.merge_case),
        special.merge_cases,
        expect.merge_logsumexp,
        ulps=2.0,
        why="as merge_logsumexp",
        reduces=False,
        examples=(Example("plain", lambda i: given(i.x, i.y), (0, 1)),),
        fuzz="pairs",
        lacks={"memory": "formulas of NumPy on every backend, of arrays that reductions have made small"},
    ),
    *BINARY,
    *CONTRASTIVE,
    *LOG_SPACE,
    *SEGMENTS,
)


def op(name: str) -> Op:
    """Return the row of a function."""
    return next(row for row in OPS if row.name == name)


def uses(aspect: str, all_examples: bool = True) -> list[Use]:
    """Return the tests of one of `ASPECTS`: all examples of the functions that have it, or the first of each.

    A row without examples raises ValueError, so that it cannot be left out of a test by mistake.
    """
    rows = [op for op in OPS if aspect not in op.lacks]
    if bare := [op.name for op in rows if not op.examples]:
        raise ValueError(f"OPS: {bare} have no examples")
    found = [Use(op, example) for op in rows for example in op.examples[: None if all_examples else 1]]
    return [use for use in found if use.example.by or aspect != "derivative"]
