"""Measure the figures of docs/scaling.md: files larger than memory, and clusters.

    python benchmarks/larger_than_memory.py file [--gigabytes 20]
    python benchmarks/larger_than_memory.py cluster
    python benchmarks/larger_than_memory.py scaling

Each prints a table. `file` makes a sparse file in `--folder`, and removes it.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import logitx as lx

CLASSES = 32_000
BLOCK = 1 << 25


def median(run: Callable[[], Any], times: int, between: Callable[[], Any] = lambda: None) -> float:
    """Return the median of several times, in seconds; the result of a run is freed before the next."""
    taken = []
    for _ in range(times):
        between()
        begin = time.perf_counter()
        kept = run()
        taken.append(time.perf_counter() - begin)
        del kept
    return statistics.median(taken)


# -- a file larger than memory ----------------------------------------------------------------------------------------


def plant(path: Path, rows: int) -> tuple[np.ndarray, float]:
    """Make a file of zeros with random rows at the edges of blocks; return labels and the exact loss."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, rows)
    per_block = BLOCK // (4 * CLASSES)
    edges = {0, rows - 1, *(row + k for row in range(per_block, rows - 1, 97 * per_block) for k in (-1, 0, 1))}
    total = (rows - len(edges)) * np.log(np.float64(CLASSES))
    with path.open("wb") as file:
        file.truncate(rows * CLASSES * 4)
        for row in sorted(edges):
            x = (8 * rng.standard_normal(CLASSES)).astype(np.float32)
            file.seek(row * CLASSES * 4)
            file.write(x.tobytes())
            wide = x.astype(np.float64)
            total += wide.max() + np.log(np.exp(wide - wide.max()).sum()) - wide[labels[row]]
    return labels, total / rows


def forget(path: Path) -> None:
    """Take a file out of the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path) -> float:
    """Read a file block by block; return seconds."""
    buffer, begin = bytearray(BLOCK), time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - begin


def evaluated(way: str, path: Path, labels: np.ndarray) -> tuple[float, float]:
    """Evaluate a memory map; return the loss and the seconds."""
    small = np.zeros((600, CLASSES), np.float32)
    lx.CrossEntropy().update(small, np.zeros(600, int))  # compiled, threads awake
    logits = np.memmap(path, np.float32, "r", shape=(len(labels), CLASSES))
    begin = time.perf_counter()
    loss = float(lx.cross_entropy(logits, labels)) if way == "cross_entropy" else None
    loss = lx.CrossEntropy().feed(logits, labels).result().loss if loss is None else loss
    return loss, time.perf_counter() - begin


def files(given: argparse.Namespace) -> None:
    """Compare evaluating a file with reading it, in processes whose memory is measured."""
    rows = int(given.gigabytes * 1e9) // (4 * CLASSES)
    print("way, seconds, GB/s, resident MiB at most, loss - exact loss")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder, "logits")
        labels, exact = plant(path, rows)
        np.save(Path(folder, "labels.npy"), labels)
        for cached in (False,) if given.quick else (False, True):
            print("in the system's cache" if cached else "not in the system's cache")
            for way in ("read", "cross_entropy", "read") if given.quick else ("read", "cross_entropy", "feed", "read"):
                if not cached:
                    forget(path)
                command = [sys.executable, __file__, "one", "--way", way, "--folder", folder]
                seconds, resident, loss = map(float, subprocess.check_output(command, text=True).split())
                off = "" if way == "read" else f"{loss - exact:.1e}"
                print(f"{way}, {seconds:.2f}, {rows * CLASSES * 4e-9 / seconds:.2f}, {resident:.0f}, {off}", flush=True)


def one(given: argparse.Namespace) -> None:
    """Run one of the ways to read or evaluate the file."""
    path = Path(given.folder, "logits")
    labels = np.load(Path(given.folder, "labels.npy"))
    loss, seconds = (0.0, read(path)) if given.way == "read" else evaluated(given.way, path, labels)
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, loss)


# -- a cluster --------------------------------------------------------------------------------------------------------


def clients(workers: int) -> Any:
    """Return a client of a cluster of processes of one thread each."""
    import distributed

    cluster = distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0,
        silence_logs=logging.CRITICAL,
    )  # fmt: skip
    return distributed.Client(cluster)


def persisted(client: Any, rows: int, classes: int, chunks: Any) -> tuple[Any, Any]:
    """Return logits and labels in the memory of the workers."""
    import dask.array as da
    import distributed

    x = da.random.default_rng(0).standard_normal((rows, classes), dtype=np.float32, chunks=chunks)
    ids = da.random.default_rng(1).integers(0, classes, rows, chunks=(x.chunks[0],))
    x, ids = client.persist([x, ids])
    distributed.wait([x, ids])
    return x, ids


def only(client: Any, *collections: Any) -> Callable[[], None]:
    """Return a function that waits until the workers hold only these arrays."""
    import distributed

    needed = {str(future.key) for future in distributed.futures_of(list(collections))}

    def wait() -> None:
        while not {str(key) for keys in client.has_what().values() for key in keys} <= needed:
            time.sleep(0.01)

    return wait


def tasks_of(client: Any, run: Callable[[], Any]) -> int:
    """Return how many tasks the workers do in a run."""
    import distributed

    with distributed.get_task_stream(client) as stream:
        run()
    return len(stream.data)


def cluster(given: argparse.Namespace) -> None:
    """Compare 4e8 bytes on the workers of two processes with NumPy in one."""
    import distributed

    rows, classes = 100_000, 1000
    numpy_x = np.random.default_rng(0).standard_normal((rows, classes), dtype=np.float32)
    numpy_ids = np.random.default_rng(1).integers(0, classes, rows)
    calls: dict[str, Callable[..., Any]] = {
        "cross_entropy": lambda x, ids: lx.cross_entropy(x, ids),
        "logsumexp": lambda x, ids: lx.logsumexp(x),
        "softmax": lambda x, ids: lx.softmax(x),
        "log_softmax": lambda x, ids: lx.log_softmax(x),
        "cross_entropy_value_and_grad": lambda x, ids: lx.cross_entropy_value_and_grad(x, ids)[1],
    }
    print("function, chunks, ms of NumPy, ms of Dask, allowed: 1.3 x NumPy + 50 ms, tasks")
    plain = {}
    for name, call in calls.items():
        call(numpy_x, numpy_ids)
        plain[name] = median(lambda call=call: call(numpy_x, numpy_ids), 7)
    with clients(2) as client:
        for chunks in ((rows // 4, classes), (rows // 4, classes // 4)):
            x, ids = persisted(client, rows, classes, chunks)

            def run(call: Callable[..., Any], x: Any = x, ids: Any = ids) -> Any:
                result = client.persist(call(x, ids))
                distributed.wait(result)
                return result

            for name, call in calls.items():
                run(call)
                taken = median(lambda call=call: run(call), 7, only(client, x, ids))
                allowed, tasks = 1300 * plain[name] + 50, tasks_of(client, lambda call=call: run(call))
                figures = f"{1000 * plain[name]:.1f}, {1000 * taken:.1f}, {allowed:.1f}, {tasks}"
                print(f"{name}, {chunks}, {figures}", flush=True)


def scaling(given: argparse.Namespace) -> None:
    """Time the cross-entropy on 1 to 8 processes, for 1e6 to 1e9 elements."""
    import distributed

    print("processes, elements, ms")
    for workers in (1, 2, 4, 8):
        with clients(workers) as client:
            for elements in (10**6, 10**7, 10**8, 10**9):
                rows = elements // 1000
                x, ids = persisted(client, rows, 1000, (max(1, rows // 16), 1000))

                def run(x: Any = x, ids: Any = ids) -> Any:
                    result = client.persist(lx.cross_entropy(x, ids))
                    distributed.wait(result)
                    return result

                run()
                taken = 1000 * median(run, 5, only(client, x, ids))
                print(f"{workers}, {elements:.0e}, {taken:.0f}", flush=True)
                del x, ids, run


def main() -> None:
    """Run the command named by the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("file", "one", "cluster", "scaling"))
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--way", default="read")
    parser.add_argument(
        "--quick", action="store_true", help="of a file: one way, uncached, and reading before and after it"
    )
    given = parser.parse_args()
    {"file": files, "one": one, "cluster": cluster, "scaling": scaling}[given.what](given)


if __name__ == "__main__":
    main()
