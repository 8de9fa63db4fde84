"""From the losses of rows to what a call returns: shared by logits in memory and those of a linear layer."""

from __future__ import annotations

from typing import Any

from logitx._typing import Array, Plan
from logitx.backends.dask import _calls, _pairs
from logitx.backends.dask._lines import Lines, Operand, Work, mapped, pick, tree


def lines_of(plan: Plan, logits: Array, *operands: Any) -> Lines:
    names = (
        "targets", "class_weight", "sample_weight", "label_smoothing", "z_loss", "softcap", "temperature", "where"
    )  # fmt: skip
    return Lines(plan, logits, "logits", **dict(zip(names, operands, strict=True)))


def pairs_of(lines: Lines) -> Operand:
    """Reduce rows whose classes are in several chunks."""
    beginnings = [*lines.where_rows_begin(), *lines.where_classes_begin()]
    return Operand("pair", lines.merged(lines.parts(_pairs.reduced, beginnings), _pairs.merged), lines.rows)


def of_rows(lines: Lines, pairs: Operand) -> Array:
    """Return the losses of rows whose reduction is known."""
    needed = ("sample_weight", "label_smoothing", "z_loss", *(("targets",) if lines.plan.hard else ()))
    used = [pairs, *(one for one in lines.operands if one.name in needed)]
    weighted = (("weighted", 1.0),) if any(one.name == "class_weight" for one in lines.operands) else ()
    numbers = tuple(pair for pair in lines.numbers if pair[0] in needed)
    work = Work(lines.plan, tuple(one.name for one in used), (*numbers, *weighted))
    return mapped(_pairs.finished, work, used, lines.rows, lines.x, "float64")


def reduced(lines: Lines, parts: Array, index: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Return (loss, z_loss, log_normalizer) of losses of rows, whose blocks may still have the axes of classes."""
    plan, rows = lines.plan, lines.rows
    log_normalizer = pick(parts, 2, index, rows, plan.loss) if plan.return_parts else None
    if plan.reduction == "none":
        found = [_rounded(lines, pick(parts, i, index, rows, plan.loss)) for i in range(1 + plan.return_parts)]
        return found[0], found[1] if plan.return_parts else None, log_normalizer
    sums = mapped(_totals, Work(plan, ("part",), ()), [Operand("part", parts, index)], rows, lines.x, "float64")
    everything = tree(sums, tuple(range(len(rows))), _calls.added)
    loss, z_loss = (
        mapped(_finished, Work(plan, ("totals",), (("which", i),)), [Operand("totals", everything, ())], (), lines.x,
               plan.loss)
        for i in (0.0, 1.0)
    )  # fmt: skip
    return loss, z_loss if plan.return_parts else None, log_normalizer


def _rounded(lines: Lines, loss: Array) -> Array:
    index = lines.rows
    return mapped(_cast, Work(lines.plan, ("loss",), ()), [Operand("loss", loss, index)], index, loss, lines.plan.loss)


def _cast(work: Work, block: Any) -> Any:
    return _calls.solid(_calls.space(block), block, work.plan.loss)


def _totals(work: Work, block: Any) -> Any:
    return _calls.totals(work.given((block,))["part"])


def _finished(work: Work, block: Any) -> Any:
    return _calls.finished(work, ("loss", "z_loss")[int(dict(work.numbers)["which"])], block)
