"""Cases and the oracle of the functions of segments: each segment is a row of the plain function."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np

from logitx.testing import grids, oracle, oracle_loss, special
from logitx.testing.cases import DTYPES, FLOATS, Case, Data, NDArray, concrete_dtype, data, generator, logits, mask
from logitx.testing.covering import pairwise
from logitx.testing.expect import Expected, split_numbers
from logitx.testing.oracle import Near

# The axis of segments: of a vector, and first, in the middle and last among others
SHAPES: dict[str, Callable[[int], tuple[tuple[int, ...], int]]] = {
    "vector": lambda n: ((n,), 0),
    "first": lambda n: ((n, 3), 0),
    "middle": lambda n: ((2, n, 2), -2),
    "last": lambda n: ((3, n), 1),
}
SEGMENTS: dict[str, tuple[Hashable, ...]] = (
    {
        "dtype": DTYPES,
        "axes": tuple(SHAPES),
        "n": (1, 2, 7, 17, 300, 1030),
        "memory": grids.INPUT["memory"],
        "values": grids.INPUT["values"],
        "segments": ("sorted", "unsorted", "int32", "uint8", "offsets", "one", "each", "gaps"),
    }
    | grids.MASKED
    | {"empty": ("nan", "zero")}
)
LOSSES = SEGMENTS | {"targets": ("same", "other"), "reduction": ("mean", "sum", "none")}


def _segments(kind: str, n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return ids or offsets, and how many segments there are."""
    count = {"one": 1, "each": n}.get(kind, max(1, min(n // 3, 200)))
    ids = np.arange(n) if kind == "each" else rng.integers(0, count, n)
    if kind == "gaps":  # segments without entries: first, between others, last
        ids, count = 2 * ids + 1, 2 * count + 2
    ids = rng.permutation(ids) if kind in ("unsorted", "int32", "uint8", "each") else np.sort(ids)
    if kind == "offsets":
        ends = np.searchsorted(ids, np.arange(count + 1))
        return {"offsets": Data(ends, "int64")}
    return {"segment_ids": Data(ids, kind if kind in ("int32", "uint8") else "int64"), "num_segments": count}


def _case(number: int, levels: grids.Levels) -> tuple[Case, grids.Drawing]:
    name = f"pair {number:02d}: " + ", ".join(f"{factor}={level}" for factor, level in levels.items())
    rng, dtype = generator(name), concrete_dtype(levels["dtype"], number)
    shape, axis = SHAPES[levels["axes"]](levels["n"])
    x = logits(levels["values"], shape, axis, dtype, rng)
    options: dict[str, Any] = {"axis": axis} | _segments(levels["segments"], levels["n"], rng)
    where = mask(levels["where"], shape, axis, rng)
    options |= {} if where is None else {"where": where}
    drawing = grids.Drawing(name, levels["dtype"], dtype, x, axis, levels["memory"], rng)
    return Case(name, levels["dtype"], (Data(x, dtype, levels["memory"]),), options), drawing


def _softmax_case(number: int, levels: grids.Levels) -> Case:
    case, _ = _case(number, levels)
    return Case(case.name, case.dtype, case.args, {**case.options, "empty": levels["empty"]})


def _loss_case(number: int, levels: grids.Levels) -> Case:
    case, d = _case(number, levels)
    dtype = d.float_dtype if levels["targets"] == "same" else d.other_dtype
    t: Any = d.rng.integers(0, 9, size=d.x.shape) / 8 * (d.rng.random(d.x.shape) < 0.7)
    with np.errstate(invalid="ignore"):
        t = np.where(d.x == -np.inf, 0, t) if d.rng.random() < 0.8 else t
    options = {**case.options, "empty": levels["empty"], "reduction": levels["reduction"]}
    return Case(case.name, case.dtype, (*case.args, data(t, dtype)), options)


def softmax_grid() -> list[Case]:
    """Return the cases of segment_softmax and segment_log_softmax."""
    return [_softmax_case(number, levels) for number, levels in enumerate(pairwise(SEGMENTS, grids.FORBIDDEN))]


def logsumexp_grid() -> list[Case]:
    """Return the cases of segment_logsumexp."""
    return [_case(number, levels)[0] for number, levels in enumerate(pairwise(SEGMENTS, grids.FORBIDDEN))]


def loss_grid() -> list[Case]:
    """Return the cases of segment_cross_entropy."""
    return [_loss_case(number, levels) for number, levels in enumerate(pairwise(LOSSES, grids.FORBIDDEN))]


# -- special values ---------------------------------------------------------------------------------------------------


def _special(aims: bool, options: dict[str, Any]) -> Iterator[Case]:
    """Yield the special rows of softmax, each a segment whose entries lie between those of others."""
    named = "".join(f", {option}={value}" for option, value in options.items())
    for dtype in FLOATS:
        rows = special.softmax_rows(dtype)
        x = np.array(list(rows.values()))
        ids = np.broadcast_to(np.arange(len(x))[:, None], x.shape)
        t = np.tile([0.5, 0.0, 0.0, 0.25, 0.25], (len(x), 1))
        args = (data(x.T.reshape(-1), dtype), *((data(t.T.reshape(-1), dtype),) if aims else ()))
        given = {"axis": 0, "segment_ids": Data(ids.T.reshape(-1), "int64"), "num_segments": len(x)}
        yield Case(f"special rows{named}", dtype, args, given | options, rows=tuple(rows))
        table = special.MASKED_ROWS.values()
        x, keep = np.array([row for row, _ in table]), np.array([keep for _, keep in table], dtype=bool)
        t = np.where(keep, 0.5, 0.0)
        args = (data(x.reshape(-1), dtype), *((data(t.reshape(-1), dtype),) if aims else ()))
        where = {"where": Data(keep.reshape(-1), "bool"), "offsets": Data(np.arange(len(x) + 1) * x.shape[1], "int64")}
        yield Case(f"masked rows{named}", dtype, args, {"axis": 0} | where | options, rows=tuple(special.MASKED_ROWS))


def _nothing(aims: bool, options: dict[str, Any]) -> Iterator[Case]:
    """Yield calls without entries, without segments and without columns."""
    named = "".join(f", {option}={value}" for option, value in options.items())
    for shape, count in (((0,), 3), ((0, 2), 2), ((4, 0), 2), ((0,), 0)):
        x, ids = data(np.zeros(shape), "float32"), Data(np.zeros(shape[0], np.int64), "int64")
        given = {"axis": 0, "segment_ids": ids, "num_segments": count}
        yield Case(f"nothing in {shape}, {count}{named}", "float32", (x, x) if aims else (x,), given | options)


def softmax_cases() -> list[Case]:
    """Return the special cases of segment_softmax and segment_log_softmax."""
    return [*_special(False, {}), *_special(False, {"empty": "zero"}), *_nothing(False, {})]


def logsumexp_cases() -> list[Case]:
    """Return the special cases of segment_logsumexp."""
    return [*_special(False, {}), *_nothing(False, {})]


def loss_cases() -> list[Case]:
    """Return the special cases of segment_cross_entropy."""
    plain = {"reduction": "none"}
    rest = [*_special(True, plain | {"empty": "zero"}), *_nothing(True, plain), *_nothing(True, {})]
    return [*_special(True, plain), *rest, *_nothing(True, {"reduction": "mean", "empty": "zero"})]


# -- the oracle -------------------------------------------------------------------------------------------------------


def ids_of(case: Case) -> tuple[NDArray, int]:
    """Return the segment of each entry, and how many segments there are."""
    if "offsets" in case.options:
        offsets = case.options["offsets"].values
        return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), len(offsets) - 1
    return case.options["segment_ids"].values, case.options["num_segments"]


def _columns(values: NDArray, case: Case) -> NDArray:
    """Return an array as a matrix: entries along the first axis."""
    x = case.args[0].values
    moved = np.moveaxis(np.broadcast_to(values, x.shape), case.options["axis"], 0)
    return moved.reshape(moved.shape[0], int(np.prod(moved.shape[1:])))


def _restored(values: NDArray, case: Case) -> NDArray:
    """Undo `_columns`, of entries or of segments."""
    shape = list(case.args[0].values.shape)
    del shape[case.options["axis"]]
    return np.moveaxis(values.reshape(values.shape[0], *shape), 0, case.options["axis"])


def _each(case: Case) -> Iterator[tuple[int, int, NDArray, NDArray, NDArray]]:
    """Yield (segment, column, its entries, their logits, which are not masked)."""
    ids, count = ids_of(case)
    where = case.options.get("where")
    x, valid = _columns(case.args[0].values, case), _columns(np.asarray(True) if where is None else where.values, case)
    places = [np.flatnonzero(ids == segment) for segment in range(count)]
    for column in range(x.shape[1]):
        for segment, entries in enumerate(places):
            yield segment, column, entries, x[entries, column], valid[entries, column]


def _expected(name: str, case: Case, entries: NDArray, by_row: NDArray, kind: str, elementwise: bool) -> Expected:
    high, low, slack = (_restored(part, case) for part in split_numbers(entries.reshape(-1), entries.shape))
    rows = np.broadcast_to(by_row[:, None], entries.shape)
    return Expected(name, high, low, slack, kind, elementwise, _restored(rows, case))


def _of_entries(name: str, case: Case, of_row: Callable[[oracle.Row, str], list[Near]]) -> list[Expected]:
    ids, _ = ids_of(case)
    found = np.empty(_columns(case.args[0].values, case).shape, dtype=object)
    for _, column, entries, x, valid in _each(case):
        for entry, near in zip(
            entries, of_row(oracle.reduce_row(x, valid), case.options.get("empty", "nan")), strict=True
        ):
            found[entry, column] = near
    return [_expected(name, case, found, ids, "result", True)]


def segment_softmax(case: Case) -> list[Expected]:
    """Return what segment_softmax must give."""
    return _of_entries("probabilities", case, oracle.softmax_row)


def segment_log_softmax(case: Case) -> list[Expected]:
    """Return what segment_log_softmax must give."""
    return _of_entries("log-probabilities", case, oracle.log_softmax_row)


def _of_segments(case: Case, of_row: Callable[..., Any]) -> NDArray:
    _, count = ids_of(case)
    found = np.empty((count, _columns(case.args[0].values, case).shape[1]), dtype=object)
    for segment, column, entries, x, valid in _each(case):
        found[segment, column] = of_row(entries, column, x, valid)
    return found


def segment_logsumexp(case: Case) -> list[Expected]:
    """Return what segment_logsumexp must give."""
    found = _of_segments(case, lambda _, __, x, valid: oracle.log_normalizer(oracle.reduce_row(x, valid)))
    return [_expected("logsumexp", case, found, np.arange(len(found)), "result", False)]


def segment_cross_entropy(case: Case) -> list[Expected]:
    """Return what segment_cross_entropy must give."""
    empty, reduction = case.options.get("empty", "nan"), case.options.get("reduction", "mean")
    settings = oracle_loss.Settings(None, None, 0.0, 0.0, empty)
    t = _columns(case.args[1].values, case)

    def loss(entries: NDArray, column: int, x: NDArray, valid: NDArray) -> Any:
        if not entries.size:  # as a row whose only entry is masked
            x, valid, aims = np.zeros(1), np.zeros(1, dtype=bool), np.zeros(1)
        else:
            aims = t[entries, column]
        return oracle_loss.cross_entropy_row(x, valid, aims, 1.0, 1.0, None, settings, False)

    found = _of_segments(case, loss)
    losses, _, _ = oracle_loss.reduced(list(found.reshape(-1)), reduction, empty)
    if reduction != "none":
        return [Expected("loss", *split_numbers(losses, ()), "loss", False, np.empty(0, dtype=np.int64))]
    entries = np.empty(found.size, dtype=object)
    for i, near in enumerate(losses):
        entries[i] = near
    return [_expected("loss", case, entries.reshape(found.shape), np.arange(len(found)), "loss", False)]
