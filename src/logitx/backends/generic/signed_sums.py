"""The logarithm of a sum of exponentials with factors of both signs, which may cancel."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import LONG_DOUBLE
from logitx._plan import Array, Plan
from logitx.backends.formulas import exact_sums
from logitx.backends.formulas.numbers import MOST, quiet, to_compute, to_result
from logitx.backends.generic.rows import ReducedRows, reduce_whole_rows

# Below, terms that are not 0 may have been lost
_LEAST_SUM = {"float32": 2.0**-100, LONG_DOUBLE: 2.0**-996, "float64": 2.0**-996}


class SignedRows(NamedTuple):
    """Rows reduced to (max, sum of b exp(x - max))."""

    rows: ReducedRows
    total: Array


def _signed_sums(plan: Plan, x: Array, b: Array, used: Array) -> SignedRows:
    rows = reduce_whole_rows(plan, x, used, None, None)
    return SignedRows(rows, exact_sums.exact_dot(plan, rows.xp, rows.xp.where(rows.gate, b, 0.0), rows.e))


def may_have_cancelled(plan: Plan, found: SignedRows) -> Array:
    """Return a mask of rows whose sum is so small that it may be what is left of larger terms."""
    rows = found.rows
    return ~(rows.nothing | rows.poison) & (rows.xp.abs(rows.detach(found.total)) < _LEAST_SUM[plan.compute])


def without_cancelled(plan: Plan, x: Array, b: Array, used: Array) -> tuple[Array, Array]:
    """Return which entries are used without the largest of rows where their factors add up to 0; and where these are.

    Equal logits leave no trace then, and what is below them may be too far below to be seen beside them.
    """
    detach = FAMILIES[plan.family].detach
    x, b = detach(x), detach(b)
    found = _signed_sums(plan, x, b, used)
    xp, top = found.rows.xp, found.rows.top
    at_top = exact_sums.exact_dot(plan, xp, xp.where(top, b, 0.0), xp.ones_like(b))
    dropped = top & may_have_cancelled(plan, found) & (at_top == 0.0)
    return used & ~dropped, dropped


def _uncancelled(plan: Plan, x: Array, b: Array, used: Array, found: SignedRows) -> Array:
    """Return which entries are used without those that cancel at the top, as often as that is so."""
    family, xp = FAMILIES[plan.family], found.rows.xp
    if family.readable(found.total):
        while xp.any(may_have_cancelled(plan, found)):
            used, dropped = without_cancelled(plan, x, b, used)
            if not xp.any(dropped):
                break
            found = _signed_sums(plan, x, b, used)
        return used
    return without_cancelled(plan, x, b, used)[0]  # while a framework traces, once


@quiet
def signed_logsumexp(
    plan: Plan, x: Array, b: Array, where: Array, uncancelled: Any = _uncancelled
) -> tuple[Array, Array]:
    """Return the logarithm of the size of the sum, and its sign."""
    b = to_compute(plan, b)
    used = b != 0.0 if where is None else (b != 0.0) & where
    found = _signed_sums(plan, x, b, used)
    left = uncancelled(plan, x, b, used, found)
    if left is not used:
        found = _signed_sums(plan, x, b, left)
    rows, total = found
    xp = rows.xp
    infinite = (to_compute(plan, x) == xp.inf) & used
    up = xp.any(infinite & (b > 0.0), axis=rows.axis, keepdims=True)
    down = xp.any(infinite & (b < 0.0), axis=rows.axis, keepdims=True)
    nan = xp.isnan(rows.worst) | (up & down)
    zero = (total == 0.0) | rows.poison
    value = xp.where(zero, -xp.inf, rows.peak + xp.log(xp.where(zero, 1.0, xp.abs(total))))
    # Not `sign`: as array-api-compat writes it for PyTorch, vmap cannot map it
    certain = xp.where(total > 0.0, 1.0, xp.where(total < 0.0, -1.0, rows.detach(total)))
    if left is not used:
        value = value + _slope_of_cancelled(plan, found, x, b, used & ~left, value, certain)
    value = xp.where(up | down, xp.inf, value)
    sign = xp.where(up, 1.0, xp.where(down, -1.0, certain))
    value, sign = xp.where(nan, xp.nan, value), xp.where(nan, xp.nan, sign)
    if not plan.return_sign:
        value = xp.where(sign < 0.0, xp.nan, value)
    value, sign = (xp.squeeze(to_result(plan, y, 0.0, None), axis=rows.axis) for y in (value, sign))
    return value, sign


def _slope_of_cancelled(
    plan: Plan, found: SignedRows, x: Array, b: Array, dropped: Array, value: Array, sign: Array
) -> Array:
    """Return 0, with the derivatives by entries that cancelled: the sum changes when one of them does."""
    xp, detach = found.rows.xp, found.rows.detach
    x, known = xp.where(dropped, to_compute(plan, x), 0.0), detach(value)
    size = xp.exp(detach(x) - xp.where(xp.isfinite(known), known, 0.0))
    slope = xp.where(
        dropped & xp.isfinite(known), detach(sign) * xp.where(xp.isinf(size), MOST[plan.compute], size), 0.0
    )
    change = detach(b) * (x - detach(x)) + xp.where(dropped, b - detach(b), 0.0)
    return xp.sum(slope * change, axis=found.rows.axis, keepdims=True)
