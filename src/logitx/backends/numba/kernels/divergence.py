"""kl_divergence and js_divergence: two arrays of logits read once, one number written a row."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import inlined, primitive, separate
from logitx.backends.numba.kernels.signature import Computed, Mask, OfLogits, OfLoss, OfOther, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, given, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.prefetch import ahead_of_both, fetch_ahead
from logitx.backends.numba.memory.scratch import after, load_lanes, store_lanes
from logitx.backends.numba.passes.copies import load_block
from logitx.backends.numba.passes.loop import Logits, Passes, RoomNeeds, define_passes, run_blocks
from logitx.backends.numba.passes.reduce import emit, hide, inverse_of_sum, peak, settle_rest
from logitx.backends.numba.passes.scaling import cap, exponent, limit_at
from logitx.backends.numba.passes.sums import SPAN_STEPS, add_to_sum, fold_rows
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import exp_of_sum, expm1, log1p_of_sum
from logitx.backends.numba.vectors.lanes import (
    any_of,
    biggest,
    fma,
    is_nan,
    least,
    maximum_of_two,
    select,
    spread_as,
    wide,
    width_of,
)

_NEAR = 0.5  # as in `formulas.divergences`
_LEAST_SHARE, _LEAST_OF_LOGS = 0.25, 0.0625  # 72 ulp off without the second, 30 with it
_SERIES = tuple(1.0 / math.factorial(k + 2) for k in range(15))


class DivergenceArrays(NamedTuple):
    """The arrays of `divergence_rows`; those of the options may be absent."""

    p: OfLogits
    q: OfOther
    where: Mask
    temperature: Wide
    softcap: Computed
    value: OfLoss


class DivergenceOptions(NamedTuple):
    """The numbers of `divergence_rows`."""

    axis: int
    undefined: bool  # a row in which nothing counts is NaN
    weight: float  # of p in the mixture m of js_divergence, in (0, 1)
    other: float  # 1 - weight


class DivergenceTask(NamedTuple):
    """The task of the loop."""

    room: Any
    q: Any
    where: Any
    softcap: Any
    adjusted: Any  # None if there is no mask and no softcap
    value: Any
    undefined: bool
    mixed: Any  # None for KL(p, q)
    weight: float
    other: float
    sloping: bool  # the derivatives of a softcap of the second are kept, behind its exponentials


class Distribution(NamedTuple):
    """The numbers of each row of one of the two."""

    nothing: Any
    log_sum: Any
    inverse: Any


class Gaps(NamedTuple):
    """Sums over a row of exp(v) of the first distribution times the difference of both exponents."""

    signed: Any
    absolute: Any  # of the size of the difference


class DivergenceNumbers(NamedTuple):
    """The numbers of each row."""

    total: Any
    p: Any
    q: Any


def divergence_rows(
    arrays: DivergenceArrays, options: DivergenceOptions, across: Way, adjusted: Way, mixed: Way, parts: int, crew: int
) -> int:
    """Write KL(p, q) of every row, or with `mixed` weight KL(p, m) + other KL(q, m), where m = weight p + other q."""
    p, fits_p = view_of_entries(arrays.p, options.axis)
    q, fits_q = view_beside(arrays.q, options.axis, p)
    where, fits_where = view_beside(arrays.where, options.axis, p)
    if not (fits_p and fits_q and fits_where):
        return UNFIT
    softcap = view_of_rows(arrays.softcap)
    logits = Logits(p, where, view_of_rows(arrays.temperature), softcap)
    room = RoomNeeds(0, 2, 0, False, False, 0.0)
    value, undefined, weight, other = view_of_rows(arrays.value), options.undefined, options.weight, options.other
    task = DivergenceTask(room, q, where, softcap, adjusted, value, undefined, mixed, weight, other, False)
    return OK if together(crew, job_of(run_blocks, (logits, task, across, adjusted, adjusted)), parts) else FAILED


@inlined
def load_second(memory: Any, g: Any, _block: int, first: int, count: int, across: Any, task: Any) -> None:
    """Load the logits of the second distribution behind those of the first."""
    load_block(task.q, g, first, count, memory.more, -np.inf, across)
    if task.adjusted is not None and given(task.where):
        hide(memory.more, memory.mask, g.size, -np.inf)


@inlined
def reduce_divergence(panel: Any, across: Any, task: Any) -> Any:
    """Reduce both distributions to numbers and the sum over the row; three tiles hold what `finish` needs."""
    tile, other, base, steps = panel.memory.tile, panel.memory.more, panel.base, panel.g.steps
    if task.adjusted is not None and given(task.softcap):
        limit = limit_at(task.softcap, panel.row, panel.rows, panel.memory.scales, across)
        cap(other, after(other, 2 * panel.g.size), task.sloping, base, steps, limit)
    ahead = ahead_of_both(panel.x, task.q, panel.g, panel.first, panel.nth, tile, across)
    top_p = peak(tile, base, steps, panel.seen, panel.unchanged, across)
    top_q = peak(other, base, steps, panel.seen, False, across)
    p, q, gaps = _reduce_both(panel, top_p, top_q, ahead, across)
    if task.mixed is not None:
        total = _sum_of_terms(panel, p, q, across, task)
    else:
        total, cancels = _plain_divergence(p, q, gaps)
        if any_of(cancels):
            total = select(cancels, _sum_of_terms(panel, p, q, across, task), total)
    return DivergenceNumbers(total, p, q)


@primitive
def _plain_divergence(p: Any, q: Any, gaps: Any) -> Any:
    """Return the plain sum of p log(p / q) of each row, and the rows in which digits cancel, or which are not finite.

    Digits cancel where the sum is less than `_LEAST_SHARE` of the sum of sizes, or than `_LEAST_OF_LOGS` of the
    logarithms of both normalizers, whose difference is part of it.
    """
    shift = q.log_sum - p.log_sum
    found = fma(gaps.signed, p.inverse, shift)
    zero, infinity = spread_as(found, 0.0), spread_as(found, np.inf)
    size = gaps.absolute * p.inverse + select(shift < zero, zero - shift, shift)
    logs = spread_as(found, _LEAST_OF_LOGS) * (p.log_sum + q.log_sum)
    bound = maximum_of_two(spread_as(found, _LEAST_SHARE) * size, logs)
    return found, (found <= bound) | (infinity <= found) | is_nan(found)


@primitive
def _reduce_both(panel: Any, top_p: Any, top_q: Any, ahead: Any, across: Any) -> Any:
    """Return both distributions and `Gaps`; exponentials of the first take its place, of the second go to `third`.

    The place of the second gets the differences of the exponents.
    """
    tile, other, base, steps, scale = panel.memory.tile, panel.memory.more, panel.base, panel.g.steps, panel.scale
    third, zero = after(other, panel.g.size), spread_as(tile, 0.0)
    high_p, low_p, tops_p, high_q, low_q, tops_q = zero, zero, zero, zero, zero, zero
    signed, lost_signed, absolute = zero, zero, zero
    end = base + steps * width_of(tile)
    for start in range(base, end, SPAN_STEPS * width_of(tile)):
        stop = least(start + SPAN_STEPS * width_of(tile), end)
        found = _reduce_span(tile, other, third, base, start, stop, top_p, top_q, scale, ahead)
        part_p, part_q, more_p, more_q, part, size = found
        tops_p, tops_q, absolute = tops_p + more_p, tops_q + more_q, absolute + size
        high_p, low_p = add_to_sum(high_p, low_p, part_p)
        high_q, low_q = add_to_sum(high_q, low_q, part_q)
        signed, lost_signed = add_to_sum(signed, lost_signed, part)
    rest_p, lost_p = settle_rest(high_p, low_p, tops_p, across)
    rest_q, lost_q = settle_rest(high_q, low_q, tops_q, across)
    gaps = Gaps(fold_rows(signed, lost_signed, across), fold_rows(absolute, zero, across))
    return _distribution(rest_p, lost_p), _distribution(rest_q, lost_q), gaps


@separate
def _reduce_span(
    tile: Any, other: Any, third: Any, base: int, start: int, stop: int, top_p: Any, top_q: Any, scale: Any, ahead: Any
) -> Any:
    """Return the sums of a span, of each distribution those of exponentials below 1 and of 1, then those of `Gaps`."""
    zero, one = spread_as(tile, 0.0), spread_as(tile, 1.0)
    part_p, part_q, tops_p, tops_q, signed, absolute = zero, zero, zero, zero, zero, zero
    for at in range(start, stop, width_of(tile)):
        vx, lost_x = exponent(load_lanes(tile, at), top_p, scale)
        vy, lost_y = exponent(load_lanes(other, at), top_q, scale)
        fetch_ahead((at - base) // width_of(tile), ahead)
        x, y = exp_of_sum(vx, lost_x), exp_of_sum(vy, lost_y)
        store_lanes(tile, at, x)
        store_lanes(third, at, y)
        gap = vx - vy
        finite = gap - gap == zero  # else what was lost is NaN
        gap = gap + select(finite, lost_x - lost_y, zero)
        store_lanes(other, at, gap)
        term = select(x == zero, zero, x * gap)
        signed, absolute = signed + term, absolute + select(term < zero, zero - term, term)
        top_x, top_y = x == one, y == one
        part_p, part_q = select(top_x, part_p, part_p + x), select(top_y, part_q, part_q + y)
        tops_p, tops_q = select(top_x, tops_p + one, tops_p), select(top_y, tops_q + one, tops_q)
    return part_p, part_q, tops_p, tops_q, signed, absolute


@primitive
def _distribution(rest: Any, lost: Any) -> Any:
    zero = spread_as(rest, 0.0)
    nothing = rest < zero
    rest = select(nothing, zero, rest)
    inverse, _ = inverse_of_sum(rest, lost)
    return Distribution(nothing, log1p_of_sum(rest, lost), inverse)


@primitive
def _sum_of_terms(panel: Any, p: Any, q: Any, across: Any, task: Any) -> Any:
    tile, other, base, steps = panel.memory.tile, panel.memory.more, panel.base, panel.g.steps
    third = after(other, panel.g.size)
    zero, high, low = spread_as(tile, 0.0), spread_as(tile, 0.0), spread_as(tile, 0.0)
    shift, end = wide(zero, q.log_sum - p.log_sum), base + steps * width_of(tile)
    for start in range(base, end, SPAN_STEPS * width_of(tile)):
        part = zero
        for at in range(start, least(start + SPAN_STEPS * width_of(tile), end), width_of(tile)):
            one, two = load_lanes(tile, at) * wide(zero, p.inverse), load_lanes(third, at) * wide(zero, q.inverse)
            if task.mixed is None:
                part = part + _term(one, two, load_lanes(other, at) + shift)
            else:
                part = part + _mixed_term(one, two, load_lanes(other, at) + shift, task.weight, task.other)
        high, low = add_to_sum(high, low, part)
    return fold_rows(high, low, across)


@primitive
def _term(p: Any, q: Any, d: Any) -> Any:
    """Return q - p + p d: infinite where q is 0 and p is not, as d is, and q where p is 0, whatever d is."""
    return select(p == spread_as(p, 0.0), q, _gap(p, q, d))


@primitive
def _mixed_term(p: Any, q: Any, d: Any, weight: float, other: float) -> Any:
    """Return weight (m - p + p log(p / m)) + other (m - q + q log(q / m)); `d` is log(p / q)."""
    zero, of_p, of_q = spread_as(p, 0.0), spread_as(p, weight), spread_as(p, other)
    log_p, log_q = logs_over_mixture(d, weight, other)
    m = of_p * p + of_q * q
    together = of_p * _gap(p, m, log_p) + of_q * _gap(q, m, log_q)
    only_p, only_q = p * spread_as(p, -weight * math.log(weight)), q * spread_as(p, -other * math.log(other))
    return select(p == zero, only_q, select(q == zero, only_p, together))


@primitive
def logs_over_mixture(d: Any, weight: float, other: float) -> Any:
    """Return log(p / m) and log(q / m), where `d` is log(p / q) and finite, and m = weight p + other q."""
    zero, one, of_p, of_q = spread_as(d, 0.0), spread_as(d, 1.0), spread_as(d, weight), spread_as(d, other)
    rises = d > zero
    down = select(rises, zero - d, d)
    part, kept = select(rises, of_q, of_p), select(rises, of_p, of_q)
    change = part * expm1(down)
    inverse = one / (kept + part * exp_of_sum(down, zero))  # of 1 + change, which cancels near -1
    near = change > spread_as(d, -0.5)
    larger = log1p_of_sum(select(near, change, inverse - one), zero)
    larger = select(near, zero - larger, larger)
    return select(rises, larger, larger + d), select(rises, larger - d, larger)


@primitive
def _gap(p: Any, m: Any, t: Any) -> Any:
    """Return m - p + p t, where t = log(p / m); by a series where t is small, as the sum would cancel."""
    zero = spread_as(p, 0.0)
    size = select(t < zero, zero - t, t)
    near = size < spread_as(p, _NEAR)
    series = spread_as(p, _SERIES[8]) if biggest(p) < 1e39 else _long_series(t)
    for k in range(7, -1, -1):
        series = fma(zero - t, series, spread_as(p, _SERIES[k]))
    return select(near, p * (t * t * series), (m - p) + p * t)


@primitive
def _long_series(d: Any) -> Any:
    """Return the part of the series that float64 needs beyond that of float32."""
    series = spread_as(d, _SERIES[14])
    for k in range(13, 7, -1):
        series = fma(spread_as(d, 0.0) - d, series, spread_as(d, _SERIES[k]))
    return series


@inlined
def _emit_divergence(panel: Any, found: Any, _across: Any, task: Any) -> bool:
    zero, nan = spread_as(found.total, 0.0), spread_as(found.total, np.nan)
    value = found.total
    if task.mixed is None:
        value = select(found.p.nothing, select(value == value, zero, nan), value)
    if task.undefined:
        value = select(found.p.nothing, nan, select(found.q.nothing, nan, value))
    emit(task.value, panel.row, panel.rows, value)
    return True


define_passes(DivergenceTask, Passes(None, load_second, reduce_divergence, _emit_divergence, None))
