"""Numbers that cancel: weights that add up to 0 in some classes of a row, factors that do for its largest logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import TARGETS, Target
from logitx.testing.oracle import signed_logsumexp_row

X = np.array([[0.0, 1.0, 2.0, 0.5], [3.0, -1.0, 0.0, 0.5], [0.0, 0.0, 1.0, 1.0]])
WEIGHTS = np.array([-1.0, 1.0, 3.0, -2.0])
SHARES = np.array([[0.5, 0.5, 0.2, 0.1], [0.25, 0.25, 0.1, 0.4], [0.0, 0.0, 0.5, 0.5]])
MASK = np.array([[True, True, True, True], [True, True, False, True], [True, True, True, False]])


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("where", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize(
    ("targets", "smoothing"), [(SHARES, 0.0), (SHARES, 0.3), (np.array([2, 0, 3]), 0.3), (np.array([2, 0, 3]), 0.0)]
)
@pytest.mark.parametrize("chunks", [(2, 2), (3, (2, 1, 1)), (1, 1)])
def test_class_weights_that_add_up_to_0_in_a_chunk(
    chunks: Any, targets: np.ndarray, smoothing: float, where: Any, reduction: str
) -> None:
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    if where is not None and targets is SHARES:
        targets = np.where(where, targets, 0.0)  # else the loss is infinite
    options = {"class_weight": WEIGHTS, "label_smoothing": smoothing, "where": where, "reduction": reduction}
    want = lx.cross_entropy_value_and_grad(X, targets, **options)
    x = da.from_array(X, chunks=chunks)
    found = lx.cross_entropy_value_and_grad(x, targets, **options)
    alone = lx.cross_entropy(x, targets, **options)
    np.testing.assert_allclose(alone.compute(), want[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found[0].compute(), want[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found[1].compute(), want[1], rtol=1e-12, atol=1e-14)


# Exponents and factors; the largest cancel exactly, once or more often
ROWS = [
    ([1000.0, 0.0, 1000.0, -5.0], [1.0, 1.0, -1.0, 0.0]),
    ([0.0, -740.0, 0.0, -800.0], [1.0, 1.0, -1.0, 0.0]),
    ([0.0, -104.0, 0.0, -104.0], [2.0, 1.0, -2.0, -3.0]),
    ([0.0, -88.0, 0.0, 0.0], [1.0, 1.0, -0.5, -0.5]),
    ([0.0, -100.0, 0.0, -100.0], [1.0, 1.0, -1.0, -1.0]),
    ([5.0, 5.0, -200.0, -300.0], [3.0, -3.0, -2.0, 7.0]),
    ([0.0, -np.inf, 0.0, -np.inf], [1.0, 1.0, -1.0, 1.0]),
]
NESTED = [([0.0, -900.0, 0.0, -900.0, -2000.0], [1.0, 2.0, -1.0, -2.0, -3.0])]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("rows", [ROWS, NESTED], ids=["once", "nested"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_is_below_the_largest_logits_that_cancel(target: Target, rows: Any, axis: int, dtype: str) -> None:
    if reason := target.absent(dtype):
        pytest.skip(reason)
    if target.name in ("dask-odd", "dask-ones") or (target.name == "dask-whole" and axis == 0):
        pytest.skip("each chunk of a row is reduced without those beside it")
    if rows is NESTED and target.name in ("torch-compile", "torch-vmap", "tensorflow-graph"):
        pytest.skip("values cannot be read during tracing: the largest logits are looked at once")
    x, b = np.array([row for row, _ in rows]), np.array([row for _, row in rows])
    want = [signed_logsumexp_row(*row, np.ones(len(row[0]), bool)) for row in zip(x, b, strict=True)]
    x, b = (x.T, b.T) if axis == 0 else (x, b)
    with target.session(dtype == "float64"), np.errstate(all="ignore"), lx.use_backend(target.backend):
        made = target.make(x, dtype, "C")

        def both(x: Any, factors: Any = b) -> Any:
            return lx.logsumexp(x, axis, b=factors, return_sign=True)

        value, sign = target.call(both, (made,), {})
        np.testing.assert_allclose(target.read(value)[0], [float(one.value) for one, _ in want], rtol=1e-6)
        np.testing.assert_array_equal(target.read(sign)[0], [float(one.value) for _, one in want])


def test_derivatives_by_what_cancels() -> None:
    """By x_j it is b_j exp(x_j - value), which float32 still holds here."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, b = np.array([0.0, -88.0, 0.0], np.float32), np.array([1.0, 1.0, -1.0], np.float32)
    large = np.exp(88.0)
    want = np.array([large, 1.0, -large]), np.array([large, 1.0, large])
    for transform in (lambda f: f, jax.jit):
        by_both = transform(jax.grad(lambda x, b: lx.logsumexp(x, b=b), (0, 1)))(x, b)
        np.testing.assert_allclose(by_both[0], want[0], rtol=1e-5)
        np.testing.assert_allclose(by_both[1], want[1], rtol=1e-5)
    operands = [torch.tensor(one, requires_grad=True) for one in (x, b)]
    by_both = torch.autograd.grad(lx.logsumexp(operands[0], b=operands[1]), operands)
    np.testing.assert_allclose(by_both[0], want[0], rtol=1e-5)
    np.testing.assert_allclose(by_both[1], want[1], rtol=1e-5)
