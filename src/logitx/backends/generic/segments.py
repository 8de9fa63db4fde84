"""Softmax, log-softmax, log-sum-exp and cross-entropy of segments: rows that lie one after another along one axis.

Entries are sorted by segment, if they are not already. Maxima and sums of all segments are made in log2(n) steps: each
step combines every entry with the one that is 1, 2, 4, ... places before it, if that is of the same segment. So a sum
is added up in pairs, and it is the same on every device and for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import known_values, namespace_dtype
from logitx._plan import Array, Plan
from logitx.backends.formulas.numbers import empty_value, mean_of, quiet, to_compute, to_result


class Segments(NamedTuple):
    """Which entries belong to which segment, sorted by segment; None for the orders if entries are sorted as given."""

    xp: Any
    plan: Plan
    order: Array  # the place of each sorted entry in the given array
    inverse: Array  # the place of each given entry among the sorted ones
    ids: Array  # the segment of each sorted entry, 0 to S - 1
    stray: Array  # sorted entries whose id was out of range; None: there are none
    last: Array  # the place of the last sorted entry of each segment, 0 where there is none
    vacant: Array  # segments without an entry

    def along(self, x: Array) -> Array:
        """Return a vector of one number an entry, or a segment, so that it broadcasts along the axis of segments."""
        lay = self.plan.layout
        return self.xp.reshape(x, tuple(x.shape[0] if d == lay.axis else 1 for d in range(len(lay.shape))))

    def sort(self, x: Array) -> Array:
        """Return an array of the shape of the logits, sorted by segment."""
        return x if self.order is None or x is None else self.xp.take(x, self.order, axis=self.plan.layout.axis)

    def unsort(self, x: Array) -> Array:
        """Undo `sort`."""
        return x if self.order is None else self.xp.take(x, self.inverse, axis=self.plan.layout.axis)

    def spread(self, x: Array) -> Array:
        """Return numbers of segments as numbers of sorted entries."""
        return self.xp.take(x, self.ids, axis=self.plan.layout.axis)

    def combined(self, x: Array, combine: Callable[[Array, Array], Array], nothing: float) -> Array:
        """Combine the sorted entries of each segment; `nothing` for a segment without entries."""
        xp, axis, n = self.xp, self.plan.layout.axis, self.plan.layout.n
        before = (slice(None),) * axis
        step = 1
        while step < n:
            late, early = x[(*before, slice(step, None), ...)], x[(*before, slice(None, n - step), ...)]
            alike = self.along(self.ids[step:] == self.ids[: n - step])
            late = xp.where(alike, combine(late, early), late)
            x = xp.concat([x[(*before, slice(None, step), ...)], late], axis=axis)
            step *= 2
        return xp.where(self.along(self.vacant), nothing, xp.take(x, self.last, axis=axis))

    def total(self, x: Array) -> Array:
        """Sum the sorted entries of each segment."""
        return self.combined(x, lambda a, b: a + b, 0.0)

    def largest(self, x: Array) -> Array:
        """Return the largest of the sorted entries of each segment."""
        return self.combined(x, self.xp.maximum, -self.xp.inf)


def segments_of(plan: Plan, x: Array, ids: Array, offsets: Array) -> Segments:
    """Find the segment of each entry, from ids or from offsets."""
    family, n, count = FAMILIES[plan.family], plan.layout.n, plan.segments
    xp = family.namespace(x)
    kind, device = namespace_dtype(xp, "int64"), family.device(x)
    place = {} if device is None else {"device": device}
    order = inverse = stray = None
    if offsets is not None:
        offsets = xp.astype(offsets, kind, copy=False)
        starts, ends = offsets[:-1], offsets[1:]
        ids = xp.searchsorted(ends, xp.arange(n, dtype=kind, **place), side="right")  # as many segments end before it
    else:
        known = known_values(family, ids)
        if known is None or not (known[1:] >= known[:-1]).all():
            order = xp.argsort(xp.astype(ids, kind, copy=False), stable=True)
            inverse = xp.argsort(order)
            ids = xp.take(ids, order, axis=0)
        ids = xp.astype(ids, kind, copy=False)
        every = xp.arange(count, dtype=kind, **place)
        starts, ends = (xp.searchsorted(ids, every, side=side) for side in ("left", "right"))
        stray = None if known is not None else (ids < 0) | (ids >= count)
    ids = xp.where(ids < 0, xp.zeros_like(ids), xp.where(ids >= count, xp.zeros_like(ids) + (count - 1), ids))
    vacant = ends <= starts
    last = xp.where(vacant, xp.zeros_like(ends), ends - 1)
    return Segments(xp, plan, order, inverse, xp.astype(ids, kind, copy=False), stray, last, vacant)


Find = Callable[[Plan, Array, Array, Array], Segments]


class ReducedSegments(NamedTuple):
    """Segments reduced to (max, sum of exp(x - max)), as `rows.ReducedRows`; entries are sorted by segment."""

    valid: Array  # entries that are not masked; None: all
    gate: Array  # entries that count
    peak: Array  # of each segment
    scaled: Array  # x - peak, <= 0; 0 outside the gate
    e: Array  # exp(scaled); 0 outside the gate
    total: Array  # of each segment, 1 + rest
    log_total: Array
    poison: Array  # segments with a NaN or +inf
    nothing: Array  # segments in which nothing counts


def reduce_segments(segments: Segments, x: Array, where: Array) -> ReducedSegments:
    """Reduce segments; `x` and `where` are sorted."""
    xp, plan = segments.xp, segments.plan
    detach = FAMILIES[plan.family].detach
    x = to_compute(plan, x)
    live = x != -xp.inf
    if where is not None:
        live = live & where
    if segments.stray is not None:
        live = live & ~segments.along(segments.stray)
    found = detach(xp.where(live, xp.where(xp.isnan(x), xp.inf, x), -xp.inf))
    worst = segments.largest(found)
    poison, nothing = worst == xp.inf, worst == -xp.inf
    gate = live & ~segments.spread(poison)
    peak = xp.where(nothing | poison, 0.0, worst)
    at = segments.spread(peak)
    top = gate & (found == at)
    x = xp.where(gate, x, 0.0)
    scaled = xp.where(gate, x - at, 0.0)
    scaled = scaled - detach(xp.where(top, scaled, 0.0))
    e = xp.where(gate, xp.exp(scaled), 0.0)
    tops = segments.total(to_compute(plan, top))
    rest = segments.total(xp.where(top, 0.0, detach(e))) + xp.where(tops > 0.0, tops - 1.0, 0.0)
    total = xp.where(nothing | poison, 1.0, segments.total(e))
    # Values from 1 + rest and log1p(rest), derivatives from the plain sum, as in `rows`
    log_total = xp.log(total)
    total = total + ((1.0 + rest) - detach(total))
    log_total = log_total + (xp.log1p(rest) - detach(log_total))
    return ReducedSegments(where, gate, peak, scaled, e, total, log_total, poison, nothing)


def _finished(segments: Segments, found: ReducedSegments, y: Array, dead: float) -> Array:
    """Return probabilities or their logarithms in the given order, after the special values."""
    xp, plan = segments.xp, segments.plan
    undefined = found.poison | found.nothing if plan.empty == "nan" else found.poison
    y = xp.where(found.gate, y, dead)
    y = xp.where(segments.spread(undefined), xp.nan, y)
    if found.valid is not None:
        y = xp.where(found.valid, y, dead)
    if segments.stray is not None:
        y = xp.where(segments.along(segments.stray), xp.nan, y)
    return to_result(plan, segments.unsort(y), 0.0, None)


@quiet
def softmax_of(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array, find: Find) -> Array:
    """exp(x - max) / sum of exp(x - max) of each segment."""
    if plan.layout.n == 0:
        return to_result(plan, x, 0.0, None)
    segments = find(plan, x, ids, offsets)
    found = reduce_segments(segments, segments.sort(x), segments.sort(where))
    return _finished(segments, found, found.e / segments.spread(found.total), 0.0)


@quiet
def log_softmax_of(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array, find: Find) -> Array:
    """(x - max) - log(sum of exp(x - max)) of each segment."""
    if plan.layout.n == 0:
        return to_result(plan, x, 0.0, None)
    segments = find(plan, x, ids, offsets)
    found = reduce_segments(segments, segments.sort(x), segments.sort(where))
    return _finished(segments, found, found.scaled - segments.spread(found.log_total), -segments.xp.inf)


def _without_entries(plan: Plan, x: Array, value: float) -> Array:
    """Return `value` for every segment, of logits without entries."""
    xp, lay = FAMILIES[plan.family].namespace(x), plan.layout
    shape = tuple(plan.segments if d == lay.axis else length for d, length in enumerate(lay.shape))
    return xp.broadcast_to(xp.sum(to_compute(plan, x), axis=lay.axis, keepdims=True) + value, shape)


@quiet
def logsumexp_of(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array, find: Find) -> Array:
    """max + log(sum of exp(x - max)) of each segment."""
    xp = FAMILIES[plan.family].namespace(x)
    if plan.layout.n == 0:
        return to_result(plan, _without_entries(plan, x, -xp.inf), 0.0, None)
    segments = find(plan, x, ids, offsets)
    x, where = segments.sort(x), segments.sort(where)
    found = reduce_segments(segments, x, where)
    nan = xp.isnan(to_compute(plan, x)) if where is None else xp.isnan(to_compute(plan, x)) & where
    if segments.stray is not None:
        nan = nan & ~segments.along(segments.stray)
    value = xp.where(found.nothing, -xp.inf, found.peak + found.log_total)
    value = xp.where(found.poison, xp.inf, value)
    return to_result(plan, xp.where(segments.total(to_compute(plan, nan)) > 0.0, xp.nan, value), 0.0, None)


@quiet
def cross_entropy_of(
    plan: Plan, x: Array, targets: Array, ids: Array, offsets: Array, where: Array, find: Find
) -> tuple[Array, Array]:
    """Sum of t ((max - x) + log(sum)) of each segment, reduced; and which segments count."""
    xp = FAMILIES[plan.family].namespace(x)
    if plan.layout.n == 0:
        loss = _without_entries(plan, x, 0.0)
        return _reduced(plan, xp, loss, loss)
    segments = find(plan, x, ids, offsets)
    found = reduce_segments(segments, segments.sort(x), segments.sort(where))
    t = segments.sort(to_compute(plan, targets))
    used, valid = found.gate, xp.ones_like(t) if found.valid is None else to_compute(plan, found.valid)
    impossible = (t > 0.0) & ~found.gate
    if segments.stray is not None:
        stray = segments.along(segments.stray)
        t, valid, impossible = xp.where(stray, 0.0, t), xp.where(stray, 0.0, valid), impossible & ~stray
    used = used & ((t != 0.0) | (found.scaled > -xp.inf))
    terms = xp.where(used, t * xp.where(used, found.scaled, 0.0), 0.0)
    loss = segments.total(t) * found.log_total - segments.total(terms)
    loss = xp.where(segments.total(to_compute(plan, impossible)) > 0.0, xp.inf, loss)
    loss = xp.where(found.nothing, empty_value(plan), loss)
    loss = xp.where(found.poison, xp.nan, loss)
    counted = segments.total(valid) > 0.0  # a segment without an unmasked entry has no loss
    return _reduced(plan, xp, xp.where(counted, loss, 0.0), to_compute(plan, counted))


def _reduced(plan: Plan, xp: Any, loss: Array, counted: Array) -> tuple[Array, Array]:
    kind = namespace_dtype(xp, plan.loss)
    if plan.reduction != "none":
        loss, counted = xp.sum(loss), xp.sum(counted)
    if plan.reduction == "mean":
        loss = mean_of(xp, loss, counted, empty_value(plan))
    return xp.astype(loss, kind, copy=False), counted


def segment_softmax(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """exp(x - max) / sum of exp(x - max) of each segment."""
    return softmax_of(plan, x, ids, offsets, where, segments_of)


def segment_log_softmax(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """(x - max) - log(sum of exp(x - max)) of each segment."""
    return log_softmax_of(plan, x, ids, offsets, where, segments_of)


def segment_logsumexp(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """max + log(sum of exp(x - max)) of each segment."""
    return logsumexp_of(plan, x, ids, offsets, where, segments_of)


def segment_cross_entropy(
    plan: Plan, x: Array, targets: Array, ids: Array, offsets: Array, where: Array
) -> tuple[Array, Array]:
    """Sum of t ((max - x) + log(sum)) of each segment, reduced; and which segments count."""
    return cross_entropy_of(plan, x, targets, ids, offsets, where, segments_of)
