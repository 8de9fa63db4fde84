"""What the kernels tell of rows in one read is what the formulas say: parts of losses, the best classes, and draws."""

from __future__ import annotations

import numpy as np
import pytest

import logitx as lx

pytest.importorskip("numba", reason="Numba is not installed")

NAMES = ("log_prob", "entropy", "correct", "z_loss", "log_normalizer")
SHAPES = [((7, 13), -1), ((5, 1000), -1), ((3, 4, 5), 1), ((2, 300, 7), 1), ((4, 3), 0), ((64, 2), -1), ((3, 1), -1)]
KINDS = ("plain", "rounded", "nan", "infinite", "empty", "equal", "ascending")
SCALED = {
    "plain": {},
    "masked": {"where": 0.7},
    "nearly masked": {"where": 0.1, "empty": "zero"},
    "heated": {"temperature": 0.5},
}


def logits(shape, axis, dtype, kind):
    x = (np.random.default_rng(0).standard_normal(shape) * 3).astype(dtype)
    if kind == "rounded":
        x = np.round(x / 3)
    if kind in ("nan", "infinite"):
        x.flat[:: len(kind)] = np.nan if kind == "nan" else np.inf
    if kind == "empty":
        x.flat[:] = -np.inf
        x.flat[::7] = 1
    if kind == "equal":
        x[...] = 0
    return np.sort(x, axis=axis).reshape(shape) if kind == "ascending" else x


def options(name, shape):
    found = dict(SCALED[name])
    if "where" in found:
        found["where"] = np.random.default_rng(1).random(shape) < found["where"]
    return found


def by_formulas(call):
    with lx.use_backend("generic"):
        return call()


@pytest.mark.parametrize("scaled", [*SCALED, "capped", "weighed"])
@pytest.mark.parametrize(
    ("shape", "axis", "dtype"), [(*one, ("float64", "float16")[i % 2]) for i, one in enumerate(SHAPES)]
)
def test_parts_of_losses(shape, axis, dtype, scaled):
    rng, rows = np.random.default_rng(2), [*shape]
    classes = rows.pop(axis)
    ids = rng.integers(0, classes, rows)
    ids.flat[::4] = -100
    more = {"softcap": 0.01} if scaled == "capped" else {}
    if scaled == "weighed":
        more = {"class_weight": rng.integers(0, 3, classes) * 1.0, "sample_weight": rng.random(rows), "z_loss": 0.1}
    more |= options(scaled, shape) if scaled in SCALED else {}
    for kind in KINDS:
        x = logits(shape, axis, dtype, kind)
        for function in (lx.cross_entropy, lx.cross_entropy_value_and_grad):
            *results, found = function(x, ids, axis, reduction="none", return_parts=NAMES, **more)
            *wanted, right = by_formulas(
                lambda f=function, x=x: f(x, ids, axis, reduction="none", return_parts=NAMES, **more)
            )
            for one, other in zip((*results, *found), (*wanted, *right), strict=True):
                assert one.dtype == other.dtype
                tolerance = 1e-3 if one.dtype == np.float16 else 2e-5
                np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance / 10, err_msg=kind)


@pytest.mark.parametrize("scaled", SCALED)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
@pytest.mark.parametrize(("shape", "axis"), [*SHAPES, ((4, 6), None), ((2, 5000), -1)])
def test_best_classes(shape, axis, dtype, scaled):
    more, n = options(scaled, shape), int(np.prod(shape)) if axis is None else shape[axis]
    for kind in KINDS if dtype != "int64" else ("plain", "equal"):
        x = logits(shape, axis, dtype, kind)
        for k in {1, (n + 1) // 2, min(n, 40), n}:
            for renormalize in (False, True):
                call = lambda: lx.softmax_top_k(x, k, axis, renormalize=renormalize, **more)  # noqa: B023, E731
                (p, ids), (right, places) = call(), by_formulas(call)
                np.testing.assert_array_equal(ids, places, err_msg=f"{kind}, {k}")
                assert p.dtype == right.dtype
                tolerance = 1e-3 if dtype == "float16" else 2e-5  # the formulas add up one after another
                np.testing.assert_allclose(
                    p, right, rtol=tolerance, atol=1e-7 * (dtype == "float16"), err_msg=f"{kind}, {k}"
                )


CUTS = [{}, {"top_k": 3}, {"top_k": 3, "top_p": 0.5, "min_p": 0.1}, {"min_p": 0.3}, {"temperature": 0}]


@pytest.mark.parametrize("cut", [*CUTS, {"temperature": 0.5, "softcap": 4.0}], ids=str)
@pytest.mark.parametrize(("shape", "axis"), [*SHAPES, ((4, 6), None), ((2, 5000), -1)])
def test_draws(shape, axis, cut):
    for dtype in ("float32", "float16", "int64") if not cut else ("float32",):
        x = logits(shape, axis, dtype, "plain")
        where = np.random.default_rng(1).random(shape) < 0.9
        where |= x == x.max(axis, keepdims=True)
        for mask in (None, where):
            call = lambda: lx.sample(x, np.random.default_rng(3), axis, shape=(20,), where=mask, **cut)  # noqa: B023, E731
            np.testing.assert_array_equal(call(), by_formulas(call))


@pytest.mark.parametrize("top_p", [0.0, 1e-6, 0.1, 0.5, 0.9, 0.99, 0.99999])
@pytest.mark.parametrize("n", [5, 90, 300, 5000])
def test_top_p_against_a_sorted_reference(n, top_p):
    for dtype in ("float32", "float16"):
        for kind in ("plain", "rounded", "equal", "empty", "ascending"):
            x = logits((n, 3), 0, dtype, kind)
            for row, memory in ((x[:, 1].copy(), "row"), (x[:, 1], "column")):
                p = lx.softmax(row.astype("float64"))
                order = np.argsort(-p, kind="stable")
                before = np.empty(n)
                before[order] = np.cumsum(p[order]) - p[order]
                kept = before < top_p
                kept[order[0]] = True
                drawn = lx.sample(row, np.random.default_rng(0), shape=(2000,), top_p=top_p)
                doubtful = abs(before - top_p) < 1e-5  # sums of float32
                assert (kept | doubtful)[drawn].all(), (dtype, kind, memory)
                often = kept & ~doubtful & (p / p[kept].sum() > 0.01)
                assert set(np.nonzero(often)[0]) <= set(drawn.tolist()), (dtype, kind, memory)


def test_tensors_and_threads():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = np.random.default_rng(0).standard_normal((200, 3000)).astype(np.float32)
    p, ids = lx.softmax_top_k(torch.from_numpy(x), 40)
    np.testing.assert_array_equal(ids, lx.softmax_top_k(x, 40)[1])
    half, places = lx.softmax_top_k(torch.from_numpy(x).to(torch.bfloat16), 5)
    assert half.dtype == torch.bfloat16
    np.testing.assert_array_equal(places, lx.softmax_top_k(torch.from_numpy(x).to(torch.bfloat16).float(), 5)[1])
    draws = lx.sample(x, np.random.default_rng(0), shape=(3,))
    try:
        lx.set_num_threads(1)
        np.testing.assert_array_equal(p, lx.softmax_top_k(x, 40)[0])
        np.testing.assert_array_equal(draws, lx.sample(x, np.random.default_rng(0), shape=(3,)))
    finally:
        lx.set_num_threads(2)


def test_columns_and_reversed_memory():
    x = np.random.default_rng(0).standard_normal((600, 50)).astype(np.float32)
    for view in (x[:, ::-1], x[::2], np.asfortranarray(x), x[:, 3:40]):
        np.testing.assert_array_equal(lx.softmax_top_k(view, 7)[1], np.argsort(-view, -1, kind="stable")[:, :7])
        plain = lx.sample(np.ascontiguousarray(view), np.random.default_rng(1))
        np.testing.assert_array_equal(lx.sample(view, np.random.default_rng(1)), plain)


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize(
    "scaled", [{}, {"temperature": 0.5}, {"softcap": 3.0}, {"where": 0.8, "softcap": 2.0}], ids=str
)
@pytest.mark.parametrize(
    ("shape", "axis", "dtypes"),
    [((5, 1000), -1, "float32 float32"), ((7, 13), -1, "float64 float16"), ((2, 40, 7), 1, "float32 float32")],
)
def test_gradients_of_divergences(shape, axis, dtypes, scaled, reduction):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng, more = np.random.default_rng(0), dict(scaled)
    given = [torch.from_numpy(rng.standard_normal(shape) * 3).to(getattr(torch, name)) for name in dtypes.split()]
    given[0].view(-1)[3] = given[1].view(-1)[3] = -torch.inf
    if "where" in more:
        more["where"] = torch.from_numpy(rng.random(shape) < more["where"])
    for function, options in ((lx.kl_divergence, {}), (lx.js_divergence, {"weight": 0.3}), (lx.js_divergence, {})):
        found, right = [], []
        for gradients, cast in ((found, lambda x: x), (right, lambda x: x.double())):
            p, q = (cast(one).clone().requires_grad_() for one in given)
            with lx.use_backend("generic" if gradients is right else None):
                value = function(p, q, axis, reduction=reduction, **more, **options)
                weight = torch.linspace(0.5, 1.5, value.numel()).reshape(value.shape).to(value.dtype)
                gradients.extend(torch.autograd.grad((value * weight).sum(), (p, q)))
        for one, other, x in zip(found, right, given, strict=True):
            assert one.dtype == x.dtype
            tolerance = 2e-3 if x.dtype == torch.float16 else 1e-4
            np.testing.assert_allclose(one.double(), other, rtol=tolerance, atol=tolerance * float(other.abs().max()))
