"""Outputs whose elements share memory are refused; all others are written to, however they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

X = np.array([[0.0, 1.0], [1.0, 0.0]])
strided = np.lib.stride_tricks.as_strided


@pytest.mark.parametrize("function", [lx.softmax, lx.log_softmax])
@pytest.mark.parametrize("strides", [(0, 8), (8, 8), (0, 0), (4, 8), (8, 0)])
def test_outputs_that_overlap_themselves(function: Any, strides: tuple[int, int]) -> None:
    memory = np.full(16, 7.0)
    for _ in range(2):  # the second call would be prepared
        with pytest.raises(ValueError, match="out: its elements share memory"):
            function(X, out=strided(memory, (2, 2), strides))
    assert np.all(memory == 7.0)
    function(X, out=np.empty_like(X))
    with pytest.raises(ValueError, match="out: its elements share memory"):
        function(X, out=strided(memory, (2, 2), strides))


def test_other_outputs_that_overlap_themselves() -> None:
    with pytest.raises(ValueError, match="out: its elements share memory"):
        lx.logsumexp(X, out=strided(np.zeros(2), (2,), (0,)))
    itself = strided(np.zeros(2), (2, 2), (0, 8))
    with pytest.raises(ValueError, match="out: its elements share memory"):
        lx.softmax(itself, out=itself)


@pytest.mark.parametrize("strides", [(8, 16), (16, 8), (24, 16), (16, 24), (-16, 8), (64, -8), (40, 56)])
def test_outputs_of_any_strides(strides: tuple[int, int]) -> None:
    out = np.ndarray((2, 2), np.float64, np.zeros(64), 256, strides)
    assert lx.softmax(X, out=out) is out
    np.testing.assert_array_equal(out, lx.softmax(X))


def test_outputs_of_tensors() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.tensor(X)
    with pytest.raises(ValueError, match="out: its elements share memory"):
        lx.softmax(x, out=torch.zeros(1, 2, dtype=torch.float64).expand(2, 2))
    out = torch.zeros(2, 4, dtype=torch.float64)[:, ::2]
    torch.testing.assert_close(lx.softmax(x, out=out), lx.softmax(x))
