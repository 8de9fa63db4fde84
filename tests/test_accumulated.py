"""Accumulators: rows without a highest logit, dtypes that NumPy lacks, and perplexities up to the largest float."""

from __future__ import annotations

import math

import numpy as np
import pytest

import logitx as lx
from logitx.testing import TARGETS, Target

EAGER = [target for target in TARGETS if target.name not in ("torch-compile", "torch-vmap", "jax-jit")]
EAGER = [target for target in EAGER if target.name != "tensorflow-graph"]
INF, NAN = math.inf, math.nan

# A row, its label, the mask, and whether the label has the highest logit
ROWS = [
    ([NAN, 1.0], 0, None, False), ([NAN, NAN], 0, None, False), ([NAN, 1.0], 1, None, False),
    ([-INF, -INF], 0, None, False), ([0.0, -INF], 0, [False, True], False), ([NAN, 1.0], 1, [False, True], True),
    ([INF, 1.0], 0, None, True), ([INF, 1.0], 1, None, False), ([200.0, -200.0], 0, None, True),
    ([1.0, 1.0], 0, None, True), ([1.0, 1.0], 1, None, False), ([0.0, -INF], 0, None, True),
]  # fmt: skip


@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_accuracy_is_top_1_accuracy(target: Target) -> None:
    if reason := target.absent():
        pytest.skip(reason)
    for row, label, where, hit in ROWS:
        mask = None if where is None else np.array([where])
        for empty in ("nan", "zero"):
            with target.session(False):
                x = target.make(np.array([row]), "float32", "C")
                result = lx.CrossEntropy(top_k=1, empty=empty).update(x, [label], where=mask).result()
            assert (result.accuracy, result.top_k_accuracy) == (hit, hit), (row, label, where)


@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_top_k_of_every_array_type(target: Target) -> None:
    if reason := target.absent():
        pytest.skip(reason)
    with target.session(False):
        x = target.make(np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]), "float32", "C")
        for ids in (np.array([1, 0]), np.array([1, 0], np.int8)):
            assert lx.CrossEntropy(top_k=2).update(x, ids).result().top_k_accuracy == 0.5


def test_weights_and_options_of_bfloat16() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, ids, weight = torch.zeros(2, 2), torch.tensor([0, 1]), torch.ones(2, dtype=torch.bfloat16)
    heat = torch.tensor(2.0, dtype=torch.bfloat16)
    for total in (
        lx.CrossEntropy().update(x, ids, sample_weight=weight),
        lx.CrossEntropy(class_weight=weight).update(x, ids),
        lx.CrossEntropy().feed(x, ids, sample_weight=weight),
        lx.CrossEntropy(temperature=heat).merge(lx.CrossEntropy(temperature=heat).update(x, ids)),
        lx.CrossEntropy().update(x.to(torch.bfloat16), ids),
        lx.CrossEntropy().update(x, torch.full((2, 2), 0.5, dtype=torch.bfloat16)),
    ):
        assert math.isclose(total.result().loss, math.log(2.0), rel_tol=1e-6)
    with pytest.raises(ValueError, match="other: has another temperature"):
        lx.CrossEntropy(temperature=heat).merge(lx.CrossEntropy(temperature=heat + 1.0))


@pytest.mark.parametrize("loss", [0.0, 709.5, 709.78, 710.0, NAN])
def test_perplexity_to_the_largest_float(loss: float) -> None:
    result = lx.CrossEntropy().update(np.array([[0.0, loss, -INF]]), [0]).result()
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(result.perplexity, np.exp(np.logaddexp(0.0, loss)), rtol=1e-12)
