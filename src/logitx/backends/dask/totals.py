"""From the losses of rows to what a call returns: shared by logits in memory and those of a linear layer."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from logitx._arrays.family import namespace_dtype
from logitx._plan import Array, Plan
from logitx.backends.dask import whole_rows
from logitx.backends.dask.chunks import MANY, Lines, Operand, Work, mapped, pick, tree
from logitx.backends.dask.cut_rows import merge, reduce


def lines_of(plan: Plan, logits: Array, *operands: Any) -> Lines:
    """Return the logits and the operands of a loss as blocks."""
    names = (
        "targets", "class_weight", "sample_weight", "label_smoothing", "z_loss", "softcap", "temperature", "where"
    )  # fmt: skip
    return Lines(plan, logits, "logits", **dict(zip(names, operands, strict=True)))


def parts_of(lines: Lines) -> Array:
    """Reduce rows whose classes are in several chunks, chunk by chunk."""
    return lines.parts(reduce.reduced, [*lines.where_rows_begin(), *lines.where_classes_begin()])


def merge_of(lines: Lines) -> Any:
    """Return the function that merges reductions of the same rows."""
    return functools.partial(merge.merged, lines.plan)


def pairs_of(lines: Lines) -> Operand:
    """Reduce rows whose classes are in several chunks."""
    return Operand("pair", lines.merged(parts_of(lines), merge_of(lines)), lines.rows)


def of_parts(lines: Lines, parts: Array) -> tuple[Array, Array, Array]:
    """Return (loss, z_loss, log_normalizer) of rows whose chunks have been reduced."""
    plan = lines.plan
    if plan.reduction == "none" or plan.return_parts:
        rows = lines.merged(parts, merge_of(lines), functools.partial(merge.finished, plan))
        return reduced(lines, rows, lines.rows)
    return _total(lines, lines.merged(parts, merge_of(lines), functools.partial(merge.summed, plan))), None, None


def of_pairs(lines: Lines, pairs: Operand) -> Array:
    """Return the losses of rows whose reduction is known."""
    return mapped(_of_pair, Work(lines.plan, ("pair",), ()), [pairs], lines.rows, lines.x, "float64")


def _of_pair(work: Work, block: Any) -> Any:
    return merge.finished(work.plan, work.given((block,))["pair"])


def reduced(lines: Lines, parts: Array, index: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Return (loss, z_loss, log_normalizer) of losses of rows, whose blocks may still have the axes of classes."""
    plan, rows = lines.plan, lines.rows
    log_normalizer = pick(parts, 2, index, rows, plan.loss) if plan.return_parts else None
    if plan.reduction == "none":
        found = [_rounded(lines, pick(parts, i, index, rows, plan.loss)) for i in range(1 + plan.return_parts)]
        return found[0], found[1] if plan.return_parts else None, log_normalizer
    sums = mapped(_totals, Work(plan, ("part",), ()), [Operand("part", parts, index)], rows, lines.x, "float64")
    both = _total(lines, sums)
    if plan.return_parts:
        return pick(both, 0, (), (), plan.loss), pick(both, 1, (), (), plan.loss), log_normalizer
    return both, None, None


def _total(lines: Lines, sums: Array) -> Array:
    """Return the sum or the mean, of chunks of rows."""
    plan, rows = lines.plan, tuple(range(len(lines.rows)))
    if rows:
        finish = functools.partial(_finished, plan)
        return tree(sums, rows, whole_rows.added, MANY, finish, namespace_dtype(np, plan.loss))
    return mapped(_finish, Work(plan, ("totals",), ()), [Operand("totals", sums, ())], (), lines.x, plan.loss)


def _rounded(lines: Lines, loss: Array) -> Array:
    index = lines.rows
    return mapped(_cast, Work(lines.plan, ("loss",), ()), [Operand("loss", loss, index)], index, loss, lines.plan.loss)


def _cast(work: Work, block: Any) -> Any:
    return whole_rows.solid(whole_rows.space(block), block, work.plan.loss)


def _totals(work: Work, block: Any) -> Any:
    return whole_rows.totals(work.given((block,))["part"])


def _finish(work: Work, block: Any) -> Any:
    return _finished(work.plan, work.given((block,))["totals"])


def _finished(plan: Plan, totals: whole_rows.Totals) -> Any:
    """Return the loss, and its part of the z-loss where that is asked for."""
    loss = whole_rows.finished(plan, totals.loss, totals.share)
    return (loss, whole_rows.finished(plan, totals.z_loss, totals.share)) if plan.return_parts else loss
