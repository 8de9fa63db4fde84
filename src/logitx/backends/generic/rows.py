"""A row of logits, reduced to its maximum and the sum of ``exp(x - max)``."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx._arrays.families import FAMILIES
from logitx._plan import Array, Plan, Scalar
from logitx.backends.formulas.numbers import capped, divisor, to_compute


class ReducedRows(NamedTuple):
    """Rows of logits reduced to (max, sum of exp(x - max)). Per-row entries keep a class axis of length 1."""

    xp: Any
    axis: int
    detach: Any  # makes an array constant to differentiation
    valid: Array  # not masked; None: all
    gate: Array  # entries that count: not masked, not -inf, and of a row whose result is a number
    peak: Array  # largest logit that counts, constant to differentiation; 0 where there is none
    scaled: Array  # (x - peak) / temperature, <= 0; 0 outside the gate
    e: Array  # exp(scaled); 0 outside the gate
    top: Array  # entries equal to the maximum
    rest: Array  # sum of e without one maximum
    total: Array  # 1 + rest
    log_total: Array
    poison: Array  # rows with a NaN or +inf
    worst: Array  # the largest logit as found: NaN, +inf, and -inf where nothing counts
    nothing: Array  # rows in which nothing counts


def reduce_whole_rows(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> ReducedRows:
    """Reduce rows of logits, after softcap and temperature."""
    family = FAMILIES[plan.family]
    xp, axis, detach = family.namespace(x), plan.layout.axis, family.detach
    x, temperature, softcap = to_compute(plan, x), divisor(plan, temperature), divisor(plan, softcap)
    live = x != -xp.inf
    if where is not None:
        live = live & where
    worst = detach(xp.max(xp.where(live, x, -xp.inf), axis=axis, keepdims=True))
    nan = xp.any(live & xp.isnan(x), axis=axis, keepdims=True)  # XLA's maximum on the CPU may lose a NaN
    worst = xp.where(nan, xp.nan, worst)
    nothing = worst == -xp.inf
    poison = nan | (worst == xp.inf)
    gate = live & ~poison
    # Compare the logits as given: a compiler may compute a derived value twice with different rounding (XLA does), and
    # then no entry would equal the maximum.
    top = gate & (detach(x) == worst)
    x, peak = xp.where(gate, x, 0.0), xp.where(nothing | poison, 0.0, worst)  # entries outside the gate are constants
    if softcap is not None:
        x, peak = (capped(xp, plan, u, softcap) for u in (x, peak))
    peak = detach(peak)
    scaled = xp.where(gate, x - peak, 0.0)
    if temperature is not None:  # after the subtraction: a small temperature cannot overflow the maximum
        scaled = scaled / temperature
    scaled = scaled - detach(xp.where(top, scaled, 0.0))
    e = xp.where(gate, xp.exp(scaled), 0.0)
    tops = xp.sum(to_compute(plan, top), axis=axis, keepdims=True)
    rest = xp.sum(xp.where(top, 0.0, detach(e)), axis=axis, keepdims=True) + xp.where(tops > 0.0, tops - 1.0, 0.0)
    total = xp.where(nothing | poison, 1.0, xp.sum(e, axis=axis, keepdims=True))
    # Values from 1 + rest and log1p(rest), which are accurate when the maximum dominates; derivatives from the plain
    # sum and its logarithm, which are right at ties.
    log_total = xp.log(total)
    total = total + ((1.0 + rest) - detach(total))
    log_total = log_total + (xp.log1p(rest) - detach(log_total))
    return ReducedRows(
        xp, axis, detach, where, gate, peak, scaled, e, top, rest, total, log_total, poison, worst, nothing
    )
