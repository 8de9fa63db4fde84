"""Numbers of a row, lazily: of whole rows by the public functions, of cut rows by sums over their chunks."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import dask.array as da
import numpy as np

import logitx
from logitx._arrays.folding import unfold_axes
from logitx._plan import Array, Empty, Plan, Scalar
from logitx.backends.dask import totals, whole_rows
from logitx.backends.dask.chunks import Lines, Operand, Work, add_blocks, map_blocks
from logitx.backends.dask.cut_rows import reduce
from logitx.backends.dask.whole_rows import solid, space
from logitx.backends.formulas.class_ids import sort_out
from logitx.backends.formulas.divergences import js_terms, kl_terms
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
    log_p = _cut_log_softmax(block, pair, "zero")
    return xp.reshape(xp.sum(xp.where(log_p == -xp.inf, 0.0, -xp.exp(log_p) * log_p), axis=lay.axis), lay.rows)


def _settled(work: Work, *blocks: Any) -> Any:
    """Override the rows in which nothing counts."""
    given, plan = work.given(blocks), work.plan
    pair, total = given["pair"], given["total"]
    xp = space(total)
    return solid(xp, xp.where(pair.rest == -1.0, empty_value(plan), total), plan.loss)


def selected_log_softmax(plan: Plan, x: Array, ids: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Return log p of the ids; of cut rows from the chunk that has the class."""
    lines = Lines(plan, x, "logits", where=where, temperature=temperature, softcap=softcap)
    several = ids.ndim > len(lines.rows)
    if several:  # last, as an axis that the logits do not have
        ids = ids.transpose((*(axis for axis in lines.entries if axis not in lines.axes), *lines.axes)).rechunk(
            {-1: -1}
        )
    along = (*lines.rows, len(lines.entries)) if several else lines.rows
    cuts = tuple(x.chunks[axis] for axis in lines.rows)
    ids = ids if np.isnan(sum(cuts, ())).any() else ids.rechunk((*cuts, *ids.chunks[len(cuts) :]))
    given = [Operand("targets", ids, along), *lines.where_rows_begin()]
    if lines.whole:
        found = lines.map(_whole_selected, along, plan.loss, given)
    else:
        pair = Operand("pair", lines.merged(lines.parts(reduce.reduce_block), totals.merge_of(lines)), lines.rows)
        parts = lines.map(
            _cut_selected, (*lines.entries, *along[len(lines.rows) :]), "float64",
            [pair, *given, *lines.where_classes_begin()],
        )  # fmt: skip
        found = lines.merged(parts, add_blocks, _rounded(plan), plan.loss)
    return found if not several else da.moveaxis(found, -1, lines.axes[0])


def _rounded(plan: Plan) -> Any:
    return functools.partial(_round_block, plan.loss)


def _round_block(dtype: str, block: Any) -> Any:
    return solid(space(block), block, dtype)


def _whole_selected(work: Work, *blocks: Any) -> Any:
    given, plan = work.given(blocks), work.plan
    x, ids = given["x"], given["targets"]
    xp, options = space(x), {name: given[name] for name in _OPTIONS if given[name] is not None}
    several = ids.ndim > len(plan.layout.rows)
    ids = xp.moveaxis(ids, -1, plan.layout.axes[0]) if several else ids
    found = whole_rows.with_whole_positions(
        work, given, logitx.selected_log_softmax, x, ids, axis=plan.layout.axes, ignore_index=plan.ignore_index,
        empty=plan.empty, dtype=plan.loss, **options,
    )  # fmt: skip
    found = solid(xp, found, plan.loss)
    return xp.moveaxis(found, plan.layout.axes[0], -1) if several else found


@quiet
def _cut_selected(work: Work, *blocks: Any) -> Any:
    """Return log p of the ids whose classes are in a block, and 0 for other ids."""
    given, plan = work.given(blocks), work.plan
    block = reduce.block_of(work, given)
    xp, lay, ids = block.xp, block.lay, given["targets"]
    single = ids.ndim == len(lay.rows)
    ids = ids[..., None] if single else ids
    reduce.check_block_labels(plan, xp, given, lay.n)
    ignored, _ = sort_out(plan, xp, ids)
    found = xp.zeros(ids.shape, dtype=xp.float64)
    if lay.n:
        log_p = xp.moveaxis(_cut_log_softmax(block, given["pair"], plan.empty), lay.axis, -1).reshape(
            (*lay.rows, lay.n)
        )
        for i in range(ids.shape[-1]):
            local = reduce.local_ids(plan, block, {**given, "targets": ids[..., i]})
            here = (local >= 0) & (local < lay.n)
            own = xp.take_along_axis(log_p, xp.where(here, local, 0)[..., None], axis=-1)[..., 0]
            found[..., i] = xp.where(here & ~ignored[..., i], own, 0.0)
    return found[..., 0] if single else found


def _cut_log_softmax(block: reduce.LogitsBlock, pair: Any, empty: Empty) -> Any:
    """Return the log-probabilities of a block, in its folded shape and in float64."""
    plan = dataclasses.replace(block.plan, op="log_softmax", result=block.plan.compute, empty=empty)
    return block.xp.astype(block.by("normalize_rows", plan, pair.top, pair.rest), block.xp.float64)


# -- two distributions, and means -------------------------------------------------------------------------------------


def kl_divergence(plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Return the sum of q - p + p log(p / q)."""
    return _divergence(plan, p, q, where, temperature, softcap)


def js_divergence(plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Return weight KL(p, m) + (1 - weight) KL(q, m)."""
    return _divergence(plan, p, q, where, temperature, softcap)


def _divergence(plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    q = q if isinstance(q, da.Array) else da.asarray(q)
    lines = Lines(plan, p, "p_logits", cotangent=q, where=where, temperature=temperature, softcap=softcap)
    if lines.whole:
        value = lines.map(_whole_divergence, lines.rows, plan.loss)
    else:
        pairs = [
            Operand(name, lines.merged(lines.parts(function), totals.merge_of(lines)), lines.rows)
            for name, function in (("pair", reduce.reduce_block), ("other", _reduce_second))
        ]
        total = Operand("total", lines.merged(lines.parts(_cut_divergence, pairs), add_blocks), lines.rows)
        work = Work(plan, ("pair", "other", "total"), ())
        value = map_blocks(_settled_divergence, work, [*pairs, total], lines.rows, p, plan.loss)
    if plan.reduction == "none":
        return value
    return (value.sum() if plan.reduction == "sum" else value.mean()).astype(plan.loss)


def _whole_divergence(work: Work, *blocks: Any) -> Any:
    given, plan = work.given(blocks), work.plan
    options = {name: given[name] for name in _OPTIONS if given[name] is not None}
    options |= {"weight": plan.weight} if plan.op == "js_divergence" else {}
    x = given["x"]
    found = getattr(logitx, plan.op)(
        x, given["cotangent"], axis=plan.layout.axes, empty=plan.empty, dtype=plan.loss, **options
    )
    return solid(space(x), found, plan.loss)


def _reduce_second(work: Work, *blocks: Any) -> Any:
    """Reduce the second distribution in the place of the first."""
    second = work.names.index("cotangent")
    swapped = [*blocks]
    swapped[0], swapped[second] = blocks[second], blocks[0]
    return reduce.reduce_block(work, *swapped)


@quiet
def _cut_divergence(work: Work, *blocks: Any) -> Any:
    """Return the sum of the terms of the classes of a block, in float64."""
    given, plan = work.given(blocks), work.plan
    one, two = (reduce.block_of(work, {**given, "x": x}) for x in (given["x"], given["cotangent"]))
    xp, lay = one.xp, one.lay
    if lay.n == 0:
        return xp.zeros(lay.rows, dtype=xp.float64)
    log_p = _cut_log_softmax(one, given["pair"], "zero")
    log_q = _cut_log_softmax(two, given["other"], "zero")
    facts = xp, xp.exp(log_p), xp.exp(log_q), log_p - log_q, log_p != -xp.inf, log_q != -xp.inf
    terms = kl_terms(*facts) if plan.op == "kl_divergence" else js_terms(xp, plan.weight, *facts[1:])
    return xp.reshape(xp.sum(terms, axis=lay.axis), lay.rows)


@quiet
def _settled_divergence(work: Work, *blocks: Any) -> Any:
    """Override the rows without a plain answer."""
    given, plan = work.given(blocks), work.plan
    value, nothing = given["total"], given["pair"].rest == -1.0
    xp = space(value)
    value = xp.where(nothing, 0.0, value) if plan.op == "kl_divergence" else value
    if plan.empty == "nan":
        value = xp.where(nothing | (given["other"].rest == -1.0), xp.nan, value)
    undefined = xp.isnan(given["pair"].rest) | xp.isnan(given["other"].rest)
    return solid(xp, xp.where(undefined, xp.nan, value), plan.loss)


def softmax_mean(plan: Plan, x: Array, values: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Return the sum of p v."""
    values = values if isinstance(values, da.Array) else da.asarray(values)
    lines = Lines(plan, x, "logits", b=values, where=where, temperature=temperature, softcap=softcap)
    if lines.whole:
        return lines.map(_whole_mean, lines.rows, plan.loss)
    pair = Operand("pair", lines.merged(lines.parts(reduce.reduce_block), totals.merge_of(lines)), lines.rows)
    total = lines.merged(lines.parts(_cut_mean, [pair]), add_blocks)
    work = Work(plan, ("pair", "total"), ())
    return map_blocks(_settled, work, [pair, Operand("total", total, lines.rows)], lines.rows, x, plan.loss)


def _whole_mean(work: Work, *blocks: Any) -> Any:
    given, plan = work.given(blocks), work.plan
    options = {name: given[name] for name in _OPTIONS if given[name] is not None}
    x, xp = given["x"], space(given["x"])
    values = xp.broadcast_to(given["b"], x.shape)
    found = logitx.softmax_mean(x, values, axis=plan.layout.axes, empty=plan.empty, dtype=plan.loss, **options)
    return solid(xp, found, plan.loss)


@quiet
def _cut_mean(work: Work, *blocks: Any) -> Any:
    """Return the sum of p v over the classes of a block, in float64."""
    given = work.given(blocks)
    block, pair = reduce.block_of(work, given), given["pair"]
    xp, lay = block.xp, block.lay
    if lay.n == 0:
        return xp.zeros(lay.rows, dtype=xp.float64)
    plan = dataclasses.replace(block.plan, op="softmax", compute="float64", result="float64", empty="zero")
    p = unfold_axes(block.family, block.by("normalize_rows", plan, pair.top, pair.rest), lay)
    values = xp.astype(xp.broadcast_to(given["b"], block.x.shape), xp.float64)
    return xp.sum(xp.where(p == 0.0, 0.0, p * values), axis=lay.axes)
