"""Cases of the cross-entropies of a linear layer.

Numbers are small multiples of 1/8, so that logits are exact in float32: what is left of an error is that of the loss,
of its gradient, and of the products with it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from logitx.testing import grids
from logitx.testing.cases import FLOATS, MEMORY, Case, Data, NDArray, data, generator
from logitx.testing.covering import pairwise

INF, NAN = np.inf, np.nan

# A vector, one row, an odd number of rows, rows of two axes. Classes: fewer than a register holds, one more, several
# tiles of the smaller budgets with a rest. A budget of 1 byte makes tiles of one logit.
ROWS = {"vector": (), "one": (1,), "odd": (9,), "stacked": (2, 3)}
LINEAR: dict[str, tuple[Hashable, ...]] = (
    {
        "dtype": FLOATS,
        "rows": tuple(ROWS),
        "classes": (1, 2, 7, 33, 130),
        "features": (1, 3, 8),
        "block_bytes": (1, 400, 1500, None),
        "memory": MEMORY,
        "values": ("plain", "offset", "dominant", "ninf", "poison"),
        "weight": ("same", "other"),
        "bias": ("none", "same", "other"),
    }
    | grids.SCALED
    | grids.WEIGHTED
    | {name: grids.CROSS_ENTROPY[name] for name in ("ignore", "label_smoothing", "z_loss", "reduction", "empty")}
)
_NO_BIAS = frozenset((("values", "ninf"), ("bias", "none")))  # an infinite weight would make NaN of features of 0
FORBIDDEN = grids.FORBIDDEN | {_NO_BIAS}
_OTHER = {"float16": "float32", "bfloat16": "float32", "float32": "float64", "float64": "float32"}


def _eighths(rng: np.random.Generator, shape: tuple[int, ...], most: int) -> NDArray:
    return rng.integers(-most, most + 1, size=shape) / 8


def _factors(kind: str, shape: tuple[int, ...], n: int, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
    hidden, weight, bias = _eighths(rng, shape, 16), _eighths(rng, (n, shape[-1]), 12), _eighths(rng, (n,), 16)
    if kind == "offset":
        hidden[..., 0], weight[:, 0] = 64, 128
    elif kind == "dominant":
        hidden[..., 0], weight[n // 2, 0] = 8, 6
    elif kind == "ninf":
        bias[1::3] = -INF
    elif kind == "poison":
        hidden.reshape(-1)[0] = NAN
    return hidden, weight, bias


def _case(number: int, levels: grids.Levels) -> Case:
    name = f"pair {number:02d}: " + ", ".join(f"{factor}={level}" for factor, level in levels.items())
    rng, dtype, n = generator(name), levels["dtype"], levels["classes"]
    shape = (*ROWS[levels["rows"]], levels["features"])
    hidden, weight, bias = _factors(levels["values"], shape, n, rng)
    bias = bias if levels["bias"] != "none" else np.zeros(n)
    with np.errstate(invalid="ignore"):
        x = hidden @ weight.T + bias
    d = grids.Drawing(name, dtype, dtype, x, -1, "C", rng)
    options = grids.scaling(d, levels)
    targets = grids.targets_of(d, levels, options)
    options |= grids.weights_of(d, levels, targets)
    for key, low, high in (("label_smoothing", 0.05, 0.3), ("z_loss", 0.001, 0.1)):
        if levels[key] != 0.0:
            options[key] = grids.per_row(d, levels[key], low, high)
    options |= {key: levels[key] for key in ("empty", "reduction")}
    options |= {} if levels["block_bytes"] is None else {"block_bytes": levels["block_bytes"]}
    weight_dtype = dtype if levels["weight"] == "same" else _OTHER[dtype]
    args: tuple[Data, ...] = (
        data(hidden, dtype, levels["memory"]),
        data(weight, weight_dtype, levels["memory"]),
        targets,
    )
    if levels["bias"] != "none":
        args = (*args, data(bias, dtype if levels["bias"] == "same" else _OTHER[dtype]))
    return Case(name, dtype, args, options)


def grid_cases() -> list[Case]:
    """Return cases that cover all pairs of levels of the options."""
    return [_case(number, levels) for number, levels in enumerate(pairwise(LINEAR, FORBIDDEN))]


# -- special values ---------------------------------------------------------------------------------------------------

# With the identity for weights, hidden features are the logits.
SPECIAL_ROWS: dict[str, tuple[list[float], int]] = {
    "plain": ([1, 2, 3, 0], 2),
    "dominating label": ([32, 0, 0, 0], 0),
    "dominated label": ([40, 0, 0, 0], 1),
    "label 200 below the maximum": ([0, 0, -200, 0], 2),
    "offset 10000": ([9984, 9984 + 64, 9984 - 64, 9984], 1),
    "ignored": ([1, 2, 3, 4], -100),
    "ignored NaN": ([NAN, INF, 0, 1], -100),
    "equal": ([1, 1, 1, 1], 3),
}
_NONE: dict[str, Any] = {"reduction": "none"}


def _ids(labels: Any) -> Data:
    return Data(np.array(labels, dtype=np.int64), "int64")


def _rows(dtype: str) -> list[Case]:
    x, names = data([row for row, _ in SPECIAL_ROWS.values()], dtype), tuple(SPECIAL_ROWS)
    ids, eye = _ids([label for _, label in SPECIAL_ROWS.values()]), data(np.eye(4), dtype)
    masked, tiles = data([-INF, 0, 0, 0.5], dtype), {"block_bytes": 40}
    weights = {"class_weight": data([0.5, 2, 1, 0.25], dtype)}
    soft = data([[0, 0, 0, 0], [0.25, 0.25, 0.5, 0], [0, 1, 0, 0], [0.5, 0.5, 0.5, 0.5]] * 2, dtype)
    finite = data(np.nan_to_num(x.values, nan=0, posinf=1), dtype)
    return [
        Case("rows", dtype, (x, eye, ids), _NONE, rows=names),
        Case("rows in tiles", dtype, (x, eye, ids), tiles | weights, rows=names),
        Case("rows, scaled", dtype, (x, eye, ids), _NONE | tiles | {"softcap": 32.0, "temperature": 0.5}, rows=names),
        Case("a class at -inf", dtype, (x, eye, ids, masked), _NONE | tiles, rows=names),
        Case("a class at -inf, smoothed", dtype, (x, eye, ids, masked), tiles | {"label_smoothing": 0.125}, rows=names),
        Case("soft rows", dtype, (finite, eye, soft, masked), _NONE | tiles | weights, rows=names),
    ]


def special_cases() -> list[Case]:
    """Return the cases with special values."""
    x = data([[1, 2, 3], [NAN, 0, 1], [3, 1, 0], [0.5, 0.25, -4]], "float32")
    eye, ids, tiles = data(np.eye(3), "float32"), _ids([2, 0, 1, 1]), {"block_bytes": 24}
    samples = {"sample_weight": data([1, 0, 2, 0.5], "float32")}
    soft = data([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]], "float32")
    classes, nowhere = {"class_weight": data([0, 2, 1], "float32")}, data([-INF] * 3, "float32")
    none = data(np.zeros((0, 3)), "float32")
    rest: list[tuple[str, tuple[Data, ...], dict[str, Any]]] = [
        ("sample weight 0 on a NaN row", (x, eye, ids), samples | tiles),
        ("class weight 0 on a NaN row", (x, eye, ids), classes),
        ("class weight 0 on a NaN row, soft labels", (x, eye, soft), classes | tiles),
        ("NaN row", (x, eye, ids), _NONE | tiles),
        ("no features", (data(np.zeros((4, 0)), "float32"), data(np.zeros((3, 0)), "float32"), ids,
                         data([0, 1, 2], "float32")), tiles),
        ("no rows, sum", (none, eye, _ids([])), {"reduction": "sum"}),
        ("no rows, none", (none, eye, _ids([])), _NONE),
        ("ignore_index is a valid id", (data(np.eye(4, 3), "float32"), eye, ids), {"ignore_index": 1}),
    ]  # fmt: skip
    for empty in ("nan", "zero"):
        void = {"empty": empty}
        rest += [
            (f"all -inf, empty={empty}", (data(np.eye(4, 3), "float32"), eye, ids, nowhere), void),
            (f"all ignored, empty={empty}", (x, eye, _ids([-100] * 4)), void | tiles),
            (f"no rows, empty={empty}", (none, eye, _ids([])), void),
        ]
    rng = generator("many classes")
    hidden, weight, bias = _factors("plain", (3, 5), 1000, rng)
    many = (data(hidden, "float32"), data(weight, "float32"), _ids([999, 0, 500]), data(bias, "float32"))
    rest.append(("1000 classes in tiles", many, {"block_bytes": 2000, "z_loss": 0.01}))
    stacked = [case for dtype in FLOATS for case in _rows(dtype) if "32" in dtype or case.name != "rows, scaled"]
    return stacked + [Case(name, "float32", args, options) for name, args, options in rest]
