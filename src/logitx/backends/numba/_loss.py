"""What the two cross-entropy kernels share: the weights of rows, their sum, and the special rows of a loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba._compile import primitive
from logitx.backends.numba._lanes import any_of, cast, fma, fold_sum, is_nan, lane, select, spread, width
from logitx.backends.numba._memory import given
from logitx.backends.numba._rows import emit
from logitx.backends.numba._storage import class_id, read_one, write
from logitx.backends.numba._tiles import missing, place_one, reserve, take_one

NONE, SUM, MEAN = range(3)
LOSS, Z_LOSS, SHARE, BAD = range(4)  # columns of what a block reports; BAD is the row of a bad label plus 1


COLUMNS = 4


class Row(NamedTuple):
    """The reduction of the rows of a panel, a number a lane."""

    top: Any
    rest: Any
    lost: Any  # of rest, when it was rounded
    log_sum: Any
    log_z: Any  # log of the normalizer


@primitive
def label_of(labels: Any, row: int, n: int, ignoring: bool, ignored: int) -> Any:
    """Return (label, good): good is 1 for a class, 0 for an ignored row, -1 for what is neither."""
    label = class_id(labels, row)
    if ignoring and label == ignored:
        return label, 0
    return label, 1 if 0 <= label < n else -1


@primitive
def entry(source: Any, g: Any, row: int, j: int, tile: Any) -> Any:
    """Return one entry of an array of the shape of the logits."""
    o, i = row // g.inner, row % g.inner
    return read_one(source, o * source.outer_stride + j * source.n_stride + i * source.inner_stride, tile)


@primitive
def all_masked(where: Any, g: Any, row: int, tile: Any) -> bool:
    """Tell whether a row has no class left."""
    if not given(where):
        return False
    for j in range(g.n):  # noqa: SIM110  Numba has no `all` of a generator
        if entry(where, g, row, j, tile) != 0.0:
            return False
    return True


@primitive
def place_in_panel(j: int, i: int, tile: Any, across: Any) -> Any:
    """Return where in a panel class j of row i is."""
    if across is None:
        return j * width(tile) + i
    return j


@primitive
def settle(value: Any, share: Any, rest: Any, undefined: float) -> Any:
    """Put the loss of special rows in place: with a NaN or +inf, with nothing that counts, with no weight."""
    zero = spread(value, 0.0)
    value = select(rest == rest, value, rest)
    value = select(rest < zero, spread(value, undefined), value)
    return select(share == zero, zero, value)


@primitive
def finish_loss(
    reports: Any, block: int, row: Any, terms: Any, weight: Any, share: Any, z_loss: float, undefined: float,
    reduction: int, loss: Any, z_part: Any, first: int, count: int,
) -> None:  # fmt: skip
    """Write and add up the losses of a panel: weight * terms + share * z_loss * log_z**2."""
    z = spread(terms, 0.0)
    value = weight * terms
    if z_loss != 0.0:
        z = settle(share * spread(terms, z_loss) * (row.log_z * row.log_z), share, row.rest, undefined)
        value = value + z
    value = settle(value, share, row.rest, undefined)
    if reduction == NONE:
        emit(loss, first, count, value)
        emit(z_part, first, count, z)
    report(reports, block, LOSS, total(value))
    report(reports, block, Z_LOSS, total(z))
    report(reports, block, SHARE, total(share))


@primitive
def zero_dead(tile: Any, base: int, g: Any, share: Any, rest: Any, x: Any, row: int, count: int, across: Any) -> None:
    """In the gradient of rows with a NaN or +inf, which is NaN, put 0 where a logit is -inf."""
    if not any_of(is_nan(rest)):
        return
    for i in range(count):
        if lane(rest, i) != lane(rest, i) and lane(share, i) != 0.0:
            for j in range(g.n):
                if entry(x, g, row + i, j, tile) == -np.inf:
                    place_one(tile, base + place_in_panel(j, i, tile, across), cast(0.0, tile))


@primitive
def log_z_of(top: Any, log_sum: Any, scale: Any) -> Any:
    """Return the logarithm of the normalizer of a row with plain numbers."""
    return fma(top, scale.high, fma(top, scale.low, log_sum))


@primitive
def total(value: Any) -> float:
    """Return the sum over the rows of a panel."""
    folded: float = fold_sum(value, spread(value, 0.0))
    return folded


@primitive
def blank_reports(blocks: int, like: Any) -> Any:
    """Return room for the reports of all blocks, in float64, as `like` is."""
    reports = reserve(COLUMNS * blocks, like)
    if not missing(reports):
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
    at = COLUMNS * block + BAD
    if row >= 0 and take_one(reports, at) == 0.0:
        place_one(reports, at, row + 1.0)


@primitive
def settle_all(reports: Any, blocks: int, loss: Any, z_part: Any, reduction: int, undefined: float) -> int:
    """Write the sum or mean over all blocks, added in order; return the first row with a bad label or -1."""
    loss_sum, z_sum, share = 0.0, 0.0, 0.0
    for block in range(blocks):
        bad = take_one(reports, COLUMNS * block + BAD)
        if bad > 0.0:
            return int(bad) - 1
        loss_sum += take_one(reports, COLUMNS * block + LOSS)
        z_sum += take_one(reports, COLUMNS * block + Z_LOSS)
        share += take_one(reports, COLUMNS * block + SHARE)
    if reduction == MEAN:
        loss_sum = loss_sum / share if share != 0.0 else undefined
        z_sum = z_sum / share if share != 0.0 else undefined
    if reduction != NONE:
        write(loss, 0, loss_sum)
        if given(z_part):
            write(z_part, 0, z_sum)
    return -1
