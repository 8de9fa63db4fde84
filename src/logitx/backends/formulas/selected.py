"""Log-probabilities of chosen classes, from the loss of the most probable of these: one read of the logits."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import namespace_dtype
from logitx._options import LossOptions
from logitx._plan import Array, Plan, Scalar
from logitx.backends.formulas.class_ids import refuse_labels, signed_ids, sort_out
from logitx.backends.formulas.numbers import operand, quiet, to_compute
from logitx.backends.formulas.ranking import take_along

Losses = Callable[[Plan, Array, Array, LossOptions], tuple[Array, ...]]


@functools.lru_cache(maxsize=1024)
def plan_of_loss(plan: Plan, ignore_index: int | None = None) -> Plan:
    """Return the plan of the losses of which log-probabilities are made."""
    return dataclasses.replace(plan, op="cross_entropy", ignore_index=ignore_index, loss=plan.compute)


def check_ids(plan: Plan, ids: Array) -> tuple[Array, Array, Array]:
    """Return ids as int64, which are ignored and which are out of range; raise for these if they can be read."""
    family = FAMILIES[plan.family]
    xp = family.namespace(ids)
    given, ids = ids, signed_ids(plan, xp, ids)
    ignored, bad = sort_out(plan, xp, ids)
    if family.readable(bad):
        placed = dataclasses.replace(plan, layout=dataclasses.replace(plan.layout, rows=tuple(ids.shape)))
        refuse_labels(placed, xp, given, bad)
    return ids, ignored, bad


@quiet
def selected_by_losses(
    losses: Losses, plan: Plan, x: Array, ids: Array, where: Array, temperature: Scalar, softcap: Scalar
) -> Array:
    """Return -loss of the most probable id, and for other ids the distance of their logits to its logit less.

    Both terms have one sign, so that nothing cancels.
    """
    axis, single = plan.layout.axis, len(ids.shape) < len(plan.layout.shape)
    ids, ignored, bad = check_ids(plan, ids)
    xp = FAMILIES[plan.family].namespace(ids)
    if single:
        ids, ignored, bad = (xp.expand_dims(one, axis=axis) for one in (ids, ignored, bad))
    safe = xp.where(ignored | bad, xp.zeros_like(ids), ids)
    u = to_compute(plan, take_along(xp, x, safe, axis))
    kept = None if where is None else take_along(xp, where, safe, axis)
    dead = u == -xp.inf if kept is None else (u == -xp.inf) | ~kept
    u = xp.where(dead | xp.isinf(u), 0.0, u)
    if softcap is not None:
        softcap = operand(plan, softcap)
        u = softcap * xp.tanh(u / softcap)
    lead = xp.expand_dims(xp.argmax(xp.where(dead, -xp.inf, FAMILIES[plan.family].detach(u)), axis=axis), axis=axis)
    best = take_along(xp, safe, lead, axis)
    options = LossOptions(softcap=softcap, temperature=temperature, where=where)
    loss, *_ = losses(plan_of_loss(plan), x, xp.squeeze(best, axis=axis), options)
    value = to_compute(plan, xp.expand_dims(0.0 - loss, axis=axis))
    if not single:
        # XLA may compute a softcap twice with different rounding: without a distance of 0 by rule there is none
        fall = xp.where(safe == best, 0.0, take_along(xp, u, lead, axis) - u)
        value = value - (fall if temperature is None else fall / operand(plan, temperature))
        value = xp.where(value > 0.0, 0.0, value)
    nothing = dead if kept is None else (dead & kept)
    value = xp.where(nothing & ~xp.isnan(value), -xp.inf, value)
    if kept is not None:
        value = xp.where(kept, value, -xp.inf)
    value = xp.where(ignored, 0.0, xp.where(bad, xp.nan, value))
    value = xp.squeeze(value, axis=axis) if single else value
    return xp.astype(value, namespace_dtype(xp, plan.loss), copy=False)
