"""Cases and truth of the focal losses."""

from __future__ import annotations

import functools
from collections.abc import Hashable

import numpy as np

from logitx.testing import binary, expect, grids, oracle_loss, special, special_loss
from logitx.testing.cases import FLOATS, Case, data, row_shape, to_rows
from logitx.testing.covering import pairwise
from logitx.testing.expect import Expected
from logitx.testing.oracle import (
    INF,
    NAN,
    ONE,
    ZERO,
    Near,
    Number,
    Row,
    exact,
    log_normalizer,
    reduce_row,
    summing,
    total,
)
from logitx.testing.oracle_loss import Mass, RowLoss, Settings, mass_of, scaled, softcap_slope

_WITHOUT = ("z_loss", "return_parts")
POWERS: tuple[Hashable, ...] = (0.0, 0.5, 1.0, 2.0, "array")
ROWS = {name: levels for name, levels in grids.CROSS_ENTROPY.items() if name not in _WITHOUT} | {"gamma": POWERS}
ELEMENTS = binary.LOSS | {"gamma": POWERS, "alpha": (None, 0.25, 1.0)}


def _row_case(number: int, levels: grids.Levels) -> Case:
    case = grids.cross_entropy_case(number, {**levels, "z_loss": 0.0, "return_parts": False})
    return _with_power(case, levels)


def _with_power(case: Case, levels: grids.Levels) -> Case:
    rng = np.random.default_rng(len(case.name))
    dtype = case.args[0].dtype if case.args[0].dtype in FLOATS else "float32"
    gamma = data(rng.uniform(0.5, 3), dtype) if levels["gamma"] == "array" else levels["gamma"]
    more = {} if levels.get("alpha") is None else {"alpha": levels["alpha"]}
    return Case(case.name, case.dtype, case.args, {**case.options, "gamma": gamma, **more})


def row_grid() -> list[Case]:
    """Return the cases of the focal losses of rows that cover all pairs of levels of the options."""
    plain = dict(zip(ROWS, (one[0] for one in ROWS.values()), strict=True)) | {"dtype": "float32", "n": 7, "gamma": 2.0}
    rows = [*pairwise(ROWS, grids.FORBIDDEN), plain, plain | {"targets": "soft", "gamma": 0.5}]
    return [_row_case(number, levels) for number, levels in enumerate(rows)]


def element_grid() -> list[Case]:
    """Return the cases of the binary focal losses that cover all pairs of levels of the options."""
    rows = pairwise(ELEMENTS, binary.FORBIDDEN)
    return [_with_power(binary.loss_case(number, levels), levels) for number, levels in enumerate(rows)]


def _with_powers(cases: list[Case]) -> list[Case]:
    return [
        Case(f"{case.name}, gamma={gamma}", case.dtype, case.args, {**case.options, "gamma": gamma}, rows=case.rows)
        for gamma in (0.5, 2.0)
        for case in cases
        if gamma == 2.0 or case.dtype == "float32"
    ]


def row_special() -> list[Case]:
    """Return the special cases of the focal losses of rows."""
    return _with_powers(special.without(special_loss.cross_entropy_cases, _WITHOUT))


def element_special() -> list[Case]:
    """Return the special cases of the binary focal losses."""
    return _with_powers(binary.loss_special())


# -- the truth --------------------------------------------------------------------------------------------------------


def _terms(row: Row, mass: Mass, gamma: Number) -> tuple[list[Near], list[Near]]:
    """Return wq (1 - p)^gamma (-log p) of every class, and v, the derivative by -log p."""
    losses, slopes = [], []
    for j, wq in enumerate(mass.wq):
        if not wq or not row.live[j]:
            losses.append(Near(INF if wq else ZERO))
            slopes.append(Near(wq))
            continue
        p, m, log_p = row.probability(j), row.complement(j), row.log_probability(j)
        sure = m.value == 0
        relative = ZERO if sure else gamma * m.slack / m.value + 2
        factor = (ZERO if gamma else ONE) if sure else m.value**gamma
        loss = -factor * log_p.value
        losses.append(Near(wq * loss, wq * (factor * log_p.slack + loss * (4 + relative))))
        more = gamma if sure else -gamma * p.value * log_p.value / m.value
        noise = ZERO if sure else more * (p.slack / p.value + m.slack / m.value + 4)
        if not sure and log_p.value:
            noise += more * log_p.slack / -log_p.value
        value = factor * (1 + more)
        slopes.append(Near(wq * value, wq * (value * (4 + relative) + factor * noise)))
    return losses, slopes


def _gradient(row: Row, v: list[Near], all_v: Near, j: int) -> Near:
    """Return ``p_j (V - v_j) - v_j (1 - p_j)``; `all_v` is the sum V."""
    p, other = row.probability(j), row.complement(j)
    rest, wobble = all_v.value - v[j].value, all_v.slack - v[j].slack
    value = p.value * rest - v[j].value * other.value
    slack = rest * p.slack + p.value * wobble + v[j].value * other.slack + v[j].slack * other.value
    return Near(value, slack + p.value * (rest + v[j].value) * (1 + summing(len(v))))


def _row(case: Case, x: np.ndarray, valid: np.ndarray, target: object, s: object, t: object, cap: object) -> RowLoss:
    options = case.options
    weight = expect.values_of(options.get("class_weight"))
    smoothing = expect.values_of(options.get("label_smoothing", 0.0))
    settings = Settings(weight, options.get("ignore_index", -100), smoothing, 0.0, options.get("empty", "nan"))
    plain = oracle_loss.cross_entropy_row(x, valid, target, s, t, cap, settings)
    gamma = exact(expect.values_of(options["gamma"]))
    row = reduce_row(x, valid, t, cap)
    if plain.weight == 0 or row.poisoned or row.dead or not gamma:
        return plain
    mass, sample = mass_of(row, target, settings), exact(s)
    losses, v = _terms(row, mass, gamma)
    value = INF if any(one.value == INF for one in losses) else total([one.value for one in losses])
    slack = total([one.slack for one in losses]) * (1 + summing(len(losses)))
    slope, all_v = softcap_slope(x, row, cap), Near(total([one.value for one in v]), total([one.slack for one in v]))
    gradient = [
        scaled(_gradient(row, v, all_v, j), sample * slope[j].value / exact(t), slope[j].slack) if alive else Near(ZERO)
        for j, alive in enumerate(row.live)
    ]
    loss = Near(sample * value, sample * (slack + (value if value != INF else ZERO)))
    return RowLoss(loss, Near(NAN), log_normalizer(row, t), gradient, plain.weight)


@functools.lru_cache(maxsize=256)  # two functions have the same cases
def loss_and_gradient(case: Case) -> list[Expected]:
    """Return what focal_loss_value_and_grad must give."""
    x, axis, options = case.args[0].values, case.options.get("axis", -1), case.options
    columns = (
        to_rows(x, axis),
        expect.spread(options.get("where"), x, axis, True),
        expect.targets_of(case),
        expect.sample_weights(case, x, axis),
        expect.each_row(options.get("temperature"), x, axis, 1.0),
        expect.each_row(options.get("softcap"), x, axis, None),
    )
    rows = [_row(case, *one) for one in zip(*columns, strict=True)]
    reduction = options.get("reduction", "mean")
    losses, _, gradients = oracle_loss.reduced(rows, reduction, options.get("empty", "nan"))
    shape = row_shape(x.shape, axis)
    loss = expect.one_a_row("loss", losses, shape, "loss") if reduction == "none" else expect.scalar("loss", losses[0])
    return [loss, expect.like_logits("gradient", gradients, x, axis)]


def loss(case: Case) -> list[Expected]:
    """Return what focal_loss must give."""
    return loss_and_gradient(case)[:1]
