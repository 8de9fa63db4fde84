"""Cross-entropy of class ids with the numbers of each row that people read beside it: the same reduction, more sums."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.cross_entropy_ids import REDUCE_ROWS, write_label_losses
from logitx.backends.numba.kernels.signature import Computed, Ids, Mask, OfLogits, OfLoss, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import UNFIT, given, view_of_entries, view_of_rows
from logitx.backends.numba.memory.load_store import write_back
from logitx.backends.numba.passes.class_ids import (
    LOGIT,
    all_masked,
    entry,
    label_of,
    number_of,
)
from logitx.backends.numba.passes.loss import (
    LossNumbers,
    logarithms_of,
)
from logitx.backends.numba.passes.reduce import inverse_of_sum, sums_of_rows
from logitx.backends.numba.passes.scaling import exponent
from logitx.backends.numba.vectors.lanes import lane, maximum_of_two, select, spread_as


class RowNumbers(NamedTuple):
    """What is told of a row: `PLACES` has the place of each among the `COUNT` numbers of the row."""

    log_prob: Any  # of its label
    entropy: Any
    correct: Any  # 1 where the label has the highest logit, the first among equals
    confidence: Any  # the largest probability
    squares: Any  # the sum of squared probabilities
    variance: Any  # of the logits, after softcap and temperature, under the probabilities


COUNT = len(RowNumbers._fields)
PLACES = RowNumbers(*range(COUNT))


class NumberedArrays(NamedTuple):
    """The arrays of `hard_with_numbers`: those of `hard`, and `found` with `COUNT` numbers a row."""

    logits: OfLogits
    labels: Ids
    class_weight: Computed
    sample_weight: Computed
    where: Mask
    temperature: Wide
    softcap: Computed
    grad: OfResult
    loss: OfLoss
    z_part: OfLoss
    log_normalizer: OfLoss
    found: OfLoss


class Found(NamedTuple):
    """Where the numbers of rows are written."""

    numbers: Any


def hard_with_numbers(
    arrays: NumberedArrays, numbers: LossNumbers, across: Way, backward: Way, adjusted: Way, parts: int, crew: int
) -> Any:
    """Do what `hard` does, to the same bits, and write the `RowNumbers` of every row."""
    x, fits = view_of_entries(arrays.logits, numbers.axis)
    found = view_of_rows(arrays.found)
    if not fits or found.outer != COUNT * x.outer * x.inner:
        return UNFIT
    return write_label_losses(arrays, numbers, Found(found), across, backward, adjusted, parts, crew)


@inlined
def _reduce_with_numbers(panel: Any, top: Any, ahead: Any, across: Any, task: Any, found: Any) -> Any:
    """Reduce the rows of a panel to exponentials, which stay in the tile, and write their numbers."""
    sums = sums_of_rows(panel.memory.tile, panel.base, panel.g.steps, top, panel.scale, None, ahead, across)
    reduced = logarithms_of(top, sums.rest, sums.lost, panel.scale)
    _write_numbers(panel, sums, reduced, across, task, found.numbers)
    return reduced


REDUCE_ROWS[Found] = _reduce_with_numbers


@inlined
def _write_numbers(panel: Any, sums: Any, reduced: Any, across: Any, task: Any, found: Any) -> None:
    """Write the numbers of each row of a panel: `undefined` where there is no class."""
    rest, one = sums.rest, spread_as(sums.rest, 1.0)
    nothing = rest < one - one
    undefined = spread_as(rest, task.losses.undefined)
    logit = number_of(panel.memory.numbers, LOGIT, across)
    v, _ = exponent(logit, reduced.top, panel.scale)
    log_prob = select(nothing, undefined, select(rest == rest, v - reduced.log_sum, rest))
    entropy = select(nothing, undefined, reduced.log_sum + sums.fall / (one + rest))
    high, _ = inverse_of_sum(select(nothing, one - one, rest), sums.lost)
    mean = sums.fall * high
    confidence, squares = select(nothing, undefined, high), select(nothing, undefined, sums.squares * (high * high))
    variance = select(nothing, undefined, maximum_of_two(sums.spread * high - mean * mean, one - one))
    for i in range(panel.rows):
        row = panel.row + i
        label, good = label_of(task.labels, row, panel.g.n)
        counted = good > 0
        if counted and lane(rest, i) < 0.0:
            counted = not all_masked(task.labels.where, panel.g, row, panel.memory.tile)
        highest, tops = lane(logit, i) == lane(reduced.top, i), lane(sums.tops, i)
        best = counted and _is_best(panel, task.labels.where, label, row, highest, tops, lane(rest, i))
        step, first = found.outer_stride, row * COUNT
        write_back(found, (first + PLACES.log_prob) * step, lane(log_prob, i) if counted else 0.0)
        write_back(found, (first + PLACES.entropy) * step, lane(entropy, i))
        write_back(found, (first + PLACES.correct) * step, 1.0 if best else 0.0)
        write_back(found, (first + PLACES.confidence) * step, lane(confidence, i))
        write_back(found, (first + PLACES.squares) * step, lane(squares, i))
        write_back(found, (first + PLACES.variance) * step, lane(variance, i))


@primitive
def _is_best(panel: Any, where: Any, label: int, row: int, highest: bool, tops: float, rest: float) -> bool:
    """Return True if the label of a row has the highest logit, the first among equals.

    Where `tops` exponentials are 1, or the row has a NaN or +inf, the logits are compared as they were given.
    """
    if rest < 0.0 or (rest == rest and not highest):
        return False
    if rest == rest and tops == 1.0:
        return True
    own = entry(panel.x, panel.g, row, label, panel.memory.tile)
    if given(where) and entry(where, panel.g, row, label, panel.memory.tile) == 0.0:
        return False
    for j in range(panel.g.n):
        if given(where) and entry(where, panel.g, row, j, panel.memory.tile) == 0.0:
            continue
        other = entry(panel.x, panel.g, row, j, panel.memory.tile)
        if not (other < own or (other == own and j >= label)):
            return False
    return True
