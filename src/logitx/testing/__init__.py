"""The conformance suite of logitx, shipped so that anyone can prove a backend or an array type.

Two tables make it. `OPS` has a row for every function: its cases, its oracle in extended precision, its error budget.
`TARGETS` has a row for every kind of array and way to call: how such an array is made, read back, and given to a
function. Their product, dtype by dtype, is the list of tests. It needs the extra ``logitx[testing]`` (pytest, mpmath)::

    python -m pytest --pyargs logitx.testing
    python -m pytest --pyargs logitx.testing -k "softmax and jax-jit"

The cases of a function hold every *pair* of levels of its options, among them dtypes, axes, odd sizes, memory layouts
and values, since that is where bugs live; and rows of special values, each with a name. A failure says which case and
which row, what came out, what should have, and how far that is in units of the error that is allowed.

**To prove another backend**, register it, copy the row of a target, name the backend, and check every cell::

    import dataclasses
    import pytest
    from logitx.testing import TARGETS, cells, check

    numpy_target = next(target for target in TARGETS if target.name == "numpy-generic")
    mine = dataclasses.replace(numpy_target, name="numpy-mine", backend="mine")

    @pytest.mark.parametrize("cell", cells([mine]), ids=lambda cell: cell.id)
    def test_mine(cell):
        assert not check(cell).failures

**To prove another array type**, write a `Target` of your own: ``make``, ``read``, ``dtype``, ``default_float``,
``problem`` and ``is_array`` are the six functions that differ. What the array type does not have, a dtype say, is
named with its reason in ``missing``.
"""

from logitx.testing.cases import Case, Data
from logitx.testing.compare import Mismatch, assert_matches
from logitx.testing.ops import OPS, Op
from logitx.testing.suite import Cell, Failure, Report, cells, check, check_case
from logitx.testing.targets.table import TARGETS
from logitx.testing.targets.target import Target

__all__ = [
    "OPS",
    "TARGETS",
    "Case",
    "Cell",
    "Data",
    "Failure",
    "Mismatch",
    "Op",
    "Report",
    "Target",
    "assert_matches",
    "cells",
    "check",
    "check_case",
]
