"""Balanced class weights, for every loss that has class weights and every array type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import TARGETS
from logitx.testing.examples import flat
from logitx.testing.suite import using

RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((40, 6)), RNG.standard_normal((6, 6))
IDS = np.minimum(RNG.integers(0, 20, 40), 4)  # the class 5 does not occur
IDS[3] = -100
SOFT = RNG.random((40, 6)) ** 3
WEIGHTS = lx.balanced_class_weight(IDS, 6)
ARRAYS = [target for target in TARGETS if target.name in (
    "numpy-numba", "numpy-generic", "jax-eager", "jax-jit", "torch-cpu", "torch-grad", "torch-compile", "dask-odd",
    "array-api-strict", "pandas", "xarray", "tensorflow-eager",
)]  # fmt: skip


def test_weights_are_those_of_the_formula() -> None:
    counts = np.bincount(IDS[IDS >= 0], minlength=6)
    np.testing.assert_allclose(WEIGHTS[:5], 39 / (5 * counts[:5]))
    assert WEIGHTS[5] == 0
    np.testing.assert_allclose(WEIGHTS[IDS[IDS >= 0]].mean(), 1)
    assert lx.balanced_class_weight([-100, -100], 2).tolist() == [0, 0]
    assert lx.balanced_class_weight([0, 1, 1], 2, ignore_index=1).tolist() == [1, 0]


def test_scikit_learn_counts_the_same() -> None:
    weights = pytest.importorskip("sklearn.utils.class_weight", reason="scikit-learn is not installed")
    labels = IDS[IDS >= 0]
    peer = weights.compute_class_weight("balanced", classes=np.arange(5), y=labels)
    np.testing.assert_allclose(WEIGHTS[:5], peer)


@pytest.mark.parametrize("target", ARRAYS, ids=lambda target: target.name)
@pytest.mark.parametrize("soft", [False, True], ids=["ids", "probabilities"])
def test_every_loss_takes_balanced_weights(target: Any, soft: bool) -> None:
    if reason := target.absent():
        pytest.skip(reason)
    counts = SOFT.sum(axis=0)
    weights = counts.sum() / (6 * counts) if soft else WEIGHTS
    with target.session(True), using(target.backend):
        x, w = (target.make(one, "float64", "C") for one in (X, W))
        targets = target.make(SOFT, "float64", "C") if soft else target.make(IDS, "int64", "C")
        calls = [(lx.cross_entropy, (x, targets), (X, SOFT if soft else IDS))]
        if target.name not in ("torch-compile", "pandas", "xarray"):
            calls += [
                (lx.cross_entropy_value_and_grad, *calls[0][1:]),
                (lx.linear_cross_entropy, (x, w, targets), (X, W, SOFT if soft else IDS)),
            ]
        for function, args, plain in calls:
            found = target.call(function, args, {"class_weight": "balanced"})
            with lx.use_backend(None):
                right = function(*plain, class_weight=weights)
            for one, two in zip(flat((found,)), flat((right,)), strict=True):
                np.testing.assert_allclose(target.read(one)[0], two, rtol=1e-6)


def test_probabilities_of_several_class_axes() -> None:
    x, t = RNG.standard_normal((3, 4, 5)), RNG.random((3, 4, 5))
    counts = t.sum(axis=1).T.reshape(-1)
    weights = counts.sum() / (15 * counts)
    right = lx.cross_entropy(x, t, (2, 0), class_weight=weights)
    np.testing.assert_allclose(lx.cross_entropy(x, t, (2, 0), class_weight="balanced"), right)
    da = pytest.importorskip("dask.array", reason="Dask is not installed")
    lazy = lx.cross_entropy(da.from_array(x, 2), da.from_array(t, 2), (2, 0), class_weight="balanced")
    np.testing.assert_allclose(lazy.compute(), right)


def test_boosting_takes_balanced_weights() -> None:
    labels = np.where(IDS < 0, 0, IDS)
    found = lx.cross_entropy_grad_hess(X, labels, class_weight="balanced")
    right = lx.cross_entropy_grad_hess(X, labels, class_weight=lx.balanced_class_weight(labels, 6))
    np.testing.assert_array_equal(found, right)


def test_errors() -> None:
    with pytest.raises(ValueError, match="^class_weight: 'equal' is not allowed; allowed are None, 'balanced' and one"):
        lx.cross_entropy(X, IDS, class_weight="equal")
    with pytest.raises(ValueError, match="^class_weight: 'balanced' is not allowed for data in pieces"):
        lx.CrossEntropy(class_weight="balanced")
    with pytest.raises(TypeError, match="^labels: dtype float64 is not allowed"):
        lx.balanced_class_weight(X, 3)
    with pytest.raises(ValueError, match="^n: 0 is not allowed"):
        lx.balanced_class_weight(IDS, 0)
