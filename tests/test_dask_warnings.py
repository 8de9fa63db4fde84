"""Dask blocks give no warning: not of JAX without float64, not of sums that are beyond the dtype of the loss.

Warnings are errors here, as in every test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

da = pytest.importorskip("dask.array", reason="Dask is not installed")

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
IDS = np.array([0, 1, 2, 3, 0, 1], np.int32)
SOFT = lx.softmax(X[::-1])
OPTIONS = {
    "class_weight": np.arange(1, 5, dtype=np.float32),
    "sample_weight": np.arange(1, 7, dtype=np.float32),
    "where": X > -1,
}


def blocks_of_jax(x: np.ndarray, rows: int, classes: int) -> Any:
    jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    chunks = (rows, classes) if x.shape == X.shape else (rows if x.shape == (6,) else classes,)
    return da.from_array(x, chunks=chunks).map_blocks(jnp.asarray, dtype=x.dtype)


@pytest.mark.parametrize("names", [(), ("sample_weight",), ("class_weight", "where"), tuple(OPTIONS)], ids=str)
@pytest.mark.parametrize("lazy", [False, True], ids=["plain options", "options of JAX"])
@pytest.mark.parametrize("targets", [IDS, SOFT], ids=["ids", "probabilities"])
@pytest.mark.parametrize("classes", [4, 2], ids=["whole rows", "cut rows"])
def test_losses_of_blocks_of_jax(classes: int, targets: np.ndarray, lazy: bool, names: tuple[str, ...]) -> None:
    options = {name: OPTIONS[name] for name in names}
    given = {name: blocks_of_jax(one, 3, classes) if lazy else one for name, one in options.items()}
    x, labels = blocks_of_jax(X, 3, classes), blocks_of_jax(targets, 3, classes)
    for reduction in ("mean", "none"):
        found = lx.cross_entropy_value_and_grad(x, labels, reduction=reduction, **given)
        expected = lx.cross_entropy_value_and_grad(X, targets, reduction=reduction, **options)
        for one, two in zip(found, expected, strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one.compute(), two, rtol=1e-5, atol=1e-6)


def test_layers_of_blocks_of_jax() -> None:
    weight = np.eye(5, 4, dtype=np.float32)
    expected, (_, dweight, _) = lx.linear_cross_entropy_value_and_grad(X, weight, IDS)
    found, gradients = lx.linear_cross_entropy_value_and_grad(blocks_of_jax(X, 3, 4), weight, IDS)
    np.testing.assert_allclose(found.compute(), expected, rtol=1e-6)
    np.testing.assert_allclose(gradients[1].compute(), dweight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("reduction", "options"),
    [
        ("sum", {}), ("mean", {}), ("none", {}), ("sum", {"z_loss": 1.0}), ("mean", {"z_loss": 1.0}),
        ("none", {"z_loss": 1.0}), ("sum", {"sample_weight": np.full(4, 3.0)}),
        ("none", {"sample_weight": np.full(4, 3.0)}),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("classes", [3, 2], ids=["whole rows", "cut rows"])
def test_losses_beyond_the_largest_float32_are_inf(classes: int, options: dict[str, Any], reduction: str) -> None:
    x = np.zeros((4, 3), np.float32)
    x[:, 0] = 3e38
    loss = lx.cross_entropy(da.from_array(x, chunks=(2, classes)), np.ones(4, int), reduction=reduction, **options)
    wide = lx.cross_entropy(x.astype(np.float64), np.ones(4, int), reduction=reduction, **options)
    np.testing.assert_allclose(loss.compute(), np.where(wide < 3.4e38, wide, np.inf), rtol=1e-6)
