"""Time the examples of docs/log_space.md beside what people write without the library.

python docs/examples/log_space.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import logitx as lx

RNG = np.random.default_rng(0)


def milliseconds(function: Callable[[], Any], repeats: int = 5) -> float:
    """Return the least time of a few calls; the first one, which compiles, is left out."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def plain_logsumexp(x: Any, axis: int) -> Any:
    """Return the sum as NumPy users write it."""
    top = x.max(axis=axis, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=axis)) + top.squeeze(axis)


def sinkhorn(rows: Callable[[Any, Any], Any], columns: Callable[[Any, Any], Any], kernel: Any, steps: int = 50) -> Any:
    """Run some iterations; `rows` and `columns` return the sums along the last and the first axis."""
    f, g = np.zeros(len(kernel)), np.zeros(kernel.shape[1])
    for _ in range(steps):
        f = -rows(kernel, g)
        g = -columns(kernel, f)
    return f, g


def ratios() -> Iterator[tuple[str, float, float]]:
    """Yield (example, time of this library, time of what people write)."""
    kernel = -20 * RNG.random((1000, 1000))

    def ours() -> Any:
        return sinkhorn(
            lambda k, g: lx.logsumexp(k, log_b=g), lambda k, f: lx.logsumexp(k, axis=0, log_b=f[:, None]), kernel
        )

    def by_hand() -> Any:
        return sinkhorn(lambda k, g: plain_logsumexp(k + g, 1), lambda k, f: plain_logsumexp(k + f[:, None], 0), kernel)

    yield "Sinkhorn, 1000 by 1000, 50 iterations", milliseconds(ours, 2), milliseconds(by_hand, 2)
    a, b = RNG.normal(size=(2, 256, 256)).astype(np.float32)
    yield (
        "log_matmul of 256 by 256 squares",
        milliseconds(lambda: lx.log_matmul(a, b)),
        milliseconds(lambda: plain_logsumexp(a[:, :, None] + b, 1)),
    )
    weights = RNG.normal(size=100_000)
    yield (
        "running evidence of 100,000 weights",
        milliseconds(lambda: lx.logcumsumexp(weights)),
        milliseconds(lambda: np.logaddexp.accumulate(weights)),
    )
    count, nodes = 2_000_000, 100_000
    score = RNG.normal(size=count).astype(np.float32)
    ids = np.sort(RNG.integers(0, nodes, count))
    offsets = np.searchsorted(ids, np.arange(nodes + 1))
    full = offsets[:-1][np.diff(offsets) > 0]
    place = np.unique(ids, return_inverse=True)[1]

    def by_reduceat() -> Any:
        e = np.exp(score - np.maximum.reduceat(score, full)[place])
        return e / np.add.reduceat(e, full)[place]

    yield (
        "attention over 2,000,000 sorted edges",
        milliseconds(lambda: lx.segment_softmax(score, segment_ids=ids)),
        milliseconds(by_reduceat),
    )
    yield (
        "ragged rows, the same by offsets",
        milliseconds(lambda: lx.segment_softmax(score, offsets=offsets)),
        milliseconds(by_reduceat),
    )


if __name__ == "__main__":
    for name, ours, theirs in ratios():
        print(f"| {name} | {ours:.3g} | {theirs:.3g} |")
