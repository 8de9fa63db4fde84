"""Every kernel once: on NumPy arrays, examples of all functions give what the formulas give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import OPS
from logitx.testing.cases import NDArray
from logitx.testing.examples import Inputs
from logitx.testing.ops import Use

pytest.importorskip("numba", reason="Numba is not installed")


def single(values: NDArray) -> Any:
    return values.astype(np.float32) if values.dtype.kind == "f" else values


@pytest.mark.parametrize("use", [Use(op, one) for op in OPS for one in op.examples], ids=lambda use: use.id)
def test_kernels_give_what_the_formulas_give(use: Use) -> None:
    function, given = use.bound(Inputs.draw(6, 40), single)
    found = function(*given)
    with lx.use_backend("generic"):
        right = function(*given)
    for one, other in zip(found, right, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)
