"""Numbers of a row, lazily: of whole rows by the public functions, of cut rows by sums over their chunks."""

from __future__ import annotations

import dataclasses
from typing import Any

import logitx
from logitx._arrays.folding import unfold_axes
from logitx._plan import Array, Plan, Scalar
from logitx.backends.dask import totals
from logitx.backends.dask.chunks import Lines, Operand, Work, add_blocks, map_blocks
from logitx.backends.dask.cut_rows import reduce
from logitx.backends.dask.whole_rows import solid, space
from logitx.backends.formulas.numbers import empty_value, quiet

_OPTIONS = ("where", "temperature", "softcap")


def entropy(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Return the sum of -p log p."""
    lines = Lines(plan, x, "logits", where=where, temperature=temperature, softcap=softcap)
    if lines.whole:
        return lines.map(_whole_entropy, lines.rows, plan.loss)
    pair = Operand("pair", lines.merged(lines.parts(reduce.reduce_block), totals.merge_of(lines)), lines.rows)
    total = lines.merged(lines.parts(_cut_entropy, [pair]), add_blocks)
    work = Work(plan, ("pair", "total"), ())
    return map_blocks(_settled, work, [pair, Operand("total", total, lines.rows)], lines.rows, x, plan.loss)


def _whole_entropy(work: Work, *blocks: Any) -> Any:
    given, plan = work.given(blocks), work.plan
    options = {name: given[name] for name in _OPTIONS if given[name] is not None}
    x = given["x"]
    found = logitx.entropy(x, axis=plan.layout.axes, empty=plan.empty, dtype=plan.loss, **options)
    return solid(space(x), found, plan.loss)


@quiet
def _cut_entropy(work: Work, *blocks: Any) -> Any:
    """Return the sum of -p log p over the classes of a block, in float64."""
    given = work.given(blocks)
    block, pair = reduce.block_of(work, given), given["pair"]
    xp, lay = block.xp, block.lay
    if lay.n == 0:
        return xp.zeros(lay.rows, dtype=xp.float64)
    plan = dataclasses.replace(block.plan, op="log_softmax", empty="zero", result=block.plan.compute)
    log_p = unfold_axes(block.family, block.by("normalize_rows", plan, pair.top, pair.rest), lay)
    log_p = xp.astype(log_p, xp.float64)
    return xp.sum(xp.where(log_p == -xp.inf, 0.0, -xp.exp(log_p) * log_p), axis=lay.axes)


def _settled(work: Work, *blocks: Any) -> Any:
    """Override the rows in which nothing counts."""
    given, plan = work.given(blocks), work.plan
    pair, total = given["pair"], given["total"]
    xp = space(total)
    return solid(xp, xp.where(pair.rest == -1.0, empty_value(plan), total), plan.loss)
