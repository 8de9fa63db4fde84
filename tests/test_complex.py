"""logsumexp of complex numbers: values, infinities and derivatives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import logitx as lx

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 7)) * 5 + 1j * RNG.normal(size=(4, 7)) * 10
B = RNG.normal(size=(4, 7)) + 1j * RNG.normal(size=(4, 7))
INFINITE = [-np.inf, np.inf] + [
    complex(sign * np.inf, phase)
    for sign in (-1, 1)
    for phase in (0.0, -0.0, np.inf, -np.inf, 0.7533, 2.3562, 3.9270, 5.4978)
]


def arrays_of(library):
    """Return the function that makes an array of a library, and the one that makes NumPy's of it."""
    if library == "torch":
        torch = pytest.importorskip("torch")
        return torch.tensor, lambda x: x.numpy()
    if library == "jax":
        return pytest.importorskip("jax").numpy.asarray, np.asarray
    if library == "strict":
        return pytest.importorskip("array_api_strict").asarray, np.from_dlpack
    if library == "dask":
        array = pytest.importorskip("dask.array")
        return lambda x: array.from_array(x, chunks=(2, 3)), lambda x: x.compute()
    return np.asarray, np.asarray


LIBRARIES = pytest.mark.parametrize("library", ["numpy", "torch", "jax", "strict", "dask"])


@LIBRARIES
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("axis", [0, -1, None])
def test_values_are_those_of_the_formula(library, dtype, axis):
    make, back = arrays_of(library)
    dtype = "complex64" if library == "jax" else dtype
    x, b = X.astype(dtype), B.astype(dtype)
    where = np.add.outer(np.arange(4), np.arange(7)) % 4 != 0
    tolerance = {"rtol": 2e-5, "atol": 1e-5} if dtype == "complex64" else {"rtol": 1e-12, "atol": 1e-13}
    for options in ({}, {"b": b}, {"where": where}, {"b": b, "where": where}, {"log_b": b}):
        given = {name: make(value) for name, value in options.items()}
        terms = np.exp(x.astype("c16") + options.get("log_b", 0)) * options.get("b", 1) * options.get("where", True)
        total = terms.sum(axis=axis)
        value = back(lx.logsumexp(make(x), axis, **given))
        assert value.dtype == dtype
        np.testing.assert_allclose(value, np.log(total), **tolerance)
        size, sign = map(back, lx.logsumexp(make(x), axis, return_sign=True, **given))
        np.testing.assert_allclose(size, np.log(np.abs(total)), **tolerance)
        np.testing.assert_allclose(sign, total / np.abs(total), **tolerance)


@pytest.mark.parametrize(("x", "y"), list(itertools.product(INFINITE, repeat=2)))
def test_infinities_follow_the_rules_of_c(x, y):
    pair = np.asarray([x, y])
    with np.errstate(all="ignore"):
        right = np.log(np.sum(np.exp(pair)))
    found = lx.logsumexp(pair)
    if np.iscomplexobj(pair):
        np.testing.assert_array_equal(found, right)
    else:  # real numbers have rules of their own, the same here
        assert found == right


def test_what_is_far_out_of_range_is_computed():
    assert lx.logsumexp(np.array([1000 + 1j, 1000 + 1j])) == 1000 + np.log(2) + 1j
    np.testing.assert_allclose(lx.logsumexp([-5000.0, -5000 + np.pi * 1j / 2]), -5000 + np.log(2) / 2 + np.pi / 4 * 1j)
    assert abs(lx.logsumexp(np.full(3, 3j)).imag) <= np.pi
    assert lx.logsumexp(np.zeros((2, 0), complex)).tolist() == [-np.inf, -np.inf]


def test_small_parts_keep_their_digits():
    step = 1e-20
    x = X.real.copy().astype(complex)
    x[:, 2] += step * 1j
    np.testing.assert_allclose(lx.logsumexp(x).imag / step, lx.softmax(X.real)[:, 2], rtol=1e-13)
    assert lx.logsumexp(np.array([0, -40 + 0j])).real == np.log1p(np.exp(-40))


def test_a_difference_in_log_space_by_a_phase():
    p, q = np.log(5.0), np.log(3.0)
    np.testing.assert_allclose(lx.logsumexp([p, q + np.pi * 1j]), np.log(2), atol=1e-15)
    np.testing.assert_allclose(lx.logsumexp([p, q], b=[1, 1j]), np.log(5 + 3j))


def test_torch_and_jax_differentiate_it():
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    x, b = torch.tensor(X, requires_grad=True), torch.tensor(B, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, b: lx.logsumexp(x, b=b), (x, b))
    assert torch.autograd.gradcheck(lambda x: torch.stack(lx.logsumexp(x, return_sign=True)).abs(), (x,))
    far = (X * 300).astype("c8")
    gradient = jax.grad(lambda x: lx.logsumexp(x).real.sum())(far)
    assert np.isfinite(gradient).all()


def test_what_is_not_allowed_is_named():
    with pytest.raises(TypeError, match="^dtype: is not allowed for complex numbers; allowed is None$"):
        lx.logsumexp(X, dtype="float32")
    with pytest.raises(ValueError, match=r"^b: shape \(5,\) is not allowed; allowed are shapes that broadcast"):
        lx.logsumexp(X, b=B[0, :5])
    with pytest.raises(TypeError, match="^x: dtype complex128 is not allowed"):
        lx.softmax(X)


@pytest.mark.parametrize("function", [lx.softmax, lx.log_softmax, lx.logcumsumexp])
@pytest.mark.parametrize("x", [1j, np.array([1 + 2j])], ids=["complex", "complexes"])
def test_complex_numbers_are_refused(function, x):
    """Only sums have a meaning for them."""
    with pytest.raises(TypeError, match=r"^x: "):
        function(x)
