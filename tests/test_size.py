"""Sizes at both ends: nothing, no dimension, 64 of them, 2**24 classes, more elements than an int32 counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import logitx as lx

BACKENDS = {"numba": "numba", "generic": "numpy", "jax": "jax", "torch": "torch"}


@pytest.fixture(params=BACKENDS)
def array(request) -> Iterator[Any]:
    """Return what makes an array of the kind that a backend takes, with the backend in force."""
    pytest.importorskip(BACKENDS[request.param])
    if request.param == "torch":
        import torch

        def leaf(values: Any) -> Any:
            made = torch.from_numpy(np.array(values))
            return made.requires_grad_() if made.is_floating_point() else made

        yield leaf
    else:
        if request.param == "jax":
            import jax.numpy as namespace
        else:
            namespace = np
        with lx.use_backend(request.param):
            yield namespace.asarray


def shape_of(x: Any) -> tuple[int, ...]:
    return tuple(x.shape)


def read(x: Any) -> np.ndarray:
    return np.asarray(x.detach() if hasattr(x, "detach") else x)


EMPTY = [((0,), 0), ((0,), None), ((0, 3), -1), ((0, 3), 0), ((3, 0), -1), ((2, 0, 3), 1), ((2, 0, 3), 2),
         ((0, 0), (0, 1)), ((4, 0, 5), (2, 0))]  # fmt: skip


@pytest.mark.parametrize(("shape", "axis"), EMPTY, ids=str)
def test_arrays_without_elements(array, shape, axis):
    x = array(np.zeros(shape, np.float32))
    classes = range(len(shape)) if axis is None else {a % len(shape) for a in np.atleast_1d(axis)}
    rows = tuple(length for a, length in enumerate(shape) if a not in classes)
    n = int(np.prod([shape[a] for a in classes]))
    for function in (lx.softmax, lx.log_softmax):
        assert shape_of(function(x, axis)) == shape
    value, sign = lx.logsumexp(x, axis, return_sign=True)
    np.testing.assert_array_equal(read(value), np.full(rows, -np.inf))
    np.testing.assert_array_equal(read(sign), np.zeros(rows))
    assert shape_of(lx.merge_logsumexp(x, x)) == shape
    for function in (lx.softmax_vjp, lx.log_softmax_vjp):
        assert shape_of(function(x, x, axis)) == shape
    labels = array(np.zeros(rows, np.int64))
    if n == 0:
        for targets in (labels, x):
            with pytest.raises(ValueError, match="length 0|no class"):
                lx.cross_entropy(x, targets, axis)
        return
    for targets in (labels, x):
        assert np.isnan(read(lx.cross_entropy(x, targets, axis)))
        assert read(lx.cross_entropy(x, targets, axis, empty="zero")) == 0
        assert shape_of(lx.cross_entropy(x, targets, axis, reduction="none")) == rows
        loss, gradient = lx.cross_entropy_value_and_grad(x, targets, axis, reduction="sum")
        assert (float(read(loss)), shape_of(gradient)) == (0.0, shape)
        assert [shape_of(one) for one in lx.cross_entropy_grad_hess(x, targets, axis)] == [shape, shape]


def test_no_dimension(array):
    x, label = array(np.float32(3.0)), array(np.int64(0))
    assert read(lx.softmax(x)) == 1
    assert read(lx.log_softmax(x, 0)) == 0
    assert read(lx.logsumexp(x, None)) == 3
    loss, gradient = lx.cross_entropy_value_and_grad(x, label)
    assert (float(read(loss)), float(read(gradient)), shape_of(gradient)) == (0.0, 0.0, ())


@pytest.mark.parametrize("axis", [61, (63, 0, 61), None], ids=str)
def test_sixty_four_dimensions(array, axis):
    shape = (2, 2, *(1,) * 59, 3, 1, 5)
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    try:
        x = array(values)
    except (RuntimeError, ValueError):
        pytest.skip("the library has no arrays of 64 dimensions")
    axes = tuple(range(64)) if axis is None else tuple(np.atleast_1d(axis) % 64)
    e = np.exp(values.astype(np.float64))
    total = e.sum(tuple(int(a) for a in axes), keepdims=True)
    np.testing.assert_allclose(read(lx.softmax(x, axis)), e / total, rtol=1e-5)
    np.testing.assert_allclose(read(lx.logsumexp(x, axis, keepdims=True)), np.log(total), rtol=1e-5)
    loss, gradient = lx.cross_entropy_value_and_grad(x, x, axis)
    assert np.isfinite(read(loss))
    assert shape_of(gradient) == shape


@pytest.mark.slow
def test_sixteen_million_classes():
    n = 1 << 24
    x = np.random.default_rng(0).standard_normal((1, n), dtype=np.float32)
    x[0, -1] = 9.0
    e = np.exp(x.astype(np.float64))
    right = np.log(e.sum())
    np.testing.assert_allclose(lx.logsumexp(x), [right], rtol=1e-7)
    np.testing.assert_allclose(lx.softmax(x), e / e.sum(), rtol=1e-6)
    loss, gradient = lx.cross_entropy_value_and_grad(x, np.array([n - 1]))
    np.testing.assert_allclose(loss, right - 9.0, rtol=1e-6)
    e[0, -1] -= e.sum()
    np.testing.assert_allclose(gradient, e / (e.sum() - e[0, -1] + np.exp(9.0)), rtol=1e-5)


# -- more than 2**31 elements: 4.3 GB of float16, of which only what is written takes memory ---------------------------

MANY = (1 << 31) + 16


def right_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    e = np.exp(rows.astype(np.float64))
    return (e / e.sum(-1, keepdims=True)), np.log(e.sum(-1))


@pytest.mark.slow
def test_one_row_of_more_classes_than_an_int32_counts():
    x = np.zeros(MANY, np.float16)
    x[[0, -1]] = 24.0
    rest = (MANY - 2) * np.exp(-24.0)
    p = 1 / (2 + rest)
    np.testing.assert_allclose(lx.logsumexp(x), np.float16(24 - np.log(p)))
    np.testing.assert_allclose(lx.cross_entropy(x, np.int64(MANY - 1)), -np.log(p), rtol=1e-6)
    loss, gradient = lx.cross_entropy_value_and_grad(x, np.int64(MANY - 1))
    np.testing.assert_allclose(loss, -np.log(p), rtol=1e-6)
    np.testing.assert_allclose(gradient[[0, -1]], [p, p - 1], rtol=1e-3)
    np.testing.assert_allclose(lx.softmax(x, out=gradient)[[0, -1]], p, rtol=1e-3)
    with pytest.raises(ValueError, match=f"class id {MANY} "):
        lx.cross_entropy(x, np.int64(MANY))


@pytest.mark.slow
@pytest.mark.parametrize("axis", [-1, 0])
def test_more_rows_of_few_classes_than_an_int32_counts(axis):
    count = MANY // 4
    x = np.zeros((count, 4) if axis else (4, count), np.float16)
    rows = x if axis else x.T
    places = [0, 1, count // 2, count - 2, count - 1]
    rows[places] = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float16)
    p, log_z = right_of(rows[places])
    labels = np.full(count, 3, np.int8)
    losses = lx.cross_entropy(x, labels, axis, reduction="none")
    np.testing.assert_allclose(losses[places], log_z - rows[places, 3], rtol=1e-6)
    assert np.all(losses[2:1000] == losses[2])
    np.testing.assert_allclose(lx.logsumexp(x, axis)[places], log_z, rtol=1e-3)
    found = lx.softmax(x, axis, out=x)
    found = found if axis else found.T
    np.testing.assert_allclose(found[places], p, rtol=1e-3)
    assert np.all(found[2:1000] == 0.25)
    assert np.all(found[-1000:-2] == 0.25)
    labels[-1] = 4
    with pytest.raises(ValueError, match=rf"class id 4 at position \({count - 1},\)"):
        lx.cross_entropy(x, labels, axis)


@pytest.mark.slow
def test_more_edges_than_an_int32_counts():
    x = np.zeros(MANY, np.float16)
    x[[0, -1]] = [3.0, -3.0]
    offsets = np.array([0, 2, MANY // 2, MANY - 5, MANY - 5, MANY])
    found = lx.segment_logsumexp(x, offsets=offsets)
    counts = [1 + np.exp(3.0), MANY // 2 - 2, MANY - 5 - MANY // 2, 4 + np.exp(-3.0)]
    right = [*np.log(counts[:3]), -np.inf, np.log(counts[3])]
    np.testing.assert_allclose(found, np.float16(right), rtol=1e-3)
    p = lx.segment_softmax(x, offsets=offsets)
    np.testing.assert_allclose(p[[0, 1]], np.exp([3.0, 0.0]) / (1 + np.exp(3.0)), rtol=1e-3)
    np.testing.assert_allclose(p[-5:], np.exp([0, 0, 0, 0, -3.0]) / (4 + np.exp(-3.0)), rtol=1e-3)


@pytest.mark.slow
def test_best_classes_and_draws_of_a_long_row():
    x = np.zeros(MANY, np.float16)
    x[[5, MANY // 2, -1]] = [30.0, 40.0, 35.0]
    p, ids = lx.softmax_top_k(x, 4)
    np.testing.assert_array_equal(ids, [MANY // 2, MANY - 1, 5, 0])
    np.testing.assert_allclose(p[:2], np.exp([0.0, -5.0]) / (1 + np.exp(-5.0)), rtol=2e-3)
    drawn = lx.sample(x, np.random.default_rng(0), shape=(400,))
    assert set(drawn.tolist()) == {MANY // 2, MANY - 1}
