"""Every function on every kind of array: the shipped suite, without the cells that prove again what others prove."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from logitx.testing import Cell, cells
from logitx.testing.test_conformance import pytestmark
from logitx.testing.test_conformance import test_conformance as check_cell

__all__ = ["pytestmark"]


def is_seldom(cell: Cell) -> bool:
    """Whether a cell is left to `nox -s slow`, because a faster one runs the same code.

    Compiling programs takes the time. Eager calls of JAX run the jitted ones: other dtypes than float32 are checked
    under jax-jit. What PyTorch compiles are operators that run the kernels of torch-cpu, or the formulas of
    torch-generic, in any dtype. Layers read halves as float32 before anything else. A block of Dask is a call on a
    NumPy array, and what is merged is float32: float16 stands for bfloat16.
    """
    name, dtype = cell.target.name, cell.dtype
    if name in ("jax-eager", "torch-compile"):
        return dtype != "float32"
    if name == "jax-jit":
        return dtype == "bfloat16" or (dtype == "float16" and cell.op.name.startswith("linear"))
    return name.startswith("dask") and dtype == "bfloat16"


@pytest.mark.parametrize(
    "cell", [pytest.param(cell, id=cell.id, marks=pytest.mark.slow if is_seldom(cell) else ()) for cell in cells()]
)
def test_conformance(cell: Cell, record_property: Callable[[str, object], None]) -> None:
    check_cell(cell, record_property)
