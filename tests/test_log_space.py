"""log_matmul, logcumsumexp and logsumexp(log_b=): errors, long rows, and peers."""

from __future__ import annotations

import numpy as np
import pytest

import logitx as lx

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(4, 6)), RNG.normal(size=(6, 3))


@pytest.mark.parametrize(
    ("a", "b", "kind", "message"),
    [
        (A, B.T, ValueError, r"^b: shape \(3, 6\) is not allowed with a of shape \(4, 6\); allowed are 6 rows$"),
        (A, 1.0, ValueError, r"^b: shape \(\) is not allowed; allowed are vectors, matrices and stacks"),
        (np.float64(1), B, ValueError, r"^a: shape \(\) is not allowed; "),
        (A[None].repeat(2, 0), B[None].repeat(3, 0), ValueError, "^b: .* allowed are axes before the last two"),
        (A * 1j, B, TypeError, "^a: dtype complex128 is not allowed"),
        (A, "b", TypeError, "^b: str is not an array type"),
    ],
)
def test_what_is_wrong_with_a_product_is_named(a, b, kind, message):
    with pytest.raises(kind, match=message):
        lx.log_matmul(a, b)


def test_a_product_has_no_labels():
    pd = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match="^a: DataFrame has labels, which a product has not; allowed are bare arrays"):
        lx.log_matmul(pd.DataFrame(A), B)
    with pytest.raises(TypeError, match="^b: DataFrame has labels"):
        lx.log_matmul(A, pd.DataFrame(B))


def test_a_product_is_finite_wherever_its_value_is():
    for dtype in ("float32", "float64"):
        a, b = np.array([[0, -2000]], dtype), np.array([[-2000], [0]], dtype)
        assert np.allclose(lx.log_matmul(a, b), np.log(2) - 2000)


def test_a_product_of_many_small_sums_is_cut_into_pieces(monkeypatch):
    from logitx.backends.generic import log_space

    monkeypatch.setattr(log_space, "_TERMS_AT_ONCE", 100)
    a, b = RNG.normal(size=(2, 5, 6)) * 900, RNG.normal(size=(6, 7)) * 900
    whole = lx.logsumexp(a[..., None] + b, axis=-2)
    np.testing.assert_allclose(lx.log_matmul(a, b), whole, rtol=1e-13)


def test_products_agree_where_values_cannot_be_read():
    jax = pytest.importorskip("jax")
    a, b = (RNG.normal(size=shape).astype("f4") * 60 for shape in ((3, 40), (40, 5)))
    right = lx.logsumexp(a.astype("f8")[:, :, None] + b, axis=1)
    np.testing.assert_allclose(jax.jit(lx.log_matmul)(a, b), right, rtol=1e-6)
    found = jax.vmap(lambda row: lx.log_matmul(row, b))(a)
    np.testing.assert_allclose(found, right, rtol=1e-6)


def test_torch_compiles_products():
    torch = pytest.importorskip("torch")
    a, b = (torch.tensor(RNG.normal(size=shape) * 900) for shape in ((3, 40), (40, 5)))
    found = torch.compile(lx.log_matmul, fullgraph=True, backend="aot_eager")(a, b)
    torch.testing.assert_close(found, torch.logsumexp(a[:, :, None] + b, 1))


@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative_sums_of_long_rows(reverse):
    x = (RNG.normal(size=(2, 20_000)) * 3 + np.linspace(-50, 50, 20_000)).astype("f4")
    given = x[:, ::-1] if reverse else x
    right = np.logaddexp.accumulate(given.astype("f8"), axis=1)
    right = right[:, ::-1] if reverse else right
    error = np.abs(lx.logcumsumexp(x, reverse=reverse) - right) / np.maximum(1, np.abs(right))
    assert error.max() <= 2 * np.finfo("f4").eps


def test_the_last_cumulative_sum_is_the_sum():
    np.testing.assert_allclose(lx.logcumsumexp(A, axis=None)[-1, -1], lx.logsumexp(A, axis=None), rtol=1e-14)
    with pytest.raises(TypeError, match="^axis: 'row' is not allowed"):
        lx.logcumsumexp(A, "row")


def test_log_b_is_refused_beside_b_and_where_it_does_not_fit():
    with pytest.raises(TypeError, match="^log_b: an array is not allowed beside b; allowed is one of the two$"):
        lx.logsumexp(A, b=A, log_b=A)
    with pytest.raises(ValueError, match=r"^log_b: shape \(5,\) is not allowed; allowed are shapes that broadcast"):
        lx.logsumexp(A, log_b=np.zeros(5))


def test_log_b_broadcasts_as_b_does():
    log_b = RNG.normal(size=(2, 1, 6))
    np.testing.assert_allclose(lx.logsumexp(A, log_b=log_b), lx.logsumexp(A, b=np.exp(log_b)), rtol=1e-13)
    assert lx.logsumexp(A.astype("f4"), log_b=log_b).dtype == np.float32


def test_log_b_has_a_derivative():
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    x, f = (torch.tensor(value, requires_grad=True) for value in (A, A[0]))
    assert torch.autograd.gradcheck(lambda x, f: lx.logsumexp(x, log_b=f), (x, f))
    a, f = jax.numpy.asarray(A, "f4"), jax.numpy.asarray(A[0], "f4")
    found = jax.jit(jax.grad(lambda f: lx.logsumexp(a, log_b=f).sum()))(f)
    np.testing.assert_allclose(found, np.asarray(lx.softmax(a + f)).sum(0), rtol=1e-5)


def test_factors_of_any_dtype_leave_a_derivative_in_jax():
    jax = pytest.importorskip("jax")
    x = jax.numpy.asarray([0.0, 1.0, 2.0], "f4")
    weights = np.array([1.0, 2.0, 3.0]) * np.exp([0.0, 1.0, 2.0])
    for b in (jax.numpy.asarray([1, 2, 3]), jax.numpy.asarray([1.0, 2.0, 3.0])):
        found = jax.jit(jax.grad(lambda x, b=b: lx.logsumexp(x, b=b)))(x)
        np.testing.assert_allclose(found, weights / weights.sum(), rtol=1e-6)
    half, b = jax.numpy.asarray([0.0, -20.0], "f2"), jax.numpy.asarray([1e-6, 1e6], "f4")  # p of the second is 2e-9
    found = jax.grad(lambda b: lx.logsumexp(half, b=b))(b)
    np.testing.assert_allclose(found, [484.93, 9.9951e-7], rtol=1e-4)


def test_a_loop_of_sinkhorn_needs_no_sum_in_memory():
    cost = RNG.random((30, 20))
    f, g = np.zeros(30), np.zeros(20)
    for _ in range(200):
        f = -np.log(30) - lx.logsumexp(-20 * cost, log_b=g)
        g = -np.log(20) - lx.logsumexp(-20 * cost, axis=0, log_b=f[:, None])
    plan = np.exp(f[:, None] + g - 20 * cost)
    np.testing.assert_allclose(plan.sum(0), 1 / 20)
    np.testing.assert_allclose(plan.sum(1), 1 / 30, rtol=1e-4)
