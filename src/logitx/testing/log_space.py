"""Cases and oracles of log_matmul and logcumsumexp."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from logitx.testing import grids, oracle, special
from logitx.testing.cases import FLOATS, Case, Data, concrete_dtype, data, from_rows, generator, logits, to_rows
from logitx.testing.covering import pairwise
from logitx.testing.expect import Expected, split_numbers

INF, NAN = np.inf, np.nan

# -- logcumsumexp -----------------------------------------------------------------------------------------------------

CUMULATIVE: dict[str, tuple[Hashable, ...]] = grids.INPUT | {"n": (1, 2, 3, 7, 17), "reverse": (False, True)}


def _cumulative_case(number: int, levels: grids.Levels) -> Case:
    d = grids.draw(number, levels)
    options = d.base | ({"reverse": True} if levels["reverse"] else {})
    return Case(d.name, d.column, (Data(d.x, d.dtype, d.memory),), options)


def cumulative_grid() -> list[Case]:
    """Return cases that cover all pairs of levels of the options."""
    return grids.cases_of(CUMULATIVE, _cumulative_case)


def cumulative_cases() -> list[Case]:
    """Return the cases with special values."""
    cases = []
    for dtype in FLOATS:
        rows = special.softmax_rows(dtype)
        x = data(np.array(list(rows.values())), dtype)
        cases += [
            Case("special rows", dtype, (x,), {}, rows=tuple(rows)),
            Case("special rows, reversed", dtype, (x,), {"reverse": True}, rows=tuple(rows)),
            Case("special rows, first axis", dtype, (data(x.values.T, dtype),), {"axis": 0}, rows=tuple(rows)),
        ]
    steps = data(np.arange(100.0) * 3, "float32")
    return [
        *cases,
        Case("rising", "float32", (steps,)),
        Case("falling", "float32", (steps,), {"reverse": True}),
        Case("no class axis", "float32", (data(np.arange(6.0).reshape(2, 3), "float32"),), {"axis": ()}),
        Case("axis of length 0", "float32", (data(np.zeros((3, 0)), "float32"),)),
        Case("no rows", "float32", (data(np.zeros((0, 3)), "float32"),)),
    ]


def logcumsumexp(case: Case) -> list[Expected]:
    """Return what logcumsumexp must give."""
    x, axis, reverse = case.args[0].values, case.options.get("axis", -1), case.options.get("reverse", False)
    rows = to_rows(x, axis)
    nears = []
    for row in rows:
        ends = range(len(row)) if reverse else range(1, len(row) + 1)
        parts = [row[end:] if reverse else row[:end] for end in ends]
        nears += [oracle.log_normalizer(oracle.reduce_row(part, np.ones(len(part), dtype=bool))) for part in parts]
    high, low, slack = (from_rows(part, x.shape, axis) for part in split_numbers(nears, rows.shape))
    numbers = np.broadcast_to(np.arange(rows.shape[0])[:, None], rows.shape)
    return [Expected("logcumsumexp", high, low, slack, "result", True, from_rows(numbers, x.shape, axis))]


# -- log_matmul -------------------------------------------------------------------------------------------------------

SHAPES = {
    "matrices": ((5, 7), (7, 3)),
    "one term": ((2, 1), (1, 3)),
    "many terms": ((3, 130), (130, 4)),
    "vectors": ((17,), (17,)),
    "vector first": ((17,), (17, 4)),
    "vector last": ((4, 17), (17,)),
    "stacks": ((2, 3, 5), (2, 5, 2)),
    "broadcast stacks": ((2, 1, 3, 5), (4, 5, 2)),
}
PRODUCT: dict[str, tuple[Hashable, ...]] = {
    "dtype": grids.INPUT["dtype"],
    "shapes": tuple(SHAPES),
    "memory": grids.INPUT["memory"],
    "values": ("plain", "offset", "dominant", "ninf", "poison", "apart"),
}
_FORBIDDEN = grids.FORBIDDEN | {frozenset((("values", "apart"), ("dtype", dtype))) for dtype in ("integer", "bool")}


def _product_case(number: int, levels: grids.Levels) -> Case:
    name = f"pair {number:02d}: " + ", ".join(f"{factor}={level}" for factor, level in levels.items())
    rng, dtype = generator(name), concrete_dtype(levels["dtype"], number)
    kind = "plain" if levels["values"] == "apart" else levels["values"]
    factors = [logits(kind, shape, -1, dtype, rng) for shape in SHAPES[levels["shapes"]]]
    if levels["values"] == "apart":  # sums that vanish if each factor is shifted by its own maximum
        factors = [data(one * 64, dtype).values for one in factors]
    return Case(name, levels["dtype"], tuple(Data(one, dtype, levels["memory"]) for one in factors))


def product_grid() -> list[Case]:
    """Return cases that cover all pairs of levels."""
    return [_product_case(number, levels) for number, levels in enumerate(pairwise(PRODUCT, _FORBIDDEN))]


def product_cases() -> list[Case]:
    """Return the cases with special values."""
    cases = []
    for dtype in FLOATS:
        a = [[0, -200], [-INF, -INF], [INF, 0], [INF, -INF], [NAN, 0], [-200, -INF], [-90, 90]]
        b = [[-200, 0, -INF, INF, -INF, 90, NAN], [0, 0, 0, -INF, -INF, -90, 0]]
        cases.append(Case("special sums", dtype, (data(a, dtype), data(b, dtype))))
        large = [[100.0, -100.0, 50.0], [1e4, 1e4, 1e4]]
        cases.append(Case("maxima that cancel", dtype, (data(large, dtype), data(-np.array(large).T, dtype))))
    for one, two in (((2, 0), (0, 3)), ((0, 2), (2, 3)), ((0,), (0,)), ((2, 3), (3, 0))):
        pair = data(np.zeros(one), "float32"), data(np.zeros(two), "float32")
        cases.append(Case(f"nothing in {one} and {two}", "float32", pair))
    return cases


def log_matmul(case: Case) -> list[Expected]:
    """Return what log_matmul must give."""
    a, b = (one.values.astype(np.float64) for one in case.args)
    vector, column = a.ndim == 1, b.ndim == 1
    a, b = a[None] if vector else a, b[:, None] if column else b
    with np.errstate(invalid="ignore"):
        terms = a[..., :, None, :] + np.swapaxes(b, -1, -2)[..., None, :, :]
    gone = (a == -INF)[..., :, None, :] | np.swapaxes(b == -INF, -1, -2)[..., None, :, :]
    number = np.isnan(a)[..., :, None, :] | np.isnan(np.swapaxes(b, -1, -2))[..., None, :, :]
    terms = np.where(number, NAN, np.where(gone, -INF, terms))
    shape = terms.shape[:-1]
    rows = terms.reshape(int(np.prod(shape)), terms.shape[-1])
    everything = np.ones(terms.shape[-1], dtype=bool)
    found = [oracle.log_normalizer(oracle.reduce_row(row, everything)) for row in rows]
    nears = [near._replace(slack=near.slack + 1) for near in found]  # of a sum, not of what is beside its largest term
    shape = (*shape[:-2], *(() if vector else shape[-2:-1]), *(() if column else shape[-1:]))
    return [Expected("product", *split_numbers(nears, shape), "result", False, np.arange(len(rows)).reshape(shape))]
