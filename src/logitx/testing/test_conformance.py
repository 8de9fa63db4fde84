"""The conformance suite as tests: one for every function x target x dtype, named so."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from logitx.testing.cases import Case
from logitx.testing.suite import Cell, cells, check

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.id) for cell in cells()])
def test_conformance(cell: Cell, record_property: Callable[[str, object], None]) -> None:
    """Every case of the cell gives what the oracle says, in the right kind of array."""
    check_cell(cell, record_property)


def check_cell(cell: Cell, record_property: Callable[[str, object], None], cases: Iterable[Case] | None = None) -> None:
    """Fail with the cases of a cell that are wrong, of all or of some."""
    record_property("cell", cell.id)
    record_property("target", cell.target.name)
    reason = cell.target.absent(cell.dtype)
    if reason is not None:
        record_property("reason", reason)
        pytest.skip(reason)
    report = check(cell, cases)
    record_property("cases", report.cases)
    record_property("declined", report.declined)
    if report.failures:
        lines = [f"{failure.case}\n    {failure.message}" for failure in report.failures]
        pytest.fail(f"{len(lines)} of {report.cases} cases of {cell.id} fail:\n" + "\n".join(lines), pytrace=False)
