"""Cross-entropy where every class of a row may have a share: probabilities as targets, or smoothed class ids.

A second tile holds the weight of every class, ``class_weight * q``; the formulas are those of the loss as documented.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba._blocks import geometry_of, load_block, place, scratch, store_block, used
from logitx.backends.numba._compile import primitive
from logitx.backends.numba._lanes import fma, least, load, select, spread, store, width
from logitx.backends.numba._loss import ALL, BAD, MEAN, Row, all_masked, entry, finish, label_of, log_z_of, settle_all
from logitx.backends.numba._rows import (
    SPAN,
    add,
    cap,
    emit,
    exponent,
    folded,
    hide,
    limit_at,
    multiply,
    nans_beside_infinity,
    normalizer,
    peak,
    reciprocal,
    rest_of,
    scale_at,
    sum_of,
)
from logitx.backends.numba._simd import exp, log1p


class Shares(NamedTuple):
    """What the targets of a panel add up to, a number a row."""

    sample: Any  # weight of the row
    share: Any  # sample weight times class weight, the row's part of the denominator
    total: Any  # sum of class_weight q


def soft(
    x: Any, targets: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any, grad: Any, hess: Any,
    loss: Any, z_part: Any, log_normalizer: Any, ignoring: bool, ignored: int, smoothing: Any, z_loss: float,
    softcap: Any, temperature: Any, undefined: float, reduction: int, reports: Any, part: int,
    parts: int,
) -> Any:  # fmt: skip
    """Write losses, or their sum or mean, and what else has an array that is not of size 0; return a bad row or -1.

    Targets are `labels` where `targets` has size 0. For a mean the gradient is divided by the sum of shares.
    Parts share `reports`: a call with part == -1 comes before them, and one with part == parts adds them up.
    """
    g = geometry_of(x, softcap)
    if reports.size == 0:
        reports = np.zeros((g.blocks + 1, 4))
    if part < 0 or parts == 1:
        share, bad = 1.0, -1
        if reduction == MEAN and grad.size > 0:
            share, bad = _shares(g, targets, labels, class_weight, sample_weight, where, ignoring, ignored, softcap)
        if bad >= 0:
            return bad
        reports[g.blocks, ALL] = share
    if 0 <= part < parts:
        share = reports[g.blocks, ALL]
        factor = 1.0 / share if share != 0.0 else 0.0
        _blocks(
            x, targets, labels, class_weight, sample_weight, where, grad, hess, loss, z_part, log_normalizer,
            ignoring, ignored, smoothing, z_loss, softcap, temperature, undefined, factor, reduction, reports,
            g.blocks * part // parts, g.blocks * (part + 1) // parts,
        )  # fmt: skip
    if part == parts or parts == 1:
        return settle_all(reports, g.blocks, loss, z_part, reduction, undefined)
    return -1


@primitive
def _shares(
    g: Any, targets: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any, ignoring: bool, ignored: int,
    like: Any,
) -> Any:  # fmt: skip
    """Return the sum of shares over counted rows, and the first bad row or -1."""
    total = 0.0
    tile = scratch(0, like)
    for row in range(g.outer * g.inner):
        label, good = label_of(labels, row, g.n, ignoring, ignored) if targets.size == 0 else (0, 1)
        if good < 0:
            return total, row
        if good > 0 and not all_masked(where, g, row, tile):
            share = 1.0
            if class_weight.size > 0 and targets.size == 0:
                share = float(class_weight[label])
            elif class_weight.size > 0:
                share = 0.0
                for j in range(g.n):
                    share += class_weight[j] * entry(targets, g, row, j, tile)
            if sample_weight.size > 0:
                share = 0.0 if sample_weight[row] == 0.0 else share * sample_weight[row]
            total += share
    return total, -1


@primitive
def _blocks(
    x: Any, targets: Any, labels: Any, class_weight: Any, sample_weight: Any, where: Any, grad: Any, hess: Any,
    loss: Any, z_part: Any, log_normalizer: Any, ignoring: bool, ignored: int, smoothing: Any, z_loss: float,
    softcap: Any, temperature: Any, undefined: float, factor: float, reduction: int,
    reports: Any, start: int, stop: int,
) -> None:  # fmt: skip
    g = geometry_of(x, softcap)
    backward, masked, capped = grad.size > 0, where.size > 0, softcap.size > 0
    tile, weight = scratch(g.size, softcap), scratch(g.size, softcap)
    mask = scratch(g.size if masked or smoothing > 0.0 else 0, softcap)
    if smoothing > 0.0 and not masked:
        _fill_valid(mask, g)
    room = scratch(2 * width(tile), softcap)
    slope = scratch(g.size if capped and backward else 0, softcap)
    classes = _padded(class_weight, g, softcap)
    samples = scratch(width(tile), softcap)
    for block in range(start, stop):
        first, rows = place(g, block)
        load_block(x, g, first, rows, tile, -np.inf)
        if masked:
            load_block(where, g, first, rows, mask, 0.0)
            hide(tile, mask, g.size, -np.inf)
        if targets.size > 0:
            load_block(targets, g, first, rows, weight, 0.0)
        else:
            bad = _one_hot(weight, g, labels, ignoring, ignored, first, rows)
            reports[block, BAD] = bad + 1
        for base in range(0, used(g, rows, tile), g.panel):
            row = first + base // g.panel * width(tile)
            count = least(first + rows - row, width(tile))
            if capped:
                cap(tile, slope, base, g.steps, limit_at(softcap, row, count, room, g.across))
            scale = scale_at(temperature, row, count, room, g.across)
            _collect(samples, g, labels, targets.size == 0, sample_weight, ignoring, ignored, row, count)
            shares = _weigh(weight, mask, base, g, classes, samples, smoothing, masked)
            reduced = _forward(
                tile, weight, base, g, shares, scale, z_loss, undefined, reduction, loss, z_part, log_normalizer,
                reports[block], row, count,
            )  # fmt: skip
            if backward:
                _backward(tile, weight, base, g, shares, scale, reduced, z_loss, factor)
        if backward:
            if capped:
                multiply(tile, slope, g.size)
            store_block(tile, grad, g, first, rows)
        if hess.size > 0:
            store_block(weight, hess, g, first, rows)


@primitive
def _fill_valid(mask: Any, g: Any) -> None:
    """Tell classes from the padding of a panel."""
    for j in range(mask.size):
        mask[j] = 1.0 if j < g.n or not g.across else 0.0


@primitive
def _padded(class_weight: Any, g: Any, like: Any) -> Any:
    """Return the class weights, if any, with room for whole vectors."""
    classes = scratch((g.n + 64) // 64 * 64 if class_weight.size > 0 else 0, like)
    for j in range(classes.size):
        classes[j] = class_weight[j] if j < g.n else 0.0
    return classes


@primitive
def _one_hot(weight: Any, g: Any, labels: Any, ignoring: bool, ignored: int, first: int, rows: int) -> int:
    """Write the one-hot rows of a block to a tile; return the first row with a bad label or -1."""
    for at in range(0, g.size, width(weight)):
        store(weight, at, spread(weight, 0.0))
    first_bad = -1
    for i in range(rows):
        label, good = label_of(labels, first + i, g.n, ignoring, ignored)
        if good > 0:
            lanes = width(weight)
            weight[label if g.across else i // lanes * g.panel + label * lanes + i % lanes] = 1.0
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
            samples[i] = sample_weight[row + i] if sample_weight.size > 0 else 1.0
    if g.across:
        store(samples, 0, spread(samples, samples[0]))


@primitive
def _weigh(weight: Any, mask: Any, base: int, g: Any, classes: Any, samples: Any, smoothing: Any, masked: bool) -> Any:
    """Turn targets t into class_weight ((1 - smoothing) t + smoothing / K); return what they add up to."""
    lanes = width(weight)
    zero, one = spread(weight, 0.0), spread(weight, 1.0)
    sample = load(samples, 0)
    even = zero
    if mask.size > 0:
        valid = sum_of(mask, base, g.steps, g.across)
        sample = select(valid == zero, zero, sample)
        even = spread(weight, smoothing) / select(valid == zero, one, valid)
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
            if classes.size > 0:
                c = load(classes, step * lanes) if g.across else spread(weight, classes[step])
                share_part = share_part + c * t
                q = c * q
            store(weight, at, q)
            total_part = total_part + q
        share_high, share_low = add(share_high, share_low, share_part)
        total_high, total_low = add(total_high, total_low, total_part)
    share = sample
    if classes.size > 0:
        share = select(sample == zero, zero, sample * folded(weight, share_high, share_low, g.across))
    return Shares(sample, share, folded(weight, total_high, total_low, g.across))


@primitive
def _forward(
    tile: Any, weight: Any, base: int, g: Any, shares: Any, scale: Any, z_loss: float, undefined: float, reduction: int,
    loss: Any, z_part: Any, log_normalizer: Any, report: Any, row: int, count: int,
) -> Any:  # fmt: skip
    """Reduce the rows of a panel and hand in their losses."""
    zero = spread(tile, 0.0)
    top = peak(tile, base, g.steps, g.across)
    nans = nans_beside_infinity(tile, base, g.steps, top, g.across)
    rest = rest_of(tile, base, g.steps, top, scale, False, g.across)
    log_sum = log1p(rest)
    reduced = Row(top, rest, log_sum, log_z_of(top, log_sum, scale))
    emit(log_normalizer, row, count, normalizer(top, rest, nans, reduced.log_z))
    high, low = zero, zero
    end = base + g.steps * width(tile)
    for start in range(base, end, SPAN * width(tile)):
        part = zero
        for at in range(start, least(start + SPAN * width(tile), end), width(tile)):
            w = load(weight, at)
            v, _ = exponent(load(tile, at), top, scale)
            part = part + select(w == zero, zero, w * (log_sum - v))
        high, low = add(high, low, part)
    finish(
        report, reduced, g, folded(tile, high, low, g.across), shares.sample, shares.share, z_loss, undefined,
        reduction, loss, z_part, row, count,
    )  # fmt: skip
    return reduced


@primitive
def _backward(
    tile: Any, weight: Any, base: int, g: Any, shares: Any, scale: Any, row: Any, z_loss: float, factor: float
) -> None:
    """Replace logits by the gradient, p (A - w) - w (1 - p), and the weights by the diagonal Hessian, A p (1 - p)."""
    zero, one, dead = spread(tile, 0.0), spread(tile, 1.0), spread(tile, -np.inf)
    quiet = (row.rest < zero) | (shares.share == zero)
    high, low = reciprocal(select(quiet, one, one + row.rest))
    sample = shares.sample * spread(tile, factor) * scale.high
    pull = zero
    if z_loss != 0.0:
        pull = (
            select(shares.sample == zero, zero, shares.share / shares.sample) * spread(tile, 2.0 * z_loss) * row.log_z
        )
    for at in range(base, base + g.steps * width(tile), width(tile)):
        x, w = load(tile, at), load(weight, at)
        v, lost = exponent(x, row.top, scale)
        e = exp(v, lost)
        p = fma(e, high, e * low)
        complement = select(v == zero, row.rest * high, one - p)  # at the maximum 1 - p would cancel
        silent = quiet | (x == dead)
        gradient = fma(p, shares.total - w, fma(pull, p, zero - w * complement))
        store(tile, at, select(silent, zero, sample * gradient))
        store(weight, at, select(silent, zero, sample * (shares.total * (p * complement))))
