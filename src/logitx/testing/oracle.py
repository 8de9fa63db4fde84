"""The truth: every function once more, in 240-bit arithmetic, row by row, straight from the formulas.

Nothing here is shared with the package: no layout, no dtype rule, no kernel. Numbers are those of mpmath, inputs are
the exact values of the arrays, so that what is left between a result and its oracle is the error of the result.

Beside each value stands its *slack*: how far the value moves when every intermediate of the textbook formula, computed
in the dtype of the computation, is off by one part in ``1 / eps``. It is the running error analysis of

    u = softcap * tanh(x / softcap),  v = (u - max u) / temperature,  p = exp(v) / sum exp(v)

(N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, section 3.3; for the shifted formulas
P. Blanchard, D. J. Higham, N. J. Higham, Accurately computing the log-sum-exp and softmax functions, IMA J. Numer.
Anal. 41, 2021). Slack is *relative to the value* where the formula allows that: the loss of a dominating label, the
gradient at the label, the log-probability of a maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mpmath
import numpy as np

from logitx.testing.cases import NDArray

CONTEXT = mpmath.mp.clone()
CONTEXT.prec = 240

Number = Any  # an mpmath number
mpf = CONTEXT.mpf
ZERO, ONE, INF, NAN = mpf(0), mpf(1), mpf("inf"), mpf("nan")
SQUARED = mpf(2) ** -22  # one part in 1 / eps of what is summed in two parts, in units of eps: that of float32, twice


class Near(NamedTuple):
    """A number of the truth, and its slack in units of one eps of the computing dtype."""

    value: Number
    slack: Number = ZERO


class Sum(NamedTuple):
    """The logarithm of a sum whose terms may cancel, or its sign."""

    value: Number
    slack: Number = ZERO
    moved: Number = ZERO  # how far the sum moves under one eps, relative to it; from 1 / eps on nothing is known of it
    ceiling: Number = -INF  # but this: the logarithm of how far that is


@dataclass(frozen=True, eq=False)
class Row:
    """One row of logits, reduced."""

    live: list[bool]  # counted classes: not masked, not -inf
    valid: list[bool]  # not masked
    poisoned: bool  # a live NaN or +inf
    has_nan: bool
    v: list[Number]  # (u - m) / temperature; at most 0
    e: list[Number]  # exp(v); 0 where dead
    noise: list[Number]  # slack of v, that is the relative slack of e
    m: Number  # the largest u
    top: int  # where it is
    rest: Number  # sum of e without one maximum
    log_sum: Number  # log1p(rest)
    wobble: Number  # slack of log_sum beside its own rounding

    @property
    def dead(self) -> bool:
        """True if no term is left to sum."""
        return not any(self.live)

    def probability(self, j: int) -> Near:
        """Return p_j."""
        p = self.e[j] / (1 + self.rest)
        return Near(p, p * (1 + self.noise[j] + self.wobble))

    def complement(self, j: int) -> Near:
        """Return 1 - p_j, without the cancellation at the maximum."""
        if j == self.top:
            q = self.rest / (1 + self.rest)
            return Near(q, q + self.wobble)
        p, slack = self.probability(j)
        return Near(1 - p, 1 - p + slack)

    def log_probability(self, j: int) -> Near:
        """Return log p_j."""
        value = self.v[j] - self.log_sum
        return Near(value, self.noise[j] + self.log_sum + self.wobble)


def numbers(values: NDArray) -> list[Number]:
    """Return exact mpmath numbers."""
    return [mpf(one) for one in values.tolist()]


def exact(x: Any) -> Number:
    """Return an exact mpmath number, or None for None."""
    return None if x is None else mpf(np.asarray(x).item())


def total(terms: Sequence[Number]) -> Number:
    """Sum exactly (to the precision of the context)."""
    return CONTEXT.fsum(terms)


def summing(n: int) -> Number:
    """Return the slack of a sum of n positive terms relative to it: pairwise, in blocks or in lanes; not one by one."""
    return CONTEXT.log(n) / 2 if n > 1 else ZERO


def reduce_row(x: NDArray, valid: NDArray, temperature: Any = 1, softcap: Any = None) -> Row:
    """Reduce a row to what every function needs of it."""
    xs, ok, t, cap = numbers(x), valid.tolist(), exact(temperature), exact(softcap)
    live = [good and one != -INF for good, one in zip(ok, xs, strict=True)]
    has_nan = any(one != one for one, alive in zip(xs, live, strict=True) if alive)
    poisoned = has_nan or any(one == INF for one, alive in zip(xs, live, strict=True) if alive)
    nothing = [ZERO] * len(xs)
    if poisoned or not any(live):
        m = NAN if has_nan else INF if poisoned else -INF
        return Row(live, ok, poisoned, has_nan, nothing, nothing, nothing, m, -1, ZERO, ZERO, ZERO)
    capped = cap is not None
    us = [cap * CONTEXT.tanh(x / cap) if capped and alive else x for x, alive in zip(xs, live, strict=True)]
    top = max((j for j, alive in enumerate(live) if alive), key=lambda j: us[j])
    m = us[top]
    v = [(u - m) / t if alive else ZERO for u, alive in zip(us, live, strict=True)]
    e = [CONTEXT.exp(one) if alive else ZERO for one, alive in zip(v, live, strict=True)]
    # u is exact without a softcap; with one, both u and m carry an error of their own size
    noise = [abs(one) + ((abs(u) + abs(m)) / t if capped else 0) for one, u in zip(v, us, strict=True)]
    others = [j for j, alive in enumerate(live) if alive and j != top]
    rest = total([e[j] for j in others])
    wobble = total([e[j] * (1 + noise[j]) for j in others]) + rest * summing(len(others))
    wobble /= 1 + rest
    return Row(live, ok, False, False, v, e, noise, m, top, rest, CONTEXT.log1p(rest), wobble)


# -- softmax, log_softmax, logsumexp ----------------------------------------------------------------------------------


def softmax_row(row: Row, empty: str) -> list[Near]:
    """Return the probabilities of a row."""
    if row.poisoned or row.dead:
        void = Near(NAN if row.poisoned or empty == "nan" else ZERO)
        return [void if valid else Near(ZERO) for valid in row.valid]
    return [row.probability(j) if alive else Near(ZERO) for j, alive in enumerate(row.live)]


def log_softmax_row(row: Row, empty: str) -> list[Near]:
    """Return the log-probabilities of a row."""
    if row.poisoned or row.dead:
        void = Near(NAN if row.poisoned or empty == "nan" else -INF)
        return [void if valid else Near(-INF) for valid in row.valid]
    return [row.log_probability(j) if alive else Near(-INF) for j, alive in enumerate(row.live)]


def log_normalizer(row: Row, temperature: Any = 1) -> Near:
    """Return the log of the sum of exponentials of a row."""
    if row.poisoned or row.dead:
        return Near(row.m)
    value = row.m / exact(temperature) + row.log_sum
    capped = row.noise[row.top]  # 0 without a softcap
    return Near(value, abs(row.m / exact(temperature)) + capped + row.log_sum + row.wobble)


def signed_logsumexp_row(x: NDArray, b: NDArray, valid: NDArray) -> tuple[Sum, Sum]:
    """Return log |sum b exp(x)| and the sign of the sum."""
    xs, bs = numbers(x), numbers(b)
    terms = [(one, by) for one, by, good in zip(xs, bs, valid.tolist(), strict=True) if good and by != 0]
    terms = [(one, by) for one, by in terms if one != -INF or by != by]
    if any(one != one or by != by for one, by in terms):
        return Sum(NAN), Sum(NAN)
    signs = {CONTEXT.sign(by) for one, by in terms if one == INF}
    if signs:
        return (Sum(NAN), Sum(NAN)) if len(signs) > 1 else (Sum(INF), Sum(signs.pop()))
    if not terms:
        return Sum(-INF), Sum(ZERO)
    m = max(one for one, _ in terms)
    parts = [(by * CONTEXT.exp(one - m), m - one) for one, by in terms]
    # Equal exponents first: where the largest cancel, no precision of the context would show what is below them
    factors: dict[Number, Number] = {}
    for one, by in terms:
        factors[one] = factors.get(one, ZERO) + by
    top = max((one for one, by in factors.items() if by != 0), default=m)
    s = total([by * CONTEXT.exp(one - top) for one, by in factors.items()])
    # No term at the maximum is rounded, and no sum before its end: what is left of these is the square of an eps.
    # At its end it is, once, if there is more than one term.
    moved = total([abs(part) * (1 + distance if distance else SQUARED) for part, distance in parts])
    ceiling = m + CONTEXT.log(moved)
    if s == 0:
        return Sum(-INF, ZERO, INF, ceiling), Sum(ZERO, ZERO, INF, INF)
    value, condition = top + CONTEXT.log(abs(s)), moved * CONTEXT.exp(m - top) / abs(s)
    slack = abs(value) + abs(CONTEXT.log(abs(s))) + condition + (len(parts) > 1)
    return Sum(value, slack, condition, ceiling), Sum(CONTEXT.sign(s), ZERO, condition, INF)


def merge(a: float, b: float) -> Near:
    """Return log(exp(a) + exp(b))."""
    one, two = mpf(a), mpf(b)
    if one != one or two != two:
        return Near(NAN)
    high, low = max(one, two), min(one, two)
    if high in (INF, -INF) or low == -INF:
        return Near(high)
    e = CONTEXT.exp(low - high)
    more = CONTEXT.log1p(e)
    return Near(high + more, abs(high + more) + more * (1 + high - low))


# -- gradients by the logits, from the result of the forward pass -----------------------------------------------------


def softmax_vjp_row(p: NDArray, dp: NDArray) -> list[Near]:
    """Return p (dp - sum p dp); classes of probability 0 count for nothing."""
    ps, ds = numbers(p), numbers(dp)
    products = [one * d for one, d in zip(ps, ds, strict=True) if one != 0]
    inner, spread = total(products), total([abs(one) for one in products]) * (1 + summing(len(products)))
    return [
        Near(one * (d - inner), abs(one) * (abs(d) + spread)) if one != 0 else Near(ZERO)
        for one, d in zip(ps, ds, strict=True)
    ]


def log_softmax_vjp_row(log_p: NDArray, dlog_p: NDArray) -> list[Near]:
    """Return dlog_p - exp(log_p) sum dlog_p over the classes whose log-probability is not -inf."""
    ls, ds = numbers(log_p), numbers(dlog_p)
    counted = [d for one, d in zip(ls, ds, strict=True) if one != -INF]
    outer, spread = total(counted), total([abs(d) for d in counted]) * (1 + summing(len(counted)))
    result = []
    for one, d in zip(ls, ds, strict=True):
        if one == -INF:
            result.append(Near(ZERO))
        else:
            p = CONTEXT.exp(one)
            result.append(Near(d - p * outer, abs(d) + p * (spread + abs(outer) * (1 + abs(one)))))
    return result
