"""Cases and truth of the contrastive loss: numbers are small multiples of 1/8, so that similarities are exact."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from logitx.testing import expect, grids, oracle_loss
from logitx.testing.cases import FLOATS, MEMORY, Case, Data, NDArray, data, generator
from logitx.testing.covering import pairwise
from logitx.testing.examples import Example, given
from logitx.testing.expect import Expected
from logitx.testing.operation import Op
from logitx.testing.oracle import ZERO, Near, exact, mpf

PAIRS: dict[str, tuple[Hashable, ...]] = {
    "dtype": FLOATS,
    "rows": (1, 2, 9, 33),
    "features": (1, 5),
    "memory": MEMORY,
    "values": ("plain", "far", "poison"),
    "temperature": (1.0, 0.5, "array"),
    "symmetric": (True, False),
    "negatives": ("none", "few", "many"),
    "labels": ("none", "other"),
    "block_bytes": (None, 300),
}
FORBIDDEN = grids.FORBIDDEN | grids.never("symmetric", [True], "labels", ["other"])


def _case(number: int, levels: grids.Levels) -> Case:
    name = f"pair {number:02d}: " + ", ".join(f"{factor}={level}" for factor, level in levels.items())
    rng, dtype, rows, features = generator(name), levels["dtype"], levels["rows"], levels["features"]

    def drawn(count: int) -> NDArray:
        return rng.integers(-12, 13, size=(count, features)) / 8

    a, options = drawn(rows), dict[str, Any]()
    if levels["values"] == "far":
        a[:, 0] *= 16
    elif levels["values"] == "poison":
        a[0, 0] = np.nan
    columns = rows
    if levels["labels"] == "other":
        columns = rows + 3
        options["targets"] = Data(np.asarray(rng.integers(0, columns, rows)), "int64")
    if levels["negatives"] != "none":
        options["negatives"] = data(drawn(2 if levels["negatives"] == "few" else 70), dtype)
    if levels["temperature"] != 1.0:
        options["temperature"] = data(0.75, "float32") if levels["temperature"] == "array" else levels["temperature"]
    options["symmetric"] = levels["symmetric"]
    options |= {} if levels["block_bytes"] is None else {"block_bytes": levels["block_bytes"]}
    return Case(name, dtype, (data(a, dtype, levels["memory"]), data(drawn(columns), dtype, levels["memory"])), options)


def grid_cases() -> list[Case]:
    """Return cases that cover all pairs of levels of the options."""
    return [_case(number, levels) for number, levels in enumerate(pairwise(PAIRS, FORBIDDEN))]


def special_cases() -> list[Case]:
    """Return a case of vectors that are all alike, and one of orthogonal ones."""
    eye, ones = data(np.eye(4), "float32"), data(np.ones((4, 3)), "float32")
    return [
        Case("orthogonal", "float32", (eye, eye), {"temperature": 0.03125, "symmetric": True}),
        Case("alike", "float32", (ones, ones), {"symmetric": True}),
    ]


class _Direction:
    """The loss of the rows of one array among those of another, and its gradients by both."""

    def __init__(self, rows: NDArray, columns: NDArray, ids: NDArray, temperature: float) -> None:
        x = np.array(rows @ columns.T)
        settings = oracle_loss.Settings()
        valid = np.ones(x.shape[1], dtype=bool)
        each = [
            oracle_loss.cross_entropy_row(one, valid, np.asarray(target), 1.0, temperature, None, settings)
            for one, target in zip(x, ids, strict=True)
        ]
        losses, _, gradients = oracle_loss.reduced(each, "mean", "nan")
        self.loss = losses[0]
        self.by_rows, self.by_columns, _ = oracle_loss.through_layer(each, gradients, rows, columns)
        factors = [mpf(one) for one in rows.reshape(-1).tolist()]
        self.pull = _sum(
            [Near(g.value * f, g.slack * abs(f) + abs(g.value * f)) for g, f in zip(self.by_rows, factors, strict=True)]
        )


def _sum(terms: list[Near]) -> Near:
    value, slack = sum((one.value for one in terms), ZERO), sum((one.slack for one in terms), ZERO)
    more = sum((abs(one.value) for one in terms), ZERO)
    return Near(value, slack + more if value == value else ZERO)


def _mean(one: Near, two: Near) -> Near:
    """Return the mean; a rounding of each to the dtype of the gradient is no part of the slack."""
    return Near((one.value + two.value) / 2, one.slack + two.slack + abs(one.value) + abs(two.value))


def loss_and_gradients(case: Case) -> list[Expected]:
    """Return what info_nce_value_and_grad must give."""
    a, b, options = case.args[0].values, case.args[1].values, case.options
    heat = float(expect.values_of(options.get("temperature", 1.0)))
    negatives = expect.values_of(options.get("negatives"))
    ids = expect.values_of(options.get("targets"))
    columns = b if negatives is None else np.concatenate([b, negatives])
    there = _Direction(a, columns, np.arange(len(a)) if ids is None else ids, heat)
    loss, pull, da = there.loss, there.pull, there.by_rows
    db, more = there.by_columns[: b.size], there.by_columns[b.size :]
    if options.get("symmetric", True):
        back = _Direction(b, a, np.arange(len(a)), heat)
        loss, pull = _mean(loss, back.loss), _mean(pull, back.pull)
        da = [_mean(one, two) for one, two in zip(da, back.by_columns, strict=True)]
        db = [_mean(one, two) for one, two in zip(db, back.by_rows, strict=True)]
        more = [Near(one.value / 2, one.slack) for one in more]
    scale = -1 / exact(heat)
    found = [
        expect.scalar("loss", loss),
        expect.like_elements("da", da, a.shape),
        expect.like_elements("db", db, b.shape),
    ]
    if negatives is not None:
        found.append(expect.like_elements("dnegatives", more, negatives.shape))
    return [*found, expect.scalar("dtemperature", Near(pull.value * scale, pull.slack * abs(scale)))]


def loss(case: Case) -> list[Expected]:
    """Return what info_nce must give."""
    return loss_and_gradients(case)[:1]


_LACKS = {
    "memory": "as linear_cross_entropy",
    "fuzz": "as linear_cross_entropy, which it calls twice",
    "graph": "the numbers of the rows are made in Python; tests/test_contrastive.py compiles it",
    "shards": "as linear_cross_entropy",
    "lazy": "the tasks are pairs of chunks of two arrays, so they grow with their product",
}
CONTRASTIVE: tuple[Op, ...] = (
    Op(
        "info_nce",
        grid_cases,
        special_cases,
        loss,
        ulps=4.0,
        why="as linear_cross_entropy, twice",
        dtypes=("float32", "float64"),
        examples=(Example("plain", lambda i: given(i.hidden, i.hidden * 2), (0, 1)),),
        lacks=_LACKS,
    ),
    Op(
        "info_nce_value_and_grad",
        grid_cases,
        special_cases,
        loss_and_gradients,
        ulps=4.0,
        why="as linear_cross_entropy_value_and_grad, twice, and the products with the embeddings",
        dtypes=("float32", "float64"),
        examples=(Example("plain", lambda i: given(i.hidden, i.hidden * 2), (0, 1)),),
        lacks=_LACKS,
    ),
)
