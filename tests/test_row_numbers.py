"""Numbers of a row beside their formulas elsewhere: SciPy, PyTorch, optax and distributions of PyTorch."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import logitx as lx

RNG = np.random.default_rng(0)
P, Q = RNG.standard_normal((2, 6, 11)) * 3
IDS = RNG.integers(0, 11, (6, 4))


def test_entropy_and_divergence_of_scipy():
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    p, q = lx.softmax(P), lx.softmax(Q)
    np.testing.assert_allclose(lx.entropy(P), stats.entropy(p, axis=-1), rtol=1e-13)
    np.testing.assert_allclose(lx.kl_divergence(P, Q), stats.entropy(p, q, axis=-1), rtol=1e-12)
    distance = pytest.importorskip("scipy.spatial.distance").jensenshannon(p, q, axis=-1)  # its square root
    np.testing.assert_allclose(lx.js_divergence(P, Q), distance**2, rtol=1e-12)


def test_distributions_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    p, q = (torch.from_numpy(one).requires_grad_() for one in (P, Q))
    one, two = (torch.distributions.Categorical(logits=x) for x in (p, q))
    ids = torch.from_numpy(IDS[:, 0])
    pairs = (
        (lx.entropy(p), one.entropy()),
        (lx.selected_log_softmax(p, ids), one.log_prob(ids)),
        (lx.kl_divergence(p, q), torch.distributions.kl_divergence(one, two)),
        (lx.softmax_mean(p, q), (one.probs * q).sum(-1)),
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
        for mine, other in zip(
            *(torch.autograd.grad(x.sum(), p, retain_graph=True) for x in (ours, theirs)), strict=True
        ):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-13)


def test_the_kl_divergence_of_torch_takes_its_arguments_in_the_other_order():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    p, q = torch.from_numpy(P), torch.from_numpy(Q)
    theirs = torch.nn.functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="batchmean")
    torch.testing.assert_close(lx.kl_divergence(p, q, reduction="mean"), theirs, rtol=1e-12, atol=0)


def test_the_losses_of_optax():
    optax = pytest.importorskip("optax", reason="optax is not installed")
    p, q = P.astype(np.float32), Q.astype(np.float32)
    theirs = optax.losses.kl_divergence(lx.log_softmax(q), lx.softmax(p))
    np.testing.assert_allclose(lx.kl_divergence(p, q), theirs, rtol=2e-5)


def test_selected_log_probabilities_are_those_of_all_classes():
    log_p = lx.log_softmax(P)
    np.testing.assert_allclose(lx.selected_log_softmax(P, IDS), np.take_along_axis(log_p, IDS, -1), rtol=1e-14)
    few = lx.selected_log_softmax(P.T, IDS.T, axis=0)
    np.testing.assert_allclose(few, np.take_along_axis(log_p, IDS, -1).T, rtol=1e-14)


@pytest.mark.parametrize("ids", [11, -1])
def test_an_id_that_is_no_class_is_named(ids):
    with pytest.raises(
        ValueError, match=rf"^ids: class id {ids} at position \(1, 2\) is out of range; allowed are 0 to 10"
    ):
        lx.selected_log_softmax(P, np.where(np.arange(24).reshape(6, 4) == 6, ids, IDS))


def test_ids_of_another_shape_or_dtype_are_refused():
    with pytest.raises(
        ValueError, match=r"^ids: shape \(5,\) is not allowed; allowed is \(6,\), one class id a row, or"
    ):
        lx.selected_log_softmax(P, IDS[:5, 0])
    with pytest.raises(TypeError, match="^ids: dtype float64 is not allowed; allowed are integers"):
        lx.selected_log_softmax(P, P[:, 0])
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    with pytest.raises(ValueError, match=r"^ids: shape \(6, 4\) is not allowed with labels"):
        lx.selected_log_softmax(pd.DataFrame(P), IDS)


def test_values_of_another_shape_are_refused():
    with pytest.raises(
        ValueError, match=r"^values: shape \(6,\) is not allowed; allowed are \(11,\), one value a class"
    ):
        lx.softmax_mean(P, P[:, 0])


def test_the_weight_of_a_mixture_is_a_number_from_0_to_1():
    with pytest.raises(ValueError, match="^weight: 1.5 is not allowed; allowed are numbers from 0 to 1"):
        lx.js_divergence(P, Q, weight=1.5)
    with pytest.raises(TypeError, match="^weight: array"):
        lx.js_divergence(P, Q, weight=np.full(6, 0.5))


def test_a_float64_array_of_logits_makes_the_divergence_float64():
    low = P.astype(np.float32)
    assert lx.kl_divergence(low, Q).dtype == np.float64
    assert lx.kl_divergence(low, Q, dtype="float32").dtype == np.float32
    np.testing.assert_allclose(lx.kl_divergence(low, low.astype(np.float64)), 0.0, atol=0)


def test_a_small_divergence_is_accurate_in_float32():
    p = P.astype(np.float32)
    q = (p + np.float32(1e-3) * RNG.standard_normal(P.shape)).astype(np.float32)
    truth = lx.kl_divergence(p.astype(np.float64), q.astype(np.float64))
    np.testing.assert_allclose(lx.kl_divergence(p, q), truth, rtol=2e-3)
    naive = (lx.softmax(p) * (lx.log_softmax(p) - lx.log_softmax(q))).sum(-1)
    assert (np.abs(naive / truth - 1) > np.abs(lx.kl_divergence(p, q) / truth - 1)).mean() > 0.8


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_impossible_classes_leave_gradients_finite(library):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    x = np.array([[1.0, -np.inf, 2.0, 3.0], [0.0, 1.0, -np.inf, -np.inf]], dtype=np.float32)
    where = np.array([[True, True, False, True]] * 2)
    calls = (
        lambda x: lx.entropy(x, where=where).sum(),
        lambda x: lx.kl_divergence(x, x * 0.5, where=where).sum(),
        lambda x: lx.js_divergence(x, x * 0.5, where=where).sum(),
        lambda x: lx.softmax_mean(x, np.arange(4.0, dtype=np.float32), where=where).sum(),
    )
    for call in calls:
        if library == "torch":
            tensor = module.tensor(x, requires_grad=True)
            call(tensor).backward()
            gradient = tensor.grad.numpy()
        else:
            gradient = np.asarray(module.grad(call)(x))
        assert np.isfinite(gradient).all()
        assert (gradient[~where | (x == -np.inf)] == 0).all()


@pytest.mark.parametrize("weight", [1e-25, 1e-8, 1e-5, 0.3, 1.0 - 1e-8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_js_divergence_with_one_distribution_almost_alone(weight, dtype):
    p, q = np.array([0.0, -30.0, -1.0]), np.array([-30.0, 0.0, -1.0])
    with mpmath.workdps(60):
        w = mpmath.mpf(weight)
        p_exact, q_exact = ([mpmath.exp(v) for v in one] for one in (p, q))
        p_exact, q_exact = ([v / mpmath.fsum(one) for v in one] for one in (p_exact, q_exact))
        pairs = [(a, b, w * a + (1 - w) * b) for a, b in zip(p_exact, q_exact, strict=True)]
        right = float(mpmath.fsum(w * a * mpmath.log(a / m) + (1 - w) * b * mpmath.log(b / m) for a, b, m in pairs))
    for backend in ("numba", "generic"):
        with lx.use_backend(backend):
            found = lx.js_divergence(p.astype(dtype), q.astype(dtype), weight=weight)
        np.testing.assert_allclose(found, right, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("distance", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("n", [3, 10, 1000])
def test_divergences_of_any_distance_are_accurate_in_float32(n, spread, distance):
    rng = np.random.default_rng(0)
    p = (rng.standard_normal((64, n)) * spread).astype(np.float32)
    q = (p + rng.standard_normal((64, n)) * distance * spread).astype(np.float32)
    right = lx.kl_divergence(p.astype(np.float64), q.astype(np.float64))
    np.testing.assert_allclose(lx.kl_divergence(p, q), right, rtol=60 * 2.0**-24)
