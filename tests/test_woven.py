"""Rows along an inner axis, taken in the order of memory: right numbers, and the same bits in every layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

pytest.importorskip("numba", reason="numba is not installed")

# Periods of whole vectors, of one class whose last vector is filled in part, several pieces, many slabs
SHAPES = [
    (2, 1100, 2),
    (3, 683, 3),
    (1, 2001, 5),
    (40, 260, 8),
    (2, 210, 31),
    (1, 5000, 64),
    (1, 201, 129),
    (2, 700, 613),
]
OPS = ["softmax", "log_softmax", "logsumexp"]
DTYPES = ["float32", "float64", "float16"]


def logits(shape: tuple[int, ...], dtype: str) -> Any:
    x = np.random.default_rng(len(dtype) + shape[1]).normal(scale=4, size=shape)
    x[0, 5, 1] = -np.inf
    x[0, :, 0] = np.linspace(-9, 9, shape[1])
    x[-1, 7, -1] = 60.0  # dominates its row
    return x.astype(dtype)


def expected(op: str, x: Any) -> Any:
    """Return the result along axis 1 in extended precision, which needs no care with the maximum here."""
    wide = x.astype(np.longdouble)
    total = np.exp(wide).sum(axis=1, keepdims=True)
    if op == "softmax":
        return np.exp(wide) / total
    return np.log(total)[:, 0] if op == "logsumexp" else wide - np.log(total)


def run(op: str, x: Any, **options: Any) -> Any:
    return getattr(lx, op)(x, axis=1, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_numbers(shape, op, dtype):
    x = logits(shape, dtype)
    found, right = run(op, x), expected(op, x)
    assert found.dtype == x.dtype
    info = np.finfo(dtype)
    # In log_softmax of a row whose maximum dominates, longdouble loses what the kernel keeps
    least = 1e-6 if op == "log_softmax" else float(info.smallest_normal)
    np.testing.assert_allclose(found.astype(np.longdouble), right, rtol=3 * info.eps, atol=least)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_bits_do_not_depend_on_layout_batch_or_threads(shape, op, dtype):
    x = logits(shape, dtype)
    found = run(op, x)
    spread = np.zeros((*shape[:2], 2 * shape[2]), dtype)
    spread[..., 1::2] = x
    with_threads = []
    for threads in (1, 3):
        lx.set_num_threads(threads)
        with_threads.append(run(op, x))
    lx.set_num_threads(2)
    for other in (np.asfortranarray(x), spread[..., 1::2]):
        np.testing.assert_array_equal(run(op, other), found)
    np.testing.assert_array_equal(run(op, x[:1]), found[:1])
    for other in with_threads:
        np.testing.assert_array_equal(other, found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS[:2])
def test_outputs(op, dtype):
    x = logits((3, 683, 3), dtype)
    found, place, spread = run(op, x), x.copy(), np.zeros((3, 683, 6), dtype)
    assert run(op, place, out=place) is place
    run(op, x, out=spread[..., ::2])
    np.testing.assert_array_equal(place, found)
    np.testing.assert_array_equal(spread[..., ::2], found)
    assert not spread[..., 1::2].any()


@pytest.mark.parametrize("shape", [(2, 300, 9), (1, 300, 700)])
@pytest.mark.parametrize("op", OPS)
def test_special_values(op, shape):
    x = logits(shape, "float32")
    x[0, :, 0] = -np.inf
    x[0, 3, 1:3] = np.inf
    x[0, 7, 2:4] = np.nan
    x[0, 1:4, 4] = np.inf
    x[-1, :, -1] = 2.5
    with lx.use_backend("generic"):
        right = run(op, x)
    np.testing.assert_allclose(run(op, x), right, rtol=2e-6)


def test_no_rows():
    x = np.zeros((0, 300, 9), np.float32)
    assert run("softmax", x).shape == x.shape
    assert run("logsumexp", x).shape == (0, 9)
    assert lx.softmax_vjp(x, x, axis=1).shape == x.shape
    loss, gradient = lx.cross_entropy_value_and_grad(x, np.zeros((0, 9), int), 1, reduction="sum")
    assert loss == 0
    assert gradient.shape == x.shape


def test_empty_rows():
    x = np.zeros((2, 300, 9), np.float32)
    x[..., 4] = -np.inf
    assert np.isnan(run("softmax", x)[..., 4]).all()
    assert not run("softmax", x, empty="zero")[..., 4].any()
    assert np.isneginf(run("log_softmax", x, empty="zero")[..., 4]).all()


@pytest.mark.parametrize("op", OPS)
def test_inside_jit(op):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x = logits((2, 700, 613), "float32")
    np.testing.assert_array_equal(np.asarray(jax.jit(lambda x: run(op, x))(x)), run(op, x))


# -- gradients ---------------------------------------------------------------------------------------------------------


def pulled(op: str, shape: tuple[int, ...], dtype: str) -> tuple[Any, Any, Any]:
    """Return a result of softmax or log_softmax, a gradient by it, and the gradient by the logits."""
    value = run(op, logits(shape, dtype))
    cotangent = np.random.default_rng(3).normal(size=shape).astype(dtype)
    one, two = value.astype(np.longdouble), cotangent.astype(np.longdouble)
    if op == "softmax":
        return value, cotangent, one * (two - (one * two).sum(axis=1, keepdims=True))
    dead = np.isneginf(one)
    return value, cotangent, np.where(dead, 0, two - np.exp(one) * np.where(dead, 0, two).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS[:2])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(shape, op, dtype):
    value, cotangent, right = pulled(op, shape, dtype)
    back = getattr(lx, f"{op}_vjp")
    found = back(value, cotangent, axis=1)
    eps = np.finfo(dtype).eps
    assert found.dtype == value.dtype
    size = 3 if op == "softmax" else 30
    np.testing.assert_allclose(
        found.astype(np.longdouble), right, rtol=2 * eps, atol=size * eps * (dtype != "float16") + 6e-8
    )
    assert not found[np.isneginf(value) if op == "log_softmax" else value == 0].any()
    lx.set_num_threads(1)
    np.testing.assert_array_equal(back(value, cotangent, axis=1), found)
    lx.set_num_threads(2)
    np.testing.assert_array_equal(back(np.asfortranarray(value), cotangent, axis=1), found)
    np.testing.assert_array_equal(back(value[:1], cotangent[:1], axis=1), found[:1])


@pytest.mark.parametrize("op", OPS[:2])
def test_gradients_of_frameworks(op):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x, cotangent = logits((2, 700, 5), "float32"), np.random.default_rng(3).normal(size=(2, 700, 5)).astype("float32")
    right = getattr(lx, f"{op}_vjp")(run(op, x), cotangent, axis=1)
    leaf = torch.tensor(x, requires_grad=True)
    run(op, leaf).backward(torch.tensor(cotangent))
    np.testing.assert_array_equal(leaf.grad.numpy(), right)
    _, back = jax.vjp(lambda x: run(op, x), x)
    np.testing.assert_allclose(np.asarray(back(cotangent)[0]), right, rtol=1e-6, atol=1e-7)


# -- losses of class ids -----------------------------------------------------------------------------------------------


def labels_of(shape: tuple[int, ...]) -> Any:
    ids = np.random.default_rng(shape[1]).integers(0, shape[1], (shape[0], shape[2]))
    ids[0, 0], ids[-1, -1] = -100, 7
    return ids


def losses(x: Any, ids: Any, reduction: str, backward: bool, **options: Any) -> tuple[Any, ...]:
    """Return the loss, its parts and, if `backward`, its gradient."""
    options |= {"reduction": reduction, "z_loss": 0.01, "return_parts": True}
    if not backward:
        loss, parts = lx.cross_entropy(x, ids, 1, **options)
        return loss, *parts
    loss, gradient, parts = lx.cross_entropy_value_and_grad(x, ids, 1, **options)
    return loss, *parts, gradient


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_losses(shape, backward, reduction, dtype):
    x, ids = logits(shape, dtype), labels_of(shape)
    found = losses(x, ids, reduction, backward)
    with lx.use_backend("generic"):
        right = losses(x, ids, reduction, backward)
    eps = np.finfo(np.float64 if dtype == "float64" else np.float32).eps
    for one, other in zip(found, right, strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        half = np.asarray(one).dtype == np.float16
        np.testing.assert_allclose(one, other, rtol=2e-3 if half else 16 * eps, atol=1e-7 if half else 16 * eps)
    plain = lx.cross_entropy(x, ids, 1, reduction=reduction)
    lx.set_num_threads(1)
    np.testing.assert_array_equal(lx.cross_entropy(x, ids, 1, reduction=reduction), plain)
    for one, other in zip(losses(x, ids, reduction, backward), found, strict=True):
        np.testing.assert_array_equal(one, other)
    lx.set_num_threads(2)
    for one, other in zip(losses(np.asfortranarray(x), ids, reduction, backward), found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_losses_of_special_rows():
    x = logits((2, 300, 9), "float32")
    x[0, :, 0] = -np.inf
    x[0, 3, 1:3] = np.inf
    x[0, 7, 2:4] = np.nan
    x[0, 9, 2:4] = -np.inf
    x[1, 5, 1] = -np.inf
    ids = np.full((2, 9), 5)
    ids[1, 3:5] = -100
    x[1, 8, 4] = np.nan  # ignored
    for empty in ("nan", "zero"):
        found = losses(x, ids, "none", True, empty=empty)
        with lx.use_backend("generic"):
            right = losses(x, ids, "none", True, empty=empty)
        for one, other in zip(found, right, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("function", ["cross_entropy", "cross_entropy_value_and_grad"])
@pytest.mark.parametrize("bad", [300, -1, 2**40])
def test_bad_labels(function, bad):
    ids = np.zeros((2, 9), np.int64)
    ids[1, 4] = bad
    with pytest.raises(lx.LabelError, match=rf"class id {bad} at position \(1, 4\)"):
        getattr(lx, function)(np.zeros((2, 300, 9), np.float32), ids, 1)


def test_losses_of_frameworks():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x, ids = logits((2, 700, 5), "float32"), labels_of((2, 700, 5))
    loss, gradient = lx.cross_entropy_value_and_grad(x, ids, 1)
    leaf = torch.tensor(x, requires_grad=True)
    value = lx.cross_entropy(leaf, torch.tensor(ids), 1)
    value.backward()
    assert value.item() == loss
    np.testing.assert_array_equal(leaf.grad.numpy(), gradient)
    value, by_logits = jax.jit(jax.value_and_grad(lambda x: lx.cross_entropy(x, ids, 1)))(x)
    assert float(value) == float(loss)
    np.testing.assert_array_equal(np.asarray(by_logits), gradient)
