"""Write the generated tables of README and docs and the static types, or with --check say which are out of date."""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from static_types import STUB, stub

import logitx as lx
from logitx._operations import OPERATIONS
from logitx.backends import BACKENDS
from logitx.testing import OPS

ROOT = Path(__file__).resolve().parent.parent
# README names these in sentences
IN_SENTENCES = ("backends", "balanced_class_weight", "set_num_threads", "use_backend", "warmup", "which")
# What functions made of others stand beside in the table of README
ROWS = {
    "softmax_top_k": "softmax",
    "gumbel_softmax": "sample",
    "logmeanexp": "logsumexp",
    "logaddexp": "logsumexp",
}
# What is taken from a name to find the function that it stands beside in the table of README
BESIDE = (
    r"_(value_and_grad|grad_hess|vjp)$|^(js|kl)_|^log_(?=sigmoid)|^binary_(?=focal)|^merge_(?=logsumexp)"
    r"|(?<=^log)cum(?=sumexp)|(?<=^segment)_.*"
)
FAMILIES = {
    "numpy": "NumPy arrays, lists, numbers",
    "torch": "PyTorch tensors",
    "jax": "JAX arrays",
    "tensorflow": "TensorFlow tensors",
    "dask": "Dask arrays",
    "array_api": "any other array with `__array_namespace__`",
}


def summary(name: str) -> str:
    """Return the first line of a docstring."""
    return str(inspect.getdoc(getattr(lx, name))).partition("\n")[0].rstrip(".").replace("``", "`")


def in_order() -> list[str]:
    """Return the public functions: operations as the table of the tests has them, then what asks and sets."""
    operations = [op.name for op in OPS]
    return operations + [name for name in lx.__all__ if name not in (*operations, "LabelError")]


def functions() -> Iterator[str]:
    """Yield the table of functions that compute something: a gradient or a variant stands beside what it belongs to."""
    yield "| function | what it gives |"
    yield "|---|---|"
    rows: dict[str, list[str]] = {}
    for name in in_order():
        if name not in IN_SENTENCES:
            rows.setdefault(ROWS.get(name) or re.sub(BESIDE, "", name), []).append(name)
    for row, names in rows.items():
        names.sort(key=lambda name, row=row: name != row)  # the row is described by the function that names it
        yield f"| {', '.join(f'`{name}`' for name in names)} | {summary(names[0])} |"


def signatures() -> Iterator[str]:
    """Yield every function with its signature."""
    for name in in_order():
        parameters = inspect.signature(getattr(lx, name)).parameters.values()
        bare = inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters])
        yield f"### {name}\n\n{summary(name)}.\n\n```text"
        yield from textwrap.wrap(f"{name}{bare}", width=100, subsequent_indent=" " * (len(name) + 1))
        yield "```\n"


def backends() -> Iterator[str]:
    """Yield the table of backends."""
    yield "| backend | takes | what it is | needs |"
    yield "|---|---|---|---|"
    for row in BACKENDS:
        families = "; ".join(FAMILIES[family] for family in row.families)
        yield f"| `{row.name}` | {families} | {row.summary} | {row.requires or 'nothing'} |"


def contents(module: str) -> tuple[set[str], dict[str, str]]:
    """Return what a backend defines and what it declines: read, not imported, as its library may not be here."""
    path = ROOT.joinpath("src", *module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names, declines = set(), {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.name for alias in node.names)
            if any(alias.name == "DECLINES" for alias in node.names):
                declines = contents(str(node.module))[1]
        elif isinstance(node, ast.Assign):
            names.update(map(ast.unparse, node.targets))
            if ast.unparse(node.targets[0]) == "DECLINES":
                declines = ast.literal_eval(node.value)
    return names, declines


def matrix() -> Iterator[str]:
    """Yield the table of operations by backends: a refusal is shown with its reason."""
    backends = {row.name: contents(row.module) for row in BACKENDS}
    yield f"| function | {' | '.join(f'`{name}`' for name in backends)} |"
    yield "|---" * (len(backends) + 1) + "|"
    for op in OPERATIONS:
        cells = [declines.get(op) or ("yes" if op in names else "no") for names, declines in backends.values()]
        yield f"| `{op}` | {' | '.join(cells)} |"


def speed() -> Iterator[str]:
    """Yield the ratios of the last recorded benchmark, and on what they were measured."""
    recorded = json.loads((ROOT / "benchmarks" / "results" / "results.json").read_text(encoding="utf-8"))
    yield "The time of the fastest of SciPy, PyTorch, JAX and ONNX Runtime, divided by the time of logitx. Above 1,"
    yield "logitx is faster. A cell is one function of one shape, float32, 100,000 elements or more; *least* is the"
    yield f"worst cell. Measured on {recorded['machine']}, all cores:"
    yield ""
    yield from recorded["summary"]


def accuracy() -> Iterator[str]:
    """Yield the tables of the last recorded measurement of errors."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import accuracy_report

    recorded = json.loads((ROOT / "docs" / "accuracy" / "accuracy.json").read_text(encoding="utf-8"))
    yield f"Measured on {recorded['machine']} ({recorded['versions']})."
    yield ""
    yield from accuracy_report.summary(recorded)


def fuzzing() -> Iterator[str]:
    """Yield the numbers of random calls that were checked, over the recorded runs."""
    runs = json.loads((ROOT / "docs" / "fuzzing.json").read_text(encoding="utf-8"))
    cells: dict[tuple[str, str], int] = {}
    for op, target, checked, _ in (cell for run in runs for cell in run["cells"]):
        cells[op, target] = cells.get((op, target), 0) + checked
    wrong = [f"`{op}` on `{target}`, seed {run['seed']}" for run in runs for op, target, _, bad in run["cells"] if bad]
    seeds, total = ", ".join(str(run["seed"]) for run in runs), sum(cells.values())
    failures = f"failed: {'; '.join(wrong)}" if wrong else "none was wrong"
    yield f"{total:,} random calls with the seed{'s' * (len(runs) > 1)} {seeds} ({runs[-1]['versions']}): {failures}."
    yield ""
    targets = list(dict.fromkeys(target for _, target in cells))
    yield f"| function | {' | '.join(f'`{target}`' for target in targets)} |"
    yield "|---" * (len(targets) + 1) + "|"
    for op in (op for op in OPS if any(name == op.name for name, _ in cells)):
        yield f"| `{op.name}` | {' | '.join(f'{cells.get((op.name, target), 0):,}' for target in targets)} |"


def programs() -> Iterator[str]:
    """Yield the table of programs before and after."""
    recorded = json.loads((ROOT / "docs" / "programs.json").read_text(encoding="utf-8"))
    yield f"The least of 15 times, in milliseconds, on {recorded['machine']}, which other programs used too"
    yield f"({recorded['versions']})."
    yield ""
    yield "| program | before | after | ms before | ms after | ratio |"
    yield "|---|---|---|---|---|---|"
    for row in recorded["rows"]:
        before, after = (f"{time:.0f}" for time in row["milliseconds"])
        yield f"| {row['program']} | {row['before']} | {row['after']} | {before} | {after} | {row['ratio']:.1f} |"


def costs() -> Iterator[str]:
    """Yield what the functions beside the losses cost."""
    recorded = json.loads((ROOT / "benchmarks" / "results" / "costs.json").read_text(encoding="utf-8"))
    yield f"Times on {recorded['machine']}, all of them, float32 ({recorded['versions']}):"
    yield ""
    yield "| call | size | ms | ratio | to | aim, at most |"
    yield "|---|---|---|---|---|---|"
    for row in recorded["rows"]:
        size, ratio = row["size"].replace("x", " x "), f"{row['ratio']:.2f}"
        cells = row["name"], size, f"{row['milliseconds']:.3g}", ratio, row["unit"], f"{row['most']:g}"
        yield f"| {' | '.join(cells)} |"


BLOCKS: dict[str, Callable[[], Iterator[str]]] = {
    "functions": functions,
    "signatures": signatures,
    "backends": backends,
    "matrix": matrix,
    "speed": speed,
    "accuracy": accuracy,
    "fuzzing": fuzzing,
    "programs": programs,
    "costs": costs,
}


def filled(text: str) -> str:
    """Return a page with every generated block anew."""
    for name, lines in BLOCKS.items():
        block = re.compile(rf"(<!-- begin {name}: [^\n]*-->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if block.search(text):
            body = "\n".join(lines()) + "\n"
            text = block.sub(lambda found, body=body: found[1] + body + found[2], text)
    return text


def main() -> None:
    """Fill, or check, README, every page of docs, and the stub."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table is out of date")
    check = parser.parse_args().check
    stale = False
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), STUB]:
        before = path.read_text(encoding="utf-8")
        after = stub() if path == STUB else filled(before)
        if before != after:
            stale = True
            name = str(path.relative_to(ROOT))
            print("\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="")))
            if not check:
                path.write_text(after, encoding="utf-8")
    if check and stale:
        raise SystemExit("tables or types are out of date: run `nox -s docs`")


if __name__ == "__main__":
    main()
