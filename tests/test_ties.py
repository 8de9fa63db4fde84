"""Derivatives where two numbers are equal, of every order: a maximum has a corner there, what is computed has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

PAIRS = [(0.0, 0.0), (-3.0, -3.0), (1.0, 3.0), (-np.inf, 2.0), (1000.0, 1000.0)]


def truth(a: float, b: float) -> tuple[float, float]:
    """Return the derivative by `a`, and its derivative by `a`."""
    p = 1.0 / (1.0 + np.exp(b - a))
    return p, p * (1.0 - p)


@pytest.mark.parametrize("function", [lx.merge_logsumexp, lx.logaddexp])
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_merging_equal_normalizers_in_jax(function: Any, a: float, b: float) -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    first, second = truth(a, b)
    both = (0, 1)
    for transform in (lambda f: f, jax.jit):
        np.testing.assert_allclose(transform(jax.grad(function, both))(a, b), (first, 1.0 - first), rtol=1e-6)
        np.testing.assert_allclose(jax.jvp(transform(function), (a, b), (1.0, 0.0))[1], first, rtol=1e-6)
        hessian = transform(jax.hessian(function, both))(a, b)
        np.testing.assert_allclose(hessian, second * np.array([[1, -1], [-1, 1]]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_merging_equal_normalizers_in_torch(a: float, b: float) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    first, second = truth(a, b)
    operands = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (a, b)]
    found = torch.autograd.grad(lx.merge_logsumexp(*operands), operands, create_graph=True)
    np.testing.assert_allclose([one.item() for one in found], [first, 1.0 - first], rtol=1e-12)
    more = torch.autograd.grad(found[0], operands)
    np.testing.assert_allclose([one.item() for one in more], [second, -second], rtol=1e-12, atol=1e-15)


def test_halves_of_a_row_with_equal_normalizers() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x = jax.numpy.array([1.0, 2.0, 2.0, 1.0])
    found = jax.grad(lambda x: lx.merge_logsumexp(lx.logsumexp(x[:2]), lx.logsumexp(x[2:])))(x)
    np.testing.assert_allclose(found, lx.softmax(np.asarray(x)), rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_equal_largest_logits(order: int) -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x, ids = jax.numpy.array([[1.0, 1.0, 1.0]]), jax.numpy.array([0])

    def plain(x: Any, cap: float) -> Any:
        u = cap * jax.numpy.tanh(x / cap)
        return (jax.nn.logsumexp(u, axis=-1) - u[:, 0]).sum()

    def derivative(function: Any) -> Any:
        for _ in range(order):
            function = jax.jacfwd(function)
        return function(x)

    np.testing.assert_allclose(
        derivative(lambda x: lx.cross_entropy(x, ids, softcap=2.0)),
        derivative(lambda x: plain(x, 2.0)),
        rtol=1e-4,
        atol=1e-6,
    )
