"""Every function on every kind of array: the shipped suite, without the cells that prove again what others prove."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from logitx.testing import Cell, cells
from logitx.testing.test_conformance import pytestmark
from logitx.testing.test_conformance import test_conformance as check_cell

__all__ = ["pytestmark"]

HALVES = ("float16", "bfloat16")


def is_seldom(cell: Cell) -> bool:
    """Whether a cell is left to `nox -s slow`, because a faster one runs the same code.

    Eager calls of JAX run the jitted programs, and compiling these takes the time: halves are checked under jax-jit.
    Layers make a program for each case, and read halves as float32 before anything else. A block of Dask is a call on
    a NumPy array, and what is merged is float32: float16 stands for bfloat16.
    """
    name, dtype = cell.target.name, cell.dtype
    layer = cell.op.name.startswith("linear")
    if name == "jax-eager" or (name == "jax-jit" and layer):
        return dtype in HALVES or (layer and dtype == "float64" and name == "jax-eager")
    return name.startswith("dask") and dtype == "bfloat16"


@pytest.mark.parametrize(
    "cell", [pytest.param(cell, id=cell.id, marks=pytest.mark.slow if is_seldom(cell) else ()) for cell in cells()]
)
def test_conformance(cell: Cell, record_property: Callable[[str, object], None]) -> None:
    check_cell(cell, record_property)
