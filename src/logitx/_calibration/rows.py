"""Rows of logits and their labels on the host, block by block, with the classes last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import FLOATS
from logitx._functions.evaluated_rows import numbers_of_rows
from logitx._operations import check
from logitx._plan import Array, Axis
from logitx.backends.formulas.class_ids import refuse_labels, sort_out

BLOCK_BYTES = 1 << 18  # of logits: a block stays in the second-level cache
READ_BYTES = 1 << 24  # of logits beside class ids, which are read once


class RowsOfBlock(NamedTuple):
    """Some rows that count."""

    logits: np.ndarray[Any, Any]  # (rows, classes)
    labels: np.ndarray[Any, Any]  # class ids, or probabilities of the shape of the logits
    weight: np.ndarray[Any, Any]  # sample weights


def numbers_of_block(rows: RowsOfBlock, temperature: Any) -> Any:
    """Return the numbers of the rows of a block from one read; None if nothing does that, or if labels are soft."""
    if rows.labels.ndim > 1:
        return None
    plan, operands, *_ = check(
        "cross_entropy", rows.logits, rows.labels, -1, None, None, None, 0.0, 0.0, None, temperature, None, "none",
        "nan", None, False,
    )  # fmt: skip
    told = numbers_of_rows(plan, operands)
    return None if told is None else told[1]


class HostRows:
    """The rows of a call as NumPy arrays; the arguments are checked as those of `cross_entropy`."""

    def __init__(self, logits: Array, targets: Array, axis: Axis, sample_weight: Array, ignore_index: int | None):
        """Bring the arrays to the host."""
        plan, (x, t, options), *_ = check(
            "cross_entropy", logits, targets, axis, None, sample_weight, ignore_index, 0.0, 0.0, None, 1.0, None,
            "none", "nan", None, False,
        )  # fmt: skip
        family, lay = FAMILIES[plan.family], plan.layout
        given = {"x": x, "t": t, "s": options.sample_weight}
        there = {name: one for name, one in given.items() if one is not None}
        found = dict(zip(there, family.host(*there.values()), strict=True))
        axes = lay.axes if family.as_given else (lay.axis,)

        def as_rows(array: Any) -> Any:
            order = (*(axis for axis in range(array.ndim) if axis not in axes), *axes)
            return array.transpose(order).reshape(-1, lay.n)

        self.x, self.hard = as_rows(found["x"]), plan.hard
        if self.x.dtype.name not in FLOATS or self.x.dtype.itemsize < 4:
            self.x = self.x.astype(plan.compute)
        self.t = found["t"].reshape(-1) if self.hard else as_rows(found["t"]).astype(np.float64)
        self.counted = np.ones(len(self.x), bool)
        if self.hard:
            ignored, bad = sort_out(plan, np, self.t.astype(np.int64, copy=False))
            refuse_labels(plan, np, self.t, bad)
            self.counted = ~ignored
        weight = np.broadcast_to(found.get("s", np.float64(1)), lay.rows).reshape(-1).astype(np.float64)
        self.weight = np.where(self.counted, weight, 0.0)
        self.counted &= self.weight != 0.0

    def blocks(self) -> Iterator[RowsOfBlock]:
        """Yield the rows that count, some at a time."""
        nbytes = READ_BYTES if self.hard else BLOCK_BYTES
        size = max(1, nbytes // max(1, self.x.shape[1] * self.x.itemsize))
        for start in range(0, len(self.x), size):
            piece = slice(start, start + size)
            keep = self.counted[piece]
            arrays = self.x[piece], self.t[piece], self.weight[piece]
            yield RowsOfBlock(*(arrays if keep.all() else (one[keep] for one in arrays)))
