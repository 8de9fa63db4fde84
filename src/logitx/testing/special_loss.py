"""Special values of the cross-entropies: rows that must not count, weights that are 0, labels in odd places."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.testing.cases import FLOATS, Case, Data, data, generator
from logitx.testing.compare import PRECISIONS

INF, NAN = np.inf, np.nan


def hard_rows(dtype: str) -> dict[str, tuple[list[float], int]]:
    """Return the special rows with class ids."""
    return {
        "plain": ([1, 2, 3, 0], 2),
        "label at -inf": ([-INF, 0, 1, 2], 0),
        "other class at -inf": ([-INF, 0, 1, 2], 3),
        "NaN": ([NAN, 0, -INF, 1], 1),
        "+inf": ([INF, 0, -INF, 1], 1),
        "+inf at the label": ([0, INF, 0, 1], 1),
        "all -inf": ([-INF] * 4, 1),
        "ignored": ([1, 2, 3, 4], -100),
        "ignored NaN": ([NAN, INF, 0, 1], -100),
        "ignored all -inf": ([-INF] * 4, -100),
        "dominating label": ([1 - float(np.log(PRECISIONS[dtype].eps)), 0, 0, 0], 0),
        "dominated label": ([40, 0, 0, 0], 1),
        "label 200 below the maximum": ([0, 0, -200, 0], 2),
        "offset 10000": ([1e4, 1e4 + 8, 1e4 - 8, 1e4], 1),
        "one live class": ([-INF, 5, -INF, -INF], 1),
    }


MASKED_ROWS: dict[str, tuple[list[float], list[int], int]] = {
    "nothing masked": ([1, 2, 3, 4], [1, 1, 1, 1], 1),
    "other class masked": ([1, 2, 3, 4], [1, 1, 1, 0], 1),
    "masked label": ([1, 2, 3, 4], [0, 1, 1, 1], 0),
    "masked NaN": ([NAN, 1, 2, 3], [0, 1, 1, 1], 2),
    "masked +inf": ([1, INF, 2, 3], [1, 0, 1, 1], 2),
    "masked maximum": ([100, 1, 2, 3], [0, 1, 1, 1], 3),
    "all masked": ([1, 2, 3, 4], [0, 0, 0, 0], 1),
    "all masked, NaN": ([NAN, INF, 3, 4], [0, 0, 0, 0], 1),
    "all masked, ignored": ([1, 2, 3, 4], [0, 0, 0, 0], -100),
    "masked and ignored": ([1, NAN, 3, 4], [1, 0, 1, 1], -100),
    "only -inf unmasked": ([9, -INF, -INF, 9], [0, 1, 1, 0], 1),
    "NaN beside masked": ([NAN, 1, 2, 3], [1, 0, 1, 1], 2),
}

SOFT_ROWS: dict[str, tuple[list[float], list[float], list[int]]] = {
    "plain": ([1, 2, 3, 0], [0.25, 0.25, 0.5, 0], [1, 1, 1, 1]),
    "one-hot": ([1, 2, 3, 0], [0, 0, 1, 0], [1, 1, 1, 1]),
    "0 at -inf": ([-INF, 1, 2, 0], [0, 0.25, 0.75, 0], [1, 1, 1, 1]),
    "mass at -inf": ([-INF, 1, 2, 0], [0.5, 0.5, 0, 0], [1, 1, 1, 1]),
    "no mass": ([1, 2, 3, 4], [0, 0, 0, 0], [1, 1, 1, 1]),
    "sum of 2": ([1, 2, 3, 4], [0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1]),
    "NaN": ([NAN, -INF, 2, 3], [0, 0, 0.5, 0.5], [1, 1, 1, 1]),
    "+inf": ([INF, -INF, 2, 3], [0, 0, 0.5, 0.5], [1, 1, 1, 1]),
    "all -inf": ([-INF] * 4, [0.25, 0.25, 0.25, 0.25], [1, 1, 1, 1]),
    "0 at masked NaN": ([NAN, 1, 2, 3], [0, 0.5, 0.5, 0], [0, 1, 1, 1]),
    "mass at masked": ([1, 2, 3, 4], [0.5, 0.5, 0, 0], [0, 1, 1, 1]),
    "all masked": ([NAN, 2, 3, 4], [0.5, 0.5, 0, 0], [0, 0, 0, 0]),
    "offset 10000": ([1e4, 1e4 + 8, 1e4 - 8, 1e4], [0.25, 0.25, 0.25, 0.25], [1, 1, 1, 1]),
}

_NONE: dict[str, Any] = {"reduction": "none"}


def _ids(labels: Any, dtype: str = "int64") -> Data:
    return Data(np.array(labels, dtype=np.int64), dtype)


def _stacked(dtype: str) -> list[Case]:
    hard = hard_rows(dtype)
    matrix, names = np.array([x for x, _ in hard.values()]), tuple(hard)
    x, turned, ids = data(matrix, dtype), data(matrix.T, dtype), _ids([label for _, label in hard.values()])
    weights = {"class_weight": data([0.5, 2, 1, 0.25], dtype)}
    masked_x = data([x for x, _, _ in MASKED_ROWS.values()], dtype)
    masked_ids = _ids([label for _, _, label in MASKED_ROWS.values()])
    where = {"where": Data(np.array([keep for _, keep, _ in MASKED_ROWS.values()], dtype=bool), "bool")}
    masked_names = tuple(MASKED_ROWS)
    soft_x = data([x for x, _, _ in SOFT_ROWS.values()], dtype)
    soft = data([t for _, t, _ in SOFT_ROWS.values()], dtype)
    soft_where = {"where": Data(np.array([keep for _, _, keep in SOFT_ROWS.values()], dtype=bool), "bool")}
    smooth = {"label_smoothing": 0.125}
    return [
        Case("rows", dtype, (x, ids), _NONE, rows=names),
        Case("rows, smoothed, empty=zero", dtype, (turned, ids), _NONE | smooth | {"axis": 0, "empty": "zero"},
             rows=names),
        Case("rows, weighted z-loss", dtype, (x, ids), _NONE | weights | {"z_loss": 0.01, "return_parts": True},
             rows=names),
        Case("rows, scaled", dtype, (x, ids), _NONE | {"softcap": 30.0, "temperature": 0.5}, rows=names),
        Case("masked rows", dtype, (masked_x, masked_ids), _NONE | where, rows=masked_names),
        Case("masked rows, smoothed", dtype, (masked_x, masked_ids),
             _NONE | where | smooth | {"empty": "zero", "z_loss": 0.01}, rows=masked_names),
        Case("soft rows", dtype, (soft_x, soft), _NONE | soft_where, rows=tuple(SOFT_ROWS)),
        Case("soft rows, weighted", dtype, (soft_x, soft), _NONE | soft_where | weights | smooth,
             rows=tuple(SOFT_ROWS)),
    ]  # fmt: skip


def _means() -> list[Case]:
    """Denominators: what is counted, and what happens when nothing is."""
    x = data([[1, 2, 3], [NAN, 0, 1], [3, 1, 0], [0.5, 0.25, -4]], "float32")
    clean = data([[1, 2, 3], [0, 4, 1], [3, 1, 0], [0.5, 0.25, -4]], "float32")
    ids, weight = _ids([2, 0, 1, 1]), data([0.5, 2, 1], "float32")
    ignored, samples = _ids([2, -100, 1, -100]), data([1, 0, 2, 0.5], "float32")
    soft = data([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]], "float32")
    rows = Data(np.array([[True], [False], [True], [True]]), "bool")
    empty_rows = data([[1, 2, 3], [-INF, -INF, -INF]], "float32"), _ids([2, 0])
    rest: list[tuple[str, tuple[Data, ...], dict[str, Any]]] = [
        ("mean", (clean, ids), {}),
        ("mean with ignored rows", (x, ignored), {}),
        ("mean with class weights", (clean, ids), {"class_weight": weight}),
        ("mean with class weights and ignored rows", (x, ignored), {"class_weight": weight, "z_loss": 0.125}),
        ("mean with class weights, one-hot soft labels", (clean, soft), {"class_weight": weight}),
        ("mean with all weights and smoothing", (clean, ids),
         {"class_weight": weight, "sample_weight": samples, "label_smoothing": 0.25, "return_parts": True}),
        ("sample weight 0 on a NaN row", (x, ids), {"sample_weight": samples}),
        ("class weight 0 on a NaN row", (x, ids), {"class_weight": data([0, 2, 1], "float32")}),
        ("class weight 0 on a NaN row, soft labels", (x, soft), {"class_weight": data([0, 2, 1], "float32")}),
        ("mean with a masked row", (x, ids), {"where": rows}),
        ("mean with an all -inf row", empty_rows, {"empty": "zero"}),
        ("ignore_index is a valid id", (clean, ids), {"ignore_index": 1}),
        ("ignore_index is None", (clean, ids), {"ignore_index": None}),
    ]  # fmt: skip
    for empty in ("nan", "zero"):
        void = {"empty": empty}
        rest += [
            (f"all ignored, empty={empty}", (x, _ids([-100] * 4)), void),
            (f"all weights 0, empty={empty}", (x, ids), void | {"sample_weight": data([0, 0, 0, 0], "float32")}),
            (f"no rows, empty={empty}", (data(np.zeros((0, 3)), "float32"), _ids([])), void | {"return_parts": True}),
        ]
    rest += [
        ("all ignored, sum", (x, _ids([-100] * 4)), {"reduction": "sum"}),
        ("no rows, sum", (data(np.zeros((0, 3)), "float32"), _ids([])), {"reduction": "sum"}),
        ("no rows, none", (data(np.zeros((0, 3)), "float32"), _ids([])), _NONE),
        ("0-d", (data(1.5, "float32"), _ids(0)), {"axis": 0}),
    ]
    return [Case(name, "float32", args, options) for name, args, options in rest]


def _label_dtypes() -> list[Case]:
    """Class ids compare as int64, whatever the dtype of labels and logits."""
    rng = generator("label dtypes")
    wide, wider = rng.standard_normal((3, 200)), rng.standard_normal((3, 300))
    narrow = data(rng.standard_normal((3, 5)), "float32")
    return [
        # 156 is -100 modulo 256
        Case("uint8 label congruent to ignore_index", "float32", (data(wide, "float32"), _ids([156, 3, 199], "uint8")),
             _NONE),
        Case("uint8 label 255 ignored", "float32", (narrow, _ids([255, 3, 1], "uint8")), {"ignore_index": 255}),
        # bfloat16 holds integers up to 256 only
        Case("label 257 beside ignore_index 256", "bfloat16", (data(wider, "bfloat16"), _ids([257, 256, 1])),
             _NONE | {"ignore_index": 256}),
        Case("ignore_index beyond the label dtype", "float32", (narrow, _ids([4, 0, 1], "int8")),
             {"ignore_index": 2**40}),
        Case("ignore_index equal to a label modulo 256", "float32", (narrow, _ids([4, 0, 1], "int8")),
             {"ignore_index": 260}),
        Case("int8 wraparound", "integer", (Data(np.array([[100, -100], [-128, 127]]), "int8"), _ids([1, 0])), {}),
        Case("foreign byte order", "float64", (data(narrow.values, "float64", "swapped"), Data(np.array([4, 0, 1]),
             "int32", "swapped")), {}),
    ]  # fmt: skip


def _sums_of_halves() -> list[Case]:
    zeros = data(np.zeros((1, 70_000)), "float16")
    # a loss near 36 has a grid of 0.25 in bfloat16; in float32 it must not
    return [
        Case("float16 sum of 70000", "float16", (zeros, _ids([3])), _NONE),
        Case("float16 losses add up beyond float16", "float16", (data(np.full((40, 3), [0, 2e4, -2e4]), "float16"),
             _ids([2] * 40)), {"reduction": "sum"}),
        Case("bfloat16 loss of 36", "bfloat16", (data([[36, 0.5, 0, 1]] * 3, "bfloat16"), _ids([1, 2, 2])), {}),
    ]  # fmt: skip


def cross_entropy_cases() -> list[Case]:
    """Return the special cases of cross_entropy and cross_entropy_value_and_grad."""
    some = ("rows", "rows, scaled", "masked rows, smoothed", "soft rows, weighted")  # the formulas are those of float32
    stacked = [case for dtype in FLOATS for case in _stacked(dtype) if "32" in dtype or case.name in some]
    return stacked + _means() + _label_dtypes() + _sums_of_halves()


def grad_hess_cases() -> list[Case]:
    """Return the special cases of cross_entropy_grad_hess."""
    cases = []
    for dtype in FLOATS:
        rows = {name: row for name, row in hard_rows(dtype).items() if row[1] >= 0}
        x, ids = data([x for x, _ in rows.values()], dtype), _ids([label for _, label in rows.values()])
        weights = {
            "class_weight": data([0.5, 2, 1, 0.25], dtype),
            "sample_weight": data(np.arange(len(rows)) % 3, dtype),
        }
        soft = {name: row for name, row in SOFT_ROWS.items() if all(row[2])}
        soft_args = data([x for x, _, _ in soft.values()], dtype), data([t for _, t, _ in soft.values()], dtype)
        cases += [
            Case("rows", dtype, (x, ids), {}, rows=tuple(rows)),
            Case("rows, weighted", dtype, (x, ids), weights, rows=tuple(rows)),
            Case("soft rows", dtype, soft_args, {}, rows=tuple(soft)),
        ]
    cases.append(Case("no rows", "float32", (data(np.zeros((0, 3)), "float32"), _ids([]))))
    return cases
