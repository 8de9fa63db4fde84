"""The binary family on lazy arrays: each block is a call of a public function; a mean needs the shares of all."""

from __future__ import annotations

from typing import Any

import logitx
from logitx._options import BinaryOptions
from logitx._plan import Array, Plan
from logitx.backends.dask import totals, whole_rows
from logitx.backends.dask.chunks import MANY, Lines, Operand, Work, map_blocks, pick
from logitx.backends.formulas.class_ids import row_weights


def sigmoid(plan: Plan, x: Array, out: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return _lazy_elementwise(plan, x)


def log_sigmoid(plan: Plan, x: Array, out: Array) -> Array:
    """min(x, 0) - log1p(exp(-|x|))."""
    return _lazy_elementwise(plan, x)


def _lazy_elementwise(plan: Plan, x: Array) -> Array:
    lines = Lines(plan, x, "x")
    return lines.map(_computed_block, lines.entries, plan.result)


def _computed_block(work: Work, block: Any) -> Any:
    plan = work.plan
    return whole_rows.solid(whole_rows.space(block), getattr(logitx, plan.op)(block, dtype=plan.result), plan.result)


def _lines_of(plan: Plan, logits: Array, targets: Array, options: BinaryOptions) -> Lines:
    return Lines(plan, logits, "logits", targets=targets, **options._asdict())


def binary_cross_entropy(plan: Plan, logits: Array, targets: Array, options: BinaryOptions) -> Array:
    """s [w q (-log p) + (1 - q) (-log (1 - p))], reduced."""
    lines = _lines_of(plan, logits, targets, options)
    parts = lines.map(_losses_of_block, lines.rows, "float64", lines.where_rows_begin())
    return totals.reduce_parts(lines, parts, lines.rows)[0]


def binary_cross_entropy_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: BinaryOptions
) -> tuple[Array, Array]:
    """The loss, and s [(1 - q) p - w q (1 - p)]."""
    lines = _lines_of(plan, logits, targets, options)
    more = lines.where_rows_begin()
    if plan.reduction == "mean":
        used = [one for one in lines.operands if one.name in ("targets", "sample_weight", "where")]
        work = Work(plan, tuple(one.name for one in used), lines.numbers)
        shares = map_blocks(_shares_of_block, work, used, lines.rows, lines.x, "float64")
        more.append(Operand("whole", shares.sum(split_every=MANY), ()))
    both = lines.map(_losses_and_gradient_of_block, lines.rows, "float64", more)
    loss = totals.reduce_parts(lines, both, lines.rows)[0]
    return loss, pick(both, 4, lines.rows, lines.rows, plan.result)


def binary_cross_entropy_grad_hess(
    plan: Plan, logits: Array, targets: Array, options: BinaryOptions
) -> tuple[Array, Array]:
    """s [(1 - q) p - w q (1 - p)] and s [w q + 1 - q] p (1 - p)."""
    lines = _lines_of(plan, logits, targets, options)
    both = lines.map(_gradient_and_hessian_of_block, lines.rows, plan.result, lines.where_rows_begin())
    gradient, hessian = (pick(both, i, lines.rows, lines.rows, plan.result) for i in range(2))
    return gradient, hessian


def _options_of_block(work: Work, given: dict[str, Any], *names: str) -> dict[str, Any]:
    wanted = ("pos_weight", "sample_weight", "where", *names)
    return {name: given[name] for name in wanted if given.get(name) is not None}


def _shares_of_block(work: Work, *blocks: Any) -> Any:
    return _shares(work.plan, work.given(blocks))


def _shares(plan: Plan, given: dict[str, Any]) -> Any:
    """Return the part of every element in the denominator of the mean."""
    targets = given["targets"]
    xp = whole_rows.space(targets)
    ones, ignored = row_weights(plan, xp, targets, None, ())
    share = ones if given["sample_weight"] is None else ones * given["sample_weight"]
    counted = ~ignored if given["where"] is None else ~ignored & given["where"]
    return xp.where(counted, share, 0.0)


def _loss_of_block(work: Work, given: dict[str, Any], function: Any) -> Any:
    plan = work.plan
    focal = {name: given[name] for name in ("gamma", "alpha") if given.get(name) is not None}
    if focal:
        function = getattr(logitx, function.__name__.replace("cross_entropy", "focal_loss"))
        focal = {"gamma": 0.0} | focal
    return whole_rows.with_whole_positions(
        work, given, function, given["x"], given["targets"], ignore_index=plan.ignore_index, reduction="none",
        dtype=plan.loss, **_options_of_block(work, given, "label_smoothing"), **focal,
    )  # fmt: skip


def _part(work: Work, given: dict[str, Any], loss: Any) -> whole_rows.Part:
    loss = whole_rows.solid(whole_rows.space(given["x"]), loss, work.plan.loss)
    share = _shares(work.plan, given) if work.plan.reduction == "mean" else None
    return whole_rows.Part(loss, None, None, share)


def _losses_of_block(work: Work, *blocks: Any) -> whole_rows.Part:
    given = work.given(blocks)
    return _part(work, given, _loss_of_block(work, given, logitx.binary_cross_entropy))


def _losses_and_gradient_of_block(work: Work, *blocks: Any) -> tuple[Any, ...]:
    given = work.given(blocks)
    if isinstance(given["sample_weight"], float):
        xp = whole_rows.space(given["x"])
        given["sample_weight"] = xp.full((1,) * given["x"].ndim, given["sample_weight"])
    given["sample_weight"] = whole_rows.divided(work, given)
    loss, gradient = _loss_of_block(work, given, logitx.binary_cross_entropy_value_and_grad)
    part = _part(work, given, loss)
    return (*part, whole_rows.solid(whole_rows.space(given["x"]), gradient, work.plan.result))


def _gradient_and_hessian_of_block(work: Work, *blocks: Any) -> Any:
    given, plan = work.given(blocks), work.plan
    return whole_rows.with_whole_positions(
        work, given, logitx.binary_cross_entropy_grad_hess, given["x"], given["targets"],
        ignore_index=plan.ignore_index, **_options_of_block(work, given),
    )  # fmt: skip
