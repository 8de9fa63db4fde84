"""The binary family beside its peers, beside two classes, and at the ends of its range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

RNG = np.random.default_rng(0)
X = (RNG.standard_normal((200, 5)) * 5).astype(np.float32)
IDS = RNG.integers(0, 2, X.shape)
SOFT = RNG.random(X.shape).astype(np.float32)
POSITIVE = (RNG.random(5) + 0.5).astype(np.float32)
SAMPLE = (RNG.random(X.shape) + 0.5).astype(np.float32)
EXTREMES = np.array([-np.inf, -1e30, -200, -1e-30, 0, 1e-30, 200, 1e30, np.inf], np.float32)


@pytest.mark.parametrize("targets", [IDS, SOFT], ids=["ids", "probabilities"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_softmax_of_two_classes_is_the_same(targets: Any, smoothing: float) -> None:
    two = np.stack([np.zeros_like(X), X], axis=-1)
    both = targets if targets.dtype.kind == "i" else np.stack([1 - targets, targets], axis=-1)
    loss, gradient = lx.binary_cross_entropy_value_and_grad(X, targets, label_smoothing=smoothing)
    other, dtwo = lx.cross_entropy_value_and_grad(two, both, label_smoothing=smoothing)
    np.testing.assert_allclose(loss, other, rtol=3e-7)
    np.testing.assert_allclose(gradient, dtwo[..., 1], rtol=2e-6, atol=1e-10)
    np.testing.assert_allclose(lx.sigmoid(X), lx.softmax(two)[..., 1], rtol=3e-7)
    np.testing.assert_allclose(lx.log_sigmoid(X), lx.log_softmax(two)[..., 1], rtol=3e-7)


@pytest.mark.parametrize("backend", [None, "generic"])
def test_both_ends_are_exact(backend: str | None) -> None:
    with lx.use_backend(backend):
        p, log_p = lx.sigmoid(EXTREMES), lx.log_sigmoid(EXTREMES)
        agrees = (EXTREMES > 0).astype(int)
        right, gradient = lx.binary_cross_entropy_value_and_grad(EXTREMES, agrees, reduction="none")
        wrong, slope = lx.binary_cross_entropy_value_and_grad(EXTREMES, 1 - agrees, reduction="none")
    assert p[[0, 1, 4, -2, -1]].tolist() == [0, 0, 0.5, 1, 1]
    assert log_p[[0, 1, 2, -1]].tolist() == [-np.inf, np.float32(-1e30), -200, 0]
    assert right[[0, 1, -2, -1]].tolist() == [0, 0, 0, 0]
    assert gradient[[0, 1, -2, -1]].tolist() == [0, 0, 0, 0]
    assert wrong[[0, 1, 2, -3, -1]].tolist() == [np.inf, np.float32(1e30), 200, 200, np.inf]
    assert slope[[0, 1, 2, -3, -1]].tolist() == [-1, -1, -1, 1, 1]


@pytest.mark.parametrize("targets", [IDS, SOFT], ids=["ids", "probabilities"])
def test_agrees_with_pytorch(targets: Any) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.tensor(X.astype(float), requires_grad=True)
    options = {"pos_weight": torch.tensor(POSITIVE.astype(float)), "weight": torch.tensor(SAMPLE.astype(float))}
    peer = torch.nn.functional.binary_cross_entropy_with_logits(
        x, torch.tensor(targets.astype(float)), reduction="sum", **options
    )
    peer.backward()
    loss, gradient = lx.binary_cross_entropy_value_and_grad(
        X, targets, pos_weight=POSITIVE, sample_weight=SAMPLE, reduction="sum"
    )
    np.testing.assert_allclose(loss, peer.item(), rtol=1e-6)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-5, atol=1e-7)
    # The mean of PyTorch counts elements; ours divides by the sum of sample weights, and by that alone
    mean = lx.binary_cross_entropy(X, targets, pos_weight=POSITIVE)
    np.testing.assert_allclose(
        mean,
        torch.nn.functional.binary_cross_entropy_with_logits(
            torch.tensor(X), torch.tensor(targets, dtype=torch.float32), pos_weight=torch.tensor(POSITIVE)
        ).item(),
        rtol=1e-6,
    )
    weighted = lx.binary_cross_entropy(X, targets, sample_weight=SAMPLE)
    np.testing.assert_allclose(weighted * SAMPLE.sum(), lx.binary_cross_entropy(X, targets, sample_weight=SAMPLE,
                               reduction="sum"), rtol=1e-6)  # fmt: skip


def test_agrees_with_optax() -> None:
    optax = pytest.importorskip("optax", reason="optax is not installed")
    np.testing.assert_allclose(
        lx.binary_cross_entropy(X, SOFT, reduction="none"), optax.sigmoid_binary_cross_entropy(X, SOFT), rtol=2e-6
    )


def test_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    x = X.astype(float)
    for column in range(2):
        peer = metrics.log_loss(IDS[:, column], lx.sigmoid(x[:, column]), sample_weight=SAMPLE[:, column])
        ours = lx.binary_cross_entropy(x[:, column], IDS[:, column], sample_weight=SAMPLE[:, column])
        np.testing.assert_allclose(ours, peer, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lx.binary_cross_entropy(X, IDS[0]), r"^targets: shape \(5,\) is not allowed; allowed is exactly that"),
        (lambda: lx.binary_cross_entropy(X, IDS[:, 0]), r"for class ids of the last axis use cross_entropy$"),
        (lambda: lx.binary_cross_entropy(X, IDS + 1), r"^targets: class id 2 at position \(\d+, \d+\) is out of range"),
        (lambda: lx.binary_cross_entropy(X, IDS, pos_weight=np.ones(4)), r"^pos_weight: shape \(4,\) is not allowed"),
        (lambda: lx.binary_cross_entropy(X, IDS, sample_weight=np.ones(200)), r"^sample_weight: shape \(200,\) is not"),
        (lambda: lx.binary_cross_entropy(X, IDS, label_smoothing=2), r"^label_smoothing: 2.0 is not allowed"),
        (lambda: lx.binary_cross_entropy(X, IDS, reduction="max"), r"^reduction: 'max' is not allowed"),
        (lambda: lx.sigmoid(X, out=np.empty(3)), r"^out: shape \(3,\) of float64 is not allowed"),
    ],
)
def test_errors_name_the_argument(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lx.binary_cross_entropy(X, IDS, where=IDS), r"^where: dtype int64 is not allowed; allowed is bool"),
        (lambda: lx.sigmoid(X + 1j), r"^x: dtype complex64 is not allowed"),
        (lambda: lx.binary_cross_entropy(X, IDS + 1j), r"^targets: dtype complex128 is not allowed"),
    ],
)
def test_types_are_named(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_masked_arrays_keep_their_mask() -> None:
    x = np.ma.MaskedArray(X[0], [False, True, False, False, False])
    assert lx.sigmoid(x).mask.tolist() == x.mask.tolist()
    loss = lx.binary_cross_entropy(x, IDS[0])
    np.testing.assert_allclose(loss, lx.binary_cross_entropy(X[0], IDS[0], where=~x.mask), rtol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_backward_of_pytorch_twice(reduction: Any) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, t, ones = torch.tensor(X, requires_grad=True), torch.tensor(IDS), torch.ones(X.shape)
    _, right = lx.binary_cross_entropy_value_and_grad(X, IDS, reduction=reduction)
    loss = lx.binary_cross_entropy(x, t, reduction=reduction)
    cotangent = 3.0 * (ones if reduction == "none" else torch.tensor(1.0))
    first = torch.autograd.grad(loss, x, cotangent, retain_graph=True)[0]
    np.testing.assert_allclose(first.mul_(1.0).numpy(), 3 * right, rtol=1e-6)
    first.zero_()  # the memory is ours
    second = torch.autograd.grad(loss, x, cotangent, create_graph=True)[0]
    np.testing.assert_allclose(second.detach().numpy(), 3 * right, rtol=2e-6, atol=1e-9)
    (curve,) = torch.autograd.grad(second.sum(), x)
    _, hessian = lx.binary_cross_entropy_grad_hess(X, IDS)
    scale = 3.0 / X.size if reduction == "mean" else 3.0
    np.testing.assert_allclose(curve.numpy(), scale * hessian, rtol=1e-5, atol=1e-9)


def test_derivatives_at_the_ends_under_transformations() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    ids = jax.numpy.asarray([0, 1, 1, 0, 1])
    x = jax.numpy.asarray([-np.inf, np.inf, 0.0, np.inf, -np.inf])
    gradient = jax.grad(lambda x: lx.binary_cross_entropy(x, ids, reduction="sum"))(x)
    assert gradient.tolist() == [0, 0, -0.5, 1, -1]
    assert jax.vmap(jax.grad(lx.sigmoid))(x).tolist() == [0, 0, 0.25, 0, 0]
