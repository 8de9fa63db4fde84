"""What the two cross-entropy kernels share: the weights of rows, their sum, and the special rows of a loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.scratch import place_one, store
from logitx.backends.numba.passes.class_ids import CHANGE, LABEL_SHARE, LOGIT, entry, known_of, place_in_panel
from logitx.backends.numba.passes.finish import Gradient
from logitx.backends.numba.passes.reduce import emit, inverse_of_sum, normalizer
from logitx.backends.numba.passes.reports import LOSS, NONE, SHARE, Z_LOSS, report
from logitx.backends.numba.passes.scaling import exponent
from logitx.backends.numba.vectors.exp_log import exp, log1p
from logitx.backends.numba.vectors.lanes import any_of, cast, fma, fold_sum, is_nan, lane, select, spread, width


class Row(NamedTuple):
    """The reduction of the rows of a panel, a number a lane."""

    top: Any
    rest: Any
    lost: Any  # of rest, when it was rounded
    log_sum: Any
    log_z: Any  # log of the normalizer


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
def hand_in(
    facts: Any, top: Any, rest: Any, nans: Any, scale: Any, z_loss: float, undefined: float, reduction: int, loss: Any,
    z_part: Any, log_normalizer: Any, reports: Any, block: int, row: int, count: int, across: Any,
) -> Any:  # fmt: skip
    """Write and add up the losses of rows whose sums are as good as one number can hold them."""
    return _hand_in(
        facts, top, rest, spread(rest, 0.0), nans, scale, z_loss, undefined, reduction, loss, z_part, log_normalizer,
        reports, block, row, count, across,
    )  # fmt: skip


@primitive
def _hand_in(
    facts: Any, top: Any, rest: Any, lost: Any, nans: Any, scale: Any, z_loss: float, undefined: float, reduction: int,
    loss: Any, z_part: Any, log_normalizer: Any, reports: Any, block: int, row: int, count: int, across: Any,
) -> Any:  # fmt: skip
    """Write and add up the losses of rows that have been reduced, to rest + lost."""
    log_sum = log1p(rest, lost)
    reduced = Row(top, rest, lost, log_sum, log_z_of(top, log_sum, scale))
    emit(log_normalizer, row, count, normalizer(top, rest, nans, reduced.log_z))
    v, _ = exponent(known_of(facts, LOGIT, across), top, scale)
    weight = known_of(facts, LABEL_SHARE, across)
    finish_loss(
        reports, block, reduced, log_sum - v, weight, weight, z_loss, undefined, reduction, loss, z_part, row, count
    )
    return reduced


@primitive
def slopes_of(facts: Any, scale: Any, row: Any, z_loss: float, factor: float, across: Any) -> Any:
    """Return what turns exponentials into the gradient of classes that are not the label; note that of the label."""
    weight = known_of(facts, LABEL_SHARE, across)
    zero, one = spread(weight, 0.0), spread(weight, 1.0)
    quiet = (row.rest < zero) | (weight == zero)
    high, low = inverse_of_sum(select(quiet, zero, row.rest), row.lost)
    weight = weight * spread(weight, factor) * scale.high
    pull = spread(weight, 2.0 * z_loss) * row.log_z if z_loss != 0.0 else zero
    logit = known_of(facts, LOGIT, across)
    v, lost = exponent(logit, row.top, scale)
    p = exp(v, lost) * high
    complement = select(v == zero, row.rest * high, one - p)  # at the maximum 1 - p would cancel
    change = select(logit == spread(logit, -np.inf), zero, weight * (pull * p - complement))
    store(facts, CHANGE * width(facts), select(quiet, zero, change))
    return Gradient(quiet, weight * (one + pull), high, low)
