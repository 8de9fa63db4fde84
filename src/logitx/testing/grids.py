"""The grids: which options every function has, at which levels, and how a row of the grid becomes a case.

`logitx.testing.covering.pairwise` makes rows of a grid in which every pair of levels occurs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitx.testing.cases import (
    AXES,
    DTYPES,
    FLOATS,
    MEMORY,
    SIZES,
    Case,
    Data,
    NDArray,
    concrete_dtype,
    data,
    from_rows,
    generator,
    logits,
    mask,
    rounded,
    row_shape,
    shaped,
    to_rows,
)
from logitx.testing.covering import Choice, pairwise

Levels = Mapping[str, Any]

INPUT: dict[str, tuple[Hashable, ...]] = {
    "dtype": DTYPES,
    "axes": AXES,
    "n": SIZES,
    "memory": MEMORY,
    "values": ("plain", "offset", "dominant", "ninf", "poison"),
}
MASKED: dict[str, tuple[Hashable, ...]] = {"where": ("none", "full", "by_class", "by_row")}
SCALED: dict[str, tuple[Hashable, ...]] = {
    "temperature": (1.0, 0.7, "array", "per_row"),
    "softcap": (None, 20.0, "array", "per_row"),
}

SOFTMAX = (
    INPUT
    | MASKED
    | SCALED
    | {
        "empty": ("nan", "zero"),
        "result": (None, "float16", "float32", "float64"),
        "out": ("none", "new", "self"),
    }
)
LOGSUMEXP = (
    INPUT
    | MASKED
    | {
        "b": ("none", "positive", "signed", "by_class", "integer"),
        "keepdims": (False, True),
        "return_sign": (False, True),
        "result": (None, "float16", "float32", "float64"),
        "out": ("none", "new"),
    }
)
WEIGHTED: dict[str, tuple[Hashable, ...]] = {
    "targets": ("int64", "int32", "int8", "soft", "soft other"),
    "class_weight": ("none", "same", "other", "zeros"),
    "sample_weight": ("none", "float", "bool", "zeros"),
}
CROSS_ENTROPY = (
    INPUT
    | MASKED
    | SCALED
    | WEIGHTED
    | {
        "ignore": ("default", "some", "valid", "none", "all"),
        "label_smoothing": (0.0, 0.1, 1.0, "array"),
        "z_loss": (0.0, 0.01, "array"),
        "reduction": ("mean", "sum", "none"),
        "empty": ("nan", "zero"),
        "result": (None, "float32", "float64"),
        "return_parts": (False, True),
    }
)
GRAD_HESS = INPUT | WEIGHTED
VJP = INPUT | {"dtype": FLOATS, "other": ("same", "other")}
MERGE: dict[str, tuple[Hashable, ...]] = {
    "dtype": DTYPES,
    "n": SIZES,
    "memory": MEMORY,
    "shapes": ("same", "column", "scalar", "both scalar"),
    "values": ("plain", "offset", "dominant", "ninf", "poison"),
}


def never(one: str, levels: Iterable[Hashable], two: str, others: Iterable[Hashable]) -> set[frozenset[Choice]]:
    """Return pairs of levels that cannot be in one call: each of `levels` with each of `others`."""
    return {frozenset(((one, a), (two, b))) for a, b in itertools.product(levels, others)}


# What cannot be in one call. A scalar has one class; integers have neither infinities nor, in eight bits, offsets;
# `out` has the dtype of the result; ids are ignored, probabilities are not.
FORBIDDEN = (
    never("axes", ["scalar"], "n", SIZES[1:])
    | never("shapes", ["both scalar"], "n", SIZES[1:])
    | never("dtype", ["integer", "bool"], "values", INPUT["values"][1:])
    | never("dtype", ["integer", "bool"], "out", ["self"])
    | never("result", ["float16", "float32", "float64"], "out", ["self"])
    | never("memory", ["readonly"], "out", ["self"])
    | never("return_sign", [True], "out", ["new"])
    | never("targets", ["soft", "soft other"], "ignore", ["some", "valid", "all"])
)


@dataclass(frozen=True)
class Drawing:
    """What the builders of a case share: the logits with their axis, and a source of random numbers."""

    name: str
    column: str  # of the table of cells
    dtype: str
    x: NDArray
    axis: Any
    memory: str
    rng: np.random.Generator

    @property
    def float_dtype(self) -> str:
        """The dtype of arrays beside the logits."""
        return self.dtype if self.dtype in FLOATS else "float32"

    @property
    def other_dtype(self) -> str:
        """A float dtype that the logits do not have."""
        return "float32" if self.dtype == "float64" else "float64"

    @property
    def base(self) -> dict[str, Any]:
        """The options that say where the classes are; the default axis is left out."""
        return {} if self.axis == -1 and self.x.ndim else {"axis": self.axis}


def draw(number: int, levels: Levels) -> Drawing:
    """Draw the logits of a row of a grid."""
    name = f"pair {number:02d}: " + ", ".join(f"{factor}={level}" for factor, level in levels.items())
    rng = generator(name)
    shape, axis = shaped(levels["axes"], levels["n"])
    dtype = concrete_dtype(levels["dtype"], number)
    x = logits(levels["values"], shape, axis, dtype, rng)
    return Drawing(name, levels["dtype"], dtype, x, axis, levels["memory"], rng)


def per_row(d: Drawing, kind: Any, low: float, high: float) -> Any:
    """Return a temperature or a softcap: a number, a 0-d array, or one number a row."""
    if kind == "array":
        return data(d.rng.uniform(low, high), d.float_dtype)
    if kind == "per_row":
        return data(d.rng.uniform(low, high, size=row_shape(d.x.shape, d.axis, keepdims=True)), d.float_dtype)
    return kind


def scaling(d: Drawing, levels: Levels) -> dict[str, Any]:
    """Make temperature and softcap."""
    options: dict[str, Any] = {}
    if levels["temperature"] != 1.0:
        options["temperature"] = per_row(d, levels["temperature"], 0.5, 2.0)
    if levels["softcap"] is not None:
        options["softcap"] = per_row(d, levels["softcap"], 5.0, 30.0)
    return options


def _masking(d: Drawing, levels: Levels) -> dict[str, Any]:
    where = mask(levels["where"], d.x.shape, d.axis, d.rng)
    return {} if where is None else {"where": where}


def _result(levels: Levels) -> dict[str, Any]:
    return {} if levels["result"] is None else {"dtype": levels["result"]}


def softmax_case(number: int, levels: Levels) -> Case:
    """Make a case of softmax or log_softmax."""
    d = draw(number, levels)
    options = d.base | _masking(d, levels) | scaling(d, levels) | _result(levels) | {"empty": levels["empty"]}
    return Case(d.name, d.column, (Data(d.x, d.dtype, d.memory),), options, out=levels["out"])


def logsumexp_case(number: int, levels: Levels) -> Case:
    """Make a case of logsumexp."""
    d = draw(number, levels)
    options = d.base | _masking(d, levels) | _result(levels)
    kind, shape = levels["b"], d.x.shape
    if kind == "by_class":
        shape = to_rows(d.x, d.axis)[:1].shape[1:] if d.base.get("axis", -1) == -1 and d.x.ndim else shape
    if kind == "integer":
        options["b"] = Data(np.asarray(d.rng.integers(0, 4, size=shape)), "int32")
    elif kind != "none":
        b = d.rng.integers(0, 17, size=shape) / 8
        b = b * d.rng.choice([-1, 1], size=shape) if kind == "signed" else b
        options["b"] = data(b, d.float_dtype if number % 2 else d.other_dtype)
    options |= {key: True for key in ("keepdims", "return_sign") if levels[key]}
    return Case(d.name, d.column, (Data(d.x, d.dtype, d.memory),), options, out=levels["out"])


# -- cross-entropy ----------------------------------------------------------------------------------------------------


def _live(d: Drawing, options: Levels) -> NDArray:
    """Tell, as rows, which classes can hold a label without an infinite loss."""
    where = options["where"].values if "where" in options else np.asarray(True)
    live = np.broadcast_to(where, d.x.shape)
    return to_rows(live & (d.x != -np.inf) if d.x.dtype == np.float64 else live, d.axis)


def _labels(d: Drawing, live: NDArray) -> NDArray:
    chance = d.rng.random(live.shape) + live  # a live class where there is one
    return np.asarray(chance.argmax(axis=1)).astype(np.int64)


def _soft(d: Drawing, live: NDArray, dtype: str) -> Data:
    t = d.rng.random(live.shape) * (d.rng.random(live.shape) < 0.7) * live
    t = t / np.maximum(t.sum(axis=1, keepdims=True), 1e-3)
    t[::3] *= 0.5  # probabilities need not sum to 1
    t = rounded(t, d.float_dtype)  # where there is no float64, a float32 must hold the same values
    return data(from_rows(t, d.x.shape, d.axis), dtype, d.memory)


def _ignoring(labels: NDArray, kind: str) -> tuple[NDArray, dict[str, Any]]:
    labels = labels.copy()
    if kind == "some":
        labels[::2] = -100
    elif kind == "all":
        labels[:] = -1
        return labels, {"ignore_index": -1}
    elif kind == "valid":
        return labels, {"ignore_index": int(labels[0])}
    elif kind == "none":
        return labels, {"ignore_index": None}
    return labels, {}


def targets_of(d: Drawing, levels: Levels, options: dict[str, Any]) -> Data:
    """Make the targets; what is to be ignored goes into `options`."""
    live, kind = _live(d, options), levels["targets"]
    if kind.startswith("soft"):
        if levels.get("ignore") == "none":
            options["ignore_index"] = None
        return _soft(d, live, d.float_dtype if kind == "soft" else d.other_dtype)
    labels, ignoring = _ignoring(_labels(d, live), levels.get("ignore", "default"))
    options |= ignoring
    dtype = "int16" if kind == "int8" and live.shape[1] > 127 else kind
    return Data(labels.reshape(row_shape(d.x.shape, d.axis)), dtype)


def weights_of(d: Drawing, levels: Levels, targets: Data) -> dict[str, Any]:
    """Make class and sample weights."""
    options: dict[str, Any] = {}
    count, n = to_rows(d.x, d.axis).shape
    if levels["class_weight"] != "none":
        weight = d.rng.integers(1, 17, size=n) / 8
        if levels["class_weight"] == "zeros":
            weight[:: 2 if n > 1 else 1] = 0
        options["class_weight"] = data(weight, d.other_dtype if levels["class_weight"] == "other" else d.float_dtype)
    kind = levels["sample_weight"]
    if kind != "none":
        weight = d.rng.integers(1, 9, size=count) / 4
        if kind == "bool":
            weight = weight > 1
        elif kind == "zeros":
            weight[[0, -1]] = 0  # where "poison" has its NaN and its infinity
        dtype = "bool" if kind == "bool" else d.other_dtype if kind == "zeros" else d.float_dtype
        options["sample_weight"] = Data(rounded(weight, dtype).reshape(row_shape(d.x.shape, d.axis)), dtype)
    return options


def cross_entropy_case(number: int, levels: Levels) -> Case:
    """Make a case of cross_entropy or cross_entropy_value_and_grad."""
    d = draw(number, levels)
    options = d.base | _masking(d, levels) | scaling(d, levels) | _result(levels)
    targets = targets_of(d, levels, options)
    options |= weights_of(d, levels, targets)
    for key, low, high in (("label_smoothing", 0.05, 0.3), ("z_loss", 0.001, 0.1)):
        if levels[key] != 0.0:
            options[key] = per_row(d, levels[key], low, high)
    options |= {"empty": levels["empty"], "reduction": levels["reduction"]}
    options |= {"return_parts": True} if levels["return_parts"] else {}
    return Case(d.name, d.column, (Data(d.x, d.dtype, d.memory), targets), options)


def grad_hess_case(number: int, levels: Levels) -> Case:
    """Make a case of cross_entropy_grad_hess."""
    d = draw(number, levels)
    options = dict(d.base)
    targets = targets_of(d, levels, options)
    options |= weights_of(d, levels, targets)
    return Case(d.name, d.column, (Data(d.x, d.dtype, d.memory), targets), options)


# -- gradients of the softmaxes, merging ------------------------------------------------------------------------------


def _vjp_case(number: int, levels: Levels, logarithm: bool) -> Case:
    d = draw(number, levels)
    rows = to_rows(d.x, d.axis)
    with np.errstate(all="ignore"):
        rows = rows - rows.max(axis=1, keepdims=True)
        rows = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
        rows = np.where(np.isnan(rows) & ~np.isnan(rows).any(axis=1, keepdims=True), -np.inf, rows)
        rows = rows if logarithm else np.exp(rows)
    other = d.dtype if levels["other"] == "same" else d.other_dtype
    dy = data(d.rng.standard_normal(d.x.shape), "float16" if other == "float64" else other)
    first = data(from_rows(rows, d.x.shape, d.axis), d.dtype, d.memory)
    return Case(d.name, d.column, (first, Data(dy.values, other, d.memory)), d.base)


def softmax_vjp_case(number: int, levels: Levels) -> Case:
    """Make a case of softmax_vjp."""
    return _vjp_case(number, levels, logarithm=False)


def log_softmax_vjp_case(number: int, levels: Levels) -> Case:
    """Make a case of log_softmax_vjp."""
    return _vjp_case(number, levels, logarithm=True)


def merge_case(number: int, levels: Levels) -> Case:
    """Make a case of merge_logsumexp."""
    name = f"pair {number:02d}: " + ", ".join(f"{factor}={level}" for factor, level in levels.items())
    rng, n, dtype = generator(name), levels["n"], concrete_dtype(levels["dtype"], number)
    one, two = {
        "same": ((2, n), (2, n)),
        "column": ((2, n), (2, 1)),
        "scalar": ((n,), ()),
        "both scalar": ((), ()),
    }[levels["shapes"]]
    a, b = (logits(levels["values"], shape, -1, dtype, rng) for shape in (one, two))
    return Case(name, levels["dtype"], (Data(a, dtype, levels["memory"]), Data(b, dtype, levels["memory"])))


def cases_of(grid: Mapping[str, tuple[Hashable, ...]], make: Callable[[int, Levels], Case]) -> list[Case]:
    """Return the cases of a grid."""
    return [make(number, levels) for number, levels in enumerate(pairwise(grid, FORBIDDEN))]
