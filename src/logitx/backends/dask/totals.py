"""Reduce the losses of rows to the results of a call, for given logits and for those of a linear layer."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from logitx._arrays.family import namespace_dtype
from logitx._options import LossOptions
from logitx._plan import Array, Plan
from logitx.backends.dask import whole_rows
from logitx.backends.dask.chunks import MANY, Lines, Operand, Work, map_blocks, pick, tree
from logitx.backends.dask.cut_rows import merge, reduce


def lines_of(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> Lines:
    """Return the logits and the operands of a loss as blocks."""
    return Lines(plan, logits, "logits", targets=targets, **options._asdict())


def reduced_chunks(lines: Lines) -> Array:
    """Reduce rows whose classes are in several chunks, chunk by chunk."""
    return lines.parts(reduce.reduce_block, [*lines.where_rows_begin(), *lines.where_classes_begin()])


def merge_of(lines: Lines) -> Any:
    """Return the function that merges reductions of the same rows."""
    return functools.partial(merge.merge_pairs, lines.plan)


def pairs_of(lines: Lines) -> Operand:
    """Reduce rows whose classes are in several chunks."""
    return Operand("pair", lines.merged(reduced_chunks(lines), merge_of(lines)), lines.rows)


def of_parts(lines: Lines, parts: Array) -> tuple[Array, Array, Array]:
    """Return (loss, z_loss, log_normalizer) of rows whose chunks have been reduced."""
    plan = lines.plan
    if plan.reduction == "none" or plan.return_parts:
        rows = lines.merged(parts, merge_of(lines), functools.partial(merge.losses_of_pairs, plan))
        return reduce_parts(lines, rows, lines.rows)
    return (
        _total_of_chunks(lines, lines.merged(parts, merge_of(lines), functools.partial(merge.summed_losses, plan))),
        None,
        None,
    )


def of_pairs(lines: Lines, pairs: Operand) -> Array:
    """Return the losses of rows whose reduction is known."""
    return map_blocks(_of_pair, Work(lines.plan, ("pair",), ()), [pairs], lines.rows, lines.x, "float64")


def _of_pair(work: Work, block: Any) -> Any:
    return merge.losses_of_pairs(work.plan, work.given((block,))["pair"])


def reduce_parts(lines: Lines, parts: Array, index: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Return (loss, z_loss, log_normalizer) from losses of rows; `index` may still have the class axes."""
    plan, rows = lines.plan, lines.rows
    log_normalizer = pick(parts, 2, index, rows, plan.loss) if plan.return_parts else None
    if plan.reduction == "none":
        found = [_rounded_losses(lines, pick(parts, i, index, rows, plan.loss)) for i in range(1 + plan.return_parts)]
        return found[0], found[1] if plan.return_parts else None, log_normalizer
    sums = map_blocks(
        _totals_of_block, Work(plan, ("part",), ()), [Operand("part", parts, index)], rows, lines.x, "float64"
    )
    both = _total_of_chunks(lines, sums)
    if plan.return_parts:
        return pick(both, 0, (), (), plan.loss), pick(both, 1, (), (), plan.loss), log_normalizer
    return both, None, None


def _total_of_chunks(lines: Lines, sums: Array) -> Array:
    """Return the sum or the mean over all chunks of rows."""
    plan, rows = lines.plan, tuple(range(len(lines.rows)))
    if rows:
        finish = functools.partial(_sums_or_means, plan)
        return tree(sums, rows, whole_rows.add_totals, MANY, finish, namespace_dtype(np, plan.loss))
    return map_blocks(_finish_block, Work(plan, ("totals",), ()), [Operand("totals", sums, ())], (), lines.x, plan.loss)


def _rounded_losses(lines: Lines, loss: Array) -> Array:
    index = lines.rows
    return map_blocks(
        _cast_block, Work(lines.plan, ("loss",), ()), [Operand("loss", loss, index)], index, loss, lines.plan.loss
    )


def _cast_block(work: Work, block: Any) -> Any:
    return whole_rows.solid(whole_rows.space(block), block, work.plan.loss)


def _totals_of_block(work: Work, block: Any) -> Any:
    return whole_rows.totals(work.given((block,))["part"])


def _finish_block(work: Work, block: Any) -> Any:
    return _sums_or_means(work.plan, work.given((block,))["totals"])


def _sums_or_means(plan: Plan, totals: whole_rows.Totals) -> Any:
    """Return the loss, and the z-loss if `return_parts` is set."""
    loss = whole_rows.sum_or_mean(plan, totals.loss, totals.share)
    return (loss, whole_rows.sum_or_mean(plan, totals.z_loss, totals.share)) if plan.return_parts else loss
