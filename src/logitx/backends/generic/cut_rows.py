"""Formulas for rows split over several arrays (`Merges`): reduce each array, merge pairs, compute its results."""

from __future__ import annotations

from typing import Any

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import namespace_dtype
from logitx._plan import Array, Plan, Scalar
from logitx.backends.formulas.numbers import capped, complement_of, divisor, quiet, softcap_slope, to_compute, to_result
from logitx.backends.generic.rows import reduce_whole_rows


def _column(plan: Plan, value: Array) -> Array:
    return FAMILIES[plan.family].namespace(value).reshape(to_compute(plan, value), plan.layout.column)


def _capped(xp: Any, plan: Plan, x: Array, softcap: Scalar) -> Array:
    return x if softcap is None else xp.where(xp.isinf(x), x, capped(xp, plan, x, divisor(plan, softcap)))


@quiet
def reduce_rows(
    plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, ids: Array
) -> tuple[Array, Array, Array]:
    """Return (max, sum of exp(x - max) without one maximum, logits of the labels)."""
    rows = reduce_whole_rows(plan, x, where, temperature, softcap)
    xp, axis = rows.xp, rows.axis
    top = xp.where(rows.poison, rows.worst, rows.peak)
    rest = xp.where(rows.poison, xp.nan, xp.where(rows.nothing, -1.0, rows.rest))
    top, rest = (xp.squeeze(one, axis=axis) for one in (top, rest))
    if ids is None:
        return top, rest, None
    here = xp.reshape(ids, plan.layout.column)
    inside = (here >= 0) & (here < plan.layout.n)
    at = xp.where(inside, here, 0)
    own = xp.take_along_axis(to_compute(plan, x), at, axis=axis)
    if where is not None:
        own = xp.where(xp.take_along_axis(where, at, axis=axis), own, -xp.inf)
    # if the label has the maximum, take `peak` itself: computed again, its softcap might round differently
    logit = xp.where(own == rows.worst, rows.peak, _capped(xp, plan, own, softcap))
    logit = xp.where(xp.isinf(own), own, logit)
    return top, rest, xp.squeeze(xp.where(inside, logit, 0.0), axis=axis)


@quiet
def merge_rows(plan: Plan, tops: list[Array], rests: list[Array], temperature: Scalar) -> tuple[Array, Array]:
    """Return the pair (max, sum without one maximum) of all parts."""
    xp = FAMILIES[plan.family].namespace(tops[0])
    top_of, rest_of = (xp.stack([xp.astype(one, xp.float64) for one in ones]) for ones in (tops, rests))
    nothing = rest_of == -1.0
    top = xp.max(xp.where(nothing, -xp.inf, top_of), axis=0)
    top = xp.where(xp.any(xp.isnan(top_of), axis=0), xp.nan, xp.where(top == -xp.inf, 0.0, top))
    leads = ~nothing & (top_of == top)
    gap = xp.where(nothing | leads, 0.0, top - top_of)
    gap = gap if temperature is None else gap / temperature
    # the parts with the largest maximum add `rest`: subtracting that maximum from the whole sum would cancel
    part = xp.where(nothing, 0.0, xp.where(leads, rest_of, (1.0 + rest_of) * xp.exp(-gap)))
    return top, xp.sum(part, axis=0) + (xp.sum(xp.astype(leads, xp.float64), axis=0) - 1.0)


def _scaled_logits(
    plan: Plan, x: Array, temperature: Scalar, softcap: Scalar, top: Array, where: Array
) -> tuple[Any, Array, Array]:
    """Return the namespace, (u - max) / temperature, and which entries count."""
    xp = FAMILIES[plan.family].namespace(x)
    x = to_compute(plan, x)
    live = x != -xp.inf
    if where is not None:
        live = live & where
    v = _capped(xp, plan, x, softcap) - _column(plan, top)
    if temperature is not None:
        v = v / divisor(plan, temperature)
    return xp, xp.where(live, v, -xp.inf), live


@quiet
def normalize_rows(
    plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, top: Array, rest: Array
) -> Array:
    """exp(x - max) / sum, or its logarithm."""
    xp, v, live = _scaled_logits(plan, x, temperature, softcap, top, where)
    rest, log = _column(plan, rest), plan.op == "log_softmax"
    nothing = rest == -1.0
    safe = xp.where(nothing, 0.0, rest)
    y = xp.where(live, v - xp.log1p(safe) if log else xp.exp(v) / (1.0 + safe), -xp.inf if log else 0.0)
    undefined = xp.isnan(rest) | nothing if plan.empty == "nan" else xp.isnan(rest)
    return to_result(plan, xp.where(undefined, xp.nan, y), -xp.inf if log else 0.0, where)


@quiet
def differentiate_rows(
    plan: Plan,
    x: Array,
    where: Array,
    temperature: Scalar,
    softcap: Scalar,
    z_loss: float,
    ids: Array,
    top: Array,
    rest: Array,
    logit: Array,
    share: Array,
) -> Array:
    """Share times [p - t + 2 z_loss logZ p] du/dx."""
    xp, v, live = _scaled_logits(plan, x, temperature, softcap, top, where)
    top, rest, logit, share = (_column(plan, one) for one in (top, rest, logit, share))
    heat = 1.0 if temperature is None else divisor(plan, temperature)
    nothing = rest == -1.0
    safe = xp.where(nothing, 0.0, rest)
    pull = 2.0 * z_loss * (top / heat + xp.log1p(safe))
    own = (logit - top) / heat
    p = xp.exp(own) / (1.0 + safe)
    change = pull * p - complement_of(xp, p, own == 0.0, safe / (1.0 + safe))
    classes = xp.arange(plan.layout.n, dtype=namespace_dtype(xp, "int64"))
    shape = tuple(plan.layout.n if d == plan.layout.axis else 1 for d in range(len(plan.layout.shape)))
    hot = xp.reshape(classes, shape) == xp.reshape(ids, plan.layout.column)
    g = xp.where(hot, change, (1.0 + pull) * (xp.exp(v) / (1.0 + safe))) * (share / heat)
    if softcap is not None:
        g = g * softcap_slope(xp, to_compute(plan, x), divisor(plan, softcap))
    g = xp.where(xp.isnan(rest), xp.nan, xp.where(nothing, 0.0, g))
    return to_result(plan, xp.where((share == 0.0) | ~live, 0.0, g), 0.0, where)
