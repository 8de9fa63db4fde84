"""The best classes of a row, and samples, against sorted probabilities and by chi-square over fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

import logitx as lx

X = np.random.default_rng(0).standard_normal((3, 4, 90)).astype(np.float32)
ROW = np.array([0.0, 1.0, 2.0, 2.5, -np.inf, 0.5], dtype=np.float32)
DRAWS = 40_000
CUTS = {
    "none": {},
    "temperature": {"temperature": 0.5},
    "softcap": {"softcap": 1.0},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.2},
    "where": {"where": np.array([True, True, False, True, True, True])},
    "all": {"top_k": 4, "top_p": 0.9, "min_p": 0.1, "temperature": 2.0},
}


def _library(name):
    """Return (an array of the library from NumPy, a source of random numbers)."""
    module = pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "torch":
        return module.from_numpy, module.Generator().manual_seed(3)
    if name == "jax":
        return module.numpy.asarray, module.random.key(3)
    return np.asarray, np.random.default_rng(3)


def _probabilities(row, temperature=1.0, softcap=None, top_k=None, top_p=None, min_p=None, where=True):
    """Return the probabilities of a row, cut by sorting all of them."""
    u = np.where(where, row, -np.inf).astype(np.float64)
    u = (u if softcap is None else np.where(u == -np.inf, u, softcap * np.tanh(u / softcap))) / temperature
    p = np.exp(u - u.max())
    kept = p >= (min_p or 0.0)
    order = np.argsort(-p, kind="stable")
    kept[order[top_k:]] &= top_k is None
    p = np.where(kept, p, 0.0)
    p /= p.sum()
    if top_p is not None:
        before = np.cumsum(p[order]) - p[order]
        p[order[(before >= top_p) & (before > 0)]] = 0.0
    return p / p.sum()


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_samples_are_distributed_as_the_probabilities_that_are_left(library, cut):
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    array, rng = _library(library)
    p = _probabilities(ROW, **CUTS[cut])
    options = {name: array(one) if isinstance(one, np.ndarray) else one for name, one in CUTS[cut].items()}
    counts = np.bincount(np.asarray(lx.sample(array(ROW), rng, shape=(DRAWS,), **options)), minlength=len(ROW))
    assert (counts[p == 0] == 0).all()
    assert stats.chisquare(counts[p > 0], DRAWS * p[p > 0]).pvalue > 1e-3


@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.9, 0.999999, 1.0])
def test_top_p_keeps_the_classes_of_a_sorted_reference(top_p):
    rows = X.reshape(-1, 90) * 0.3  # so even that more classes are kept than are tried first
    drawn = lx.sample(rows, np.random.default_rng(0), shape=(3000,), top_p=top_p)
    for row, ids in zip(rows, drawn.T, strict=True):
        assert (_probabilities(row, top_p=top_p)[ids] > 0).all()


def test_shapes_of_samples():
    rng = np.random.default_rng(0)
    assert lx.sample(X, rng).shape == (3, 4)
    assert lx.sample(X, rng, axis=0, shape=(2, 5)).shape == (2, 5, 4, 90)
    assert lx.sample(X, rng, axis=None, shape=(7,), top_k=3).shape == (7,)
    assert lx.sample(X[:0], rng).shape == (0, 4)
    np.testing.assert_array_equal(lx.sample(X, rng, temperature=0.0, shape=(2,)), [X.argmax(-1)] * 2)


def test_the_same_state_gives_the_same_ids_for_any_number_of_threads():
    found = []
    for threads in (1, 2):
        lx.set_num_threads(threads)
        found.append(lx.sample(X, np.random.default_rng(5), shape=(3,), top_p=0.9))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "array_api_strict"])
@pytest.mark.parametrize(("axis", "k"), [(-1, 5), (0, 3), (1, 1), (None, 9)])
def test_top_k_is_a_stable_sort(library, axis, k):
    array = pytest.importorskip(library).asarray if library == "array_api_strict" else _library(library)[0]
    x = np.round(X * 2)  # many equal logits
    p, ids = lx.softmax_top_k(array(x), k, axis)
    all_p = lx.softmax(x, axis)
    flat, along = (x.reshape(-1), 0) if axis is None else (x, axis)
    order = np.take(np.argsort(-flat, axis=along, kind="stable"), range(k), axis=along)
    np.testing.assert_array_equal(np.asarray(ids), order)
    np.testing.assert_allclose(np.asarray(p), np.take_along_axis(all_p.reshape(flat.shape), order, along), rtol=2e-6)


def test_top_k_of_masks_and_special_rows():
    x = np.array([[1, np.nan, 2, 3], [np.inf, 0, 1, 2], [-np.inf] * 4, [5, 5, 5, 5]], dtype=np.float32)
    p, ids = lx.softmax_top_k(x, 2)
    assert np.isnan(p[:3]).all()
    np.testing.assert_array_equal(ids, [[0, 1]] * 4)
    p, ids = lx.softmax_top_k(x, 2, where=np.array([True, False, True, True]), renormalize=True, empty="zero")
    np.testing.assert_array_equal(ids, [[3, 2], [0, 1], [0, 1], [0, 2]])
    np.testing.assert_allclose(p[[0, 2, 3]], [[0.7310586, 0.26894143], [0, 0], [0.5, 0.5]], rtol=1e-6)


def test_top_k_of_infinities_of_both_signs_does_not_warn():
    x = np.array([[np.inf, 0.0, -np.inf], [np.nan, 0.0, 1.0]], np.float32)
    for backend in (None, "generic"):
        with lx.use_backend(backend):
            np.testing.assert_array_equal(lx.softmax_top_k(x, 2)[1], [[0, 1], [0, 1]])


def test_top_k_has_the_gradient_of_the_probabilities():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.tensor(X[0].astype(np.float64), requires_grad=True)
    for renormalize in (False, True):
        assert torch.autograd.gradcheck(lambda x, r=renormalize: lx.softmax_top_k(x, 3, renormalize=r)[0], x)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_a_hard_sample_is_one_hot_with_the_gradient_of_the_soft_one(library):
    array, rng = _library(library)
    x, weight = array(X[0]), array(X[1])
    if library == "torch":
        x.requires_grad_()
        (lx.gumbel_softmax(x, rng, temperature=0.7, hard=True) * weight).sum().backward()
        hard, rng = x.grad.clone(), rng.manual_seed(3)
        x.grad = None
        (lx.gumbel_softmax(x, rng, temperature=0.7) * weight).sum().backward()
        soft = x.grad
    else:
        import jax

        hard, soft = (
            jax.grad(lambda x, h=h: (lx.gumbel_softmax(x, rng, temperature=0.7, hard=h) * weight).sum())(x)
            for h in (True, False)
        )
    np.testing.assert_allclose(np.asarray(hard), np.asarray(soft), rtol=1e-6)
    y = lx.gumbel_softmax(X, np.random.default_rng(0), hard=True)
    assert set(np.unique(y)) == {0.0, 1.0}
    assert (y.sum(-1) == 1).all()


def test_gumbel_samples_are_distributed_as_the_softmax():
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    rows = np.broadcast_to(ROW, (DRAWS, len(ROW)))
    counts = lx.gumbel_softmax(rows, np.random.default_rng(1), temperature=3.0, hard=True).sum(0)
    p = lx.softmax(ROW.astype(np.float64))
    assert stats.chisquare(counts[p > 0], DRAWS * p[p > 0]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (TypeError, "^rng: int is not allowed; allowed is a numpy.random.Generator", {"rng": 3}),
        (ValueError, "^temperature: -1.0 is not allowed", {"temperature": -1}),
        (ValueError, "^top_p: 1.5 is not allowed; allowed are numbers from 0 to 1", {"top_p": 1.5}),
        (ValueError, "^top_k: 0 is not allowed; allowed are integers of 1 or more", {"top_k": 0}),
        (ValueError, "^axis: .* is not allowed; allowed are one axis, or None", {"axis": (0, 1)}),
    ],
)
def test_bad_options_of_a_sample_are_named(error, message, options):
    rng = options.pop("rng", np.random.default_rng(0))
    with pytest.raises(error, match=message):
        lx.sample(X, rng, **options)


def test_rows_without_probabilities_and_other_arrays_are_refused():
    with pytest.raises(ValueError, match="^logits: a row has NaN"):
        lx.sample(np.array([0.0, np.nan]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="^k: 9 is not allowed; allowed are 1 to 2, the number of classes"):
        lx.softmax_top_k(np.zeros((3, 2)), 9)
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    with pytest.raises(TypeError, match="^logits: DataFrame has labels; allowed is the array within"):
        lx.softmax_top_k(pd.DataFrame(X[0]), 2)
