"""The rows of OPS of the numbers of a row: grids, special cases and the truth."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from logitx.testing import expect, grids, oracle, special
from logitx.testing.cases import Case, NDArray, row_shape
from logitx.testing.examples import Example, given
from logitx.testing.expect import Expected
from logitx.testing.operation import Op
from logitx.testing.oracle import NAN, ZERO, Near, Row

_GRID = {name: levels for name, levels in grids.SOFTMAX.items() if name != "out"} | {
    "result": (None, "float32", "float64")
}


def _case(number: int, levels: grids.Levels) -> Case:
    return grids.softmax_case(number, {**levels, "out": "none"})


def _void(row: Row, empty: str) -> Near | None:
    """Return the number of a row without a plain answer."""
    if row.poisoned or row.dead:
        return Near(NAN if row.poisoned or empty == "nan" else ZERO)
    return None


def entropy_row(row: Row, empty: str) -> Near:
    """Return log(sum) + sum of p (-v)."""
    void = _void(row, empty)
    if void is not None:
        return void
    scale, others = 1 + row.rest, [j for j, alive in enumerate(row.live) if alive and j != row.top]
    fall = oracle.total([row.e[j] * -row.v[j] for j in others]) / scale
    moved = oracle.total([row.e[j] * (row.noise[j] * (1 - row.v[j]) - row.v[j]) for j in others]) / scale
    value = row.log_sum + fall
    return Near(value, value + row.log_sum + row.wobble + moved + fall * (1 + row.wobble + oracle.summing(len(others))))


def entropy(case: Case) -> list[Expected]:
    """Return what entropy must give."""
    x, axis, rows = expect.reduced_rows(case)
    empty = case.options.get("empty", "nan")
    return [expect.one_a_row("entropy", [entropy_row(row, empty) for row in rows], row_shape(x.shape, axis), "loss")]


def entropies_not_negative(case: Case, results: Sequence[NDArray]) -> str | None:
    """No entropy is below 0."""
    return "an entropy is negative" if (results[0] < 0).any() else None


ROW_NUMBERS = (
    Op(
        "entropy",
        functools.partial(grids.cases_of, _GRID, _case),
        special.row_number_cases,
        entropy,
        ulps=2.0,
        why="x - max, the division by temperature, exp, products, two sums, log1p and a division",
        invariants=(entropies_not_negative,),
        examples=(
            Example("plain", lambda i: given(i.x), kernel="entropy"),
            Example("along the first axis, masked", lambda i: given(i.x, axis=0, where=i.where), kernel="entropy"),
            Example("of all axes", lambda i: given(i.x, axis=None, softcap=2.0, temperature=0.5), kernel="entropy"),
            Example(
                "by numbers",
                lambda i: given(i.x, temperature=i.half, softcap=i.three, where=i.where),
                (0, "temperature", "softcap"),
                "entropy",
            ),
            Example(
                "by a number a row",
                lambda i: given(i.x, temperature=i.positive),
                (0, "temperature"),
                "entropy",
            ),
        ),
        fuzz="numbers",
    ),
)
