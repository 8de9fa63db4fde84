"""What the two cross-entropy kernels share: the weights of rows, their sum, and the special rows of a loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba._compile import primitive
from logitx.backends.numba._lanes import any_of, fma, fold_sum, lane, select, spread, width
from logitx.backends.numba._rows import emit
from logitx.backends.numba._storage import read_one, write

NONE, SUM, MEAN = range(3)
LOSS, Z_LOSS, SHARE, BAD = range(4)  # columns of what a block reports; BAD is the row of a bad label plus 1
ALL = SHARE  # the last report holds the sum of shares, where the gradient needs it first


class Row(NamedTuple):
    """The reduction of the rows of a panel, a number a lane."""

    top: Any
    rest: Any
    log_sum: Any
    log_z: Any  # log of the normalizer


@primitive
def label_of(labels: Any, row: int, n: int, ignoring: bool, ignored: int) -> Any:
    """Return (label, good): good is 1 for a class, 0 for an ignored row, -1 for what is neither."""
    label = labels[row]
    if ignoring and label == ignored:
        return label, 0
    return label, 1 if 0 <= label < n else -1


@primitive
def entry(source: Any, g: Any, row: int, j: int, tile: Any) -> Any:
    """Return one entry of an array of the shape of the logits."""
    o, i = row // g.inner, row % g.inner
    return read_one(source, o * source.strides[0] + j * source.strides[1] + i * source.strides[2], tile)


@primitive
def all_masked(where: Any, g: Any, row: int, tile: Any) -> bool:
    """Tell whether a row has no class left."""
    if where.size == 0:
        return False
    for j in range(g.n):  # noqa: SIM110  Numba has no `all` of a generator
        if entry(where, g, row, j, tile) != 0.0:
            return False
    return True


@primitive
def settle(value: Any, share: Any, rest: Any, undefined: float) -> Any:
    """Put the loss of special rows in place: with a NaN or +inf, with nothing that counts, with no weight."""
    zero = spread(value, 0.0)
    value = select(rest == rest, value, rest)
    value = select(rest < zero, spread(value, undefined), value)
    return select(share == zero, zero, value)


@primitive
def finish(
    report: Any, row: Any, g: Any, terms: Any, weight: Any, share: Any, z_loss: float, undefined: float, reduction: int,
    loss: Any, z_part: Any, first: int, count: int,
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
    report[LOSS] += total(value, g.across)
    report[Z_LOSS] += total(z, g.across)
    report[SHARE] += total(share, g.across)


@primitive
def zero_dead(tile: Any, base: int, g: Any, share: Any, rest: Any, x: Any, row: int, count: int) -> None:
    """In the gradient of rows with a NaN or +inf, which is NaN, put 0 where a logit is -inf."""
    zero = spread(tile, 0.0)
    if not any_of(select(rest == rest, zero, spread(tile, 1.0)) > zero):
        return
    for i in range(count):
        if lane(rest, i) != lane(rest, i) and lane(share, i) != 0.0:
            for j in range(g.n):
                if entry(x, g, row + i, j, tile) == -np.inf:
                    tile[base + (j if g.across else j * width(tile) + i)] = 0.0


@primitive
def log_z_of(top: Any, log_sum: Any, scale: Any) -> Any:
    """Return the logarithm of the normalizer of a row with plain numbers."""
    return fma(top, scale.high, fma(top, scale.low, log_sum))


@primitive
def total(value: Any, across: bool) -> float:
    """Return the sum over the rows of a panel; across, every lane tells of the same row."""
    if across:
        return float(lane(value, 0))
    folded: float = fold_sum(value, spread(value, 0.0))
    return folded


@primitive
def settle_all(reports: Any, blocks: int, loss: Any, z_part: Any, reduction: int, undefined: float) -> int:
    """Write the sum or mean over all blocks, added in order; return the first row with a bad label or -1."""
    loss_sum, z_sum, share = 0.0, 0.0, 0.0
    for block in range(blocks):
        if reports[block, BAD] > 0.0:
            return int(reports[block, BAD]) - 1
        loss_sum += reports[block, LOSS]
        z_sum += reports[block, Z_LOSS]
        share += reports[block, SHARE]
    if reduction == MEAN:
        loss_sum = loss_sum / share if share != 0.0 else undefined
        z_sum = z_sum / share if share != 0.0 else undefined
    if reduction != NONE:
        write(loss, 0, loss_sum)
        if z_part.size > 0:
            write(z_part, 0, z_sum)
    return -1
