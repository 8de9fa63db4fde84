"""Every operation, on every shape, by every competitor: checked against the truth first, then timed."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from cases import COMPETITORS, SHAPES, TRUTH, make

CELLS = [
    pytest.param(op, shape, competitor, id=f"{op}-{shape.name}-{competitor.name}")
    for op in TRUTH
    for shape in SHAPES
    for competitor in COMPETITORS
    if op in competitor.ops
]

make_once = functools.lru_cache(maxsize=1)(make)


@functools.lru_cache(maxsize=1)
def truth_once(op, shape) -> tuple[np.ndarray, ...]:
    truth = TRUTH[op](make_once(shape))
    return truth if isinstance(truth, tuple) else (truth,)


def check(results, truth: tuple[np.ndarray, ...]) -> None:
    """Compare with a bound that the plain formula in float32 keeps: this guards against timing something else."""
    results = results if isinstance(results, tuple | list) else (results,)
    for result, right in zip(results, truth, strict=True):
        scale = np.abs(right).max()
        np.testing.assert_allclose(np.asarray(result), right, rtol=2e-4, atol=2e-6 * float(scale))


@pytest.mark.parametrize(("op", "shape", "competitor"), CELLS)
def test_bench(benchmark, request, op, shape, competitor):
    if reason := competitor.missing():
        pytest.skip(reason)
    smoke = request.config.getoption("--smoke")
    shape = shape.small() if smoke else shape
    inputs = make_once(shape)
    call = competitor.prepare(op, inputs)
    check(call(), truth_once(op, shape))
    benchmark.group = f"{op} {shape.name} {'x'.join(map(str, shape.shape))} axis {shape.axis}"
    benchmark.extra_info.update(op=op, shape=shape.shape, axis=shape.axis, competitor=competitor.name, why=shape.why)
    if smoke:
        benchmark.pedantic(call, rounds=3, iterations=1)
    else:
        benchmark(call)
