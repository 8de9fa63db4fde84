"""Class ids in kernels: the rule of a label, its place in a panel, its logit and its gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import given
from logitx.backends.numba.memory.load_store import class_id, number, read_one, write
from logitx.backends.numba.memory.scratch import place_one, store, take_one
from logitx.backends.numba.passes.blocks import load_per_row
from logitx.backends.numba.vectors.lanes import cast, spread, width


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


LOGIT, LABEL_SHARE, CHANGE = range(3)  # what is known of the label of each row: its logit, its weight, its gradient


class Labels(NamedTuple):
    """Class ids and what weighs them."""

    ids: Any
    ignoring: bool
    ignored: int
    class_weight: Any
    sample_weight: Any


@primitive
def _total_share(g: Any, labels: Any, where: Any, options: Any, like: Any) -> Any:
    """Return the sum of sample weight times class weight over counted rows, and the first bad row or -1."""
    if options is None:
        return count_labels(g, labels)
    total = 0.0
    for row in range(labels.ids.outer):
        label, good = label_of(labels.ids, row, g.n, labels.ignoring, labels.ignored)
        if good < 0:
            return total, row
        if good > 0:
            total += _share(g, labels, label, where, row, like, options)
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
            _, good = label_of(labels.ids, row, g.n, labels.ignoring, labels.ignored)
            if good < 0:
                return 0.0, row
    return float(counted), -1


@primitive
def _share(g: Any, labels: Any, label: int, where: Any, row: int, like: Any, options: Any) -> float:
    """Return the weight of a row with a good label; 0 where no class is left."""
    if options is None:
        return 1.0
    if all_masked(where, g, row, like):
        return 0.0
    share = 1.0
    if given(labels.class_weight):
        share *= number(labels.class_weight, label, like)
    if given(labels.sample_weight):
        share *= number(labels.sample_weight, row, like)
    return share


@primitive
def known_of(facts: Any, fact: int, across: Any) -> Any:
    """Return a fact of each row of a panel."""
    return load_per_row(facts, fact * width(facts), across)


@primitive
def _gather(
    tile: Any, base: int, g: Any, facts: Any, labels: Any, where: Any, row: int, count: int, options: Any,
    across: Any,
) -> int:  # fmt: skip
    """Collect logit and weight of the label of each row; return the first row with a bad label or -1."""
    lanes = width(tile)
    store(facts, LOGIT * lanes, spread(tile, 0.0))
    store(facts, LABEL_SHARE * lanes, spread(tile, 0.0))
    first_bad = -1
    for i in range(count):
        label, good = label_of(labels.ids, row + i, g.n, labels.ignoring, labels.ignored)
        if good < 0 and first_bad < 0:
            first_bad = row + i
        if good > 0:
            place_one(facts, LOGIT * lanes + i, take_one(tile, base + place_in_panel(label, i, tile, across)))
            place_one(
                facts, LABEL_SHARE * lanes + i, cast(_share(g, labels, label, where, row + i, tile, options), tile)
            )
    return first_bad


@primitive
def write_label(grad: Any, g: Any, facts: Any, labels: Any, row: int) -> None:
    """Write the gradient of the label of a row to the caller's memory."""
    label, good = label_of(labels.ids, row, g.n, labels.ignoring, labels.ignored)
    if good > 0:
        write(grad, row * grad.outer_stride + label * grad.n_stride, take_one(facts, CHANGE * width(facts)))


@primitive
def scatter(tile: Any, base: int, g: Any, facts: Any, labels: Any, row: int, count: int, across: Any) -> None:
    """Write the gradient of the labels to the tile."""
    for i in range(count):
        label, good = label_of(labels.ids, row + i, g.n, labels.ignoring, labels.ignored)
        if good > 0:
            change = take_one(facts, CHANGE * width(tile) + i)
            place_one(tile, base + place_in_panel(label, i, tile, across), change)
