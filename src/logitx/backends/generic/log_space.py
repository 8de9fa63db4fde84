"""A matrix product and a cumulative sum of exponentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import LONG_DOUBLE
from logitx._plan import Array, Plan
from logitx.backends.formulas.exact_sums import two_sum
from logitx.backends.formulas.linear_blocks import pieces
from logitx.backends.formulas.numbers import quiet, to_compute, to_result

_TINY = {"float32": 2.0**-126, LONG_DOUBLE: np.finfo(np.longdouble).tiny, "float64": 2.0**-1022}
_EPS = {"float32": 2.0**-23, LONG_DOUBLE: np.finfo(np.longdouble).eps, "float64": 2.0**-52}
_TERMS_AT_ONCE = 1 << 22  # elements of the sums that are computed anew at a time
_PIECES = 16  # of the terms, where values cannot be read


Scan = Callable[[Plan, Callable[..., tuple[Array, ...]], tuple[Array, ...]], tuple[Array, ...]]


def _doubling(plan: Plan, merge: Callable[..., tuple[Array, ...]], state: tuple[Array, ...]) -> tuple[Array, ...]:
    """Merge every entry with the one 1, 2, 4, ... places before it."""
    xp, axis, n = FAMILIES[plan.family].namespace(state[0]), plan.layout.axis, plan.layout.n
    before, step = (slice(None),) * axis, 1
    while step < n:
        late, early = (*before, slice(step, None), ...), (*before, slice(None, n - step), ...)
        merged = merge(tuple(one[early] for one in state), tuple(one[late] for one in state))
        first = (*before, slice(None, step), ...)
        state = tuple(xp.concat([old[first], new], axis=axis) for old, new in zip(state, merged, strict=True))
        step *= 2
    return state


@quiet
def cumulated(plan: Plan, x: Array, scan: Scan) -> Array:
    """log(sum of exp(x_j) over j <= i), from pairs (max, sum of exp(x - max)) that are merged."""
    family, axis = FAMILIES[plan.family], plan.layout.axis
    xp, detach = family.namespace(x), family.detach
    if plan.layout.n == 0:
        return to_result(plan, x, 0.0, None)
    x = to_compute(plan, x)
    x = xp.flip(x, axis=axis) if plan.reverse else x
    finite = xp.isfinite(x)
    held = xp.where(finite, x, 0.0)
    start = detach(xp.where(finite, x, -xp.inf))
    # The maximum, the sum without it (the value), the sum (the derivative), and which NaN and +inf came
    plain = xp.where(finite, xp.exp(held - detach(held)), 0.0)
    special = to_compute(plan, xp.isnan(x)), to_compute(plan, x == xp.inf)

    def merge(early: tuple[Array, ...], late: tuple[Array, ...]) -> tuple[Array, ...]:
        peak = xp.maximum(early[0], late[0])
        one, two = _rescaling(xp, early[0], peak), _rescaling(xp, late[0], peak)
        rest = early[1] * one + late[1] * two + xp.where(one < two, one, two)
        specials = (xp.maximum(early[3], late[3]), xp.maximum(early[4], late[4]))
        return peak, rest, early[2] * one + late[2] * two, *specials

    top, rest, total, nan, infinite = scan(plan, merge, (start, xp.zeros_like(start), plain, *special))
    log_total = xp.log(xp.where(total > 0.0, total, 1.0))
    value = xp.where(top == -xp.inf, 0.0, top) + (log_total + (xp.log1p(rest) - detach(log_total)))
    value = xp.where(top == -xp.inf, -xp.inf, value)
    value = xp.where(nan > 0.0, xp.nan, xp.where(infinite > 0.0, xp.inf, value))
    return to_result(plan, xp.flip(value, axis=axis) if plan.reverse else value, 0.0, None)


def _sum_in_two(xp: Any, a: Array, b: Array) -> tuple[Array, Array]:
    """Return a sum and its rounding error, 0 where the sum overflows."""
    total, lost = two_sum(a, b)
    return total, xp.where(xp.isfinite(lost), lost, 0.0)


def _rescaling(xp: Any, top: Array, peak: Array) -> Array:
    """Return exp(top - peak), with the rounding of the difference; 0 where there is no top."""
    nothing = top == -xp.inf
    top = xp.where(nothing, xp.where(peak == -xp.inf, 0.0, peak), top)
    peak = xp.where(peak == -xp.inf, 0.0, peak)
    d, lost = _sum_in_two(xp, top, -peak)
    return xp.where(nothing, 0.0, xp.exp(d) * (1.0 + lost))


class Ways(NamedTuple):
    """How a backend computes what is rarely needed."""

    choose: Callable[[Array, Callable[[], Array], Array], Array]  # (needed anywhere, compute it, what stands if not)
    sums: Callable[..., Array]  # (plan, a, b, value, small): replace small sums


@quiet
def log_matmul(plan: Plan, a: Array, b: Array) -> Array:
    """log(exp(a - max) @ exp(b - max)) + max + max; sums that are too small for that are computed anew."""
    family = FAMILIES[plan.family]

    def choose(needed: Array, compute: Callable[[], Array], otherwise: Array) -> Array:
        return otherwise if family.readable(needed) and not bool(needed) else compute()

    return log_of_product(plan, a, b, Ways(choose, _small_sums))


def log_of_product(plan: Plan, a: Array, b: Array, ways: Ways) -> Array:
    """Return log(exp(a) @ exp(b)) for shapes as of matmul."""
    xp = FAMILIES[plan.family].namespace(a)
    a, b = to_compute(plan, a), to_compute(plan, b)
    vector, column = a.ndim == 1, b.ndim == 1
    a = xp.reshape(a, (1, a.shape[0])) if vector else a
    b = xp.reshape(b, (b.shape[0], 1)) if column else b
    found = _nothing(xp, a, b) if a.shape[-1] == 0 else _product(plan, xp, a, b, ways)
    found = found[..., 0, :] if vector else found
    return to_result(plan, found[..., 0] if column else found, 0.0, None)


def _nothing(xp: Any, a: Array, b: Array) -> Array:
    """Return -inf for sums without terms."""
    return xp.sum(a, axis=-1, keepdims=True) + xp.sum(b, axis=-2, keepdims=True) - xp.inf


def _shifted(plan: Plan, xp: Any, x: Array, axis: int) -> tuple[Array, Array]:
    """Return the largest finite number along an axis, and exp(x - largest), with the rounding of the difference."""
    detach = FAMILIES[plan.family].detach
    finite = xp.isfinite(x)
    peak = xp.max(detach(xp.where(finite, x, -xp.inf)), axis=axis, keepdims=True)
    peak = xp.where(peak == -xp.inf, 0.0, peak)
    x = xp.where(finite, x, 0.0)
    _, lost = _sum_in_two(xp, detach(x), xp.zeros_like(x) - peak)
    e = xp.exp(x - peak)
    return peak, xp.where(finite, e + detach(e) * lost, 0.0)


def _product(plan: Plan, xp: Any, a: Array, b: Array, ways: Ways) -> Array:
    detach = FAMILIES[plan.family].detach
    (peak_a, e_a), (peak_b, e_b) = _shifted(plan, xp, a, -1), _shifted(plan, xp, b, -2)
    p = e_a @ e_b
    small = detach(p) < a.shape[-1] * _TINY[plan.compute] / _EPS[plan.compute]  # terms may have vanished
    p = xp.where(small, 1.0, p)
    log_p = xp.log(p)
    # The logarithm of a small sum has errors of its own size, which would show where the maxima cancel it
    beyond = detach(p * xp.exp(-log_p) - 1.0)
    total, lost = _sum_in_two(xp, peak_a + xp.zeros_like(p), peak_b + xp.zeros_like(p))
    value, more = _sum_in_two(xp, total, detach(log_p))
    value = value + (more + lost + beyond) + (log_p - detach(log_p))
    value = ways.choose(xp.any(small), lambda: ways.sums(plan, a, b, value, small), value)
    strange = xp.any(xp.isnan(a) | (a == xp.inf)) | xp.any(xp.isnan(b) | (b == xp.inf))
    return ways.choose(strange, lambda: _with_specials(plan, xp, a, b, value), value)


def _with_specials(plan: Plan, xp: Any, a: Array, b: Array, value: Array) -> Array:
    """Put NaN and +inf in place."""
    live = tuple(to_compute(plan, x != -xp.inf) for x in (a, b))
    infinite = tuple(to_compute(plan, x == xp.inf) for x in (a, b))
    value = xp.where((infinite[0] @ live[1] + live[0] @ infinite[1]) > 0.0, xp.inf, value)
    nan = xp.any(xp.isnan(a), axis=-1, keepdims=True) | xp.any(xp.isnan(b), axis=-2, keepdims=True)
    return xp.where(nan, xp.nan, value)


def finite_or_nothing(xp: Any, x: Array) -> Array:
    """Replace NaN and +inf, which are put in place later, by -inf."""
    return xp.where(xp.isfinite(x), x, -xp.inf)


def _small_sums(plan: Plan, a: Array, b: Array, value: Array, small: Array) -> Array:
    """Replace the logarithms of small sums by those of sums relative to their own largest terms."""
    family = FAMILIES[plan.family]
    xp = family.namespace(a)
    a, b = finite_or_nothing(xp, a), finite_or_nothing(xp, b)
    if family.readable(small):
        possible = (to_compute(plan, a != -xp.inf) @ to_compute(plan, b != -xp.inf)) > 0.0
        (known,) = family.host(family.detach(small & possible))
        value = xp.where(small & ~possible, -xp.inf, value)
        return _chosen_sums(plan, xp, a, b, value, known) if known.any() else value
    step = -(-a.shape[-1] // _PIECES)
    parts = [
        xp.expand_dims(log_of_sums(plan, xp, _terms(xp, a[..., piece], b[..., piece, :])), axis=-1)
        for piece in pieces(a.shape[-1], step)
    ]
    return xp.where(small, log_of_sums(plan, xp, xp.concat(parts, axis=-1)), value)


def _terms(xp: Any, a: Array, b: Array) -> Array:
    """Return all terms of all sums, the terms of a sum along the last axis."""
    return xp.expand_dims(a, axis=-2) + xp.expand_dims(xp.matrix_transpose(b), axis=-3)


def log_of_sums(plan: Plan, xp: Any, x: Array) -> Array:
    """Return logsumexp along the last axis, of numbers and -inf; the derivative by what is -inf is 0."""
    detach = FAMILIES[plan.family].detach
    peak = xp.max(detach(x), axis=-1, keepdims=True)
    live = x != -xp.inf
    e = xp.where(live, xp.exp(xp.where(live, x, 0.0) - xp.where(peak == -xp.inf, 0.0, peak)), 0.0)
    total = xp.sum(e, axis=-1)
    nothing = total == 0.0
    logarithm = xp.log(xp.where(nothing, 1.0, total)) + peak[..., 0]
    return xp.where(nothing, -xp.inf, logarithm)


def _chosen_sums(plan: Plan, xp: Any, a: Array, b: Array, value: Array, known: Any) -> Array:
    """Compute some of the sums anew, a few at a time, and put them where they belong."""
    family, terms = FAMILIES[plan.family], a.shape[-1]
    n, m = known.shape[-2:]
    stack = known.shape[:-2]
    rows = xp.reshape(xp.broadcast_to(a, (*stack, n, terms)), (-1, terms))
    columns = xp.reshape(xp.broadcast_to(xp.matrix_transpose(b), (*stack, m, terms)), (-1, terms))
    places = np.flatnonzero(known)
    of_stack, inside = np.divmod(places, n * m)
    row, column = of_stack * n + inside // m, of_stack * m + inside % m
    found = []
    for piece in pieces(len(places), max(1, _TERMS_AT_ONCE // terms)):
        one, two = (family.adopt(np.ascontiguousarray(index[piece]), a) for index in (row, column))
        x = xp.take(rows, one, axis=0) + xp.take(columns, two, axis=0)
        found.append(log_of_sums(plan, xp, x))
    order = np.arange(known.size)
    order[places] = known.size + np.arange(len(places))
    every = xp.concat([xp.reshape(value, (-1,)), *found], axis=0)
    return xp.reshape(xp.take(every, family.adopt(order, a), axis=0), tuple(value.shape))


def logcumsumexp(plan: Plan, x: Array) -> Array:
    """log(sum of exp(x_j) over j <= i), by merging pairs at doubled distances."""
    return cumulated(plan, x, _doubling)
