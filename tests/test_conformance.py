"""Every function on every kind of array: the shipped suite, without the cells that prove again what others prove."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from logitx.testing import OPS, Cell, cells
from logitx.testing.cases import Case
from logitx.testing.suite import cases_of
from logitx.testing.test_conformance import check_cell, pytestmark

__all__ = ["pytestmark"]


def is_seldom(cell: Cell) -> bool:
    """Whether a cell is left to `nox -s slow`, because a faster one runs the same code.

    Compiling takes the time. Kernels read and write halves by the same few functions, so that every function is checked
    in one of both: float16 and bfloat16 take turns; and so do float16 and float64 in programs of JAX, where booleans
    become floats as integers do. Eager calls of JAX run the jitted ones: other dtypes than float32 are checked under
    jax-jit. What PyTorch compiles are operators that run the kernels of torch-cpu, or the formulas of torch-generic, in
    any dtype. Layers read halves as float32 before anything else. A block of Dask is a call on a NumPy array, and what
    is merged is float32: float16 stands for bfloat16.
    """
    name, dtype, turn = cell.target.name, cell.dtype, OPS.index(cell.op) % 2
    if name in ("jax-eager", "torch-compile"):
        return dtype != "float32"
    if name == "jax-jit":
        return dtype in ("bfloat16", "bool") or dtype == ("float16", "float64")[turn]
    if name == "numpy-numba":
        return dtype == ("float16", "bfloat16")[turn]
    return name.startswith("dask") and dtype == "bfloat16"


# (k, m): of the many cases with special values, these targets run those numbered k modulo m, `nox -s slow` runs all:
# values change nothing of a graph that PyTorch compiles, and eager calls of JAX run the jitted ones.
ONE_OF = {"jax-jit": (0, 2), "jax-eager": (1, 8), "torch-compile": (3, 8)}


def some_cases(cell: Cell) -> list[Case]:
    """Return the cases that are run here: all, but of those that only special values tell from others, a share."""
    share, of = ONE_OF.get(cell.target.name, (0, 1))
    special = [case for case in cases_of(cell) if case.special]
    left_out = {id(case) for i, case in enumerate(special) if i % of != share}
    return [case for case in cases_of(cell) if id(case) not in left_out]


@pytest.mark.parametrize(
    "cell", [pytest.param(cell, id=cell.id, marks=pytest.mark.slow if is_seldom(cell) else ()) for cell in cells()]
)
def test_conformance(cell: Cell, record_property: Callable[[str, object], None]) -> None:
    check_cell(cell, record_property, some_cases(cell))


@pytest.mark.slow
@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.id) for cell in cells() if cell.target.name in ONE_OF])
def test_all_special_values(cell: Cell, record_property: Callable[[str, object], None]) -> None:
    check_cell(cell, record_property)
