"""Cross-entropy of class ids: softmax's passes, and one entry of each row that is different."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba._ahead import ahead_of, ahead_of_both
from logitx.backends.numba._blocks import blocks_of, geometry_of, panels, place, rows_in
from logitx.backends.numba._compile import primitive
from logitx.backends.numba._copies import finish_panel, load_block, store_block
from logitx.backends.numba._crew import job, together
from logitx.backends.numba._finish import Gradient
from logitx.backends.numba._lanes import any_of, cast, is_nan, select, spread, width
from logitx.backends.numba._loss import (
    MEAN,
    Row,
    all_masked,
    blank_reports,
    finish_loss,
    label_of,
    log_z_of,
    place_in_panel,
    report_bad,
    settle_all,
    zero_dead,
)
from logitx.backends.numba._memory import FAILED, UNFIT, entries, given, rows
from logitx.backends.numba._rows import (
    cap,
    emit,
    exponent,
    hide,
    inverse_of_sum,
    limit_at,
    load_per_row,
    multiply,
    nans_beside_infinity,
    normalizer,
    peak,
    rest_of,
    scale_at,
)
from logitx.backends.numba._simd import exp, log1p
from logitx.backends.numba._storage import class_id, number, write
from logitx.backends.numba._tiles import after, missing, place_one, release, reserve, store, take_one

LOGIT, SHARE, CHANGE = range(3)  # what is known of the label of each row: its logit, its weight, its gradient


class Labels(NamedTuple):
    """Class ids and what weighs them."""

    ids: Any
    ignoring: bool
    ignored: int
    class_weight: Any
    sample_weight: Any


def hard(
    x: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any, grad: Any, loss: Any, z_part: Any,
    log_normalizer: Any, axis: int, across: Any, backward: Any, options: Any, ignoring: bool, ignored: int,
    z_loss: float, softcap: Any, temperature: Any, undefined: float, reduction: int, parts: int, crew: int,
) -> Any:  # fmt: skip
    """Write losses, or their sum or mean, and what else is not None; return a bad row or what `_memory` lists.

    Without `options` there is no mask, weight, softcap or temperature, without `backward` no gradient.
    For a mean the gradient is divided by the sum of shares, which then has to be known first.
    """
    logits, fits_x = entries(x, axis)
    mask, fits_where = entries(where, axis)
    gradient, fits_grad = entries(grad, axis)
    if not (fits_x and fits_where and fits_grad):
        return UNFIT
    targets = Labels(rows(labels), ignoring, ignored, rows(class_weight), rows(sample_weight))
    losses, z_parts, caps = rows(loss), rows(z_part), rows(softcap)
    g = geometry_of(logits, caps, across)
    heat = rows(temperature)
    factor = 1.0
    if backward is not None and reduction == MEAN:
        total, bad = _total_share(g, targets, mask, options, caps)
        if bad >= 0:
            return bad
        factor = 1.0 / total if total != 0.0 else 0.0
    reports = blank_reports(g.blocks, heat)
    if missing(reports):
        return FAILED
    work = job(_blocks, (
        logits, targets, mask, gradient, losses, z_parts, rows(log_normalizer), across, backward, options, z_loss, caps,
        heat, undefined, factor, reduction, reports,
    ))  # fmt: skip
    code = FAILED
    if together(crew, work, parts):
        code = settle_all(reports, g.blocks, losses, z_parts, reduction, undefined)
    release(reports)
    return code


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
def _blocks(
    x: Any, labels: Any, where: Any, grad: Any, loss: Any, z_part: Any, log_normalizer: Any, across: Any, backward: Any,
    options: Any, z_loss: float, softcap: Any, temperature: Any, undefined: float, factor: float, reduction: int,
    reports: Any, part: int, parts: int,
) -> bool:  # fmt: skip
    g = geometry_of(x, softcap, across)
    masked, capped = options is not None and given(where), options is not None and given(softcap)
    lanes, sloping = width(softcap), backward is not None and capped
    room = reserve(5 * lanes + (1 + masked + sloping) * g.size, softcap)
    if missing(room):
        return False
    facts, tile = after(room, 2 * lanes), after(room, 5 * lanes)
    mask = after(tile, g.size)
    slope = after(mask, masked * g.size)
    start, stop = blocks_of(g, part, parts)
    for block in range(start, stop):
        first, total = place(g, block, across)
        tops = load_block(x, g, first, total, tile, -np.inf, across)
        if options is not None and masked:
            load_block(where, g, first, total, mask, 0.0, across)
            hide(tile, mask, g.size, -np.inf)
        final = False  # whether the gradient of the row has been written already
        for panel in range(panels(g, total, tile, across)):
            base, row = panel * g.panel, first + panel * lanes
            count = rows_in(total, panel, tile, across)
            if options is not None and capped:
                cap(tile, slope, sloping, base, g.steps, limit_at(softcap, row, count, room, across))
            scale = scale_at(temperature, row, count, room, options, across)
            bad = _gather(tile, base, g, facts, labels, where, row, count, options, across)
            report_bad(reports, block, bad)
            top = peak(tile, base, g.steps, tops, not masked and not capped, across)
            reduced = _forward(
                tile, base, g, facts, top, scale, z_loss, undefined, reduction, loss, z_part, log_normalizer,
                reports, block, row, count, _ahead(x, grad, g, first, panel, tile, backward, across), across,
            )  # fmt: skip
            if backward is not None:
                final = across is not None and not (masked or capped or any_of(is_nan(reduced.rest)))
                slopes = slopes_of(facts, scale, reduced, z_loss, factor, across)
                finish_panel(tile, base, grad, g, first, final, slopes, across)
                if final:
                    write_label(grad, g, facts, labels, row)
                else:
                    scatter(tile, base, g, facts, labels, row, count, across)
                    zero_dead(tile, base, g, known_of(facts, SHARE, across), reduced.rest, x, row, count, across)
        if backward is not None and not final:
            if options is not None and capped:
                multiply(tile, slope, g.size)
            if options is not None and masked:
                hide(tile, mask, g.size, 0.0)
            store_block(tile, grad, g, first, total, across)
    release(room)
    return True


@primitive
def _ahead(x: Any, grad: Any, g: Any, first: int, panel: int, tile: Any, backward: Any, across: Any) -> Any:
    if backward is None:
        return ahead_of(x, g, first, panel, tile, across)
    return ahead_of_both(x, grad, g, first, panel, tile, across)


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
    store(facts, SHARE * lanes, spread(tile, 0.0))
    first_bad = -1
    for i in range(count):
        label, good = label_of(labels.ids, row + i, g.n, labels.ignoring, labels.ignored)
        if good < 0 and first_bad < 0:
            first_bad = row + i
        if good > 0:
            place_one(facts, LOGIT * lanes + i, take_one(tile, base + place_in_panel(label, i, tile, across)))
            place_one(facts, SHARE * lanes + i, cast(_share(g, labels, label, where, row + i, tile, options), tile))
    return first_bad


@primitive
def _forward(
    tile: Any, base: int, g: Any, facts: Any, top: Any, scale: Any, z_loss: float, undefined: float, reduction: int,
    loss: Any, z_part: Any, log_normalizer: Any, reports: Any, block: int, row: int, count: int, ahead: Any,
    across: Any,
) -> Any:  # fmt: skip
    """Reduce the rows of a panel to exponentials, which stay in the tile, and hand in their losses."""
    nans = nans_beside_infinity(tile, base, g.steps, top, across)
    rest, lost = rest_of(tile, base, g.steps, top, scale, None, ahead, across)
    return _hand_in(
        facts, top, rest, lost, nans, scale, z_loss, undefined, reduction, loss, z_part, log_normalizer, reports, block,
        row, count, across,
    )  # fmt: skip


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
    weight = known_of(facts, SHARE, across)
    finish_loss(
        reports, block, reduced, log_sum - v, weight, weight, z_loss, undefined, reduction, loss, z_part, row, count
    )
    return reduced


@primitive
def slopes_of(facts: Any, scale: Any, row: Any, z_loss: float, factor: float, across: Any) -> Any:
    """Return what turns exponentials into the gradient of classes that are not the label; note that of the label."""
    weight = known_of(facts, SHARE, across)
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
