"""Draw benchmarks/results/sweep.json: times the fastest peer, by the number of classes and by the axis."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from cells import OPS
from sweep import CLASSES, DTYPES, INNER, LENGTHS, RECORD

PICTURE = Path(RECORD).with_suffix(".png")


def ratio_of(row: dict[str, Any]) -> float:
    """Return the time of the fastest peer over ours."""
    peers = [one for name, one in row["seconds"].items() if name != "logitx"]
    return min(peers) / row["seconds"]["logitx"] if peers else math.nan


def _map(axes: Any, table: np.ndarray, rows: list[str], columns: list[str], title: str) -> None:
    axes.imshow(np.log2(table), cmap="RdYlGn", vmin=-1.5, vmax=1.5, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, fontsize=7, rotation=45)
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
    axes.set_title(title, fontsize=7 if "\n" in title else 9)
    for (i, j), value in np.ndenumerate(table):
        if not math.isnan(value):
            axes.text(j, i, f"{value:.2g}", ha="center", va="center", fontsize=6)


def by_classes(axes: Any, cells: list[dict[str, Any]], title: str) -> None:
    """Draw one row for each function and dtype, one column for each number of classes."""
    names = [(op, dtype) for op in OPS for dtype in DTYPES]
    table = np.full((len(names), len(CLASSES)), math.nan)
    for row in cells:
        if row["axis"] == -1:
            table[names.index((row["op"], row["dtype"])), CLASSES.index(row["shape"][-1])] = ratio_of(row)
    _map(axes, table, [f"{op} {dtype}" for op, dtype in names], [f"{n:,}" for n in CLASSES], title)


def by_axis(axes: Any, cells: list[dict[str, Any]], op: str, title: str) -> None:
    """Draw one row for each length of the class axis, one column for each inner length."""
    table = np.full((len(LENGTHS), len(INNER)), math.nan)
    for row in cells:
        if row["axis"] == 1 and row["op"] == op:
            _, n, inner = row["shape"]
            table[LENGTHS.index(n), INNER.index(inner)] = ratio_of(row)
    _map(axes, table, [f"{n:,}" for n in LENGTHS], [f"{n:,}" for n in INNER], title)


def main() -> None:
    """Draw the picture of the record."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    kinds = [name for name in ("one thread", "all threads") if name in record]
    mpl.rcParams["font.family"] = "DejaVu Sans"
    figure = Figure(figsize=(13, 7.5 * len(kinds)), layout="constrained")
    for part, name in zip(np.atleast_1d(figure.subfigures(len(kinds), 1)), kinds, strict=True):
        grid = part.add_gridspec(2, 5, height_ratios=(1.6, 1))
        by_classes(part.add_subplot(grid[0, :]), record[name], f"last axis, {name}: time of the fastest peer / ours")
        for i, op in enumerate(OPS):
            by_axis(part.add_subplot(grid[1, i]), record[name], op, f"{op}\nclasses x inner axis")
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
