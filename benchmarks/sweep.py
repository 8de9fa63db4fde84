"""Sweep the number of classes and the place of their axis: every function against its competitors, sizes nobody named.

    python benchmarks/sweep.py --threads 1      # or 0 for all; --smoke for a run that only shows that it works

Every cell takes a quarter of a second: all libraries are timed in turn, and the least time of each counts. The record
is benchmarks/results/sweep.json, one list of cells for each number of threads; `sweep_picture.py` draws it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parent / "results" / "sweep.json"
CLASSES = (2, 3, 5, 10, 16, 32, 50, 64, 100, 128, 192, 256, 512, 1000, 4096, 32_000, 128_256)
INNER = (1, 5, 37, 64, 100, 613, 4096, 20_000)
LENGTHS = (5, 37, 200, 1013, 6007, 50_000)  # of the class axis before an inner one
SIZE, MOST = 500_000, 6_000_000  # numbers of a cell on the last axis, and the most on others
SECONDS, ROUNDS = 0.25, (3, 25)  # that a cell may take, and the least and most rounds
DTYPES = ("float32", "float64", "bfloat16")


def limit_to_one_processor() -> None:
    """Give every library one processor: each of them asks how many it may use."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def shapes() -> Iterator[Any]:
    """Yield the shapes: rows along the last axis, then classes before inner axes."""
    from cells import Shape

    for n in CLASSES:
        yield Shape((max(2, SIZE // n), n), -1, "classes on the last axis")
    for inner in INNER:
        for n in LENGTHS:
            if n * inner <= MOST:
                outer = max(1, SIZE // (n * inner)) if inner < 64 else 1
                yield Shape((outer, n, inner), 1, "classes before an inner axis")


def least_seconds(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the least time of each call, timed in turn."""
    best = dict.fromkeys(calls, float("inf"))
    begin, done = time.perf_counter(), 0
    while done < ROUNDS[0] or (time.perf_counter() - begin < SECONDS and done < ROUNDS[1]):
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
        done += 1
    return best


def contestants(cell: Any, inputs: Any) -> dict[str, Callable[[], Any]]:
    """Return the call of each library that can run the cell."""
    from competitors import COMPETITORS

    calls = {}
    for competitor in COMPETITORS:
        if competitor.enters(cell):
            with contextlib.suppress(NotImplementedError, TypeError):  # a dtype or an axis that it has not
                call = competitor.prepare(cell, inputs)
                call()
                calls[competitor.name] = call
    return calls


def measured(smoke: bool) -> Iterator[dict[str, Any]]:
    """Yield one row for each cell."""
    from cells import OPS, Cell, make

    for shape in shapes():
        for dtype in DTYPES if shape.axis == -1 else DTYPES[:1]:
            inputs = make(shape.small() if smoke else shape, dtype)
            for op in OPS:
                cell = Cell(op, shape, dtype, into=op in ("softmax", "log_softmax"))
                best = least_seconds(contestants(cell, inputs))
                seconds = {name: float(f"{one:.3g}") for name, one in best.items()}
                yield {"op": op, "shape": shape.shape, "axis": shape.axis, "dtype": dtype, "seconds": seconds}


def main() -> None:
    """Measure, and put the cells in the place of those of the same number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, choices=(0, 1), default=0, help="1 for one, 0 for all processors")
    parser.add_argument("--smoke", action="store_true", help="small shapes, few rounds, no record")
    options = parser.parse_args()
    if options.threads == 1:
        limit_to_one_processor()
    global SECONDS, ROUNDS
    if options.smoke:
        SECONDS, ROUNDS = 0.0, (1, 1)
    rows = []
    for row in measured(options.smoke):
        rows.append(row)
        peers = {name: one for name, one in row["seconds"].items() if name != "logitx"}
        fastest = min(peers, key=peers.get) if peers else "none"  # type: ignore[arg-type]
        ratio = peers[fastest] / row["seconds"]["logitx"] if peers else float("nan")
        print(f"{row['op']:30} {row['shape']!s:22} {row['dtype']:9} {ratio:6.2f} {fastest}", flush=True)
    if not options.smoke:
        record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
        record["machine"] = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        record["one thread" if options.threads == 1 else "all threads"] = rows
        RECORD.write_text(json.dumps(record, indent=None).replace('{"op"', '\n{"op"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
