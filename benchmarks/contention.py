"""Calls beside busy processes, and in many processes at once: what threads cost where there are not enough processors.

    python benchmarks/contention.py [--json FILE] [--seconds 1]

The first table has the time of a softmax beside 0, 1, 2 and 4 processes that compute without a pause, for each library
in turn, in microseconds: the median, and that over the median beside none. The second has a pool of 8 processes, each
of which does an eighth of the work, with the threads that a library takes and with one thread each. The processor time
over that of the same work in one process with one thread says what they lose to each other, whatever else runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = ((32, 100), (128, 1000), (1024, 1000))
BUSY = (0, 1, 2, 4)
CHILDREN = 8
CALLS = 16_000  # of the whole pool
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def ours(x: np.ndarray) -> Callable[[], Any]:
    import logitx as lx

    out = np.empty_like(x)
    return lambda: lx.softmax(x, out=out)


def torch(x: np.ndarray) -> Callable[[], Any]:
    import torch

    tensor = torch.from_numpy(x)
    out = torch.empty_like(tensor)
    return lambda: torch.softmax(tensor, -1, out=out)


def numpy(x: np.ndarray) -> Callable[[], Any]:
    def softmax() -> Any:
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    return softmax


LIBRARIES: dict[str, Callable[[np.ndarray], Callable[[], Any]]] = {"logitx": ours, "torch": torch, "numpy": numpy}


def logits(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processes computing."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def median_us(call: Callable[[], Any], seconds: float) -> float:
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def beside_busy_processes(seconds: float) -> list[dict[str, Any]]:
    rows = []
    for shape in SHAPES:
        calls = {name: make(logits(shape)) for name, make in LIBRARIES.items()}
        for call in calls.values():
            median_us(call, 0.2)
        found: dict[str, list[float]] = {name: [] for name in calls}
        for count in BUSY:
            with busy(count):
                for name, call in calls.items():
                    found[name].append(median_us(call, seconds))
        rows += [{"shape": shape, "library": name, "us": times} for name, times in found.items()]
    return rows


def work(name: str, ready: Any, spent: Any) -> None:
    """Do the part of one process once all have made a first call; report its processor time."""
    call = LIBRARIES[name](logits(SHAPES[1]))
    call()
    ready.wait()
    begin = time.process_time()
    for _ in range(CALLS // CHILDREN):
        call()
    spent.put(time.process_time() - begin)


def in_processes(name: str, count: int, environment: dict[str, str]) -> tuple[float, float]:
    """Return seconds and processor seconds of `count` processes at once, without their start."""
    context = multiprocessing.get_context("spawn")
    ready, spent = context.Barrier(count + 1), context.Queue()
    children = [context.Process(target=work, args=(name, ready, spent)) for _ in range(count)]
    os.environ.update(environment)  # which the children inherit
    for child in children:
        child.start()
    for variable in environment:
        del os.environ[variable]
    ready.wait()
    begin = time.perf_counter()
    total = sum(spent.get() for _ in children)
    seconds = time.perf_counter() - begin
    for child in children:
        child.join()
    return seconds, total


def pools(name: str) -> dict[str, Any]:
    """Return the times of a pool; `serial` is one part by one process with one thread, taken 8 times."""
    row: dict[str, Any] = {"library": name}
    row["serial"] = [CHILDREN * value for value in in_processes(name, 1, ONE_THREAD)]
    row["pool"] = in_processes(name, CHILDREN, {})
    row["one thread each"] = in_processes(name, CHILDREN, ONE_THREAD)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    rows = beside_busy_processes(given.seconds)
    print(f"{os.cpu_count()} processors; microseconds, and times those beside no busy process\n")
    print(f"{'shape':>12} {'library':>8} " + " ".join(f"{f'{count} busy':>16}" for count in BUSY))
    for row in rows:
        cells = " ".join(f"{us:9.0f} ({us / row['us'][0]:4.1f})" for us in row["us"])
        print(f"{row['shape']!s:>12} {row['library']:>8} {cells}")
    print("\nseconds, and processor seconds over those of the same work in one process with one thread\n")
    ways = ("serial", "pool", "one thread each")
    print(f"{'library':>8} " + " ".join(f"{way:>16}" for way in ways))
    found = [pools(name) for name in LIBRARIES]
    for row in found:
        cells = " ".join(f"{row[way][0]:9.2f} ({row[way][1] / row['serial'][1]:4.2f})" for way in ways)
        print(f"{row['library']:>8} {cells}")
    if given.json:
        record = {"processors": os.cpu_count(), "busy": BUSY, "beside": rows, "pool": found}
        Path(given.json).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
