"""The focal loss of rows on lazy arrays: blocks of whole rows. Classes in several chunks are rechunked into one."""

from __future__ import annotations

from typing import Any

import logitx
from logitx._options import LossOptions
from logitx._plan import Array, Plan, Scalar
from logitx.backends.dask import totals, whole_rows
from logitx.backends.dask.chunks import Lines, Work, pick


def _lines_of(plan: Plan, logits: Array, targets: Array, options: LossOptions, gamma: Scalar) -> Lines:
    if any(len(logits.chunks[axis]) > 1 for axis in plan.layout.axes):
        logits = logits.rechunk(dict.fromkeys(plan.layout.axes, -1))
    return Lines(plan, logits, "logits", targets=targets, **options._asdict(), gamma=gamma)


def focal_loss(plan: Plan, logits: Array, targets: Array, options: LossOptions, gamma: Scalar) -> Array:
    """s [sum of class_weight q (1 - p)^gamma ((max - x) + log(sum))], reduced."""
    lines = _lines_of(plan, logits, targets, options, gamma)
    parts = lines.map(_losses_of_block, lines.rows, "float64", lines.where_rows_begin())
    return totals.reduce_parts(lines, parts, lines.rows)[0]


def focal_loss_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: LossOptions, gamma: Scalar
) -> tuple[Array, Array]:
    """The loss and its gradient by the logits."""
    lines = _lines_of(plan, logits, targets, options, gamma)
    whole = [lines.share()] if plan.reduction == "mean" else []
    both = lines.map(_losses_and_gradient_of_block, lines.entries, "float64", [*lines.where_rows_begin(), *whole])
    loss = totals.reduce_parts(lines, both, lines.entries)[0]
    gradient = pick(both, 4, lines.entries, lines.entries, plan.result)
    return loss, gradient if gradient.chunks == logits.chunks else gradient.rechunk(logits.chunks)


def _of_gamma(given: dict[str, Any], function: Any) -> Any:
    gamma = given.get("gamma")

    def called(*arguments: Any, return_parts: bool, **options: Any) -> Any:
        return function(*arguments, gamma=0.0 if gamma is None else gamma, **options)

    return called


def _losses_of_block(work: Work, *blocks: Any) -> whole_rows.Part:
    given = work.given(blocks)
    loss = whole_rows.loss_of_block(work, given, given["sample_weight"], _of_gamma(given, logitx.focal_loss))
    return whole_rows.part_of_block(work, given, loss, given["sample_weight"])


def _losses_and_gradient_of_block(work: Work, *blocks: Any) -> tuple[Any, ...]:
    given = work.given(blocks)
    weight, function = whole_rows.divided(work, given), _of_gamma(given, logitx.focal_loss_value_and_grad)
    loss, gradient = whole_rows.loss_of_block(work, given, weight, function)
    return (*whole_rows.part_of_block(work, given, loss, weight), gradient)
