"""The rows of OPS of divergences and of means under a softmax: grids, special cases and the truth."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from logitx.testing import expect, grids, oracle, special
from logitx.testing.cases import FLOATS, Case, Data, NDArray, data, from_rows, generator, row_shape, to_rows
from logitx.testing.examples import Example, given
from logitx.testing.expect import Expected
from logitx.testing.operation import Op
from logitx.testing.oracle import CONTEXT, INF, NAN, SQUARED, ZERO, Near, Row, mpf
from logitx.testing.row_numbers import GRID, logits_case, void

_PAIRS: dict[str, tuple[Hashable, ...]] = GRID | {
    "second": ("near", "far", "equal", "other dtype"),
    "reduction": ("none", "none", "sum", "mean"),
}


def _pair_case(number: int, levels: grids.Levels) -> Case:
    case = logits_case(number, levels)
    first, rng, kind = case.args[0], generator(case.name), levels["second"]
    floating = first.dtype in FLOATS
    step = np.zeros(()) if kind == "equal" else rng.standard_normal(first.values.shape) * (3 if kind == "far" else 0.1)
    dtype = first.dtype
    if kind == "other dtype" or not floating:
        dtype = "float32" if first.dtype != "float32" else "float64"  # the standard has no halves
    second = first if kind == "equal" else data(first.values + step, dtype)
    options = dict(case.options) | ({} if levels["reduction"] == "none" else {"reduction": levels["reduction"]})
    name = f"{case.name}, second={kind}, reduction={levels['reduction']}"
    return Case(name, case.dtype, (first, second), options)


def _pair_special() -> list[Case]:
    """Pair special rows with themselves, with even rows, and even rows with them: in float32 each in all three ways."""
    cases = []
    for i, case in enumerate(special.row_number_cases()):
        x = case.args[0]
        even = Data(np.zeros(x.values.shape, x.values.dtype), x.dtype)
        # Where p is even, log(p / q) of the largest numbers is beyond the range of their dtype
        small = Data(np.where(np.abs(x.values) > 1e30, x.values * np.isinf(x.values), x.values), x.dtype)
        ways = ("itself", (x, x)), ("even", (x, even)), ("even first", (even, small))
        for name, pair in ways if x.dtype == "float32" else (ways[i % 3],):
            cases.append(dataclasses.replace(case, name=f"{case.name}, {name}", args=pair))
    return cases


def _both(case: Case) -> tuple[tuple[int, ...], list[tuple[Row, Row]]]:
    x, axis, first = expect.reduced_rows(case)
    _, _, second = expect.reduced_rows(dataclasses.replace(case, args=case.args[1:]))
    return row_shape(x.shape, axis), list(zip(first, second, strict=True))


def _undefined(one: Row, two: Row, empty: str) -> bool:
    return one.poisoned or two.poisoned or (empty == "nan" and (one.dead or two.dead))


class _Classes:
    """p, q and log(p / q) of every class, with the slack of each."""

    def __init__(self, one: Row, two: Row) -> None:
        self.count = len(one.live)
        self.p, self.q = ([row.probability(j) if alive else Near(ZERO) for j, alive in enumerate(row.live)]
                          for row in (one, two))  # fmt: skip
        self.both = [a and b for a, b in zip(one.live, two.live, strict=True)]
        ends = one.log_sum + one.wobble + two.log_sum + two.wobble
        same = one.m == two.m and one.v == two.v and one.live == two.live  # then every d is exactly 0
        self.d = [
            Near(ZERO) if same else Near((one.v[j] - one.log_sum) - (two.v[j] - two.log_sum),
                 one.noise[j] + two.noise[j] + abs(one.v[j]) + abs(two.v[j]) + ends)
            for j in range(self.count)
        ]  # fmt: skip

    def gap(self, p: Near, m: Near, t: mpf) -> Near:
        """Return m - p + p t, and the error of its own evaluation."""
        if t == 0:
            return Near(ZERO)
        value = m.value - p.value + p.value * t
        if abs(t) < 0.51:
            return Near(value, 8 * value + value / p.value * p.slack)
        return Near(value, m.slack + p.slack * (1 + abs(t)) + 3 * value)


def kl_row(one: Row, two: Row, empty: str) -> Near:
    """Return KL(p, q)."""
    if _undefined(one, two, empty):
        return Near(NAN)
    if one.dead:
        return Near(ZERO)
    if any(a and not b for a, b in zip(one.live, two.live, strict=True)):
        return Near(INF)
    c, found = _Classes(one, two), []
    for j in range(c.count):
        p, q, d = c.p[j], c.q[j], c.d[j]
        if c.both[j]:
            gap = c.gap(p, q, d.value)
            found.append(Near(gap.value, gap.slack + abs(p.value - q.value) * d.slack + p.value * d.slack**2 * SQUARED))
        else:
            found.append(Near(q.value, q.slack))
    return _sum_of_terms(found)


def _sum_of_terms(found: list[Near]) -> Near:
    value = oracle.total([one.value for one in found])
    if abs(value) < mpf(2) ** -200:
        value = ZERO
    slack = oracle.total([one.slack for one in found])
    return Near(value, slack + value * oracle.summing(len(found)))


def js_row(one: Row, two: Row, empty: str, weight: float) -> Near:
    """Return weight KL(p, m) + (1 - weight) KL(q, m)."""
    if _undefined(one, two, empty):
        return Near(NAN)
    w, c, found = mpf(weight), _Classes(one, two), []
    for j in range(c.count):
        p, q, d = c.p[j], c.q[j], c.d[j]
        if c.both[j]:
            m = Near(w * p.value + (1 - w) * q.value, w * p.slack + (1 - w) * q.slack)
            terms = []
            for own, share in ((p, w), (q, 1 - w)):
                t = CONTEXT.log(own.value / m.value)
                gap = c.gap(own, m, t)
                moved = abs(own.value - m.value) * (4 * abs(t) + d.slack) + own.value * d.slack**2 * SQUARED
                terms.append(Near(share * gap.value, share * (gap.slack + moved)))
            found.append(Near(terms[0].value + terms[1].value, terms[0].slack + terms[1].slack))
        else:
            for own, share in ((p, w), (q, 1 - w)):
                value = -share * CONTEXT.log(share) * own.value if share else ZERO
                found.append(Near(value, 2 * value + own.slack))
    return _sum_of_terms(found)


def _reduced(case: Case, name: str, rows: list[Near], shape: tuple[int, ...]) -> list[Expected]:
    reduction = case.options.get("reduction", "none")
    if reduction == "none":
        return [expect.one_a_row(name, rows, shape, "loss")]
    value = oracle.total([row.value for row in rows])
    slack = oracle.total([row.slack + row.value * (1 + oracle.summing(len(rows))) for row in rows])
    count = len(rows) if reduction == "mean" else 1
    if not rows:
        return [expect.scalar(name, Near(NAN if reduction == "mean" else ZERO))]
    return [expect.scalar(name, Near(value / count, slack / count if value == value and value != INF else ZERO))]


def kl_divergence(case: Case) -> list[Expected]:
    """Return what kl_divergence must give."""
    shape, pairs = _both(case)
    empty = case.options.get("empty", "nan")
    return _reduced(case, "divergence", [kl_row(one, two, empty) for one, two in pairs], shape)


def js_divergence(case: Case) -> list[Expected]:
    """Return what js_divergence must give."""
    shape, pairs = _both(case)
    empty, weight = case.options.get("empty", "nan"), case.options.get("weight", 0.5)
    return _reduced(case, "divergence", [js_row(one, two, empty, weight) for one, two in pairs], shape)


def _js_case(number: int, levels: grids.Levels) -> Case:
    case = _pair_case(number, levels)
    weight = {} if levels["weight"] == 0.5 else {"weight": levels["weight"]}
    return dataclasses.replace(case, name=f"{case.name}, weight={levels['weight']}", options={**case.options, **weight})


# -- means ------------------------------------------------------------------------------------------------------------

_MEANS = GRID | {"of": ("classes", "entries"), "kind": ("float", "other float", "int32")}


def _mean_case(number: int, levels: grids.Levels) -> Case:
    case = logits_case(number, levels)
    x, axis, rng = case.args[0], case.options.get("axis", -1), generator(case.name)
    rows = to_rows(x.values, axis)
    shape = rows.shape[1:] if levels["of"] == "classes" else rows.shape
    values = rng.integers(-16, 17, shape) / (1 if levels["kind"] == "int32" else 8)
    dtype = x.dtype if x.dtype in FLOATS else "float32"
    other = "float32" if dtype == "float64" else "float64"
    dtype = {"float": dtype, "other float": other, "int32": "int32"}[levels["kind"]]
    values = from_rows(values, x.values.shape, axis) if levels["of"] == "entries" else values
    return Case(f"{case.name}, values of {levels['of']}", case.dtype, (x, data(values, dtype)), case.options)


def _mean_special() -> list[Case]:
    """Return special rows with values of both signs, and values that count for nothing."""
    cases = []
    for case in special.row_number_cases():
        x, axis = case.args[0], case.options.get("axis", -1)
        n = to_rows(x.values, axis).shape[1]
        cases.append(dataclasses.replace(case, args=(x, data(np.arange(n) % 5 - 2.0, "float32"))))
    logits = data([[0, -np.inf, 0], [-np.inf, 1, -np.inf]], "float32")
    values = data([[1, np.inf, -1], [np.nan, 2, -np.inf]], "float32")
    cases.append(Case("infinite values of impossible classes", "float32", (logits, values)))
    return cases


def mean_row(row: Row, values: NDArray, empty: str) -> Near:
    """Return the sum of p v."""
    nothing = void(row, empty)
    if nothing is not None:
        return nothing
    found = []
    for j, one in enumerate(oracle.numbers(values)):
        if row.live[j]:
            p = row.probability(j)
            found.append((p.value * one, p.slack * abs(one)))
    value = oracle.total([term for term, _ in found])
    return Near(value, oracle.total([slack for _, slack in found]) + abs(value))


def softmax_mean(case: Case) -> list[Expected]:
    """Return what softmax_mean must give."""
    x, axis, rows = expect.reduced_rows(case)
    values = case.args[1].values
    table = to_rows(values, axis) if values.shape == x.shape else np.broadcast_to(values, (len(rows), *values.shape))
    empty = case.options.get("empty", "nan")
    found = [mean_row(row, own, empty) for row, own in zip(rows, table, strict=True)]
    return [expect.one_a_row("mean", found, row_shape(x.shape, axis), "loss")]


def divergences_not_negative(case: Case, results: Sequence[NDArray]) -> str | None:
    """No divergence is below 0."""
    return "a divergence is negative" if (results[0] < 0).any() else None


def _examples(**more: Any) -> tuple[Example, ...]:
    def call(**options: Any) -> Callable[[Any], Any]:
        return lambda i: given(i.x, i.y, **options, **more)

    return (
        Example("plain", call(), (0, 1)),
        Example("along the first axis", call(axis=0, reduction="sum"), (0, 1)),
        Example("masked", lambda i: given(i.x, i.y, where=i.where, reduction="mean", **more), (0, 1)),
        Example("by numbers", lambda i: given(i.x, i.y, temperature=i.half, softcap=i.three, **more),
                (0, 1, "temperature", "softcap")),
    )  # fmt: skip


_NOT_DRAWN = {"fuzz": "two arrays of the shape of logits are not drawn"}
_FORMULAS = _NOT_DRAWN | {"memory": "computed by the formulas, with arrays of the size of the logits"}

ROW_PAIRS = (
    Op(
        "kl_divergence",
        functools.partial(grids.cases_of, _PAIRS, _pair_case),
        _pair_special,
        kl_divergence,
        ulps=2.0,
        why="as log_softmax of both, their difference, products and sums",
        invariants=(divergences_not_negative,),
        examples=_examples(),
        lacks=_NOT_DRAWN,
    ),
    Op(
        "js_divergence",
        functools.partial(grids.cases_of, _PAIRS | {"weight": (0.5, 0.1, 1.0)}, _js_case),
        _pair_special,
        js_divergence,
        ulps=2.0,
        why="as kl_divergence twice, and the logarithms of the mixture",
        invariants=(divergences_not_negative,),
        examples=_examples(weight=0.3),
        lacks=_FORMULAS,
    ),
    Op(
        "softmax_mean",
        functools.partial(grids.cases_of, _MEANS, _mean_case),
        _mean_special,
        softmax_mean,
        ulps=2.0,
        why="as softmax, products and a compensated sum",
        examples=(
            Example("plain", lambda i: given(i.x, i.y), (0, 1)),
            Example("of classes", lambda i: given(i.x, i.class_weight, where=i.where), (0, 1)),
            Example("along the first axis", lambda i: given(i.x.T, i.class_weight, axis=0), (0, 1)),
            Example("by numbers", lambda i: given(i.x, i.y, temperature=i.half, softcap=i.three),
                    (0, 1, "temperature", "softcap")),
        ),
        lacks=_NOT_DRAWN,
    ),
)  # fmt: skip
