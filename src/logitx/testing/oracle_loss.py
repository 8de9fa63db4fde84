"""The truth of the cross-entropies: the loss of the contract, its parts, its gradient and its Hessian, row by row.

See `logitx.testing.oracle` for the meaning of numbers and slacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitx.testing.cases import NDArray
from logitx.testing.oracle import (
    CONTEXT,
    INF,
    NAN,
    ONE,
    ZERO,
    Near,
    Number,
    Row,
    exact,
    log_normalizer,
    mpf,
    numbers,
    reduce_row,
    summing,
    total,
)


@dataclass(frozen=True, eq=False)
class Settings:
    """The numbers of a call that do not depend on the row."""

    class_weight: NDArray | None = None
    ignore_index: int | None = -100
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    empty: str = "nan"


@dataclass(frozen=True, eq=False)
class RowLoss:
    """What one row adds to the loss."""

    loss: Near
    z_part: Near
    log_normalizer: Near
    gradient: list[Near]
    weight: Number  # s c: its share of the denominator


@dataclass(frozen=True, eq=False)
class Mass:
    """The weighted target of a row."""

    wq: list[Number]  # class_weight * q
    total: Number  # their sum
    c: Number  # class weight of the row
    rounded: bool  # the sum is computed, not copied


def one_hot(label: int, n: int) -> list[Number]:
    """Return a hard target as probabilities."""
    return [ONE if j == label else ZERO for j in range(n)]


def mass_of(row: Row, target: Any, settings: Settings) -> Mass:
    """Weight and smooth the target of a row."""
    hard = np.ndim(target) == 0
    n = len(row.live)
    t = one_hot(int(target), n) if hard else numbers(target)
    eps = exact(settings.label_smoothing)
    classes = sum(row.valid)
    weights = [ONE] * n if settings.class_weight is None else numbers(settings.class_weight)
    spread = [eps / classes if valid else ZERO for valid in row.valid]
    wq = [w * ((1 - eps) * one + more) for w, one, more in zip(weights, t, spread, strict=True)]
    c = ONE if settings.class_weight is None else total([w * one for w, one in zip(weights, t, strict=True)])
    return Mass(wq, total(wq), c, not hard or eps != 0)


def cross_entropy_row(
    x: NDArray,
    valid: NDArray,
    target: Any,
    sample_weight: Any,
    temperature: Any,
    softcap: Any,
    settings: Settings,
    with_gradient: bool = True,
) -> RowLoss:
    """Return what a row adds to the loss, in the order of precedence of the contract."""
    row = reduce_row(x, valid, temperature, softcap)
    normalizer = log_normalizer(row, temperature)
    n = len(row.live)
    nothing = [Near(ZERO)] * n
    ignored = np.ndim(target) == 0 and settings.ignore_index is not None and int(target) == settings.ignore_index
    if ignored or not any(row.valid):
        return RowLoss(Near(ZERO), Near(ZERO), normalizer, nothing, ZERO)
    mass, s = mass_of(row, target, settings), exact(sample_weight)
    if s * mass.c == 0:
        return RowLoss(Near(ZERO), Near(ZERO), normalizer, nothing, ZERO)
    z = exact(settings.z_loss)
    if row.poisoned or row.dead:
        void = Near(NAN if row.poisoned or settings.empty == "nan" else ZERO)
        gradient = [Near(NAN) if row.poisoned and alive else Near(ZERO) for alive in row.live]
        return RowLoss(void, void if z else Near(ZERO), normalizer, gradient, s * mass.c)
    entropy = _entropy(row, mass)
    z_part = scaled(_z_part(normalizer, z, mass.c), s)
    loss = _plus(scaled(entropy, s), z_part)
    if not with_gradient:
        return RowLoss(loss, z_part, normalizer, [], s * mass.c)
    slope = softcap_slope(x, row, softcap)
    gradient = [
        scaled(_gradient(row, mass, j, normalizer, z), s * slope[j].value / exact(temperature), slope[j].slack)
        if alive
        else Near(ZERO)
        for j, alive in enumerate(row.live)
    ]
    return RowLoss(loss, z_part, normalizer, gradient, s * mass.c)


def _entropy(row: Row, mass: Mass) -> Near:
    terms = []
    for j, wq in enumerate(mass.wq):
        if wq == 0:
            continue
        if not row.live[j]:
            return Near(INF)
        log_p = row.log_probability(j)
        terms.append(Near(-wq * log_p.value, wq * (log_p.slack + abs(log_p.value))))
    more = 1 + summing(len(terms))
    return Near(total([t.value for t in terms]), total([t.slack for t in terms]) * more)


def _z_part(normalizer: Near, z: Number, c: Number) -> Near:
    value = z * c * normalizer.value**2
    return Near(value, 2 * z * c * abs(normalizer.value) * normalizer.slack + value)


def _gradient(row: Row, mass: Mass, j: int, normalizer: Near, z: Number) -> Near:
    """Return ``p_j (A - wq_j) - wq_j (1 - p_j) + 2 z c logZ p_j``."""
    p, other, wq = row.probability(j), row.complement(j), mass.wq[j]
    rest = mass.total - wq
    pull = 2 * z * mass.c * normalizer.value
    value = p.value * rest - wq * other.value + pull * p.value
    slack = abs(rest) * p.slack + wq * other.slack + abs(pull) * p.slack
    slack += 2 * z * mass.c * normalizer.slack * p.value
    if mass.rounded:
        slack += mass.total * p.value * (1 + summing(len(mass.wq)))
    return Near(value, slack)


def softcap_slope(x: NDArray, row: Row, softcap: Any) -> list[Near]:
    """Return du/dx, with its relative slack."""
    if softcap is None:
        return [Near(ONE)] * len(row.live)
    slopes = []
    for one, alive in zip(numbers(x), row.live, strict=True):
        y = abs(one / exact(softcap)) if alive else ZERO
        e = CONTEXT.exp(-2 * y)
        slopes.append(Near(4 * e / (1 + e) ** 2, 2 + 2 * y))
    return slopes


def scaled(x: Near, by: Number, relative: Number = ZERO) -> Near:
    """Return x times a number, whose relative slack may be given."""
    return Near(x.value * by, abs(by) * (x.slack + abs(x.value) * relative)) if by else Near(ZERO)


def _plus(x: Near, y: Near) -> Near:
    return Near(x.value + y.value, x.slack + y.slack)


# -- over all rows ----------------------------------------------------------------------------------------------------


def reduced(rows: Sequence[RowLoss], reduction: str, empty: str) -> tuple[list[Near], list[Near], list[list[Near]]]:
    """Return (loss, z part, gradient) under a reduction; one entry a row for "none"."""
    losses, parts, gradients = [r.loss for r in rows], [r.z_part for r in rows], [r.gradient for r in rows]
    if reduction == "none":
        return losses, parts, gradients
    loss, part = _sum(losses), _sum(parts)
    if reduction == "sum":
        return [loss], [part], gradients
    weight = total([r.weight for r in rows])
    if weight == 0:
        void = Near(NAN if empty == "nan" else ZERO)
        return [void], [void], gradients
    more = 1 + summing(len(rows))
    divided = [[scaled(g, 1 / weight, more) for g in gradient] for gradient in gradients]
    return [scaled(loss, 1 / weight, more)], [scaled(part, 1 / weight, more)], divided


def _sum(terms: Sequence[Near]) -> Near:
    value = sum((t.value for t in terms), ZERO)  # not fsum: NaN and inf must combine
    finite = [t for t in terms if CONTEXT.isfinite(t.value)]
    return Near(value, sum((t.slack + abs(t.value) * summing(len(terms)) for t in finite), ZERO))


# -- through a linear layer --------------------------------------------------------------------------------------------


def _dot(gradients: Sequence[Near], factors: Sequence[Number]) -> Near:
    """Return a sum of products. BLAS adds one by one, so that errors do a random walk."""
    terms = [g.value * f for g, f in zip(gradients, factors, strict=True)]
    if any(term != term for term in terms):
        return Near(NAN)
    moved = total([g.slack * abs(f) for g, f in zip(gradients, factors, strict=True)])
    return Near(total(terms), moved + total([abs(term) for term in terms]) * (1 + CONTEXT.sqrt(len(terms))))


def through_layer(
    rows: Sequence[RowLoss], gradients: Sequence[Sequence[Near]], hidden: NDArray, weight: NDArray
) -> tuple[list[Near], list[Near], list[Near]]:
    """Return the gradients by hidden features, weights and bias, flat, of the gradients by the logits."""
    counted = [i for i, row in enumerate(rows) if row.weight != 0]  # the other values do not matter, not even a NaN
    by_class = [numbers(column) for column in weight.T]
    nothing = [Near(ZERO)] * weight.shape[1]
    by_hidden = [
        [_dot(g, column) for column in by_class] if row.weight != 0 else nothing
        for row, g in zip(rows, gradients, strict=True)
    ]
    features = [numbers(column) for column in hidden[counted].T]
    columns = [[gradients[i][j] for i in counted] for j in range(len(weight))]
    by_weight = [[_dot(column, feature) if counted else Near(ZERO) for feature in features] for column in columns]
    by_bias = [_dot(column, [ONE] * len(column)) if counted else Near(ZERO) for column in columns]
    return [one for row in by_hidden for one in row], [one for row in by_weight for one in row], by_bias


# -- boosting objectives ----------------------------------------------------------------------------------------------


def grad_hess_row(
    x: NDArray, target: Any, class_weight: NDArray | None, sample_weight: Any
) -> tuple[list[Near], list[Near]]:
    """Return ``s (A p - wq)`` and ``s A p (1 - p)``."""
    row = reduce_row(x, np.ones(x.shape, dtype=bool))
    mass, s = mass_of(row, target, Settings(class_weight=class_weight)), exact(sample_weight)
    live = row.live
    if s * mass.c == 0 or row.dead:
        return [Near(ZERO)] * len(live), [Near(ZERO)] * len(live)
    if row.poisoned:
        void = [Near(NAN) if alive else Near(ZERO) for alive in live]
        return void, void
    gradient, hessian = [], []
    for j, alive in enumerate(live):
        if not alive:
            gradient.append(Near(ZERO))
            hessian.append(Near(ZERO))
            continue
        gradient.append(scaled(_gradient(row, mass, j, Near(ZERO), ZERO), s))
        p, other = row.probability(j), row.complement(j)
        curve = Near(p.value * other.value, p.value * other.slack + p.slack * other.value)
        hessian.append(scaled(curve, s * mass.total, mpf(1) + summing(len(live))))
    return gradient, hessian
