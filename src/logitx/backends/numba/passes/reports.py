"""Reports: what each block adds to a loss, its z-loss and its denominator, and the total of all."""

from __future__ import annotations

from typing import Any

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import given
from logitx.backends.numba.memory.load_store import write_back
from logitx.backends.numba.memory.scratch import is_missing, place_one, reserve, take_one

NONE, SUM, MEAN = range(3)


LOSS_SUM, Z_LOSS_SUM, SHARE_SUM, BAD_ROW = range(
    4
)  # columns of what a block reports; BAD is the row of a bad label plus 1


COLUMNS = 4


@primitive
def blank_reports(blocks: int, like: Any) -> Any:
    """Return room for the reports of all blocks, in float64, as `like` is."""
    reports = reserve(COLUMNS * blocks, like)
    if not is_missing(reports):
        for i in range(COLUMNS * blocks):
            place_one(reports, i, 0.0)
    return reports


@primitive
def report(reports: Any, block: int, column: int, value: float) -> None:
    """Add to what a block reports."""
    at = COLUMNS * block + column
    place_one(reports, at, take_one(reports, at) + value)


@primitive
def report_bad(reports: Any, block: int, row: int) -> None:
    """Report the first row with a bad label; -1 for none."""
    at = COLUMNS * block + BAD_ROW
    if row >= 0 and take_one(reports, at) == 0.0:
        place_one(reports, at, row + 1.0)


@primitive
def mean_factor(share: float) -> float:
    """Return what a mean multiplies gradients by, if the shares of all rows add up to `share`."""
    return 1.0 / share if share != 0.0 else 0.0


@primitive
def settle_all(reports: Any, blocks: int, losses: Any) -> int:
    """Write the sum or mean over all blocks, added in order; return the first row with a bad label or -1."""
    loss_sum, z_sum, share = 0.0, 0.0, 0.0
    for block in range(blocks):
        bad = take_one(reports, COLUMNS * block + BAD_ROW)
        if bad > 0.0:
            return int(bad) - 1
        loss_sum += take_one(reports, COLUMNS * block + LOSS_SUM)
        z_sum += take_one(reports, COLUMNS * block + Z_LOSS_SUM)
        share += take_one(reports, COLUMNS * block + SHARE_SUM)
    if losses.reduction == MEAN:
        loss_sum = loss_sum / share if share != 0.0 else losses.undefined
        z_sum = z_sum / share if share != 0.0 else losses.undefined
    if losses.reduction != NONE:
        write_back(losses.loss, 0, loss_sum)
        if given(losses.z_part):
            write_back(losses.z_part, 0, z_sum)
    return -1
