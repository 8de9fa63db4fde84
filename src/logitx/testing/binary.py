"""Cases and truth of the binary family: every element is a row of its own.

The slack of each value is that of the textbook formula, as in `logitx.testing.oracle`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from logitx.testing import expect, grids, oracle_loss
from logitx.testing.cases import DTYPES, FLOATS, MEMORY, Case, Data, NDArray, concrete_dtype, data, generator, logits
from logitx.testing.covering import pairwise
from logitx.testing.expect import Expected
from logitx.testing.oracle import CONTEXT, INF, NAN, ONE, ZERO, Near, Number, exact, mpf
from logitx.testing.oracle_loss import RowLoss

# Fewer elements than a vector register holds, one more, several blocks with a rest
SHAPES = {"scalar": (), "one": (1,), "vector": (33,), "matrix": (5, 7), "box": (2, 3, 4), "long": (2, 2100)}
ELEMENTS: dict[str, tuple[Hashable, ...]] = {
    "dtype": DTYPES,
    "shape": tuple(SHAPES),
    "memory": MEMORY,
    "values": ("plain", "offset", "dominant", "infinite", "poison"),
}
SIGMOID = ELEMENTS | {"result": (None, "float16", "float32", "float64"), "out": ("none", "new", "self")}
LOSS = ELEMENTS | {
    "targets": ("int64", "int32", "int8", "bool", "soft", "soft other"),
    "pos_weight": ("none", "number", "column", "full", "zero"),
    "sample_weight": ("none", "number", "bool", "full", "zeros"),
    "ignore": ("default", "some", "valid", "none", "all"),
    "label_smoothing": (0.0, 0.1, 1.0, "array"),
    "where": ("none", "some", "column"),
    "reduction": ("mean", "sum", "none"),
    "empty": ("nan", "zero"),
    "result": (None, "float32", "float64"),
}
_KEPT = ("targets", "pos_weight", "sample_weight", "ignore", "where")
GRAD_HESS = ELEMENTS | {name: LOSS[name] for name in _KEPT}
FORBIDDEN = (
    grids.FORBIDDEN
    | grids.never("targets", ["bool", "soft", "soft other"], "ignore", ["some", "valid", "all"])
    | grids.never("targets", ["bool"], "ignore", ["none"])
)


def _values(kind: str, shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> NDArray:
    if dtype not in FLOATS:
        return logits("plain", shape, -1, dtype, rng)
    x = 3.0 * rng.standard_normal(shape)
    if kind == "offset":
        x = x + 1e4
    elif kind == "dominant":
        x = x + np.where(rng.random(shape) < 0.5, 40.0, -40.0)
    elif kind == "infinite":
        x = np.where(rng.random(shape) < 0.3, np.where(rng.random(shape) < 0.5, np.inf, -np.inf), x)
    elif kind == "poison":
        x = np.where(rng.random(shape) < 0.2, np.nan, x)
    return data(x, dtype).values


def _drawing(number: int, levels: grids.Levels) -> grids.Drawing:
    name = f"pair {number:02d}: " + ", ".join(f"{factor}={level}" for factor, level in levels.items())
    rng, dtype = generator(name), concrete_dtype(levels["dtype"], number)
    x = _values(levels["values"], SHAPES[levels["shape"]], dtype, rng)
    return grids.Drawing(name, levels["dtype"], dtype, x, -1, levels["memory"], rng)


def _sigmoid_case(number: int, levels: grids.Levels) -> Case:
    d = _drawing(number, levels)
    options = {} if levels["result"] is None else {"dtype": levels["result"]}
    return Case(d.name, d.column, (Data(d.x, d.dtype, d.memory),), options, out=levels["out"])


def _targets(d: grids.Drawing, levels: grids.Levels, options: dict[str, Any]) -> Data:
    """Make targets that agree with infinite logits."""
    kind, x, rng = levels["targets"], d.x, d.rng
    endless = np.isinf(x.astype(float))
    positive = np.asarray(np.where(endless, x > 0, rng.random(x.shape) < 0.4))
    if levels["ignore"] == "none":
        options["ignore_index"] = None
    if kind == "bool":
        return Data(positive, "bool", d.memory)
    if kind.startswith("soft"):
        t = np.where(endless, positive, rng.integers(0, 9, size=x.shape) / 8)
        return data(t, d.float_dtype if kind == "soft" else d.other_dtype, d.memory)
    ids = positive.astype(np.int64)
    if levels["ignore"] == "some":
        ids = np.where(rng.random(x.shape) < 0.3, -100, ids)
    elif levels["ignore"] == "all":
        ids, options["ignore_index"] = np.full_like(ids, -1), -1
    elif levels["ignore"] == "valid":
        options["ignore_index"] = 1
    return Data(ids, kind, d.memory)


def _weights(d: grids.Drawing, levels: grids.Levels, options: dict[str, Any]) -> None:
    shape, rng = d.x.shape, d.rng
    kind = levels["pos_weight"]
    if kind in ("number", "zero"):
        options["pos_weight"] = 2.5 if kind == "number" else 0.0
    elif kind != "none":
        last = shape[-1:] if kind == "column" else shape
        options["pos_weight"] = data(rng.integers(1, 17, size=last) / 8, d.float_dtype)
    kind = levels["sample_weight"]
    if kind == "number":
        options["sample_weight"] = 0.75
    elif kind != "none":
        weight: Any = rng.integers(1, 9, size=shape) / 4
        if kind == "bool":
            weight = weight > 1
        elif kind == "zeros":
            weight = np.where(rng.random(shape) < 0.3, 0, weight)
        options["sample_weight"] = data(weight, "bool" if kind == "bool" else d.other_dtype)
    if levels["where"] != "none":
        kept = rng.random(shape if levels["where"] == "some" else shape[-1:]) < 0.7
        options["where"] = Data(np.asarray(kept), "bool")


def loss_case(number: int, levels: grids.Levels) -> Case:
    """Make a case of a binary loss."""
    d, options = _drawing(number, levels), dict[str, Any]()
    targets = _targets(d, levels, options)
    _weights(d, levels, options)
    if levels.get("label_smoothing", 0.0) != 0.0:
        options["label_smoothing"] = grids.per_row(d, levels["label_smoothing"], 0.05, 0.3)
    options |= {key: levels[key] for key in ("empty", "reduction") if key in levels}
    options |= {} if levels.get("result") is None else {"dtype": levels["result"]}
    return Case(d.name, d.column, (Data(d.x, d.dtype, d.memory), targets), options)


def sigmoid_grid() -> list[Case]:
    """Return the cases of sigmoid and log_sigmoid that cover all pairs of levels of the options."""
    return [_sigmoid_case(number, levels) for number, levels in enumerate(pairwise(SIGMOID, FORBIDDEN))]


def loss_grid() -> list[Case]:
    """Return the cases of the losses that cover all pairs of levels of the options."""
    return [loss_case(number, levels) for number, levels in enumerate(pairwise(LOSS, FORBIDDEN))]


def grad_hess_grid() -> list[Case]:
    """Return the cases of the gradient and the Hessian that cover all pairs of levels of the options."""
    return [loss_case(number, levels) for number, levels in enumerate(pairwise(GRAD_HESS, FORBIDDEN))]


# -- special values ---------------------------------------------------------------------------------------------------

# logit, target, and a target for probabilities
SPECIAL: dict[str, tuple[float, int, float]] = {
    "zero": (0.0, 1, 0.5),
    "negative zero": (-0.0, 0, 0.25),
    "-inf, agrees": (-INF, 0, 0.0),
    "-inf, disagrees": (-INF, 1, 0.5),
    "+inf, agrees": (INF, 1, 1.0),
    "+inf, disagrees": (INF, 0, 0.5),
    "NaN": (NAN, 1, 0.5),
    "NaN, ignored": (NAN, -100, 0.0),
    "far below": (-60.0, 0, 0.0),
    "far below, disagrees": (-60.0, 1, 1.0),
    "far above": (60.0, 1, 1.0),
    "far above, disagrees": (60.0, 0, 0.0),
    "small": (2.0**-12, 0, 0.75),
    "beyond 1": (1.0, 0, 1.5),
}


def sigmoid_special() -> list[Case]:
    """Return the special cases of sigmoid and log_sigmoid."""
    x, names = [float(one) for one, _, _ in SPECIAL.values()], tuple(SPECIAL)
    return [Case("elements", dtype, (data(x, dtype),), {}, rows=names) for dtype in FLOATS] + [
        Case("nothing", "float32", (data(np.zeros((0, 3)), "float32"),), {}),
        Case("number", "float64", (data(0.5, "float64"),), {}),
    ]


def _stacked(dtype: str, reduction: dict[str, Any]) -> list[Case]:
    names = tuple(SPECIAL)
    x = data([float(one) for one, _, _ in SPECIAL.values()], dtype)
    ids = Data(np.array([label for _, label, _ in SPECIAL.values()]), "int64")
    soft = data([float(t) for _, _, t in SPECIAL.values()], dtype)
    weights = {"pos_weight": data(np.arange(len(names)) % 3 / 2, dtype)}
    samples = {"sample_weight": data(np.arange(len(names)) % 4 / 2, dtype)}
    where = {"where": Data(np.arange(len(names)) % 5 != 1, "bool")}
    return [
        Case("elements", dtype, (x, ids), reduction, rows=names),
        Case("elements, weighted", dtype, (x, ids), reduction | weights | samples, rows=names),
        Case("elements, masked", dtype, (x, ids), reduction | where, rows=names),
        Case("probabilities", dtype, (x, soft), reduction, rows=names),
        Case("probabilities, weighted", dtype, (x, soft), reduction | weights | samples, rows=names),
    ]


def loss_special() -> list[Case]:
    """Return the special cases of the losses."""
    none = {"reduction": "none"}
    cases = [case for dtype in FLOATS for case in _stacked(dtype, none)]
    x, ids = data([0.5, NAN, -2.0, 3.0], "float32"), Data(np.array([1, 0, 0, 1]), "int64")
    cases += [
        Case("smoothed", "float32", (data([0.5, -40.0, 40.0, 3.0], "float32"), ids), none | {"label_smoothing": 0.25}),
        Case("mean, not by pos_weight", "float32", (data([0.5, 1, -2.0, 3.0], "float32"), ids), {"pos_weight": 8.0}),
        Case("weight 0 on NaN", "float32", (x, ids), {"sample_weight": data([1, 0, 2, 0.5], "float32")}),
        Case("masked NaN", "float32", (x, ids), {"where": Data(np.array([True, False, True, True]), "bool")}),
        Case("masked id out of range", "float32", (x, Data(np.array([1, 7, 0, 1]), "int64")),
             {"where": Data(np.array([True, False, True, True]), "bool")}),
        Case("ignored is valid", "float32", (x, ids), {"ignore_index": 0}),
    ]  # fmt: skip
    for empty in ("nan", "zero"):
        ignored, nothing = Data(np.full(4, -100), "int64"), data(np.zeros((0, 3)), "float32")
        no_ids = Data(np.zeros((0, 3), dtype=np.int64), "int64")
        cases += [
            Case(f"all ignored, empty={empty}", "float32", (x, ignored), {"empty": empty}),
            Case(f"nothing, empty={empty}", "float32", (nothing, no_ids), {"empty": empty}),
        ]
    return cases


def grad_hess_special() -> list[Case]:
    """Return the special cases of the gradient and the Hessian."""
    return [case for dtype in FLOATS for case in _stacked(dtype, {})]


# -- the truth --------------------------------------------------------------------------------------------------------


def _surprise(x: Number) -> Near:
    """Return -log of the sigmoid."""
    if x in (INF, -INF):
        return Near(ZERO if x > 0 else INF)
    rest = CONTEXT.log1p(CONTEXT.exp(-abs(x)))
    value = rest + (-x if x < 0 else 0)
    return Near(value, value + rest)


def _probability(x: Number) -> Near:
    if x in (INF, -INF):
        return Near(ONE if x > 0 else ZERO)
    e = CONTEXT.exp(-abs(x))
    p = 1 / (1 + e) if x >= 0 else e / (1 + e)
    return Near(p, 2 * p)


def _elementwise(case: Case, name: str, of_one: Any) -> list[Expected]:
    x = case.args[0].values
    entries = [Near(NAN) if one != one else of_one(mpf(one)) for one in x.reshape(-1).tolist()]
    return [expect.like_elements(name, entries, x.shape)]


def sigmoid(case: Case) -> list[Expected]:
    """Return what sigmoid must give."""
    return _elementwise(case, "probabilities", _probability)


def log_sigmoid(case: Case) -> list[Expected]:
    """Return what log_sigmoid must give."""
    return _elementwise(case, "log-probabilities", lambda x: Near(-_surprise(x).value, _surprise(x).slack))


def _times(weight: Number, x: Near, relative: int) -> Near:
    """Return weight times x; 0 times anything is 0."""
    return Near(weight * x.value, abs(weight) * (x.slack + relative * abs(x.value))) if weight else Near(ZERO)


def _focus(gamma: Number, surprise: Near, other: Near) -> Near:
    """Return (1 - p)^gamma (-log p)."""
    if not gamma or surprise.value == INF:
        return surprise
    if other.value == INF:
        return Near(ZERO)
    factor = CONTEXT.exp(-gamma * other.value)
    return Near(factor * surprise.value, factor * (surprise.slack + surprise.value * (2 + 2 * gamma * other.value)))


def _slope(gamma: Number, p: Near, complement: Near, surprise: Near, other: Near) -> Near:
    """Return (1 - p)^gamma (1 - p + gamma p (-log p))."""
    if not gamma:
        return complement
    if other.value == INF:
        return Near(ZERO)
    more = gamma * p.value * surprise.value if p.value else ZERO
    factor = CONTEXT.exp(-gamma * other.value)
    value = factor * (complement.value + more)
    return Near(value, value * (6 + 2 * gamma * other.value))


def _weights_of(target: Any, hard: bool, pos_weight: Number, smoothing: Number, alpha: Any) -> tuple[Number, Number]:
    t = (ONE if target == 1 else ZERO) if hard else mpf(target)
    yes, no = t * (1 - smoothing) + smoothing / 2, (1 - t) * (1 - smoothing) + smoothing / 2
    yes = pos_weight * yes
    return (yes, no) if alpha is None else (alpha * yes, (1 - alpha) * no)


def _element(case: Case, x: float, target: Any, s: Any, w: Any, counted: bool) -> tuple[RowLoss, Near]:
    """Return what an element adds to the loss, and the second derivative."""
    options, hard = case.options, case.args[1].values.dtype.kind != "f"
    nothing = Near(ZERO)
    ignored = hard and case.args[1].dtype != "bool" and target == options.get("ignore_index", -100)
    if ignored or not counted:
        return RowLoss(nothing, nothing, nothing, [nothing], ZERO), nothing
    smoothing, gamma = (
        exact(expect.values_of(options.get("label_smoothing", 0.0))),
        exact(expect.values_of(options.get("gamma", 0.0))),
    )
    yes, no = _weights_of(target, hard, mpf(w), smoothing, exact(options.get("alpha")))
    sample = mpf(s)
    if sample == 0 or yes + no == 0:
        return RowLoss(nothing, nothing, nothing, [nothing], sample), nothing
    if x != x:
        void = Near(NAN)
        return RowLoss(void, void, void, [void], sample), void
    at = mpf(x)
    p, other = _probability(at), _probability(-at)
    surprise, other_surprise = _surprise(at), _surprise(-at)
    one = _times(sample * yes, _focus(gamma, surprise, other_surprise), 4)
    two = _times(sample * no, _focus(gamma, other_surprise, surprise), 4)
    loss = Near(one.value + two.value, one.slack + two.slack)
    falls = _times(sample * yes, _slope(gamma, p, other, surprise, other_surprise), 4)
    rises = _times(sample * no, _slope(gamma, other, p, other_surprise, surprise), 4)
    gradient = Near(rises.value - falls.value, rises.slack + falls.slack)
    curve = sample * (yes + no) * p.value * other.value
    return RowLoss(loss, loss, loss, [gradient], sample), Near(curve, 8 * abs(curve))


def _elements(case: Case) -> tuple[list[RowLoss], list[Near]]:
    x, targets = (one.values for one in case.args[:2])

    def spread(name: str, default: Any) -> list[Any]:
        value = case.options.get(name)
        given = default if value is None else expect.values_of(value)
        return list(np.broadcast_to(given, x.shape).reshape(-1).tolist())

    columns = (
        x.astype(np.float64).reshape(-1).tolist(),
        targets.reshape(-1).tolist(),
        spread("sample_weight", 1.0),
        spread("pos_weight", 1.0),
        spread("where", True),
    )
    found = [_element(case, *one) for one in zip(*columns, strict=True)]
    return [row for row, _ in found], [curve for _, curve in found]


def loss_and_gradient(case: Case) -> list[Expected]:
    """Return what a binary loss and its gradient must give."""
    rows, _ = _elements(case)
    reduction, empty = case.options.get("reduction", "mean"), case.options.get("empty", "nan")
    losses, _, gradients = oracle_loss.reduced(rows, reduction, empty)
    shape = case.args[0].values.shape
    loss = expect.one_a_row("loss", losses, shape, "loss") if reduction == "none" else expect.scalar("loss", losses[0])
    return [loss, expect.like_elements("gradient", [one for (one,) in gradients], shape)]


def loss(case: Case) -> list[Expected]:
    """Return what a binary loss must give."""
    return loss_and_gradient(case)[:1]


def grad_hess(case: Case) -> list[Expected]:
    """Return what binary_cross_entropy_grad_hess must give."""
    rows, curves = _elements(case)
    shape = case.args[0].values.shape
    return [
        expect.like_elements("gradient", [row.gradient[0] for row in rows], shape),
        expect.like_elements("hessian", curves, shape),
    ]
