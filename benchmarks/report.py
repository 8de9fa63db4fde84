"""Turn the record of pytest-benchmark into results/: a short JSON, a Markdown table and a picture."""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LARGE = 100_000  # smallest number of elements for which the targets apply
LIMITS = ("copy", "read", "product")
COLORS = {
    "logitx": "#1f5fa8",
    "SciPy": "#c9cdd3",
    "PyTorch": "#e08a4b",
    "PyTorch, chunked": "#b5523b",
    "JAX": "#7a9e7e",
    "ONNX Runtime": "#9b86b3",
}

ARRAYS = {"torch": "torch tensors", "jax": "JAX arrays, jitted"}

Row = dict[str, Any]


def rows(recorded: Row) -> list[Row]:
    """Return one row a cell: the cell, and the median of each competitor in seconds."""
    return [benchmark["extra_info"] for benchmark in recorded["benchmarks"]]


def rival(row: Row) -> tuple[str, float]:
    """Return the fastest peer and the ratio of its time to ours; functions compiled for one shape are not counted."""
    aside = ("logitx", "torch.compile", *LIMITS)
    peers = {name: s for name, s in row["seconds"].items() if name not in aside}
    name = min(peers, key=peers.__getitem__)
    return name, peers[name] / row["seconds"]["logitx"]


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def group_of(row: Row) -> str:
    """Return the line of the summary that a row belongs to."""
    if row["arrays"] != "numpy":
        return f"`{row['op']}`, {ARRAYS[row['arrays']]}"
    if "softmax" in row["op"]:
        axis = "last axis" if row["axis"] == -1 else "other axes"
        return f"softmax, log_softmax, {axis}{', `out=`' if row['into'] else ''}"
    return f"`{row['op']}`"


def milliseconds(seconds: float) -> str:
    """Return a time with three digits."""
    value = 1e3 * seconds
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value < 100 else f"{value:.0f}"


def summary(found: list[Row]) -> Iterator[str]:
    """Yield the table of ratios: the fastest peer's time over ours."""
    yield "| function | cells | least | geometric mean |"
    yield "|---|---|---|---|"
    groups = defaultdict(list)
    for row in found:
        if row["size"] >= LARGE and row["dtype"] == "float32":
            groups[group_of(row)].append(rival(row)[1])
    for name, ratios in groups.items():
        yield f"| {name} | {len(ratios)} | {min(ratios):.2f} | {geometric_mean(ratios):.2f} |"


def table(found: list[Row]) -> Iterator[str]:
    """Yield the table of medians, in milliseconds."""
    names = ["logitx", *dict.fromkeys(name for row in found for name in row["seconds"] if name != "logitx")]
    yield f"| cell | {' | '.join(names)} | fastest peer / logitx |"
    yield "|---" * (len(names) + 2) + "|"
    for row in found:
        cells = [milliseconds(row["seconds"][name]) if name in row["seconds"] else "" for name in names]
        into = ", `out=`" if row["into"] else "" if row["arrays"] == "numpy" else f", {ARRAYS[row['arrays']]}"
        name, ratio = rival(row)
        yield f"| `{row['op']}` {row['shape']} {row['dtype']}{into} | {' | '.join(cells)} | {ratio:.2f} ({name}) |"


def is_layer(row: Row) -> bool:
    """True for the cells of a linear layer, for which memory is measured too."""
    return "mebibytes" in row


def layers(found: list[Row]) -> Iterator[str]:
    """Yield the table of the cells of a linear layer: medians in seconds, and memory."""
    names = list(dict.fromkeys(name for row in found for name in row["seconds"]))
    yield f"| cell | {' | '.join(names)} | fastest peer / logitx |"
    yield "|---" * (len(names) + 2) + "|"
    for row in found:
        cells = []
        for name in names:
            size = row["mebibytes"].get(name)
            seconds = f"{row['seconds'][name]:.3g} s" if name in row["seconds"] else ""
            cells.append(seconds if size is None else f"{seconds}, {size:.0f} MiB")
        name, ratio = rival(row)
        yield f"| `{row['op']}` {row['shape']} {row['dtype']} | {' | '.join(cells)} | {ratio:.2f} ({name}) |"


def page(found: list[Row], machine: str, versions: str) -> str:
    """Return the Markdown page."""
    of_layers, found = [row for row in found if is_layer(row)], [row for row in found if not is_layer(row)]
    lines = [
        f"Medians on {machine}, all cores, the competitors of a cell timed in turn ({versions}).",
        "",
        f"Ratios of the fastest peer's time to ours, float32, {LARGE:,} elements or more:",
        "",
        *summary(found),
        "",
        "Milliseconds; *copy* is `numpy.copyto` of the logits (memory read and written), *read* a reduction over them:",
        "",
        *table(found),
        "",
    ]
    title = "Cross-entropy of a linear layer: seconds, and what a call takes of memory beyond its inputs; *product* is"
    if of_layers:
        lines += [
            f"{title} `hidden @ weight.T` alone:",
            "",
            *layers(of_layers),
            "",
            "![bars of time and memory](layers.png)",
            "",
        ]
    return "\n".join(lines)


def is_drawn(row: Row) -> bool:
    """True if a row is drawn in the chart."""
    timed = row["dtype"] == "float32" and row["size"] >= LARGE and not row["into"] and row["arrays"] == "numpy"
    return timed and not is_layer(row)


def draw(found: list[Row], machine: str, path: Path) -> None:
    """Draw a bar a competitor and cell, as nanoseconds an element, and the limit of the memory as a line."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    found = [row for row in found if is_drawn(row)]
    ops = list(dict.fromkeys(row["op"] for row in found))
    shapes = list(dict.fromkeys(row["shape"] for row in found))
    plt.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False}
    figure, axes = plt.subplots(1, len(ops), figsize=(16, 8.5), sharey=True, constrained_layout=True)
    for axis, op in zip(axes, ops, strict=True):
        mine = {row["shape"]: row for row in found if row["op"] == op}
        for place, shape in enumerate(shapes):
            row = mine[shape]
            seconds = {name: row["seconds"][name] for name in COLORS if name in row["seconds"]}
            thick = 0.8 / len(COLORS)
            for order, (name, value) in enumerate(seconds.items()):
                axis.barh(
                    place - 0.4 + thick * (order + 0.5), value / row["size"] * 1e9, thick * 0.92, color=COLORS[name]
                )
            limit = row["seconds"]["read" if op in ("logsumexp", "cross_entropy") else "copy"] / row["size"] * 1e9
            axis.plot([limit, limit], [place - 0.42, place + 0.42], color="#222222", linewidth=1.2)
        axis.set_xscale("log")
        axis.set_title(op, loc="left", fontsize=10, fontweight="bold", color="#222222")
        axis.set_xlabel("ns an element")
        axis.grid(axis="x", color="#e6e8eb", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(length=0, colors="#444444")
    axes[0].set_yticks(range(len(shapes)), shapes)
    axes[0].invert_yaxis()
    shown = [name for name in COLORS if any(name in row["seconds"] for row in found)]
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLORS[name]) for name in shown]
    handles.append(plt.Line2D([], [], color="#222222", linewidth=1.2))
    labels = [*shown, "limit: reading, or reading and writing, memory once"]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(
        f"Time per element, float32, shorter is better: {machine}", x=0.01, ha="left", fontsize=12, color="#222222"
    )
    figure.savefig(path, dpi=110)


def draw_layers(found: list[Row], machine: str, path: Path) -> None:
    """Draw the cells of a linear layer: a column of time, a column of memory."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = [f"{row['op'].removeprefix('linear_')}\n{row['shape']}" for row in found]
    columns = (("seconds", "seconds"), ("mebibytes", "MiB beyond the inputs"))
    figure, axes = plt.subplots(1, 2, figsize=(12, 1.2 + 1.1 * len(found)), sharey=True, constrained_layout=True)
    for axis, (key, label) in zip(axes, columns, strict=True):
        for place, row in enumerate(found):
            values = {name: row[key][name] for name in COLORS if row[key].get(name) is not None}
            thick = 0.8 / max(1, len(values))
            for order, (name, value) in enumerate(values.items()):
                axis.barh(place - 0.4 + thick * (order + 0.5), value, thick * 0.92, color=COLORS[name])
        axis.set_xlabel(label)
        axis.grid(axis="x", color="#e6e8eb", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(length=0, colors="#444444")
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_yticks(range(len(found)), names)
    axes[0].invert_yaxis()
    shown = [name for name in COLORS if any(name in row["seconds"] for row in found)]
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLORS[name]) for name in shown]
    figure.legend(handles, shown, loc="outside lower center", ncols=len(shown), frameon=False)
    figure.suptitle(f"Cross-entropy of a linear layer, float32, shorter is better: {machine}", x=0.01, ha="left")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Write results/ from a record of pytest-benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path, help="what --benchmark-json wrote")
    recorded = json.loads(parser.parse_args().record.read_text())
    found = rows(recorded)
    cpu = recorded["machine_info"]["cpu"]
    machine = f"{cpu['brand_raw']} ({cpu['count']} cores)"
    versions = ", ".join(f"{name} {version}" for name, version in installed())
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "results.json").write_text(
        json.dumps(
            {"machine": machine, "versions": versions, "summary": list(summary(found)), "cells": found}, indent=1
        )
        + "\n"
    )
    (RESULTS / "README.md").write_text(f"# Benchmark\n\n![bars](speed.png)\n\n{page(found, machine, versions)}")
    draw(found, machine, RESULTS / "speed.png")
    if any(map(is_layer, found)):
        draw_layers([row for row in found if is_layer(row)], machine, RESULTS / "layers.png")


def installed() -> Iterator[tuple[str, str]]:
    """Yield the competitors' versions."""
    from importlib.metadata import version

    for name in ("numpy", "numba", "scipy", "torch", "jax", "optax", "onnxruntime"):
        yield name, version(name)


if __name__ == "__main__":
    main()
