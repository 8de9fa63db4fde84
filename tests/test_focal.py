"""Focal losses beside their definition: gamma of 0, gradients that stay finite, and peers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

RNG = np.random.default_rng(0)
X = (RNG.standard_normal((50, 6)) * 4).astype(np.float32)
IDS, SOFT = RNG.integers(0, 6, 50), RNG.dirichlet(np.ones(6), 50).astype(np.float32)
WEIGHT, SAMPLE = RNG.random(6) + 0.5, RNG.random(50) + 0.5
BITS = (RNG.random(X.shape) < 0.3).astype(int)


@pytest.mark.parametrize("backend", [None, "generic"])
@pytest.mark.parametrize("targets", [IDS, SOFT], ids=["ids", "probabilities"])
def test_gamma_of_zero_is_cross_entropy_to_the_last_bit(backend: str | None, targets: Any) -> None:
    options: Any = {"class_weight": WEIGHT, "sample_weight": SAMPLE, "label_smoothing": 0.1}
    with lx.use_backend(backend):
        for one, two in (
            (lx.focal_loss(X, targets, gamma=0, **options), lx.cross_entropy(X, targets, **options)),
            (lx.binary_focal_loss(X, BITS, gamma=0.0), lx.binary_cross_entropy(X, BITS)),
        ):
            assert one == two
        loss, gradient = lx.focal_loss_value_and_grad(X, targets, gamma=0.0, **options)
        other, dlogits = lx.cross_entropy_value_and_grad(X, targets, **options)
    assert loss == other
    np.testing.assert_array_equal(gradient, dlogits)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1, 2, 5])
def test_values_and_gradients_are_finite(gamma: float) -> None:
    x = np.array([-3e38, -200, -88, -1e-3, 0, 1e-3, 17, 88, 200, 3e38], np.float32)
    two = np.stack([np.zeros_like(x), x], axis=1)
    for ids in (np.zeros(10, int), np.ones(10, int)):
        values = [
            *lx.focal_loss_value_and_grad(two, ids, gamma=gamma, reduction="none"),
            *lx.focal_loss_value_and_grad(two, np.eye(2, dtype=np.float32)[ids], gamma=gamma, reduction="none"),
            *lx.binary_focal_loss_value_and_grad(x, ids, gamma=gamma, reduction="none"),
        ]
        assert all(np.isfinite(one).all() for one in values)
        np.testing.assert_allclose(values[0], values[2], rtol=2e-6, atol=1e-30)
        np.testing.assert_allclose(values[1], values[3], rtol=1e-5, atol=1e-30)
        np.testing.assert_allclose(values[4], values[0], rtol=1e-5, atol=1e-30)
        np.testing.assert_allclose(values[5], values[1][:, 1], rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_derivatives_of_frameworks_are_finite_and_the_same(gamma: float) -> None:
    x = np.array([[0, -200], [0, 200], [0, 17], [3, 3], [0, 1e-3]], np.float32)
    ids = np.array([0, 1, 0, 1, 1])
    _, right = lx.focal_loss_value_and_grad(x, ids, gamma=gamma)
    _, binary = lx.binary_focal_loss_value_and_grad(x, np.eye(2, dtype=int)[ids], gamma=gamma, alpha=0.3)
    jax = pytest.importorskip("jax", reason="jax is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    found = jax.grad(lambda x: lx.focal_loss(x, jax.numpy.asarray(ids), gamma=gamma))(jax.numpy.asarray(x))
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-12)
    bits = jax.numpy.asarray(np.eye(2, dtype=int)[ids])
    found = jax.grad(lambda x: lx.binary_focal_loss(x, bits, gamma=gamma, alpha=0.3))(jax.numpy.asarray(x))
    np.testing.assert_allclose(found, binary, rtol=1e-5, atol=1e-12)
    for function, targets, options, expected in (
        (lx.focal_loss, ids, {}, right),
        (lx.binary_focal_loss, np.eye(2, dtype=int)[ids], {"alpha": 0.3}, binary),
    ):
        leaf = torch.tensor(x, requires_grad=True)
        function(leaf, torch.tensor(targets), gamma=gamma, **options).backward()
        np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-5, atol=1e-12)


def test_agrees_with_optax() -> None:
    optax = pytest.importorskip("optax", reason="optax is not installed")
    peer = optax.sigmoid_focal_loss(X, BITS.astype(np.float32), alpha=0.25, gamma=2.0)
    ours = lx.binary_focal_loss(X, BITS, alpha=0.25, gamma=2.0, reduction="none")
    np.testing.assert_allclose(ours, peer, rtol=1e-4, atol=1e-7)


def test_dask_cut_along_the_classes() -> None:
    da = pytest.importorskip("dask.array", reason="Dask is not installed")
    lazy, ids = da.from_array(X, chunks=(20, 2)), da.from_array(IDS, chunks=20)
    loss, gradient = lx.focal_loss_value_and_grad(lazy, ids, class_weight=WEIGHT)
    right, dlogits = lx.focal_loss_value_and_grad(X, IDS, class_weight=WEIGHT)
    np.testing.assert_allclose(loss.compute(), right, rtol=1e-6)
    np.testing.assert_allclose(gradient.compute(), dlogits, rtol=1e-5, atol=1e-9)


def test_errors_name_the_argument() -> None:
    for call in (lx.focal_loss, lx.binary_focal_loss):
        with pytest.raises(ValueError, match=r"^gamma: -1.0 is not allowed; allowed are finite numbers of 0 or more"):
            call(X, BITS if call is lx.binary_focal_loss else IDS, gamma=-1)
    with pytest.raises(ValueError, match=r"^alpha: 1.5 is not allowed; allowed are numbers from 0 to 1, or None"):
        lx.binary_focal_loss(X, BITS, alpha=1.5)
    with pytest.raises(ValueError, match=r"^targets: class id 9 at position \(49,\) is out of range"):
        lx.focal_loss(X, np.where(np.arange(50) == 49, 9, IDS))


def test_known_numbers_inside_jit() -> None:
    """A power, smoothing or temperature that is a known array of JAX is checked where all else is traced."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    half, less, x, ids = map(jax.numpy.asarray, (0.5, -0.5, X, IDS))
    found = jax.jit(lambda x: lx.focal_loss(x, ids, gamma=half, temperature=half, label_smoothing=half))(x)
    right = lx.focal_loss(X, IDS, gamma=0.5, temperature=0.5, label_smoothing=0.5)
    np.testing.assert_allclose(found, right, rtol=1e-5)
    with pytest.raises(ValueError, match=r"^temperature: -0.5 is not allowed"):
        jax.jit(lambda x: lx.softmax(x, temperature=less))(x)
