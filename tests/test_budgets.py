"""The budgets of errors have teeth: a result that is a little off is noticed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import OPS, TARGETS, Cell, Op, check
from logitx.testing.ops import expected

TARGET = next(target for target in TARGETS if target.name == "numpy-generic")


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_a_result_that_is_a_little_off_is_noticed(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each result in its turn, by a thousandth of its largest entry; functions that call others have this alone."""
    function, cell = getattr(lx, op.name), Cell(op, TARGET, "float32")
    cases = [case for case in op.cases("float32") if not case.special and "values=poison" not in case.name]
    count = max(len(expected(op, case)) for case in cases)
    for position in range(count):

        def off(*args: Any, position: int = position, **options: Any) -> Any:
            seen = itertools.count()

            def changed(one: Any) -> Any:
                if isinstance(one, tuple):
                    return tuple([changed(each) for each in one])
                if one is None or next(seen) != position:
                    return one
                largest = np.abs(one[np.isfinite(one)]).max(initial=0)
                return one + (largest / 1000).astype(one.dtype)

            return changed(function(*args, **options))

        monkeypatch.setattr(lx, op.name, off)
        assert check(cell, cases).failures, f"result {position}"
    monkeypatch.undo()
    assert not check(cell, cases).failures
