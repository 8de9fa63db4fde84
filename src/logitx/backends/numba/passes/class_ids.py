"""Class ids in kernels: the rule of a label, its place in a panel, its logit and its gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.memory.arguments import given
from logitx.backends.numba.memory.load_store import class_id, number_at, read_one, write_back
from logitx.backends.numba.memory.scratch import place_one, store_lanes, take_one
from logitx.backends.numba.passes.blocks import load_per_row
from logitx.backends.numba.vectors.lanes import cast_as, spread_as, width_of


class LabelRule(NamedTuple):
    """Class ids, the id that is ignored, and what gives a row its weight."""

    ids: Any
    ignoring: bool
    ignored: int
    class_weight: Any
    sample_weight: Any
    where: Any
    adjusted: Any  # None if there are no weights and no mask


@primitive
def is_ignored(label: int, ignoring: bool, ignored: int) -> bool:
    """Return True if a row with this class id has no loss."""
    skipped: bool = ignoring and label == ignored
    return skipped


@primitive
def is_bad(label: int, n: int, ignoring: bool, ignored: int) -> bool:
    """Return True if a class id is neither one of `n` classes nor ignored."""
    bad: bool = (label < 0 or label >= n) and not is_ignored(label, ignoring, ignored)
    return bad


@primitive
def label_of(labels: Any, row: int, n: int) -> Any:
    """Return (label, good): good is 1 for a class, 0 for an ignored row, -1 for a bad class id."""
    label = class_id(labels.ids, row)
    if is_ignored(label, labels.ignoring, labels.ignored):
        return label, 0
    return label, 1 if 0 <= label < n else -1


@primitive
def entry(source: Any, g: Any, row: int, j: int, tile: Any) -> Any:
    """Return one entry of an array of the shape of the logits."""
    o, i = row // g.inner, row % g.inner
    return read_one(source, o * source.outer_stride + j * source.n_stride + i * source.inner_stride, tile)


@primitive
def all_masked(where: Any, g: Any, row: int, tile: Any) -> bool:
    """Return True if a row has no class left."""
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
        return j * width_of(tile) + i
    return j


LOGIT, LABEL_SHARE, CHANGE = range(3)  # vectors of numbers of each row: of its label the logit, weight and gradient


@primitive
def total_share(g: Any, labels: Any, adjusted: Any, like: Any) -> Any:
    """Return the sum of sample weight times class weight over counted rows, and the first bad row or -1."""
    if adjusted is None:
        return count_labels(g, labels)
    total = 0.0
    for row in range(labels.ids.outer):
        label, good = label_of(labels, row, g.n)
        if good < 0:
            return total, row
        if good > 0:
            total += _share_of_label(g, labels, label, row, adjusted, like)
    return total, -1


@primitive
def count_labels(g: Any, labels: Any) -> Any:
    """Return how many labels are not ignored, and the first bad row or -1: without a branch, many at a time."""
    counted, bad = 0, 0
    for row in range(labels.ids.outer):
        label = class_id(labels.ids, row)
        skipped = labels.ignoring and label == labels.ignored
        counted += not skipped
        bad += (not skipped) and (label < 0 or label >= g.n)
    if bad > 0:
        for row in range(labels.ids.outer):
            _, good = label_of(labels, row, g.n)
            if good < 0:
                return 0.0, row
    return float(counted), -1


@primitive
def _share_of_label(g: Any, labels: Any, label: int, row: int, adjusted: Any, like: Any) -> float:
    """Return the weight of a row with a good label; 0 where no class is left."""
    if adjusted is None:
        return 1.0
    if all_masked(labels.where, g, row, like):
        return 0.0
    share = 1.0
    if given(labels.class_weight):
        share *= number_at(labels.class_weight, label, like)
    if given(labels.sample_weight):
        share *= number_at(labels.sample_weight, row, like)
    return share


@primitive
def number_of(numbers: Any, which: int, across: Any) -> Any:
    """Return one of the numbers of each row of a panel."""
    return load_per_row(numbers, which * width_of(numbers), across)


@inlined
def gather_labels(panel: Any, labels: Any, across: Any) -> int:
    """Collect logit and weight of the label of each row of a panel; return the first row with a bad label or -1."""
    tile, numbers, lanes = panel.memory.tile, panel.memory.numbers, width_of(panel.memory.tile)
    store_lanes(numbers, LOGIT * lanes, spread_as(tile, 0.0))
    store_lanes(numbers, LABEL_SHARE * lanes, spread_as(tile, 0.0))
    first_bad = -1
    for i in range(panel.rows):
        row = panel.row + i
        label, good = label_of(labels, row, panel.g.n)
        if good < 0 and first_bad < 0:
            first_bad = row
        if good > 0:
            place_one(numbers, LOGIT * lanes + i, take_one(tile, panel.base + place_in_panel(label, i, tile, across)))
            share = _share_of_label(panel.g, labels, label, row, labels.adjusted, tile)
            place_one(numbers, LABEL_SHARE * lanes + i, cast_as(share, tile))
    return first_bad


@primitive
def write_label(grad: Any, g: Any, numbers: Any, labels: Any, row: int) -> None:
    """Write the gradient of the label of a row to the caller's memory."""
    label, good = label_of(labels, row, g.n)
    if good > 0:
        write_back(grad, row * grad.outer_stride + label * grad.n_stride, take_one(numbers, CHANGE * width_of(numbers)))


@inlined
def scatter_labels(panel: Any, labels: Any, across: Any) -> None:
    """Write the gradient of the labels to the tile."""
    tile = panel.memory.tile
    for i in range(panel.rows):
        label, good = label_of(labels, panel.row + i, panel.g.n)
        if good > 0:
            change = take_one(panel.memory.numbers, CHANGE * width_of(tile) + i)
            place_one(tile, panel.base + place_in_panel(label, i, tile, across), change)
