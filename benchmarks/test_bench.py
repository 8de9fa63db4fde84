"""Time every cell: all competitors checked against the truth first, then timed in turn, round by round.

The machine's speed drifts; so one round times everybody once, each round begins with another competitor, and ratios are
those of medians over the same rounds. pytest-benchmark times our call; the setup of each round times the others, and
the limits of the memory, into the same record. A peer whose float16 result is wrong is left out.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import memory
from cells import Cell, Inputs, Shape, cells, make, truth
from competitors import COMPETITORS, OURS

SETTLE = 0.004  # seconds: the threads of the last competitor spin for some milliseconds before they sleep
SAMPLE = 1e-3  # seconds that a sample takes at least
SECONDS = 2.0  # that a cell may take
LEAST, MOST = 7, 40  # rounds
SLOW, FEW = 0.2, 3  # seconds of a call from which caches and threads play no part, and rounds of what is so slow


def numbers(result: Any) -> np.ndarray:
    """Return a result of any library as a NumPy array of float64."""
    if type(result).__module__.startswith("torch"):
        result = result.double()
    elif hasattr(result, "numpy"):
        result = result.numpy()
    return np.asarray(result).astype(np.float64)


def flat(results: Any) -> list[Any]:
    """Return the arrays of nested results."""
    nested = ([one] if not isinstance(one, tuple | list) else flat(one) for one in results)
    return [one for some in nested for one in some if one is not None]


def check(results: Any, right: tuple[np.ndarray, ...], dtype: str, lenient: bool) -> None:
    """Compare a result with the truth, within the error of the plain formula: a wrong result must not be timed."""
    results = flat(results) if isinstance(results, tuple | list) else [results]
    # Gradients are differences: PyTorch's of softmax misses by 9e-5 of the largest (1000 classes on the first axis),
    # its of a layer by 1.5e-5 (128256 classes); peers that round every intermediate of a half to a half by much more
    eps, share = {"float16": (2e-2, 0.1), "bfloat16": (1e-1, 0.1)}.get(dtype, (2e-4, 0.6 if lenient else 0.01))
    least = 6e-8 if dtype == "float16" else 0.0  # its smallest number: gradients of a mean may be smaller
    for result, one in zip(results, right, strict=True):
        np.testing.assert_allclose(numbers(result), one, rtol=eps, atol=eps * share * float(np.abs(one).max()) + least)


def once(call: Callable[[], Any], calls: int) -> float:
    """Return the seconds that one call takes, over `calls` of them."""
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begin) / calls


def limits(inputs: Inputs) -> dict[str, Callable[[], Any]]:
    """Return calls that bound the time: a copy and a read of the logits; for a layer, its matrix product."""
    if inputs.weight is not None:
        return {"product": lambda: inputs.logits @ inputs.weight.T}
    out = np.empty_like(inputs.logits)
    words = inputs.logits.reshape(-1).view(np.uint8)
    words = words[: words.size // 8 * 8].view(np.int64)
    return {"copy": lambda: np.copyto(out, inputs.logits), "read": lambda: np.bitwise_or.reduce(words)}


def contestants(cell: Cell, inputs: Inputs) -> dict[str, Callable[[], Any]]:
    """Return the call of each competitor, after checking its result."""
    right = truth(cell.op, cell.shape, cell.dtype)
    is_lenient = cell.op.endswith("_and_backward") or cell.shape.features > 0
    calls = {}
    for competitor in COMPETITORS:
        if competitor.enters(cell):
            call = competitor.prepare(cell, inputs)
            try:
                check(call(), right, cell.dtype, competitor.name != OURS and is_lenient)
            except AssertionError:
                if competitor.name == OURS or cell.dtype != "float16":
                    raise
                continue  # a sum overflows in float16: a wrong result is not timed
            calls[competitor.name] = call
    return calls


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # torch.compile itself
@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.id) for cell in cells()])
def test_bench(benchmark: Any, request: pytest.FixtureRequest, cell: Cell) -> None:
    smoke = request.config.getoption("--smoke")
    shape: Shape = cell.shape.small() if smoke else cell.shape
    cell = dataclasses.replace(cell, shape=shape)
    inputs = make(shape, cell.dtype)
    others = contestants(cell, inputs)
    ours = others.pop(OURS)
    others |= limits(inputs)
    slow = once(ours, 1) > SLOW
    tries = 1 if slow else 3
    single = {name: min(once(call, 1) for _ in range(tries)) for name, call in {**others, OURS: ours}.items()}
    calls = {name: max(1, min(1000, int(SAMPLE / seconds))) for name, seconds in single.items()}
    round_takes = sum(SETTLE + seconds * (1 + calls[name]) for name, seconds in single.items())
    rounds = 3 if smoke else max(FEW if slow else LEAST, min(MOST, int(SECONDS / round_takes)))
    samples: dict[str, list[float]] = {name: [] for name in others}
    turn = 0

    def everybody_else() -> None:
        nonlocal turn
        names = list(others)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            time.sleep(SETTLE)
            if not slow:
                others[name]()  # untimed: brings caches and threads back to this competitor
            samples[name].append(once(others[name], calls[name]))
        turn += 1
        time.sleep(SETTLE)
        if not slow:
            ours()

    benchmark.pedantic(lambda: once(ours, calls[OURS]), setup=everybody_else, rounds=rounds, iterations=1)
    benchmark.group = cell.op
    mine = statistics.median(benchmark.stats.stats.data) / calls[OURS]
    medians = {OURS: mine, **{name: statistics.median(values) for name, values in samples.items()}}
    if shape.features:
        benchmark.extra_info["mebibytes"] = {name: memory.peak(name, cell) for name in medians if name != "product"}
    benchmark.extra_info.update(
        op=cell.op, shape=shape.name, axis=shape.axis, size=shape.size, dtype=cell.dtype, into=cell.into, why=shape.why,
        arrays=cell.arrays, seconds=medians,
    )  # fmt: skip
