"""Turn measured errors into tables and a picture. docs/generate.py shows the same tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

Recorded = dict[str, Any]
Figures = list[float | None]  # largest, mean, percentage not rounded correctly

OURS = ("numba", "jax", "torch", "generic")
PEERS = ("SciPy", "PyTorch", "JAX")
OF = {"jax": "JAX", "torch": "PyTorch", "generic": "SciPy"}  # the library each backend is compared with
HALVES = ("float16", "bfloat16")
CORRECT = 0.1  # percent of the results in halves that may not be rounded correctly
SIGNIFICANT = 1.25  # how many times as large an error, and 1 ulp, that is worse: another exp makes that much
TARGETS = {  # ulp, of the Numba kernels
    "softmax": 4.0,
    "log_softmax": 2.0,
    "logsumexp": 2.0,
    "cross_entropy": 2.0,
    "cross_entropy, soft labels": 2.0,
    "gradient of cross_entropy": 4.0,
    "Hessian of cross_entropy": 4.0,
    "softmax_vjp": 4.0,
    "log_softmax_vjp": 4.0,
    "merge_logsumexp": 2.0,
}
UNITS = {
    "softmax": "result",
    "log_softmax": "result",
    "logsumexp": "max(1, \\|result\\|)",
    "cross_entropy": "max(1, \\|result\\|)",
    "cross_entropy, soft labels": "max(1, \\|result\\|)",
    "gradient of cross_entropy": "largest of the row",
    "Hessian of cross_entropy": "largest of the row",
    "softmax_vjp": "largest term of the row",
    "log_softmax_vjp": "largest term of the row",
    "merge_logsumexp": "max(1, \\|result\\|)",
}
SUBNORMAL_SUMS = "a sum of subnormal terms, each rounded to its last place, which is all it has"
ALLOWED = {  # beyond the target, how far, and why
    ("log_softmax", "float64", "subnormal"): (4.0, SUBNORMAL_SUMS),
}
LOSSES = ("cross_entropy", "cross_entropy, soft labels")


def number(value: float | None) -> str:
    """Return an error with a few digits; "wrong" for None, an error that is not finite."""
    if value is None:
        return "wrong"
    if value < 0.01:
        return f"{value:.0e}".replace("e-0", "e-") if value else "0"
    return (
        f"{value:.2f}"
        if value < 10
        else f"{value:.0f}"
        if value < 1e4
        else f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    )


def over(values: list[float | None]) -> float | None:
    """Return the largest figure; None if one is not finite."""
    return None if None in values else max(value for value in values if value is not None)


def by(recorded: Recorded, quantity: str, dtype: str, column: int) -> dict[str, float | None]:
    """Return one figure a library, the largest over all sets."""
    found: dict[str, list[float | None]] = {}
    for cell in recorded["cells"]:
        if cell["quantity"] == quantity and cell["dtype"] == dtype:
            for name, figures in cell["errors"].items():
                found.setdefault(name, []).append(figures[column])
    return {name: over(values) for name, values in found.items()}


def dtypes_of(recorded: Recorded) -> list[str]:
    """Return the dtypes that were measured."""
    return list(dict.fromkeys(cell["dtype"] for cell in recorded["cells"]))


# -- what is reached --------------------------------------------------------------------------------------------------


def is_worse(one: float | None, other: float | None) -> bool:
    """True if an error is larger than another one by a significant amount."""
    if one is None or other is None:
        return one is None and other is not None
    return one > SIGNIFICANT * other + 1.0


def missed(recorded: Recorded) -> Iterator[str]:
    """Yield kernels that miss their target, and other backends that do and are worse than their framework."""
    for cell in recorded["cells"]:
        name, dtype, where = cell["quantity"], cell["dtype"], cell["set"]
        target = ALLOWED.get((name, dtype, where), (TARGETS[name], ""))[0]
        halves = dtype in HALVES and name not in LOSSES
        theirs = [cell["errors"][peer] for peer in PEERS if peer in cell["errors"]]
        peers = [over([figures[column] for figures in theirs]) for column in range(3)]  # where a framework has nothing
        for backend in OURS:
            worst, _, wrong = cell["errors"].get(backend, (0.0, 0.0, 0.0))
            own = cell["errors"].get(OF.get(backend, ""), peers)
            good = wrong <= CORRECT if halves else worst is not None and worst <= target
            if backend != "numba":
                good = good or (wrong <= own[2] + CORRECT if halves else not is_worse(worst, own[0]))
            if not good:
                figure = (
                    f"{wrong} % not rounded correctly" if halves else f"{number(worst)} ulp; the target is {target}"
                )
                yield f"{backend}: {name} {dtype}, {where}: {figure}"


def outdone(recorded: Recorded) -> Iterator[str]:
    """Yield every function and dtype in which a peer has a smaller largest error than the kernels."""
    for dtype in dtypes_of(recorded):
        column = 2 if dtype in HALVES else 0
        for name in TARGETS:
            errors = by(recorded, name, dtype, column)
            best = min((errors[peer] for peer in PEERS if errors.get(peer) is not None), default=None)
            mine = errors.get("numba")
            if best is not None and (mine is None or mine > best):
                unit = "% not rounded correctly" if column else "ulp"
                yield f"{name} {dtype}: {number(mine)} {unit} against {number(best)}"


def exceptions(recorded: Recorded) -> Iterator[str]:
    """Yield where a kernel is beyond its target, and why."""
    for cell in recorded["cells"]:
        key = cell["quantity"], cell["dtype"], cell["set"]
        worst = cell["errors"].get("numba", [0.0])[0]
        if key in ALLOWED and (worst is None or worst > TARGETS[key[0]]):
            yield f"{key[0]} {key[1]} on *{key[2]}*: {number(worst)} ulp; {ALLOWED[key][1]}"


# -- tables -----------------------------------------------------------------------------------------------------------


def table(recorded: Recorded, dtypes: tuple[str, ...], column: int) -> Iterator[str]:
    """Yield the table of the largest figure of each library over all sets."""
    names = [*OURS, *PEERS]
    yield f"| function | dtype | {' | '.join(f'`{name}`' if name in OURS else name for name in names)} | target |"
    yield "|---" * (len(names) + 3) + "|"
    for name, target in TARGETS.items():
        for dtype in dtypes:
            errors = by(recorded, name, dtype, column)
            if errors and not (column == 2 and name in LOSSES):  # which are float32
                shown = [number(errors[one]) if one in errors else "" for one in names]
                yield f"| {name} | {dtype} | {' | '.join(shown)} | {CORRECT if column == 2 else target:g} |"


def summary(recorded: Recorded) -> Iterator[str]:
    """Yield the tables that the documentation includes."""
    yield "The largest error over all sets of inputs, in ulp:"
    yield ""
    yield from table(recorded, ("float32", "float64"), 0)
    yield ""
    yield "Results in half precision that are not rounded correctly, in percent of the worst set:"
    yield ""
    yield from table(recorded, HALVES, 2)
    yield ""
    better = list(outdone(recorded))
    if better:
        yield f"Peers with a smaller largest error than `numba`: {'; '.join(better)}."
    else:
        yield "No peer has a smaller largest error than `numba` in any row."
    beyond = list(exceptions(recorded))
    if beyond:
        yield ""
        yield f"Beyond the target: {'; '.join(beyond)}."


def sets(recorded: Recorded, dtype: str) -> Iterator[str]:
    """Yield the table of all sets of inputs: largest and mean error."""
    names = [*OURS, *PEERS]
    yield f"| function | inputs | {' | '.join(names)} |"
    yield "|---" * (len(names) + 2) + "|"
    for cell in recorded["cells"]:
        if cell["dtype"] == dtype:
            shown = []
            for name in names:
                figures = cell["errors"].get(name)
                shown.append("" if figures is None else f"{number(figures[0])} ({number(figures[1])})")
            yield f"| {cell['quantity']} | {cell['set']} | {' | '.join(shown)} |"


def page(recorded: Recorded) -> str:
    """Return the Markdown page."""
    lines = [
        "# Accuracy",
        "",
        f"Measured by `nox -s accuracy` on {recorded['machine']} ({recorded['versions']}).",
        "",
        "![largest errors of everyone on every set of inputs](accuracy.png)",
        "",
        *summary(recorded),
        "",
        "What an error is measured in:",
        "",
        "| function | unit: ulp of |",
        "|---|---|",
        *(f"| {name} | {unit} |" for name, unit in UNITS.items()),
        "",
    ]
    for dtype in dtypes_of(recorded):
        lines += [f"## {dtype}", "", "Largest (and mean) error in ulp.", "", *sets(recorded, dtype), ""]
    return "\n".join(lines)


# -- picture ----------------------------------------------------------------------------------------------------------

COLORS = {
    "numba": "#1f5fa8",
    "jax": "#6ea3d8",
    "generic": "#b9d0e8",
    "SciPy": "#9aa0a8",
    "PyTorch": "#e08a4b",
    "JAX": "#7a9e7e",
}
DRAWN = ("softmax", "log_softmax", "logsumexp", "cross_entropy", "gradient of cross_entropy")
FLOOR, CEILING = 0.1, 1e8


def draw(recorded: Recorded, path: Path) -> None:
    """Draw largest errors as dots, a row a set of inputs, a column a function; the target as a line."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"font.size": 9}
    names = list(dict.fromkeys(cell["set"] for cell in recorded["cells"]))
    figure, grid = plt.subplots(2, len(DRAWN), figsize=(16, 8), sharex=True, sharey=True, constrained_layout=True)
    for row, dtype in zip(grid, ("float32", "float64"), strict=True):
        for axes, quantity in zip(row, DRAWN, strict=True):
            found = [c for c in recorded["cells"] if c["dtype"] == dtype and c["quantity"] == quantity]
            for place, name in enumerate(COLORS):
                dots = [(c["errors"][name][0], names.index(c["set"])) for c in found if name in c["errors"]]
                shown = [min(max(CEILING if x is None else x, FLOOR), CEILING) for x, _ in dots]
                shift = 0.6 * place / (len(COLORS) - 1) - 0.3
                axes.scatter(shown, [y + shift for _, y in dots], s=26, color=COLORS[name], label=name, zorder=3)
            axes.axvline(TARGETS[quantity], color="#222222", linewidth=1, linestyle=(0, (3, 2)), zorder=2)
            axes.set(xscale="log", xlim=(FLOOR * 0.7, CEILING * 1.5))
            axes.set_title(f"{quantity}, {dtype}", loc="left", fontsize=10, fontweight="bold", color="#222222")
            axes.grid(axis="x", color="#e6e8eb", linewidth=0.7)
            axes.tick_params(length=0, colors="#444444")
            axes.spines[["top", "right", "left"]].set_visible(False)
            for y in range(len(names) - 1):
                axes.axhline(y + 0.5, color="#f0f1f3", linewidth=0.8, zorder=1)
    grid[0, 0].set_yticks(range(len(names)), names)
    grid[0, 0].invert_yaxis()
    for axes in grid[1]:
        axes.set_xlabel("largest error, ulp")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    target = plt.Line2D([], [], color="#222222", linewidth=1, linestyle=(0, (3, 2)))
    labels = [f"logitx, {label}" if label in OURS else label for label in labels]
    figure.legend([*handles, target], [*labels, "target"], loc="outside lower center", ncols=7, frameon=False)
    figure.suptitle("Largest error on each set of inputs; left is better", x=0.01, ha="left", fontsize=12)
    figure.savefig(path, dpi=100)
