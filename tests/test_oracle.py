"""The oracle is anchored: against formulas without any shift in 2,000 bits, derivatives of them, SciPy and PyTorch."""

from __future__ import annotations

import itertools
import math
from typing import Any

import mpmath
import numpy as np
import pytest

from logitx.testing import OPS, Mismatch, assert_matches, grids
from logitx.testing.cases import FLOATS, Case, data, from_rows, generator, rounded, shaped, to_rows
from logitx.testing.covering import pairwise
from logitx.testing.expect import Expected
from logitx.testing.ops import op
from logitx.testing.oracle import (
    CONTEXT,
    log_normalizer,
    log_softmax_row,
    log_softmax_vjp_row,
    merge,
    reduce_row,
    signed_logsumexp_row,
    softmax_row,
    softmax_vjp_row,
)
from logitx.testing.oracle_loss import Settings, cross_entropy_row, grad_hess_row

WIDE = mpmath.mp.clone()
WIDE.prec = 2000
ALL = np.ones(5, dtype=bool)
X = np.array([1.5, -700.25, 3.0, 2.75, 40.0])
KEEP = np.array([True, True, False, True, True])


def _plain_softmax(x: np.ndarray[Any, Any], keep: Any, temperature: float, softcap: float | None) -> list[Any]:
    """Exponentials without a shift, in 2,000 bits."""
    u = [WIDE.mpf(float(one)) for one in x]
    u = u if softcap is None else [softcap * WIDE.tanh(one / softcap) for one in u]
    e = [WIDE.exp(one / WIDE.mpf(temperature)) if good else WIDE.mpf(0) for one, good in zip(u, keep, strict=True)]
    return [one / sum(e) for one in e]


@pytest.mark.parametrize(("temperature", "softcap"), [(1.0, None), (0.3, None), (1.0, 10.0), (2.5, 30.0)])
@pytest.mark.parametrize("keep", [ALL, KEEP], ids=["all", "masked"])
def test_softmax_against_the_definition(temperature: float, softcap: float | None, keep: Any) -> None:
    row = reduce_row(X, keep, temperature, softcap)
    truth = _plain_softmax(X, keep, temperature, softcap)
    for j, (p, log_p) in enumerate(zip(softmax_row(row, "nan"), log_softmax_row(row, "nan"), strict=True)):
        assert abs(WIDE.mpf(p.value) - truth[j]) <= truth[j] * WIDE.mpf(2) ** -200
        if keep[j]:
            assert abs(WIDE.mpf(log_p.value) - WIDE.log(truth[j])) <= -WIDE.log(truth[j]) * WIDE.mpf(2) ** -200
    u = [one if softcap is None else softcap * float(WIDE.tanh(one / softcap)) for one in X]
    total = sum(WIDE.exp(WIDE.mpf(one) / WIDE.mpf(temperature)) for one, good in zip(u, keep, strict=True) if good)
    assert abs(WIDE.mpf(log_normalizer(row, temperature).value) - WIDE.log(total)) < 1e-13


def test_against_scipy() -> None:
    special = pytest.importorskip("scipy.special", reason="scipy is not installed")
    rng = generator("scipy")
    for n in (1, 2, 7, 50):
        x, b = rng.standard_normal(n) * 5, rng.standard_normal(n)
        row, keep = reduce_row(x, np.ones(n, dtype=bool)), np.ones(n, dtype=bool)
        np.testing.assert_allclose([float(p.value) for p in softmax_row(row, "nan")], special.softmax(x), rtol=1e-13)
        log_p = [float(p.value) for p in log_softmax_row(row, "nan")]
        np.testing.assert_allclose(log_p, special.log_softmax(x), rtol=1e-13)
        value, sign = signed_logsumexp_row(x, b, keep)
        np.testing.assert_allclose(
            [float(value.value), float(sign.value)], special.logsumexp(x, b=b, return_sign=True), rtol=1e-11
        )
    assert float(merge(1.0, 2.0).value) == np.logaddexp(1.0, 2.0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_against_torch(weighted: bool, smoothing: float) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = generator("torch")
    x, ids = rng.standard_normal((6, 5)) * 4, np.array([0, 4, -100, 2, 1, -100])
    weight = rng.random(5) + 0.5 if weighted else None
    settings = Settings(class_weight=weight, label_smoothing=smoothing)
    rows = [cross_entropy_row(row, ALL, label, 1.0, 1.0, None, settings) for row, label in zip(x, ids, strict=True)]
    logits = torch.tensor(x, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(
        logits,
        torch.tensor(ids),
        weight=None if weight is None else torch.tensor(weight),
        label_smoothing=smoothing,
        reduction="none",
    )
    losses.sum().backward()
    np.testing.assert_allclose([float(row.loss.value) for row in rows], losses.detach().numpy(), rtol=1e-13)
    gradients = [[float(g.value) for g in row.gradient] for row in rows]
    np.testing.assert_allclose(gradients, logits.grad.numpy(), rtol=1e-11, atol=1e-15)


TARGETS = {"hard": 3, "soft": np.array([0.25, 0.0, 0.5, 0.5, 0.125])}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("weight", [None, np.array([0.5, 2.0, 1.0, 0.25, 3.0])], ids=["", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_gradient_is_the_derivative(target: Any, weight: Any, smoothing: float, z_loss: float) -> None:
    """Central differences with a step of 1e-30, which 240 bits can afford."""
    keep = np.array([True, True, True, True, False])
    settings = Settings(class_weight=weight, label_smoothing=smoothing, z_loss=z_loss)
    x = [CONTEXT.mpf(one) for one in (1.5, -0.25, 3.0, 2.75, 7.0)]
    step = CONTEXT.mpf(10) ** -30
    if isinstance(target, np.ndarray):
        target = target * keep

    def loss(values: list[Any]) -> Any:
        row = np.array(values, dtype=object)
        return cross_entropy_row(row, keep, target, 1.5, 0.7, 5.0, settings)

    for j, exact in enumerate(loss(x).gradient):
        up, down = ([one + sign * step * (i == j) for i, one in enumerate(x)] for sign in (1, -1))
        difference = (loss(up).loss.value - loss(down).loss.value) / (2 * step)
        assert abs(difference - exact.value) < CONTEXT.mpf(10) ** -25


def test_hessian_is_the_second_derivative() -> None:
    weight, x = np.array([0.5, 2.0, 1.0]), [CONTEXT.mpf(one) for one in (1.5, -0.25, 3.0)]
    step = CONTEXT.mpf(10) ** -20

    def gradient(values: list[Any]) -> Any:
        return grad_hess_row(np.array(values, dtype=object), 2, weight, 1.5)

    for j, exact in enumerate(gradient(x)[1]):
        up, down = ([one + sign * step * (i == j) for i, one in enumerate(x)] for sign in (1, -1))
        difference = (gradient(up)[0][j].value - gradient(down)[0][j].value) / (2 * step)
        assert abs(difference - exact.value) < CONTEXT.mpf(10) ** -25


def test_vjps_are_products_with_the_jacobian() -> None:
    rng = generator("jacobian")
    x, dy = rng.standard_normal(5), rng.standard_normal(5)
    p = np.exp(x) / np.exp(x).sum()
    by_hand = (np.diag(p) - np.outer(p, p)) @ dy
    np.testing.assert_allclose([float(g.value) for g in softmax_vjp_row(p, dy)], by_hand, rtol=1e-12)
    by_hand = (np.eye(5) - np.outer(p, np.ones(5))) @ dy
    np.testing.assert_allclose([float(g.value) for g in log_softmax_vjp_row(np.log(p), dy)], by_hand, rtol=1e-12)


# -- what the suite itself is made of ---------------------------------------------------------------------------------

GRIDS = {name: getattr(grids, name) for name in ("SOFTMAX", "LOGSUMEXP", "CROSS_ENTROPY", "GRAD_HESS", "VJP", "MERGE")}


@pytest.mark.parametrize("name", GRIDS)
def test_every_pair_of_levels_occurs(name: str) -> None:
    grid = GRIDS[name]
    rows = pairwise(grid, grids.FORBIDDEN)
    seen = {frozenset(pair) for row in rows for pair in itertools.combinations(row.items(), 2)}
    for one, two in itertools.combinations(grid, 2):
        for a, b in itertools.product(grid[one], grid[two]):
            pair = frozenset(((one, a), (two, b)))
            assert (pair in seen) != (pair in grids.FORBIDDEN), pair
    assert len(rows) <= 80


@pytest.mark.parametrize("name", [row.name for row in OPS])
def test_case_names_are_unique(name: str) -> None:
    names = [(case.dtype, case.name) for case in op(name).cases()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("axes", grids.AXES)
def test_rows_and_back(axes: str) -> None:
    for n in (1,) if axes == "scalar" else (1, 2, 3, 7, 17):
        shape, axis = shaped(axes, n)
        array = np.arange(int(np.prod(shape))).reshape(shape)
        np.testing.assert_array_equal(from_rows(to_rows(array, axis), shape, axis), array)
    shape, axis = shaped("unordered", 7)  # (3, 3, 2) with the classes along (2, 0)
    array = np.arange(18).reshape(shape)
    assert to_rows(array, axis)[1].tolist() == [array[i, 1, j] for j in range(2) for i in range(3)]


@pytest.mark.parametrize("dtype", FLOATS)
def test_rounding(dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    special = [0, -0.0, np.inf, -np.inf, 1e5, 1e39, 1e-9]
    values = np.concatenate([generator(dtype).standard_normal(1000) * 100, special])
    if dtype != "float64":  # both go through float32
        values = rounded(values, "float32")
    there = torch.tensor(values).to(getattr(torch, dtype)).to(torch.float64)
    np.testing.assert_array_equal(rounded(values, dtype), there.numpy())


def _expected(value: float, slack: float = 0.0) -> Expected:
    one = np.array([value])
    return Expected("value", one, np.zeros(1), np.array([slack]), "result", True, np.zeros(1, dtype=np.int64))


@pytest.mark.parametrize(
    ("value", "actual", "fine"),
    [(1.0, 1.0, True), (1.0, 1.0 + 2**-23, False), (1.0, np.nan, False), (1.0, np.inf, False), (0.0, 1e-40, False),
     (0.0, -0.0, True), (np.nan, np.nan, True), (np.nan, 0.0, False), (np.inf, np.inf, True), (np.inf, -np.inf, False),
     (np.inf, np.nan, False), (-np.inf, -1e38, False), (1e-40, 0.0, True), (1e-30, 0.0, False), (1e39, np.inf, True),
     (1e39, -np.inf, False), (1e38, np.inf, False)],
)  # fmt: skip
def test_comparison(value: float, actual: float, fine: bool) -> None:
    def compare() -> None:
        assert_matches(np.array([actual]), "float32", _expected(value), ulps=1, compute="float32", result="float32")

    if fine:
        compare()
    else:
        with pytest.raises(Mismatch, match="1 of 1 entries are wrong"):
            compare()


CANCELLING = [[0.0, 20.0, 20.0], [1.0, 1.0, -1.0]], [[0.0, 0.0, -(2.0**-30)], [1.0, 1.0, -2.0]]


@pytest.mark.parametrize(
    ("row", "actual", "fine"),
    # What cancels at the maximum is not rounded: only the rounding of exp(-20) remains
    [(0, 0.0, True), (0, 1e-6, True), (0, 1e-3, False), (0, -np.inf, False), (0, np.nan, False),
     # exp(-2**-30) is 1 in float32: any sum below its error of 2e-7 may come out, or one below 0
     (1, math.log(2.0**-29), True), (1, -np.inf, True), (1, np.nan, True), (1, -15.0, True), (1, -13.0, False),
     (1, np.inf, False)],
)  # fmt: skip
def test_comparison_of_sums_that_cancel(row: int, actual: float, fine: bool) -> None:
    x, b = (data(one, "float32") for one in CANCELLING[row])
    (truth,) = op("logsumexp").oracle(Case("cancelling", "float32", (x,), {"b": b}))
    try:
        assert_matches(np.array(actual), "float32", truth, ulps=2, compute="float32", result="float32")
    except Mismatch:
        assert not fine
    else:
        assert fine


def test_comparison_of_kind() -> None:
    with pytest.raises(Mismatch, match="dtype is float64"):
        assert_matches(np.ones(1), "float64", _expected(1.0), ulps=1, compute="float32", result="float32")
    with pytest.raises(Mismatch, match="shape is"):
        assert_matches(np.ones((1, 1)), "float32", _expected(1.0), ulps=1, compute="float32", result="float32")
    one_rounding = _expected(1.0, slack=1.0)
    assert_matches(np.array([1 + 2**-23]), "float32", one_rounding, ulps=1, compute="float32", result="float32")
