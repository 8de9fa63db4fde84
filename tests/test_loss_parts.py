"""Parts of a cross-entropy by name: each is what another function returns for the same arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

NAMES = ("correct", "log_prob", "z_loss", "entropy", "log_normalizer")
RNG = np.random.default_rng(7)
X = RNG.normal(size=(4, 6, 5)).astype(np.float32) * 3
IDS = RNG.integers(0, 6, (4, 5))
IDS[0, 0] = -100
SCALING: dict[str, Any] = {"temperature": 1.5, "softcap": 4.0, "where": RNG.random((4, 6, 5)) < 0.8}
OPTIONS: dict[str, Any] = {
    "class_weight": RNG.random(6), "sample_weight": RNG.random((4, 5)), "label_smoothing": 0.1, "z_loss": 0.01,
}  # fmt: skip


def right(name: str, x: Any, ids: Any, axis: Any, **scaling: Any) -> Any:
    if name == "entropy":
        return lx.entropy(x, axis, **scaling)
    if name == "log_prob":
        return lx.selected_log_softmax(x, ids, axis, ignore_index=-100, **scaling)
    best = np.argmax(np.where(scaling.get("where", True), x, -np.inf), axis=axis)
    return (best == ids) & (ids != -100)


@pytest.mark.parametrize("function", ["cross_entropy", "cross_entropy_value_and_grad"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("scaling", [{}, SCALING], ids=["plain", "scaled"])
def test_every_part_is_what_its_function_returns(function, reduction, scaling):
    call = getattr(lx, function)
    *results, parts = call(X, IDS, 1, return_parts=NAMES, reduction=reduction, **OPTIONS, **scaling)
    *plain, both = call(X, IDS, 1, return_parts=True, reduction=reduction, **OPTIONS, **scaling)
    assert parts._fields == NAMES
    for found, other in zip((*results, parts.z_loss, parts.log_normalizer), (*plain, *both), strict=True):
        np.testing.assert_array_equal(found, other)
    for name in ("entropy", "log_prob", "correct"):
        found, other = getattr(parts, name), right(name, X, IDS, 1, **scaling)
        assert found.shape == IDS.shape
        assert found.dtype == other.dtype
        np.testing.assert_allclose(found, other, rtol=1e-5, atol=1e-6)


def test_one_name_and_lists():
    loss, parts = lx.cross_entropy(X, IDS, 1, return_parts="entropy")
    assert loss == lx.cross_entropy(X, IDS, 1)
    assert parts._fields == ("entropy",)
    assert lx.cross_entropy(X, IDS, 1, return_parts=["correct"])[1].correct.dtype == bool
    assert lx.cross_entropy(X, IDS, 1, return_parts=())[1] == ()


def test_probabilities_as_targets():
    t = lx.softmax(X[..., ::-1].copy(), axis=1)
    _, parts = lx.cross_entropy(X, t, 1, return_parts=("log_prob", "correct"))
    np.testing.assert_allclose(parts.log_prob, (t * lx.log_softmax(X, 1)).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(parts.correct, X.argmax(1) == t.argmax(1))


def test_rows_without_a_maximum_and_ties():
    x = np.array([[np.nan, 1, 0], [-np.inf] * 3, [2, 2, 0], [2, 2, 0], [np.inf, 0, 0]], np.float32)
    _, parts = lx.cross_entropy(x, np.array([0, 0, 0, 1, 0]), return_parts=("correct", "log_prob"))
    np.testing.assert_array_equal(parts.correct, [False, False, True, False, True])
    np.testing.assert_allclose(parts.log_prob[2:4], lx.log_softmax(x)[2:4, 0])


def test_all_axes():
    loss, parts = lx.cross_entropy(X[0], np.int64(7), None, return_parts=NAMES)
    assert float(parts.log_prob) == pytest.approx(-float(loss))
    assert bool(parts.correct) == (X[0].argmax() == 7)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (("entropy", "entropie"), ValueError, "return_parts: 'entropie' is not allowed; allowed are 'z_loss', "),
        (("entropy", "entropy"), ValueError, "twice"),
        (3, TypeError, "return_parts: int is not allowed; allowed are True, False and a tuple of names"),
    ],
)
def test_wrong_names(value, error, message):
    with pytest.raises(error, match=message):
        lx.cross_entropy(X, IDS, 1, return_parts=value)


# -- other arrays -----------------------------------------------------------------------------------------------------


def test_torch_differentiates_parts():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, ids = torch.tensor(X.astype(np.float64), requires_grad=True), torch.tensor(IDS)
    loss, parts = lx.cross_entropy(x, ids, 1, return_parts=("entropy", "log_prob", "correct"))
    (loss - 0.1 * parts.entropy.sum() + parts.log_prob.sum()).backward()
    one = x.detach().requires_grad_()
    log_p = torch.log_softmax(one, 1)
    entropy = -(log_p.exp() * log_p).sum()
    chosen = torch.where(ids == -100, 0.0, log_p.gather(1, ids.clamp(0)[:, None])[:, 0]).sum()
    (torch.nn.functional.cross_entropy(one, ids) - 0.1 * entropy + chosen).backward()
    np.testing.assert_allclose(x.grad, one.grad, atol=1e-12)
    assert parts.correct.dtype == torch.bool
    assert parts.entropy.shape == ids.shape


def test_jax_traces_parts():
    jax = pytest.importorskip("jax", reason="jax is not installed")

    def bonus(x):
        loss, parts = lx.cross_entropy(x, IDS, 1, return_parts=("entropy", "correct"))
        return loss - 0.1 * parts.entropy.mean(), parts

    (_, parts), gradient = jax.jit(jax.value_and_grad(bonus, has_aux=True))(X)
    expected = lx.cross_entropy_value_and_grad(X, IDS, 1)[1]
    np.testing.assert_array_equal(parts.correct, right("correct", X, IDS, 1))
    assert np.abs(np.asarray(gradient) - expected).max() > 1e-4  # the bonus counts
    np.testing.assert_allclose(np.asarray(gradient).sum(1), 0, atol=1e-6)


def test_lazy_and_labelled_arrays():
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    x, ids = X[:, :, 0], np.maximum(IDS[:, 0], 0)
    _, right_parts = lx.cross_entropy(x, ids, return_parts=NAMES)
    _, lazy = lx.cross_entropy(da.from_array(x, chunks=(3, 2)), ids, return_parts=NAMES)
    _, frame = lx.cross_entropy(pd.DataFrame(x, index=list("abcd")), ids, return_parts=NAMES)
    for name in NAMES:
        np.testing.assert_allclose(np.asarray(getattr(lazy, name)), getattr(right_parts, name), rtol=1e-5)
        np.testing.assert_allclose(np.asarray(getattr(frame, name)), getattr(right_parts, name), rtol=1e-5)
    assert list(frame.entropy.index) == list("abcd")


@pytest.mark.parametrize("backend", ["numba", "generic"])
def test_backends(backend):
    with lx.use_backend(backend):
        _, parts = lx.cross_entropy(X, IDS, 1, return_parts=NAMES)
    _, expected = lx.cross_entropy(X, IDS, 1, return_parts=NAMES)
    for name in NAMES:
        np.testing.assert_allclose(getattr(parts, name), getattr(expected, name), rtol=2e-6, atol=1e-7)


# -- linear layers ----------------------------------------------------------------------------------------------------

HIDDEN = RNG.normal(size=(3, 5, 4)).astype(np.float32)
WEIGHT = RNG.normal(size=(7, 4)).astype(np.float32)
BIAS = RNG.normal(size=7).astype(np.float32)
TOKENS = RNG.integers(0, 7, (3, 5))
TOKENS[1, 2] = -100
LAYER_OPTIONS: dict[str, Any] = {
    "class_weight": RNG.random(7).astype(np.float32), "sample_weight": RNG.random((3, 5)).astype(np.float32),
    "label_smoothing": 0.1, "z_loss": 0.01, "softcap": 3.0, "temperature": 1 + RNG.random((3, 5, 1)).astype(np.float32),
}  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("options", [{}, LAYER_OPTIONS], ids=["plain", "weighted"])
@pytest.mark.parametrize("block_bytes", [100, 33_554_432])
def test_parts_of_linear_layers(block_bytes, options, reduction):
    given = {"reduction": reduction, "return_parts": NAMES, **options}
    right_loss, right_parts = lx.cross_entropy(HIDDEN @ WEIGHT.T + BIAS, TOKENS, **given)
    loss, parts = lx.linear_cross_entropy(HIDDEN, WEIGHT, TOKENS, BIAS, block_bytes=block_bytes, **given)
    value, gradients, same = lx.linear_cross_entropy_value_and_grad(
        HIDDEN, WEIGHT, TOKENS, BIAS, block_bytes=block_bytes, **given
    )
    np.testing.assert_allclose(loss, right_loss, rtol=1e-5)
    np.testing.assert_allclose(value, right_loss, rtol=1e-5)
    assert len(gradients) == 3
    for name in NAMES:
        np.testing.assert_allclose(getattr(parts, name), getattr(right_parts, name), rtol=2e-5, atol=1e-6)
        np.testing.assert_array_equal(getattr(same, name), getattr(parts, name))


def test_parts_of_linear_layers_by_default():
    loss, parts = lx.linear_cross_entropy(HIDDEN[0, 0], WEIGHT, TOKENS[0, 0], return_parts=True, z_loss=0.1)
    _, right_parts = lx.cross_entropy(HIDDEN[0, 0] @ WEIGHT.T, TOKENS[0, 0], return_parts=True, z_loss=0.1)
    assert parts._fields == ("z_loss", "log_normalizer")
    np.testing.assert_allclose(parts, right_parts, rtol=1e-5)
    assert loss > parts.z_loss


def test_parts_of_linear_layers_of_frameworks():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    jax = pytest.importorskip("jax", reason="jax is not installed")
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    _, right_parts = lx.cross_entropy(HIDDEN @ WEIGHT.T, TOKENS, return_parts=NAMES)
    hidden = torch.tensor(HIDDEN, requires_grad=True)
    _, found = lx.linear_cross_entropy(hidden, torch.tensor(WEIGHT), torch.tensor(TOKENS), return_parts=NAMES)
    found.entropy.sum().backward()
    plain = torch.tensor(HIDDEN, requires_grad=True)
    lx.entropy(plain @ torch.tensor(WEIGHT).T).sum().backward()
    np.testing.assert_allclose(hidden.grad, plain.grad, rtol=1e-4, atol=1e-6)
    _, traced = jax.jit(lambda *layer: lx.linear_cross_entropy(*layer, return_parts=NAMES))(HIDDEN, WEIGHT, TOKENS)
    for name in NAMES:
        for parts in (found, traced):
            np.testing.assert_allclose(
                np.asarray(getattr(parts, name).tolist()), getattr(right_parts, name), rtol=2e-5, atol=1e-6
            )
    with pytest.raises(TypeError, match="return_parts: lazy arrays"):
        lx.linear_cross_entropy(da.from_array(HIDDEN), WEIGHT, TOKENS, return_parts=NAMES)
