"""Cross-entropy where every class of a row may have a share: probabilities as targets, or smoothed class ids.

A second tile holds the weight of every class, ``class_weight * q``; the formulas are those of the loss as documented.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.signature import Computed, Ids, Mask, OfLogits, OfLoss, OfOther, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, UNFIT, given, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.load_store import number_at
from logitx.backends.numba.memory.prefetch import ahead_of
from logitx.backends.numba.memory.scratch import (
    after,
    is_missing,
    load_lanes,
    place_one,
    release,
    store_lanes,
    take_one,
)
from logitx.backends.numba.passes.blocks import geometry_of, load_per_row
from logitx.backends.numba.passes.class_ids import LabelRule, all_masked, entry, label_of, place_in_panel
from logitx.backends.numba.passes.copies import load_block, store_block
from logitx.backends.numba.passes.finish import complement_of
from logitx.backends.numba.passes.loop import (
    Logits,
    Passes,
    RoomNeeds,
    define_passes,
    run_blocks,
)
from logitx.backends.numba.passes.loss import (
    LossNumbers,
    Weights,
    finish_loss,
    has_room,
    logarithms_of,
    losses_to_write,
    place_of,
)
from logitx.backends.numba.passes.reduce import (
    emit,
    inverse_of_sum,
    log_normalizer_of,
    nans_beside_infinity,
    peak,
    rest_of,
)
from logitx.backends.numba.passes.reports import MEAN, blank_reports, mean_factor, report_bad, settle_all
from logitx.backends.numba.passes.scaling import exponent
from logitx.backends.numba.passes.sums import SPAN_STEPS, add_to_sum, fold_rows, sum_of
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import exp_of_sum
from logitx.backends.numba.vectors.lanes import cast_as, fma, least, select, spread_as, wide, width_of


class SoftArrays(NamedTuple):
    """The arrays of `soft`; targets, or else labels, logits and loss are there, the others may be absent."""

    logits: OfLogits
    targets: OfOther
    labels: Ids
    class_weight: Computed
    sample_weight: Computed
    where: Mask
    temperature: Wide
    softcap: Computed
    grad: OfResult
    hess: OfResult
    loss: OfLoss
    z_part: OfLoss
    log_normalizer: OfLoss


class SoftTask(NamedTuple):
    """The task of the loop."""

    room: Any
    targets: Any  # absent if there are class ids
    labels: Any
    losses: Any
    out: Any  # the gradient, if wanted
    hess: Any
    smoothing: Any  # in the dtype to compute in
    factor: float


class RowWeights(NamedTuple):
    """What the targets of a panel add up to, a number a row."""

    sample: Any  # weight of the row
    share: Any  # sample weight times class weight, the row's part of the denominator
    total: Any  # sum of class_weight q


class WeightedRow(NamedTuple):
    """The numbers of each row."""

    reduced: Any
    weights: Any


def soft(arrays: SoftArrays, numbers: LossNumbers, across: Way, parts: int, crew: int) -> Any:
    """Write losses, or their sum or mean, and what else is not None; return a bad row or a code of `arguments`.

    For a mean the gradient is divided by the sum of shares.
    """
    x, fits_x = view_of_entries(arrays.logits, numbers.axis)
    targets, fits_targets = view_beside(arrays.targets, numbers.axis, x)
    where, fits_where = view_beside(arrays.where, numbers.axis, x)
    grad, fits_grad = view_beside(arrays.grad, numbers.axis, x)
    hess, fits_hess = view_beside(arrays.hess, numbers.axis, x)
    fit = fits_x and fits_targets and fits_where and fits_grad and fits_hess
    if not (fit and has_room(arrays, numbers, x)):
        return UNFIT
    logits = Logits(x, where, view_of_rows(arrays.temperature), view_of_rows(arrays.softcap))
    labels = LabelRule(
        view_of_rows(arrays.labels),
        numbers.ignoring,
        numbers.ignored,
        view_of_rows(arrays.class_weight),
        view_of_rows(arrays.sample_weight),
        where,
        True,
    )
    g = geometry_of(x, logits.softcap, across)
    factor = 1.0
    if numbers.reduction == MEAN and given(grad):
        share, bad = _sum_of_shares(g, targets, labels, logits.softcap)
        if bad >= 0:
            return bad
        factor = mean_factor(share)
    reports = blank_reports(g.blocks, logits.temperature)
    if is_missing(reports):
        return FAILED
    losses, smoothing = losses_to_write(arrays, reports, numbers), cast_as(numbers.smoothing, logits.softcap)
    lanes = width_of(
        logits.softcap
    )  # for the sample weights; then a tile for those of classes in rows, and class weights
    padded = given(labels.class_weight) * ((g.n + lanes - 1) // lanes * lanes)
    room = RoomNeeds(1, 1, padded, smoothing > 0.0, given(grad), 0.0)
    task = SoftTask(room, targets, labels, losses, grad, hess, smoothing, factor)
    code = FAILED
    if together(crew, job_of(run_blocks, (logits, task, across, True, True)), parts):
        code = settle_all(reports, g.blocks, losses)
    release(reports)
    return code


@primitive
def _sum_of_shares(g: Any, targets: Any, labels: Any, like: Any) -> Any:
    """Return the sum of shares over counted rows, and the first bad row or -1."""
    total, class_weight = 0.0, labels.class_weight
    for row in range(g.outer * g.inner):
        label, good = label_of(labels, row, g.n) if not given(targets) else (0, 1)
        if good < 0:
            return total, row
        if good > 0 and not all_masked(labels.where, g, row, like):
            share = 1.0
            if given(class_weight) and not given(targets):
                share = float(number_at(class_weight, label, like))
            elif given(class_weight):
                share = 0.0
                for j in range(g.n):
                    share += number_at(class_weight, j, like) * entry(targets, g, row, j, like)
            if given(labels.sample_weight):
                weight = number_at(labels.sample_weight, row, like)
                share = 0.0 if weight == 0.0 else share * weight
            total += share
    return total, -1


@inlined
def _begin_weighted(memory: Any, g: Any, across: Any, task: Any) -> None:
    """Count every class where there is no mask; collect the class weights."""
    if task.smoothing > 0.0 and not given(task.labels.where):
        _fill_valid(memory.mask, g, across)
    if given(task.labels.class_weight):
        lanes = width_of(memory.tile)
        _pad(after(memory.more, g.size), task.labels.class_weight, g.n, (g.n + lanes - 1) // lanes * lanes)


@primitive
def _fill_valid(mask: Any, g: Any, across: Any) -> None:
    """Tell classes from the padding of a panel."""
    for j in range(g.size):
        place_one(mask, j, 1.0 if across is None or j < g.n else 0.0)


@primitive
def _pad(classes: Any, class_weight: Any, n: int, padded: int) -> None:
    """Fill a tile with the class weights, and what is left of the last vector with 0."""
    for j in range(padded):
        place_one(classes, j, number_at(class_weight, j, classes) if j < n else 0.0)


@inlined
def _load_weights(memory: Any, g: Any, block: int, first: int, count: int, across: Any, task: Any) -> None:
    """Load the targets of a block."""
    if given(task.targets):
        load_block(task.targets, g, first, count, memory.more, 0.0, across)
    else:
        bad = _load_one_hot(memory.more, g, task.labels, first, count, across)
        report_bad(task.losses.reports, block, bad)


@primitive
def _load_one_hot(weight: Any, g: Any, labels: Any, first: int, count: int, across: Any) -> int:
    """Write the one-hot rows of a block to a tile; return the first row with a bad label or -1."""
    for at in range(0, g.size, width_of(weight)):
        store_lanes(weight, at, spread_as(weight, 0.0))
    first_bad = -1
    for i in range(count):
        label, good = label_of(labels, first + i, g.n)
        if good > 0:
            lanes = width_of(weight)
            at = i // lanes * g.panel + place_in_panel(label, i % lanes, weight, across)
            place_one(weight, at, 1.0)
        elif good < 0 and first_bad < 0:
            first_bad = first + i
    return first_bad


@inlined
def _collect_samples(panel: Any, task: Any) -> None:
    """Put the weight of each row of a panel into lanes: 0 for ignored rows and lanes without a row."""
    samples, sample_weight = panel.memory.numbers, task.labels.sample_weight
    store_lanes(samples, 0, spread_as(samples, 0.0))
    for i in range(panel.rows):
        good = 1
        if not given(task.targets):
            _, good = label_of(task.labels, panel.row + i, panel.g.n)
        if good > 0:
            weight = number_at(sample_weight, panel.row + i, samples) if given(sample_weight) else 1.0
            place_one(samples, i, weight)


@primitive
def _weigh_targets(panel: Any, across: Any, task: Any) -> Any:
    """Turn targets t into class_weight ((1 - smoothing) t + smoothing / K); return what they add up to."""
    weight, mask, base, g = panel.memory.more, panel.memory.mask, panel.base, panel.g
    classes, smoothing, weighted = after(weight, g.size), task.smoothing, given(task.labels.class_weight)
    lanes = width_of(weight)
    zero, one = spread_as(weight, 0.0), spread_as(weight, 1.0)
    sample = load_per_row(panel.memory.numbers, 0, across)
    none, uniform = spread_as(sample, 0.0), spread_as(sample, 0.0)
    if panel.masked or smoothing > 0.0:
        valid = sum_of(mask, base, g.steps, across)
        sample = select(valid == none, none, sample)
        uniform = spread_as(sample, smoothing) / select(valid == none, spread_as(valid, 1.0), valid)
    even = wide(weight, uniform)
    keep = one - spread_as(weight, smoothing)
    share_high, share_low, total_high, total_low = zero, zero, zero, zero
    for start in range(0, g.steps, SPAN_STEPS):
        share_part, total_part = zero, zero
        for step in range(start, least(start + SPAN_STEPS, g.steps)):
            at = base + step * lanes
            t = load_lanes(weight, at)
            q = t
            if smoothing > 0.0:
                q = fma(keep, t, even * load_lanes(mask, at))
            if weighted:
                c = (
                    load_lanes(classes, step * lanes)
                    if across is not None
                    else spread_as(weight, take_one(classes, step))
                )
                share_part = share_part + c * t
                q = c * q
            store_lanes(weight, at, q)
            total_part = total_part + q
        share_high, share_low = add_to_sum(share_high, share_low, share_part)
        total_high, total_low = add_to_sum(total_high, total_low, total_part)
    share = sample
    if weighted:
        share = select(sample == none, none, sample * fold_rows(share_high, share_low, across))
    return RowWeights(sample, share, fold_rows(total_high, total_low, across))


@inlined
def _reduce_weighted(panel: Any, across: Any, task: Any) -> Any:
    """Reduce the rows of a panel and hand in their losses."""
    tile, base, steps = panel.memory.tile, panel.base, panel.g.steps
    _collect_samples(panel, task)
    weights = _weigh_targets(panel, across, task)
    top = peak(panel.memory.tile, panel.base, panel.g.steps, panel.seen, panel.unchanged, across)
    nans = nans_beside_infinity(tile, base, steps, top, across)
    rest, lost = rest_of(
        tile,
        base,
        steps,
        top,
        panel.scale,
        True,
        ahead_of(panel.x, panel.g, panel.first, panel.nth, panel.memory.tile, across),
        across,
    )
    reduced, losses = logarithms_of(top, rest, lost, panel.scale), task.losses
    emit(losses.log_normalizer, panel.row, panel.rows, log_normalizer_of(top, rest, nans, reduced.log_z))
    terms = _terms_of_loss(panel, reduced, across)
    finish_loss(losses, place_of(panel), reduced, terms, Weights(weights.sample, weights.share))
    return WeightedRow(reduced, weights)


@primitive
def _terms_of_loss(panel: Any, reduced: Any, across: Any) -> Any:
    """Return the sum of weights times (log of the sum - (x - max) / temperature)."""
    tile, weight, base = panel.memory.tile, panel.memory.more, panel.base
    zero = spread_as(tile, 0.0)
    high, low, sum_of_logs = zero, zero, wide(tile, reduced.log_sum)
    end = base + panel.g.steps * width_of(tile)
    for start in range(base, end, SPAN_STEPS * width_of(tile)):
        part = zero
        for at in range(start, least(start + SPAN_STEPS * width_of(tile), end), width_of(tile)):
            w = load_lanes(weight, at)
            v, _ = exponent(load_lanes(tile, at), reduced.top, panel.scale)
            part = fma(w, select(w == zero, zero, sum_of_logs - v), part)
        high, low = add_to_sum(high, low, part)
    return fold_rows(high, low, across)


@inlined
def _finish_weighted(panel: Any, row: Any, _across: Any, task: Any) -> bool:
    wanted: bool = given(task.out) or given(task.hess)
    if given(task.out):
        _differentiate_probabilities(panel, row.reduced, row.weights, task)
    return not wanted


@primitive
def _differentiate_probabilities(panel: Any, row: Any, shares: Any, task: Any) -> None:
    """Replace logits by the gradient, p (A - w) - w (1 - p), and the weights by the diagonal Hessian, A p (1 - p)."""
    tile, weight, base, z_loss = panel.memory.tile, panel.memory.more, panel.base, task.losses.z_loss
    zero, dead = spread_as(tile, 0.0), spread_as(tile, -np.inf)
    none = spread_as(shares.share, 0.0)
    quiet = (row.rest < none) | (shares.share == none)
    divisor = inverse_of_sum(select(quiet, none, row.rest), row.lost)
    pulled = none
    if z_loss != 0.0:
        average = select(shares.sample == none, none, shares.share / shares.sample)
        pulled = average * spread_as(none, 2.0 * z_loss) * row.log_z
    sample = wide(tile, shares.sample * spread_as(none, task.factor) * panel.scale.high)
    high, low, pull, total = (
        wide(tile, divisor[0]),
        wide(tile, divisor[1]),
        wide(tile, pulled),
        wide(tile, shares.total),
    )
    others, hushed = wide(tile, fma(row.rest, divisor[0], row.rest * divisor[1])), wide(tile, quiet)
    for at in range(base, base + panel.g.steps * width_of(tile), width_of(tile)):
        x, w = load_lanes(tile, at), load_lanes(weight, at)
        v, lost = exponent(x, row.top, panel.scale)
        e = exp_of_sum(v, lost)
        p = fma(e, high, e * low)
        complement = complement_of(p, v, others)
        silent = hushed | (x == dead)
        gradient = fma(p, total - w, fma(pull, p, zero - w * complement))
        store_lanes(tile, at, select(silent, zero, sample * gradient))
        store_lanes(weight, at, select(silent, zero, sample * (total * (p * complement))))


@inlined
def _store_weighted(memory: Any, g: Any, first: int, count: int, across: Any, task: Any) -> None:
    if given(task.out):
        store_block(memory.tile, task.out, g, first, count, across)
    if given(task.hess):
        store_block(memory.more, task.hess, g, first, count, across)


define_passes(
    SoftTask,
    Passes(_begin_weighted, _load_weights, _reduce_weighted, _finish_weighted, _store_weighted),
)
