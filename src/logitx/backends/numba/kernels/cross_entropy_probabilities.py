"""Cross-entropy where every class of a row may have a share: probabilities as targets, or smoothed class ids.

A second tile holds the weight of every class, ``class_weight * q``; the formulas are those of the loss as documented.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.memory.arguments import FAILED, UNFIT, entries, given, rows
from logitx.backends.numba.memory.load_store import number
from logitx.backends.numba.memory.prefetch import ahead_of
from logitx.backends.numba.memory.scratch import after, load, missing, place_one, release, reserve, store, take_one
from logitx.backends.numba.passes.blocks import blocks_of, geometry_of, load_per_row, panels, place, rows_in
from logitx.backends.numba.passes.class_ids import all_masked, entry, label_of, place_in_panel
from logitx.backends.numba.passes.copies import load_block, store_block
from logitx.backends.numba.passes.loss import Row, finish_loss, log_z_of
from logitx.backends.numba.passes.reduce import (
    emit,
    hide,
    inverse_of_sum,
    multiply,
    nans_beside_infinity,
    normalizer,
    peak,
    rest_of,
)
from logitx.backends.numba.passes.reports import MEAN, blank_reports, report_bad, settle_all
from logitx.backends.numba.passes.scaling import cap, exponent, limit_at, scale_at
from logitx.backends.numba.passes.sums import SPAN, add, folded, sum_of
from logitx.backends.numba.threads.workers import job, together
from logitx.backends.numba.vectors.exp_log import exp, log1p
from logitx.backends.numba.vectors.lanes import cast, fma, least, select, spread, wide, width


class Shares(NamedTuple):
    """What the targets of a panel add up to, a number a row."""

    sample: Any  # weight of the row
    share: Any  # sample weight times class weight, the row's part of the denominator
    total: Any  # sum of class_weight q


def soft(
    x: Any, targets: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any, grad: Any, hess: Any,
    loss: Any, z_part: Any, log_normalizer: Any, axis: int, across: Any, ignoring: bool, ignored: int,
    smoothing: float, z_loss: float, softcap: Any, temperature: Any, undefined: float, reduction: int, parts: int,
    crew: int,
) -> Any:  # fmt: skip
    """Write losses, or their sum or mean, and what else is not None; return a bad row or what `_memory` lists.

    Targets are `labels` where `targets` is None. For a mean the gradient is divided by the sum of shares.
    """
    logits, fits_x = entries(x, axis)
    shares, fits_targets = entries(targets, axis)
    mask, fits_where = entries(where, axis)
    gradient, fits_grad = entries(grad, axis)
    hessian, fits_hess = entries(hess, axis)
    if not (fits_x and fits_targets and fits_where and fits_grad and fits_hess):
        return UNFIT
    ids, classes, samples, caps = rows(labels), rows(class_weight), rows(sample_weight), rows(softcap)
    losses, z_parts = rows(loss), rows(z_part)
    g = geometry_of(logits, caps, across)
    heat = rows(temperature)
    factor = 1.0
    if reduction == MEAN and given(gradient):
        share, bad = _shares(g, shares, ids, classes, samples, mask, ignoring, ignored, caps)
        if bad >= 0:
            return bad
        factor = 1.0 / share if share != 0.0 else 0.0
    reports = blank_reports(g.blocks, heat)
    if missing(reports):
        return FAILED
    work = job(_blocks, (
        logits, shares, ids, classes, samples, mask, gradient, hessian, losses, z_parts, rows(log_normalizer),
        across, ignoring, ignored, cast(smoothing, caps), z_loss, caps, heat, undefined, factor,
        reduction, reports,
    ))  # fmt: skip
    code = FAILED
    if together(crew, work, parts):
        code = settle_all(reports, g.blocks, losses, z_parts, reduction, undefined)
    release(reports)
    return code


@primitive
def _shares(
    g: Any, targets: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any, ignoring: bool, ignored: int,
    like: Any,
) -> Any:  # fmt: skip
    """Return the sum of shares over counted rows, and the first bad row or -1."""
    total = 0.0
    for row in range(g.outer * g.inner):
        label, good = label_of(labels, row, g.n, ignoring, ignored) if not given(targets) else (0, 1)
        if good < 0:
            return total, row
        if good > 0 and not all_masked(where, g, row, like):
            share = 1.0
            if given(class_weight) and not given(targets):
                share = float(number(class_weight, label, like))
            elif given(class_weight):
                share = 0.0
                for j in range(g.n):
                    share += number(class_weight, j, like) * entry(targets, g, row, j, like)
            if given(sample_weight):
                weight = number(sample_weight, row, like)
                share = 0.0 if weight == 0.0 else share * weight
            total += share
    return total, -1


@primitive
def _blocks(
    x: Any, targets: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any, grad: Any, hess: Any,
    loss: Any, z_part: Any, log_normalizer: Any, across: Any, ignoring: bool, ignored: int, smoothing: Any,
    z_loss: float, softcap: Any, temperature: Any, undefined: float, factor: float, reduction: int,
    reports: Any, part: int, parts: int,
) -> bool:  # fmt: skip
    g = geometry_of(x, softcap, across)
    backward, masked, capped = given(grad), given(where), given(softcap)
    lanes, sloping, weighted = width(softcap), capped and backward, given(class_weight)
    counting = masked or smoothing > 0.0  # the classes of a row that are left
    padded = (g.n + lanes - 1) // lanes * lanes
    room = reserve(3 * lanes + weighted * padded + (2 + counting + sloping) * g.size, softcap)
    if missing(room):
        return False
    samples, classes = after(room, 2 * lanes), after(room, 3 * lanes)
    tile = after(classes, weighted * padded)
    weight, mask = after(tile, g.size), after(tile, 2 * g.size)
    slope = after(mask, counting * g.size)
    if counting and not masked:
        _fill_valid(mask, g, across)
    if weighted:
        _pad(classes, class_weight, g.n, padded)
    start, stop = blocks_of(g, part, parts)
    for block in range(start, stop):
        first, total = place(g, block, across)
        tops = load_block(x, g, first, total, tile, -np.inf, across)
        if masked:
            load_block(where, g, first, total, mask, 0.0, across)
            hide(tile, mask, g.size, -np.inf)
        if given(targets):
            load_block(targets, g, first, total, weight, 0.0, across)
        else:
            bad = _one_hot(weight, g, labels, ignoring, ignored, first, total, across)
            report_bad(reports, block, bad)
        for panel in range(panels(g, total, tile, across)):
            base, row = panel * g.panel, first + panel * lanes
            count = rows_in(total, panel, tile, across)
            if capped:
                cap(tile, slope, sloping, base, g.steps, limit_at(softcap, row, count, room, across))
            scale = scale_at(temperature, row, count, room, True, across)
            _collect(samples, g, labels, not given(targets), sample_weight, ignoring, ignored, row, count)
            shares = _weigh(weight, mask, counting, base, g, classes, weighted, samples, smoothing, across)
            top = peak(tile, base, g.steps, tops, not masked and not capped, across)
            reduced = _forward(
                tile, weight, base, g, shares, top, scale, z_loss, undefined, reduction, loss, z_part, log_normalizer,
                reports, block, row, count, ahead_of(x, g, first, panel, tile, across), across,
            )  # fmt: skip
            if backward:
                _backward(tile, weight, base, g, shares, scale, reduced, z_loss, factor)
        if backward:
            if sloping:
                multiply(tile, slope, g.size)
            store_block(tile, grad, g, first, total, across)
        if given(hess):
            store_block(weight, hess, g, first, total, across)
    release(room)
    return True


@primitive
def _fill_valid(mask: Any, g: Any, across: Any) -> None:
    """Tell classes from the padding of a panel."""
    for j in range(g.size):
        place_one(mask, j, 1.0 if across is None or j < g.n else 0.0)


@primitive
def _pad(classes: Any, class_weight: Any, n: int, padded: int) -> None:
    """Fill a tile with the class weights, and what is left of the last vector with 0."""
    for j in range(padded):
        place_one(classes, j, number(class_weight, j, classes) if j < n else 0.0)


@primitive
def _one_hot(weight: Any, g: Any, labels: Any, ignoring: bool, ignored: int, first: int, rows: int, across: Any) -> int:
    """Write the one-hot rows of a block to a tile; return the first row with a bad label or -1."""
    for at in range(0, g.size, width(weight)):
        store(weight, at, spread(weight, 0.0))
    first_bad = -1
    for i in range(rows):
        label, good = label_of(labels, first + i, g.n, ignoring, ignored)
        if good > 0:
            lanes = width(weight)
            at = i // lanes * g.panel + place_in_panel(label, i % lanes, weight, across)
            place_one(weight, at, 1.0)
        elif good < 0 and first_bad < 0:
            first_bad = first + i
    return first_bad


@primitive
def _collect(
    samples: Any,
    g: Any,
    labels: Any,
    hard: bool,
    sample_weight: Any,
    ignoring: bool,
    ignored: int,
    row: int,
    count: int,
) -> None:
    """Put the weight of each row of a panel into lanes: 0 for ignored rows and lanes without a row."""
    store(samples, 0, spread(samples, 0.0))
    for i in range(count):
        good = 1
        if hard:
            _, good = label_of(labels, row + i, g.n, ignoring, ignored)
        if good > 0:
            place_one(samples, i, number(sample_weight, row + i, samples) if given(sample_weight) else 1.0)


@primitive
def _weigh(
    weight: Any, mask: Any, counting: bool, base: int, g: Any, classes: Any, weighted: bool, samples: Any,
    smoothing: Any, across: Any,
) -> Any:  # fmt: skip
    """Turn targets t into class_weight ((1 - smoothing) t + smoothing / K); return what they add up to."""
    lanes = width(weight)
    zero, one = spread(weight, 0.0), spread(weight, 1.0)
    sample = load_per_row(samples, 0, across)
    none, uniform = spread(sample, 0.0), spread(sample, 0.0)
    if counting:
        valid = sum_of(mask, base, g.steps, across)
        sample = select(valid == none, none, sample)
        uniform = spread(sample, smoothing) / select(valid == none, spread(valid, 1.0), valid)
    even = wide(weight, uniform)
    keep = one - spread(weight, smoothing)
    share_high, share_low, total_high, total_low = zero, zero, zero, zero
    for start in range(0, g.steps, SPAN):
        share_part, total_part = zero, zero
        for step in range(start, least(start + SPAN, g.steps)):
            at = base + step * lanes
            t = load(weight, at)
            q = t
            if smoothing > 0.0:
                q = fma(keep, t, even * load(mask, at))
            if weighted:
                c = load(classes, step * lanes) if across is not None else spread(weight, take_one(classes, step))
                share_part = share_part + c * t
                q = c * q
            store(weight, at, q)
            total_part = total_part + q
        share_high, share_low = add(share_high, share_low, share_part)
        total_high, total_low = add(total_high, total_low, total_part)
    share = sample
    if weighted:
        share = select(sample == none, none, sample * folded(share_high, share_low, across))
    return Shares(sample, share, folded(total_high, total_low, across))


@primitive
def _forward(
    tile: Any, weight: Any, base: int, g: Any, shares: Any, top: Any, scale: Any, z_loss: float, undefined: float,
    reduction: int, loss: Any, z_part: Any, log_normalizer: Any, reports: Any, block: int, row: int, count: int,
    ahead: Any, across: Any,
) -> Any:  # fmt: skip
    """Reduce the rows of a panel and hand in their losses."""
    zero = spread(tile, 0.0)
    nans = nans_beside_infinity(tile, base, g.steps, top, across)
    rest, lost = rest_of(tile, base, g.steps, top, scale, True, ahead, across)
    log_sum = log1p(rest, lost)
    reduced = Row(top, rest, lost, log_sum, log_z_of(top, log_sum, scale))
    emit(log_normalizer, row, count, normalizer(top, rest, nans, reduced.log_z))
    high, low, sum_of_logs = zero, zero, wide(tile, log_sum)
    end = base + g.steps * width(tile)
    for start in range(base, end, SPAN * width(tile)):
        part = zero
        for at in range(start, least(start + SPAN * width(tile), end), width(tile)):
            w = load(weight, at)
            v, _ = exponent(load(tile, at), top, scale)
            part = fma(w, select(w == zero, zero, sum_of_logs - v), part)
        high, low = add(high, low, part)
    finish_loss(
        reports, block, reduced, folded(high, low, across), shares.sample, shares.share, z_loss, undefined,
        reduction, loss, z_part, row, count,
    )  # fmt: skip
    return reduced


@primitive
def _backward(
    tile: Any, weight: Any, base: int, g: Any, shares: Any, scale: Any, row: Any, z_loss: float, factor: float
) -> None:
    """Replace logits by the gradient, p (A - w) - w (1 - p), and the weights by the diagonal Hessian, A p (1 - p)."""
    zero, one, dead = spread(tile, 0.0), spread(tile, 1.0), spread(tile, -np.inf)
    none = spread(shares.share, 0.0)
    quiet = (row.rest < none) | (shares.share == none)
    divisor = inverse_of_sum(select(quiet, none, row.rest), row.lost)
    pulled = none
    if z_loss != 0.0:
        average = select(shares.sample == none, none, shares.share / shares.sample)
        pulled = average * spread(none, 2.0 * z_loss) * row.log_z
    sample = wide(tile, shares.sample * spread(none, factor) * scale.high)
    high, low, pull, total = (
        wide(tile, divisor[0]),
        wide(tile, divisor[1]),
        wide(tile, pulled),
        wide(tile, shares.total),
    )
    others, hushed = wide(tile, fma(row.rest, divisor[0], row.rest * divisor[1])), wide(tile, quiet)
    for at in range(base, base + g.steps * width(tile), width(tile)):
        x, w = load(tile, at), load(weight, at)
        v, lost = exponent(x, row.top, scale)
        e = exp(v, lost)
        p = fma(e, high, e * low)
        complement = select(v == zero, others, one - p)  # at the maximum 1 - p would cancel
        silent = hushed | (x == dead)
        gradient = fma(p, total - w, fma(pull, p, zero - w * complement))
        store(tile, at, select(silent, zero, sample * gradient))
        store(weight, at, select(silent, zero, sample * (total * (p * complement))))
