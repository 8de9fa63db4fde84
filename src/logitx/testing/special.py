"""Special values, each row of them with a name: the table of the contract, and the traps that peers fell into.

Rows of one kind go through the library stacked, in one call; a failure is reported under the names of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from logitx.testing.cases import FLOATS, Case, Data, data
from logitx.testing.compare import PRECISIONS

INF, NAN = np.inf, np.nan
Rows = Mapping[str, Sequence[float]]


def _stack(rows: Rows, dtype: str, first: bool = False) -> Data:
    """Stack rows; the classes on the last axis, or on the first."""
    matrix = np.array(list(rows.values()), dtype=np.float64)
    return data(matrix.T if first else matrix, dtype)


def softmax_rows(dtype: str) -> Rows:
    """Return the special rows of the softmax family."""
    p = PRECISIONS[dtype]
    return {
        "plain": [1, 2, 3, 4, 5],
        "NaN": [0, NAN, 1, 2, -INF],
        "+inf": [0, INF, 1, -INF, 2],
        "two +inf": [0, INF, INF, 1, 2],
        "NaN and +inf": [0, NAN, INF, 1, -INF],
        "NaN beside -inf": [-INF, -INF, NAN, -INF, -INF],
        "some -inf": [-INF, 0, 1, -INF, 2],
        "all -inf": [-INF] * 5,
        "one live class": [-INF, -INF, 3, -INF, -INF],
        "dominating maximum": [1 - float(np.log(p.eps)), 0, 0, 0, 0],
        "dominating by far": [0, 0, 80, 0, 0],
        "two maxima dominate": [0, 60, 0, 60, 0],
        "104 below the maximum": [0, -104, -105, -150, 0],
        "offset 10000": [1e4, 1e4 + 8, 1e4 - 8, 1e4, 1e4 + 16],
        "offset -10000": [-1e4, -1e4 + 8, -1e4 - 8, -1e4, -1e4 + 16],
        "equal": [7, 7, 7, 7, 7],
        "zeros of both signs": [0.0, -0.0, 0.0, -0.0, 0.0],
        "largest finite": [p.largest, -p.largest, 0, p.largest, 1],
        "most negative finite": [-p.largest] * 5,
        "tiny": [p.tiny, -p.tiny, 0, 2 * p.tiny, -2 * p.tiny],
    }


MASKED_ROWS: dict[str, tuple[list[float], list[int]]] = {
    "nothing masked": ([1, 2, 3, 4], [1, 1, 1, 1]),
    "some masked": ([1, 2, 3, 4], [1, 0, 1, 0]),
    "all masked": ([1, 2, 3, 4], [0, 0, 0, 0]),
    "all masked, NaN": ([NAN, INF, -INF, 4], [0, 0, 0, 0]),
    "masked NaN": ([NAN, 2, 3, 4], [0, 1, 1, 1]),
    "masked +inf": ([1, INF, 3, 4], [1, 0, 1, 1]),
    "masked -inf": ([1, 2, -INF, 4], [1, 1, 0, 1]),
    "masked maximum": ([1, 2, 3, 400], [1, 1, 1, 0]),
    "only -inf unmasked": ([9, -INF, -INF, 9], [0, 1, 1, 0]),
    "NaN and masked": ([NAN, 2, 3, -INF], [1, 0, 1, 1]),
    "one unmasked": ([1, 2, 3, 4], [0, 0, 1, 0]),
}


def _masked(dtype: str) -> tuple[Data, dict[str, Any], tuple[str, ...]]:
    x = data([row for row, _ in MASKED_ROWS.values()], dtype)
    where = Data(np.array([keep for _, keep in MASKED_ROWS.values()], dtype=bool), "bool")
    return x, {"where": where}, tuple(MASKED_ROWS)


def _small_integers() -> list[Case]:
    """Integers whose differences leave their dtype, and booleans."""
    return [
        Case("int8 wraparound", "integer", (Data(np.array([[100, -100], [-128, 127]]), "int8"),)),
        Case("uint8 wraparound", "integer", (Data(np.array([[0, 5], [255, 0]]), "uint8"),)),
        Case("bool", "bool", (Data(np.array([[True, False], [True, True]]), "bool"),)),
    ]


def _shapes() -> list[Case]:
    """Axes and arrays without anything in them, and arrays without an axis."""
    cube = np.arange(24.0).reshape(2, 3, 4)
    return [
        Case("axis of length 0", "float32", (data(np.zeros((3, 0)), "float32"),)),
        Case("axis of length 0, first", "float32", (data(np.zeros((0, 3)), "float32"),), {"axis": 0}),
        Case("no rows", "float32", (data(np.zeros((0, 3)), "float32"),)),
        Case("no class axis", "float32", (data(np.arange(6.0).reshape(2, 3), "float32"),), {"axis": ()}),
        Case("0-d", "float32", (data(2.5, "float32"),), {"axis": 0}),
        Case("three axes out of order", "float64", (data(cube, "float64"),), {"axis": (2, 0, 1)}),
        Case("foreign byte order", "float32", (data(cube, "float32", "swapped"),), {"axis": 1}),
        Case("foreign byte order", "float64", (data(cube, "float64", "swapped"),), {"axis": 1}),
        Case("foreign byte order", "float16", (data(cube, "float16", "swapped"),), {"axis": 1}),
    ]


def _sums_of_halves() -> list[Case]:
    # 70,000 is more than the largest float16, and 65,536 times more than where a float16 sum of ones stands still
    zeros = data(np.zeros(70_000), "float16")
    ones = data(np.zeros((1, 3000)), "bfloat16")
    return [Case("float16 sum of 70000", "float16", (zeros,)), Case("bfloat16 sum of 3000", "bfloat16", (ones,))]


def softmax_cases() -> list[Case]:
    """Return the special cases of softmax and log_softmax."""
    cases = [*_small_integers(), *_shapes(), *_sums_of_halves()]
    for dtype in FLOATS:
        rows = softmax_rows(dtype)
        x, names = _stack(rows, dtype), tuple(rows)
        cases += [
            Case("special rows", dtype, (x,), {}, rows=names),
            Case("special rows, empty=zero", dtype, (_stack(rows, dtype, first=True),), {"axis": 0, "empty": "zero"},
                 rows=names),
            Case("special rows, scaled", dtype, (x,), {"temperature": 0.5, "softcap": 30.0}, rows=names),
        ]  # fmt: skip
        x, options, names = _masked(dtype)
        cases.append(Case("masked rows", dtype, (x,), options, rows=names))
    x, options, names = _masked("float32")
    spread = data([[0, 1, 2], [5, 5, 4], [-3, 2, 2]], "float32")
    cases += [
        Case("masked rows, empty=zero", "float32", (x,), options | {"empty": "zero"}, rows=names),
        Case("tiny temperature", "float32", (spread,), {"temperature": 1e-30}),
        Case("large temperature", "float32", (spread,), {"temperature": 1e30}),
        Case("tiny softcap", "float32", (spread,), {"softcap": 1e-3}),
    ]
    return cases


# -- logsumexp and merging --------------------------------------------------------------------------------------------

B_ROWS: dict[str, tuple[list[float], list[float]]] = {
    "b == 0 on NaN": ([NAN, 1, 2], [0, 1, 1]),
    "b == 0 on +inf": ([INF, 1, 2], [0, 1, 1]),
    "b == 0 on the maximum": ([500, 1, 2], [0, 1, 1]),
    "b all 0": ([1, 2, 3], [0, 0, 0]),
    "b all 0 on NaN": ([NAN, INF, -INF], [0, 0, 0]),
    "sum is 0": ([1, 1, -INF], [1, -1, 1]),
    "sum is negative": ([1, 3, 2], [1, -1, 0.5]),
    "maxima cancel": ([0, 17, 17], [0.125, 0.125, -0.125]),
    "maxima cancel to less than 0": ([3, 0, 3], [0.5, -0.125, -0.5]),
    "+inf with negative b": ([INF, 1, 2], [-1, 1, 1]),
    "+inf of both signs": ([INF, INF, 2], [-1, 1, 1]),
    "+inf twice": ([INF, INF, 2], [2, 1, 1]),
    "NaN": ([NAN, 1, 2], [1, 1, 1]),
    "NaN and +inf": ([NAN, INF, 2], [1, 1, 1]),
    "all -inf": ([-INF, -INF, -INF], [1, -1, 2]),
    "some -inf": ([-INF, 1, 2], [5, 1, -0.5]),
    "offset 10000": ([1e4, 1e4 + 8, 1e4 - 8], [1, 2, -1]),
}


def logsumexp_cases() -> list[Case]:
    """Return the special cases of logsumexp."""
    cases = [*_small_integers(), *_shapes(), *_sums_of_halves()]
    for dtype in FLOATS:
        rows = softmax_rows(dtype)
        x, names = _stack(rows, dtype), tuple(rows)
        cases += [
            Case("special rows", dtype, (x,), {"return_sign": True}, rows=names),
            Case("special rows, first axis", dtype, (_stack(rows, dtype, first=True),), {"axis": 0}, rows=names),
        ]
        x, options, names = _masked(dtype)
        cases.append(Case("masked rows", dtype, (x,), options | {"keepdims": True}, rows=names))
        x = data([row for row, _ in B_ROWS.values()], dtype)
        b = data([by for _, by in B_ROWS.values()], dtype)
        cases += [
            Case("rows with b", dtype, (x,), {"b": b, "return_sign": True}, rows=tuple(B_ROWS)),
            Case("rows with b, no sign", dtype, (x,), {"b": b}, rows=tuple(B_ROWS)),
            *_log_factors(dtype),
        ]
    return cases


LOG_B_ROWS: dict[str, tuple[list[float], list[float]]] = {
    "factor 0 on NaN": ([NAN, 1, 2], [-INF, 0, 1]),
    "factor 0 on +inf": ([INF, 1, 2], [-INF, 0, 1]),
    "all factors 0": ([1, INF, NAN], [-INF, -INF, -INF]),
    "infinite factor": ([1, 2, 3], [0, INF, 1]),
    "infinite factor of nothing": ([1, -INF, 3], [0, INF, 1]),
    "NaN factor": ([1, 2, 3], [0, NAN, 1]),
    "NaN factor of nothing": ([1, -INF, 3], [0, NAN, 1]),
    "far apart": ([5000, -5000, 1], [-5000, 5000, 0.5]),
    "factors of 1": ([1, 2, 3], [0, 0, 0]),
}


def _log_factors(dtype: str) -> list[Case]:
    """Return calls with logarithms of factors, which broadcast in every direction."""
    x = data([row for row, _ in LOG_B_ROWS.values()], dtype)
    log_b = data([by for _, by in LOG_B_ROWS.values()], dtype)
    where = Data(np.array([[True, False, True]] * len(LOG_B_ROWS)), "bool")
    rows = tuple(LOG_B_ROWS)
    cube = data(np.arange(24.0).reshape(2, 3, 4) % 7, dtype)
    few = {"": np.arange(4) / 8, "per row": np.arange(6).reshape(2, 3, 1) / 8, "per class": np.arange(3)[:, None] / 8}
    turned = {"axis": 0, "log_b": data(log_b.values.T, dtype)}
    broadcast = [
        Case(f"log_b {name} along {axis}", dtype, (cube,), {"log_b": data(by, "float64"), "axis": axis})
        for name, by in few.items()
        for axis in (-1, 1, (2, 0))
    ]
    return [
        Case("rows with log_b", dtype, (x,), {"log_b": log_b, "return_sign": True}, rows=rows),
        Case("rows with log_b, masked", dtype, (x,), {"log_b": log_b, "where": where}, rows=rows),
        Case("rows with log_b, first axis", dtype, (data(x.values.T, dtype),), turned, rows=rows),
        *broadcast,
    ]


def without(cases: Callable[[], list[Case]], options: tuple[str, ...]) -> list[Case]:
    """Return the cases of a function for another one that lacks these options and `out`."""
    return [case for case in cases() if case.out == "none" and not any(name in case.options for name in options)]


def row_number_cases() -> list[Case]:
    """Return the special cases of softmax for a function whose results are numbers of rows, at least float32."""
    return [case for case in softmax_cases() if case.out == "none"]


def merge_cases() -> list[Case]:
    """Return the special cases of merge_logsumexp."""
    cases = []
    for dtype in FLOATS:
        values = np.array([-INF, INF, NAN, 0.0, 5.0, -3.0, 1e4, 1e4 + 8, -1e4, 60.0, PRECISIONS[dtype].largest])
        cases.append(Case("every pair", dtype, (data(values[:, None], dtype), data(values, dtype))))
    eight = Data(np.array([100, -100]), "int8"), Data(np.array([-100, 100]), "int8")
    cases.append(Case("int8 wraparound", "integer", eight))
    cases.append(Case("nothing", "float32", (data(np.zeros((0, 3)), "float32"), data(np.zeros(3), "float32"))))
    return cases


# -- gradients of the softmaxes ---------------------------------------------------------------------------------------


def softmax_vjp_cases() -> list[Case]:
    """Return the special cases of softmax_vjp."""
    rows: dict[str, tuple[list[float], list[float]]] = {
        "plain": ([0.25, 0.5, 0.25], [1, 2, 3]),
        "inf at probability 0": ([0, 0.5, 0.5], [INF, 1, 2]),
        "NaN at probability 0": ([0, 0.5, 0.5], [NAN, 1, 2]),
        "one-hot": ([0, 1, 0], [5, 7, 9]),
        "all 0": ([0, 0, 0], [1, NAN, INF]),
        "NaN probability": ([NAN, 0.5, 0], [1, 2, 3]),
    }
    return _pair_of_rows(rows) + _vjp_shapes()


def log_softmax_vjp_cases() -> list[Case]:
    """Return the special cases of log_softmax_vjp."""
    rows: dict[str, tuple[list[float], list[float]]] = {
        "plain": ([-1, -2, -0.75], [1, 2, 3]),
        "inf at log-probability -inf": ([-INF, -0.5, -1], [INF, 1, 2]),
        "NaN at log-probability -inf": ([-INF, -0.5, -1], [NAN, 1, 2]),
        "one-hot": ([-INF, 0, -INF], [5, 7, 9]),
        "all -inf": ([-INF, -INF, -INF], [1, NAN, INF]),
        "NaN log-probability": ([NAN, -0.5, -INF], [1, 2, 3]),
    }
    return _pair_of_rows(rows) + _vjp_shapes()


def _pair_of_rows(rows: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> list[Case]:
    firsts, seconds = [a for a, _ in rows.values()], [b for _, b in rows.values()]
    return [
        Case("special rows", dtype, (data(firsts, dtype), data(seconds, dtype)), rows=tuple(rows)) for dtype in FLOATS
    ]


def _vjp_shapes() -> list[Case]:
    nothing, narrow = data(np.zeros((0, 3)), "float32"), data(np.zeros((3, 0)), "float32")
    return [
        Case("no rows", "float32", (nothing, nothing)),
        Case("axis of length 0", "float32", (narrow, narrow)),
    ]
