"""Softmax, log-softmax, log-sum-exp and their gradients."""

from __future__ import annotations

from logitx._arrays.families import FAMILIES
from logitx._plan import Array, Plan, Scalar
from logitx.backends.formulas.log_space import add_log_factors
from logitx.backends.formulas.numbers import quiet, to_compute, to_result
from logitx.backends.generic.complex_sums import complex_logsumexp
from logitx.backends.generic.rows import ReducedRows, reduce_whole_rows
from logitx.backends.generic.signed_sums import signed_logsumexp


def _undefined(plan: Plan, rows: ReducedRows) -> Array:
    """Return a mask of rows without defined probabilities."""
    return rows.poison | rows.nothing if plan.empty == "nan" else rows.poison


@quiet
def softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """exp(x - max) / sum of exp(x - max)."""
    if plan.layout.n == 0:
        return to_result(plan, x, 0.0, None)
    rows = reduce_whole_rows(plan, x, where, temperature, softcap)
    p = rows.xp.where(_undefined(plan, rows), rows.xp.nan, rows.e / rows.total)
    return to_result(plan, p, 0.0, where)


@quiet
def log_softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """(x - max) - log(sum of exp(x - max))."""
    if plan.layout.n == 0:
        return to_result(plan, x, 0.0, None)
    rows = reduce_whole_rows(plan, x, where, temperature, softcap)
    log_p = rows.xp.where(rows.gate, rows.scaled - rows.log_total, -rows.xp.inf)
    log_p = rows.xp.where(_undefined(plan, rows), rows.xp.nan, log_p)
    return to_result(plan, log_p, -rows.xp.inf, where)


@quiet
def logsumexp(plan: Plan, x: Array, b: Array, where: Array, log_b: Array) -> tuple[Array, Array]:
    """max + log(sum of b exp(x - max)), and the sign of the sum."""
    if plan.dtype.startswith("complex"):
        return complex_logsumexp(plan, x, b, where, log_b)
    if log_b is not None:
        plan, x = add_log_factors(plan, x, log_b)
    xp = FAMILIES[plan.family].namespace(x)
    if plan.layout.n == 0:
        shape = plan.layout.rows
        empty = xp.reshape(xp.sum(to_compute(plan, x), axis=plan.layout.axis), shape)
        return to_result(plan, empty - xp.inf, 0.0, None), to_result(plan, empty, 0.0, None)
    if b is not None:
        return signed_logsumexp(plan, x, b, where)
    rows = reduce_whole_rows(plan, x, where, None, None)
    value = xp.where(rows.poison | rows.nothing, rows.worst, rows.peak + rows.log_total)
    sign = xp.where(xp.isnan(value), value, xp.where(rows.nothing, xp.zeros_like(value), 1.0))
    value, sign = (xp.squeeze(to_result(plan, y, 0.0, None), axis=plan.layout.axis) for y in (value, sign))
    return value, sign


@quiet
def softmax_vjp(plan: Plan, p: Array, dp: Array) -> Array:
    """p (dp - sum of p dp)."""
    xp = FAMILIES[plan.family].namespace(p)
    p, dp = to_compute(plan, p), to_compute(plan, dp)
    dp = xp.where(p == 0.0, 0.0, dp)  # an infinite dp at p = 0 must not enter the sum
    dot = xp.sum(p * dp, axis=plan.layout.axis, keepdims=True)
    return to_result(plan, xp.where(p == 0.0, 0.0, p * (dp - dot)), 0.0, None)


@quiet
def log_softmax_vjp(plan: Plan, log_p: Array, dlog_p: Array) -> Array:
    """dlog_p - p sum of dlog_p."""
    xp = FAMILIES[plan.family].namespace(log_p)
    log_p, dlog_p = to_compute(plan, log_p), to_compute(plan, dlog_p)
    dead = log_p == -xp.inf
    dlog_p = xp.where(dead, 0.0, dlog_p)
    total = xp.sum(dlog_p, axis=plan.layout.axis, keepdims=True)
    return to_result(plan, xp.where(dead, 0.0, dlog_p - xp.exp(log_p) * total), 0.0, None)


@quiet
def merge_logsumexp(plan: Plan, a: Array, b: Array) -> Array:
    """max + log1p(exp(-|a - b|))."""
    xp, detach = FAMILIES[plan.family].namespace(a), FAMILIES[plan.family].detach
    a, b = to_compute(plan, a), to_compute(plan, b)
    larger = xp.maximum(a, b)
    infinite = xp.isinf(larger)
    gap = xp.where(infinite, 0.0, xp.abs(a - b))
    merged = larger + xp.log1p(xp.exp(-gap))
    # This has a corner where a = b; there derivatives are those of the logarithm of a sum
    equal = (a == b) & ~infinite
    smooth = xp.log(sum(xp.exp(xp.where(equal, x - detach(x), 0.0)) for x in (a, b)))
    merged = xp.where(equal, detach(merged) + (smooth - detach(smooth)), merged)
    return to_result(plan, xp.where(infinite, larger, merged), 0.0, None)
