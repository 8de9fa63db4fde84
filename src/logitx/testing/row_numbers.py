"""The rows of OPS of the numbers of a row: grids, special cases and the truth."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from logitx.testing import expect, grids, oracle, special
from logitx.testing.cases import Case, Data, NDArray, generator, row_shape, to_rows
from logitx.testing.examples import Example, given
from logitx.testing.expect import Expected
from logitx.testing.operation import Op
from logitx.testing.oracle import NAN, ZERO, Near, Row

GRID = {name: levels for name, levels in grids.SOFTMAX.items() if name != "out"} | {
    "result": (None, "float32", "float64")
}


def logits_case(number: int, levels: grids.Levels) -> Case:
    """Make a case with the options of softmax but `out`."""
    return grids.softmax_case(number, {**levels, "out": "none"})


def void(row: Row, empty: str) -> Near | None:
    """Return the number of a row without a plain answer."""
    if row.poisoned or row.dead:
        return Near(NAN if row.poisoned or empty == "nan" else ZERO)
    return None


def entropy_row(row: Row, empty: str) -> Near:
    """Return log(sum) + sum of p (-v)."""
    nothing = void(row, empty)
    if nothing is not None:
        return nothing
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


# -- log-probabilities of chosen classes ------------------------------------------------------------------------------

_IDS_GRID = GRID | {
    "ids": ("one", "few"),
    "id_dtype": ("int64", "int32", "uint8"),
    "ignore": ("default", "some", "valid", "none"),
}


def _selected_case(number: int, levels: grids.Levels) -> Case:
    case = logits_case(number, {name: levels[name] for name in GRID})
    x, axis = case.args[0].values, case.options.get("axis", -1)
    rng, n = generator(case.name), to_rows(x, axis).shape[1]
    several = levels["ids"] == "few" and isinstance(axis, int) and x.ndim > 0
    shape = (len(to_rows(x, axis)), 4) if several else (len(to_rows(x, axis)),)
    dtype = "int64" if n > 255 and levels["id_dtype"] == "uint8" else levels["id_dtype"]
    ids, options = rng.integers(0, n, shape), dict(case.options)
    if levels["ignore"] == "some" and dtype != "uint8":
        ids.reshape(-1)[::3] = -100
    elif levels["ignore"] == "valid":
        options["ignore_index"] = int(ids.reshape(-1)[0])
    elif levels["ignore"] == "none":
        options["ignore_index"] = None
    ids = np.moveaxis(ids.reshape((*row_shape(x.shape, axis), 4)), -1, axis) if several else ids
    name = f"{case.name}, ids={'few' if several else 'one'}"
    ids = ids if several else ids.reshape(row_shape(x.shape, axis))
    return Case(name, case.dtype, (case.args[0], Data(ids, dtype)), options)


def _selected_special() -> list[Case]:
    """Return the special cases with the ids of all classes, or where an id is one of several axes with the first."""
    cases = []
    for case in special.row_number_cases():
        x, axis = case.args[0].values, case.options.get("axis", -1)
        n = to_rows(x, axis).shape[1]
        if n == 0:
            continue
        if isinstance(axis, int) and x.ndim:
            name = f"{case.name}, ids=few"
            ids = np.moveaxis(np.broadcast_to(np.arange(n), (*row_shape(x.shape, axis), n)), -1, axis)
        else:
            name, ids = case.name, np.zeros(row_shape(x.shape, axis), dtype=np.int64)
        args = (case.args[0], Data(np.array(ids), "int64"))
        cases.append(dataclasses.replace(case, name=name, args=args))
    return cases


def selected_log_softmax(case: Case) -> list[Expected]:
    """Return what selected_log_softmax must give."""
    x, axis, rows = expect.reduced_rows(case)
    ids, empty = case.args[1].values, case.options.get("empty", "nan")
    several = ids.ndim > len(row_shape(x.shape, axis))
    table = np.moveaxis(ids, axis, -1).reshape(len(rows), ids.shape[axis]) if several else ids.reshape(-1, 1)
    ignored = case.options.get("ignore_index", -100)
    found = []
    for row, chosen in zip(rows, table.tolist(), strict=True):
        log_p = oracle.log_softmax_row(row, empty)
        found += [Near(ZERO) if one == ignored else log_p[one] for one in chosen]
    flat = expect.one_a_row("log-probabilities", found, (*table.shape,), "loss")
    if not several:
        return [dataclasses.replace(flat, **{name: getattr(flat, name).reshape(ids.shape) for name in _ARRAYS})]
    shape = (*row_shape(x.shape, axis), table.shape[1])
    moved = {name: np.moveaxis(getattr(flat, name).reshape(shape), -1, axis) for name in _ARRAYS}
    moved["by_row"] = moved["by_row"] // table.shape[1]
    return [dataclasses.replace(flat, **moved)]


_ARRAYS = ("high", "low", "slack", "by_row")


def log_probabilities_not_positive(case: Case, results: Sequence[NDArray]) -> str | None:
    """No log-probability is above 0."""
    return "a log-probability is positive" if (results[0] > 0).any() else None


ROW_NUMBERS = (
    Op(
        "entropy",
        functools.partial(grids.cases_of, GRID, logits_case),
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
    Op(
        "selected_log_softmax",
        functools.partial(grids.cases_of, _IDS_GRID, _selected_case),
        _selected_special,
        selected_log_softmax,
        ulps=3.0,
        why="as log_softmax, and a difference of logits with its division by temperature",
        invariants=(log_probabilities_not_positive,),
        examples=(
            Example("plain", lambda i: given(i.x, i.some), kernel="hard"),
            Example("along the first axis", lambda i: given(i.x.T, i.labels, axis=0), kernel="hard"),
            Example(
                "of several ids, masked",
                lambda i: given(i.x, np.stack([i.some, 0 * i.labels, i.labels], axis=1), where=i.where, softcap=3.0),
                kernel="hard",
            ),
            Example(
                "by numbers",
                lambda i: given(
                    i.x, np.stack([i.labels, 0 * i.labels], axis=1), temperature=i.positive, softcap=i.three
                ),
                (0, "temperature", "softcap"),
                "hard",
            ),
        ),
        lacks={"fuzz": "made of cross_entropy, whose calls are drawn"},
    ),
)
