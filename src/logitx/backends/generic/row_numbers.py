"""Numbers of a row: sums of terms of one sign, so that nothing cancels."""

from __future__ import annotations

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import namespace_dtype
from logitx._plan import Array, Plan, Scalar
from logitx.backends.formulas.numbers import empty_value, quiet, to_compute
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
