"""Cross-entropy of class ids: softmax's passes, and one entry of each row that is different."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba._blocks import geometry_of, load_block, place, scratch, store_block, used
from logitx.backends.numba._compile import primitive
from logitx.backends.numba._lanes import fma, least, load, select, spread, store, width
from logitx.backends.numba._loss import (
    ALL,
    BAD,
    MEAN,
    Row,
    all_masked,
    finish,
    label_of,
    log_z_of,
    settle_all,
    zero_dead,
)
from logitx.backends.numba._rows import (
    cap,
    emit,
    exponent,
    hide,
    limit_at,
    multiply,
    nans_beside_infinity,
    normalizer,
    peak,
    reciprocal,
    rest_of,
    scale_at,
)
from logitx.backends.numba._simd import exp, log1p

LOGIT, SHARE, CHANGE = range(3)  # what is known of the label of each row: its logit, its weight, its gradient


def hard(
    x: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any, grad: Any, loss: Any, z_part: Any,
    log_normalizer: Any, ignoring: bool, ignored: int, z_loss: float, softcap: Any, temperature: Any,
    undefined: float, reduction: int, reports: Any, part: int,
    parts: int,
) -> Any:  # fmt: skip
    """Write losses, or their sum or mean, and what else has an array that is not of size 0; return a bad row or -1.

    For a mean the gradient is divided by the sum of shares, which then has to be known first.
    Parts share `reports`: a call with part == -1 comes before them, and one with part == parts adds them up.
    """
    g = geometry_of(x, softcap)
    if reports.size == 0:
        reports = np.zeros((g.blocks + 1, 4))
    if part < 0 or parts == 1:
        share, bad = 1.0, -1
        if reduction == MEAN and grad.size > 0:
            share, bad = _shares(g, labels, class_weight, sample_weight, where, ignoring, ignored, softcap)
        if bad >= 0:
            return bad
        reports[g.blocks, ALL] = share
    if 0 <= part < parts:
        share = reports[g.blocks, ALL]
        factor = 1.0 / share if share != 0.0 else 0.0
        _blocks(
            x, labels, class_weight, sample_weight, where, grad, loss, z_part, log_normalizer, ignoring, ignored,
            z_loss, softcap, temperature, undefined, factor, reduction, reports,
            g.blocks * part // parts, g.blocks * (part + 1) // parts,
        )  # fmt: skip
    if part == parts or parts == 1:
        return settle_all(reports, g.blocks, loss, z_part, reduction, undefined)
    return -1


@primitive
def _shares(
    g: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any, ignoring: bool, ignored: int, like: Any
) -> Any:
    """Return the sum of sample weight times class weight over counted rows, and the first bad row or -1."""
    total = 0.0
    tile = scratch(0, like)
    for row in range(labels.size):
        label, good = label_of(labels, row, g.n, ignoring, ignored)
        if good < 0:
            return total, row
        if good > 0 and not all_masked(where, g, row, tile):
            share = 1.0
            if class_weight.size > 0:
                share *= class_weight[label]
            if sample_weight.size > 0:
                share *= sample_weight[row]
            total += share
    return total, -1


@primitive
def _blocks(
    x: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any, grad: Any, loss: Any, z_part: Any,
    log_normalizer: Any, ignoring: bool, ignored: int, z_loss: float, softcap: Any, temperature: Any,
    undefined: float, factor: float, reduction: int, reports: Any, start: int, stop: int,
) -> None:  # fmt: skip
    g = geometry_of(x, softcap)
    backward, masked, capped = grad.size > 0, where.size > 0, softcap.size > 0
    tile = scratch(g.size, softcap)
    mask = scratch(g.size if masked else 0, softcap)
    room = scratch(2 * width(tile), softcap)
    slope = scratch(g.size if capped and backward else 0, softcap)
    facts = scratch(3 * width(tile), softcap)
    for block in range(start, stop):
        first, rows = place(g, block)
        load_block(x, g, first, rows, tile, -np.inf)
        if masked:
            load_block(where, g, first, rows, mask, 0.0)
            hide(tile, mask, g.size, -np.inf)
        for base in range(0, used(g, rows, tile), g.panel):
            row = first + base // g.panel * width(tile)
            count = least(first + rows - row, width(tile))
            if capped:
                cap(tile, slope, base, g.steps, limit_at(softcap, row, count, room, g.across))
            scale = scale_at(temperature, row, count, room, g.across)
            bad = _gather(
                tile, base, g, facts, labels, class_weight, sample_weight, where, ignoring, ignored, row, count
            )
            if bad >= 0 and reports[block, BAD] == 0.0:
                reports[block, BAD] = bad + 1
            reduced = _forward(
                tile, base, g, facts, scale, backward, z_loss, undefined, reduction, loss, z_part, log_normalizer,
                reports[block], row, count,
            )  # fmt: skip
            if backward:
                _backward(tile, base, g, facts, scale, reduced, z_loss, factor)
                _scatter(tile, base, g, facts, labels, ignoring, ignored, row, count)
                zero_dead(tile, base, g, known(facts, SHARE, g.across), reduced.rest, x, row, count)
        if backward:
            if capped:
                multiply(tile, slope, g.size)
            if masked:
                hide(tile, mask, g.size, 0.0)
            store_block(tile, grad, g, first, rows)


@primitive
def _at(g: Any, label: int, i: int, tile: Any) -> int:
    """Return where in a panel the entry of the label of row i is."""
    return label if g.across else label * width(tile) + i


@primitive
def known(facts: Any, fact: int, across: bool) -> Any:
    """Return a fact in lanes; across, all of them belong to one row."""
    if across:
        return spread(facts, facts[fact * width(facts)])
    return load(facts, fact * width(facts))


@primitive
def _gather(
    tile: Any, base: int, g: Any, facts: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any,
    ignoring: bool, ignored: int, row: int, count: int,
) -> int:  # fmt: skip
    """Collect logit and weight of the label of each row; return the first row with a bad label or -1."""
    lanes = width(tile)
    store(facts, LOGIT * lanes, spread(tile, 0.0))
    store(facts, SHARE * lanes, spread(tile, 0.0))
    first_bad = -1
    for i in range(count):
        label, good = label_of(labels, row + i, g.n, ignoring, ignored)
        if good < 0 and first_bad < 0:
            first_bad = row + i
        if good > 0:
            facts[LOGIT * lanes + i] = tile[base + _at(g, label, i, tile)]
            if not all_masked(where, g, row + i, tile):
                share = 1.0
                if class_weight.size > 0:
                    share *= class_weight[label]
                if sample_weight.size > 0:
                    share *= sample_weight[row + i]
                facts[SHARE * lanes + i] = share
    return first_bad


@primitive
def _forward(
    tile: Any, base: int, g: Any, facts: Any, scale: Any, keep: bool, z_loss: float, undefined: float, reduction: int,
    loss: Any, z_part: Any, log_normalizer: Any, report: Any, row: int, count: int,
) -> Any:  # fmt: skip
    """Reduce the rows of a panel and hand in their losses; `keep` leaves the exponentials in the tile."""
    top = peak(tile, base, g.steps, g.across)
    nans = nans_beside_infinity(tile, base, g.steps, top, g.across)
    rest = rest_of(tile, base, g.steps, top, scale, keep, g.across)
    log_sum = log1p(rest)
    reduced = Row(top, rest, log_sum, log_z_of(top, log_sum, scale))
    emit(log_normalizer, row, count, normalizer(top, rest, nans, reduced.log_z))
    v, _ = exponent(known(facts, LOGIT, g.across), top, scale)
    share = known(facts, SHARE, g.across)
    finish(report, reduced, g, log_sum - v, share, share, z_loss, undefined, reduction, loss, z_part, row, count)
    return reduced


@primitive
def _backward(tile: Any, base: int, g: Any, facts: Any, scale: Any, row: Any, z_loss: float, factor: float) -> None:
    """Turn exponentials into the gradient of every class as if it were not the label; note that of the label."""
    zero, one = spread(tile, 0.0), spread(tile, 1.0)
    share = known(facts, SHARE, g.across)
    quiet = (row.rest < zero) | (share == zero)
    high, low = reciprocal(select(quiet, one, one + row.rest))
    weight = share * spread(tile, factor) * scale.high
    pull = spread(tile, 2.0 * z_loss) * row.log_z if z_loss != 0.0 else zero
    slant = weight * (one + pull)
    for at in range(base, base + g.steps * width(tile), width(tile)):
        e = load(tile, at)
        store(tile, at, select(quiet, zero, slant * fma(e, high, e * low)))
    logit = known(facts, LOGIT, g.across)
    v, lost = exponent(logit, row.top, scale)
    p = exp(v, lost) * high
    complement = select(v == zero, row.rest * high, one - p)  # at the maximum 1 - p would cancel
    change = select(logit == spread(tile, -np.inf), zero, weight * (pull * p - complement))
    store(facts, CHANGE * width(tile), select(quiet, zero, change))


@primitive
def _scatter(
    tile: Any, base: int, g: Any, facts: Any, labels: Any, ignoring: bool, ignored: int, row: int, count: int
) -> None:
    """Write the gradient of the labels."""
    for i in range(count):
        label, good = label_of(labels, row + i, g.n, ignoring, ignored)
        if good > 0:
            tile[base + _at(g, label, i, tile)] = facts[CHANGE * width(tile) + i]
