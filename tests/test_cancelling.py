"""Numbers that cancel: weights that add up to 0 in some classes of a row, factors that do for its largest logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

X = np.array([[0.0, 1.0, 2.0, 0.5], [3.0, -1.0, 0.0, 0.5], [0.0, 0.0, 1.0, 1.0]])
WEIGHTS = np.array([-1.0, 1.0, 3.0, -2.0])
SHARES = np.array([[0.5, 0.5, 0.2, 0.1], [0.25, 0.25, 0.1, 0.4], [0.0, 0.0, 0.5, 0.5]])
MASK = np.array([[True, True, True, True], [True, True, False, True], [True, True, True, False]])


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("where", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize(
    ("targets", "smoothing"), [(SHARES, 0.0), (SHARES, 0.3), (np.array([2, 0, 3]), 0.3), (np.array([2, 0, 3]), 0.0)]
)
@pytest.mark.parametrize("chunks", [(2, 2), (3, (2, 1, 1)), (1, 1)])
def test_class_weights_that_add_up_to_0_in_a_chunk(
    chunks: Any, targets: np.ndarray, smoothing: float, where: Any, reduction: str
) -> None:
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    if where is not None and targets is SHARES:
        targets = np.where(where, targets, 0.0)  # else the loss is infinite
    options = {"class_weight": WEIGHTS, "label_smoothing": smoothing, "where": where, "reduction": reduction}
    want = lx.cross_entropy_value_and_grad(X, targets, **options)
    x = da.from_array(X, chunks=chunks)
    found = lx.cross_entropy_value_and_grad(x, targets, **options)
    alone = lx.cross_entropy(x, targets, **options)
    np.testing.assert_allclose(alone.compute(), want[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found[0].compute(), want[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found[1].compute(), want[1], rtol=1e-12, atol=1e-14)
