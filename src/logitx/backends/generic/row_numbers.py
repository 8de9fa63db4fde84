"""Numbers of a row: sums of terms of one sign, so that nothing cancels."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import namespace_dtype
from logitx._plan import Array, Plan, Scalar
from logitx.backends.formulas import exact_sums
from logitx.backends.formulas.divergences import js_terms, kl_terms
from logitx.backends.formulas.numbers import empty_value, quiet, to_compute
from logitx.backends.formulas.selected import selected_by_losses
from logitx.backends.generic.cross_entropy import cross_entropy
from logitx.backends.generic.rows import ReducedRows, reduce_whole_rows


def _without_classes(plan: Plan, x: Array) -> Array:
    """Return the numbers of rows of an axis of length 0."""
    xp = FAMILIES[plan.family].namespace(x)
    nothing = xp.reshape(xp.sum(to_compute(plan, x), axis=plan.layout.axis), plan.layout.rows)
    return xp.astype(nothing + empty_value(plan), namespace_dtype(xp, plan.loss), copy=False)


def _row_number(plan: Plan, rows: ReducedRows, value: Array) -> Array:
    """Override the rows without a plain answer, then round once."""
    xp = rows.xp
    value = xp.where(rows.nothing, empty_value(plan), value)
    value = xp.squeeze(xp.where(rows.poison, xp.nan, value), axis=rows.axis)
    return xp.astype(value, namespace_dtype(xp, plan.loss), copy=False)


@quiet
def entropy(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """log(sum) + sum of p (max - x): both are 0 or more."""
    if plan.layout.n == 0:
        return _without_classes(plan, x)
    rows = reduce_whole_rows(plan, x, where, temperature, softcap)
    xp = rows.xp
    fall = xp.where(rows.e > 0.0, -rows.scaled, 0.0)  # an infinite one at p = 0 must not enter the sum
    return _row_number(plan, rows, rows.log_total + xp.sum(rows.e * fall, axis=rows.axis, keepdims=True) / rows.total)


def selected_log_softmax(plan: Plan, x: Array, ids: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """-loss of the most probable id, and the distance of the other logits to its logit."""
    return selected_by_losses(cross_entropy, plan, x, ids, where, temperature, softcap)


class _Both(NamedTuple):
    """Two distributions over the same classes."""

    first: ReducedRows
    second: ReducedRows

    def terms(self) -> tuple[Any, ...]:
        """Return (namespace, p, q, log(p / q), whether p has a class, whether q has it)."""
        one, two = self
        d = (one.scaled - two.scaled) - (one.log_total - two.log_total)
        return one.xp, one.e / one.total, two.e / two.total, d, one.gate, two.gate


def _reduced(plan: Plan, both: _Both, value: Array) -> Array:
    """Override the rows without a plain answer, then reduce, and round once."""
    one, two = both
    xp = one.xp
    value = xp.where(one.nothing | two.nothing, xp.nan, value) if plan.empty == "nan" else value
    value = xp.squeeze(xp.where(one.poison | two.poison, xp.nan, value), axis=one.axis)
    return _over_rows(plan, xp, value)


def _over_rows(plan: Plan, xp: Any, value: Array) -> Array:
    if plan.reduction != "none":
        total = xp.sum(value)
        value = total / xp.sum(xp.ones_like(value)) if plan.reduction == "mean" else total
    return xp.astype(value, namespace_dtype(xp, plan.loss), copy=False)


def _reduce_both(plan: Plan, p: Array, q: Array, *scaling: Any) -> _Both:
    return _Both(reduce_whole_rows(plan, p, *scaling), reduce_whole_rows(plan, q, *scaling))


@quiet
def kl_divergence(plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Sum of q - p + p log(p / q)."""
    if plan.layout.n == 0:
        return _over_rows(plan, FAMILIES[plan.family].namespace(p), _without_classes(plan, p))
    both = _reduce_both(plan, p, q, where, temperature, softcap)
    xp, axis = both.first.xp, both.first.axis
    value = xp.sum(kl_terms(*both.terms()), axis=axis, keepdims=True)
    return _reduced(plan, both, xp.where(both.first.nothing, 0.0, value))


@quiet
def js_divergence(plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Weight KL(p, m) + (1 - weight) KL(q, m), with m = weight p + (1 - weight) q."""
    if plan.layout.n == 0:
        return _over_rows(plan, FAMILIES[plan.family].namespace(p), _without_classes(plan, p))
    both = _reduce_both(plan, p, q, where, temperature, softcap)
    xp, *terms = both.terms()
    value = xp.sum(js_terms(xp, plan.weight, *terms), axis=both.first.axis, keepdims=True)
    return _reduced(plan, both, value)


@quiet
def softmax_mean(plan: Plan, x: Array, values: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Sum of p v, compensated; where p is 0, v counts for nothing."""
    if plan.layout.n == 0:
        return _without_classes(plan, x)
    rows = reduce_whole_rows(plan, x, where, temperature, softcap)
    factors = rows.xp.where(rows.e > 0.0, to_compute(plan, values), 0.0)
    return _row_number(plan, rows, exact_sums.exact_dot(plan, rows.xp, factors, rows.e) / rows.total)
