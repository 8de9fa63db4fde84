"""Measure the errors of every function, dtype and backend, beside SciPy, PyTorch and JAX; write docs/accuracy.

`nox -s accuracy` runs it, and fails where a kernel misses its target, or another backend does so and is worse than its
framework's own function.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import accuracy_report
import exact
from accuracy_cases import DTYPES, HALVES, LONG_ROWS, QUANTITIES, SETS, Quantity, inputs
from accuracy_peers import Contender, contenders

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "accuracy"
LIBRARIES = ("numpy", "numba", "scipy", "torch", "jax", "optax")
LONGEST = ("softmax", "log_softmax", "logsumexp", "cross_entropy", "gradient of cross_entropy")  # for the longest row


def figures(errors: exact.NDArray) -> list[float | None]:
    """Return the largest error, the mean, and the percentage that is not rounded correctly."""
    worst = float(errors.max())
    if not np.isfinite(worst):
        return [None, None, 100.0]
    wrong = 100 * float((errors > 0.5 + 1e-4).mean())
    return [float(f"{worst:.4g}"), float(f"{errors.mean(dtype=np.float64):.3g}"), float(f"{wrong:.3g}")]


def measure(
    quantity: Quantity, dtype: str, made: exact.Inputs, rows: exact.Rows, them: Iterable[Contender]
) -> dict[str, Any]:
    """Return the figures of every library that has the quantity."""
    right = quantity.formula(rows, made)
    size, unit = quantity.size(right, made), quantity.unit(dtype)
    found = {}
    for one in them:
        if quantity.name in one.calls and dtype not in one.lacks:
            found[one.name] = figures(exact.ulps(one(quantity.name, made), right, size, unit))
    return found


def cells(dtypes: Iterable[str], sets: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield one cell a quantity, dtype and set of inputs."""
    them = contenders()
    for dtype in dtypes:
        for name in sets:
            made, rows = inputs(name, dtype)
            for quantity in QUANTITIES:
                if LONG_ROWS.get(name) != max(LONG_ROWS.values()) or quantity.name in LONGEST:
                    errors = measure(quantity, dtype, made, rows, them)
                    yield {"quantity": quantity.name, "dtype": dtype, "set": name, "errors": errors}
            print(f"{dtype}, {name}", flush=True)


def machine() -> str:
    """Return the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({os.cpu_count()} cores)"


def write(recorded: dict[str, Any]) -> None:
    """Write a cell a line."""
    facts = {key: value for key, value in recorded.items() if key != "cells"}
    lines = ",\n".join(json.dumps(cell) for cell in recorded["cells"])
    (RESULTS / "accuracy.json").write_text(f'{json.dumps(facts)[:-1]}, "cells": [\n{lines}\n]}}\n')


def main() -> None:
    """Measure, or with --quick measure a part and write nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="float32 and bfloat16 without the long rows; no file")
    parser.add_argument("--draw", action="store_true", help="only make table and picture anew, from the record")
    options = parser.parse_args()
    if not exact.ENOUGH:
        raise SystemExit("a long double of this platform is no longer than float64: nothing to measure float64 with")
    if options.draw:
        recorded = json.loads((RESULTS / "accuracy.json").read_text())
    else:
        sets = [name for name in SETS if not (options.quick and name in LONG_ROWS)]
        dtypes = ("float32", HALVES[1]) if options.quick else DTYPES
        versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
        recorded = {"machine": machine(), "versions": versions, "cells": list(cells(dtypes, sets))}
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        write(recorded)
        (RESULTS / "README.md").write_text(accuracy_report.page(recorded))
        accuracy_report.draw(recorded, RESULTS / "accuracy.png")
    missed = list(accuracy_report.missed(recorded))
    print("\n".join(missed) or "Every target is reached.")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
