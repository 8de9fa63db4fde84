"""Cross-entropy of a linear layer: each task computes the logits of its rows and classes; gradients, a second time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array

import logitx
from logitx._arrays.family import namespace_dtype
from logitx._options import LinearLayer, LossOptions
from logitx._plan import Array, Plan
from logitx.backends.dask import totals, whole_rows
from logitx.backends.dask.chunks import Index, Lines, Operand, Work, add_blocks, first_of, map_blocks, pick, tree
from logitx.backends.dask.cut_rows import finish, reduce
from logitx.backends.dask.whole_rows import Part, solid, space
from logitx.backends.formulas.class_ids import row_shares
from logitx.backends.formulas.linear_blocks import block_rows, pieces
from logitx.backends.formulas.numbers import quiet


class LazyLayer:
    """A linear layer, cut by the chunks of its logits, which are never computed as a whole."""

    def __init__(self, plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions) -> None:
        """Cut everything by the rows of `hidden` and the classes of `weight`; features are never cut."""
        hidden, weight, bias = layer
        hidden, weight = hidden.rechunk({hidden.ndim - 1: -1}), weight.rechunk({1: -1})
        chunks = (*hidden.chunks[:-1], weight.chunks[0])
        logits = da.Array({}, "logits", chunks, meta=meta_from_array(hidden._meta, dtype=plan.compute))
        self.lines = Lines(plan, logits, "hidden", targets=targets, **options._asdict())
        rows = self.lines.rows
        self.classes: Index = self.lines.axes
        self.features: Index = (len(rows) + 1,)
        self.factors = [
            Operand("hidden", hidden, rows + self.features),
            Operand("weight", weight, self.classes + self.features),
        ]
        if bias is not None:
            self.factors.append(Operand("bias", bias.rechunk((weight.chunks[0],)), self.classes))

    def map(self, function: Callable[..., Any], out: Index, more: list[Operand]) -> Array:
        """Call a function of (work, *blocks) on all blocks of logits."""
        used = [*self.factors, *self.lines.operands, *more]
        work = Work(self.lines.plan, tuple(one.name for one in used), self.lines.numbers)
        return map_blocks(function, work, used, out, self.lines.x, "float64")

    def summed(self, blocks: Array, which: int, over: Index, out: Index, dtype: str, length: int) -> Array:
        """Add up one of several results over some axes; features become the last axis where `out` has them."""
        entries = self.lines.entries
        parts = pick(blocks, which, entries, entries, "float64")
        rest = tuple(axis for axis in entries if axis not in over)
        total = tree(parts, over, add_blocks)
        meta = meta_from_array(self.lines.x._meta, ndim=len(out), dtype=namespace_dtype(np, dtype))
        more = {axis: length for axis in out if axis not in rest}
        return da.blockwise(
            functools.partial(_round_gradient, dtype), out, total, rest, new_axes=more, align_arrays=False, meta=meta
        )


def _round_gradient(dtype: str, block: Any) -> Any:
    return solid(space(block), block, dtype)


def _factors_of_block(plan: Plan, given: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return (hidden, weight, bias) in ``plan.compute``: sums over blocks are rounded once, at the end."""
    one, two, three = (
        None if given.get(name) is None else solid(space(given[name]), given[name], plan.compute)
        for name in ("hidden", "weight", "bias")
    )
    return one, two, three


# -- all classes in a block -------------------------------------------------------------------------------------------


def _call_on_block(function: Any, work: Work, given: dict[str, Any], sample_weight: Any) -> Any:
    plan = work.plan
    hidden, weight, bias = _factors_of_block(plan, given)
    options = {name: given[name] for name in LossOptions._fields[2:-1] if given[name] is not None}
    return whole_rows.with_whole_positions(
        work, given, function, hidden, weight, given["targets"], bias, class_weight=given["class_weight"],
        sample_weight=sample_weight, ignore_index=plan.ignore_index, reduction="none", empty=plan.empty,
        block_bytes=plan.block_bytes, **options,
    )  # fmt: skip


def _part_of_layer(work: Work, given: dict[str, Any], loss: Any, sample_weight: Any) -> Part:
    plan, share = work.plan, None
    xp = space(given["hidden"])
    if plan.reduction == "mean":
        share = row_shares(plan, xp, given["targets"], given["class_weight"], sample_weight, None, plan.layout.axes)
    return Part(solid(xp, loss, plan.loss), None, None, share)


def _layer_losses(work: Work, *blocks: Any) -> Part:
    given = work.given(blocks)
    loss = _call_on_block(logitx.linear_cross_entropy, work, given, given["sample_weight"])
    return _part_of_layer(work, given, loss, given["sample_weight"])


def _layer_gradients(work: Work, *blocks: Any) -> tuple[Any, ...]:
    given = work.given(blocks)
    sample_weight = whole_rows.divided(work, given | {"x": given["hidden"]})
    loss, gradients = _call_on_block(logitx.linear_cross_entropy_value_and_grad, work, given, sample_weight)
    return (*_part_of_layer(work, given, loss, sample_weight), *gradients)


# -- some classes in a block ------------------------------------------------------------------------------------------


def _logits(work: Work, blocks: tuple[Any, ...]) -> Iterator[tuple[Work, tuple[Any, ...], Any, Any]]:
    """Yield logits of some rows at a time, with the operands of these rows, as arguments of a function of blocks."""
    given = work.given(blocks)
    hidden, weight, bias = _factors_of_block(work.plan, given)
    xp, ndim = space(hidden), hidden.ndim
    names = tuple(name for name in work.names if name not in ("hidden", "weight", "bias"))
    inner = Work(work.plan, ("x", *names), work.numbers)
    height = hidden.shape[0] if ndim > 1 else 1
    per_row = max(1, hidden[..., 0].size // max(1, height)) if hidden.shape[-1] else 1
    most = block_rows(_narrowed(work.plan, weight.shape[0]), height * per_row)
    for piece in (*pieces(height, max(1, most // per_row)), *([slice(0, 0)] * (height == 0))):
        part = hidden[piece] if ndim > 1 else hidden
        x = part @ xp.matrix_transpose(weight)
        x = x if bias is None else x + bias
        yield inner, (x, *(_sliced(name, given[name], piece, height, ndim) for name in names)), part, weight


def _narrowed(plan: Plan, classes: int) -> Plan:
    return dataclasses.replace(plan, layout=dataclasses.replace(plan.layout, n=max(1, classes)))


def _sliced(name: str, value: Any, piece: slice, height: int, ndim: int) -> Any:
    """Return rows `piece` of an operand of a block; operands shared by all rows are returned unchanged."""
    if name == "pair":
        return type(value)(*(one[piece] if ndim > 1 and hasattr(one, "ndim") and one.ndim else one for one in value))
    if name == "row 0":
        return (slice(first_of(value) + piece.start, None),)
    per_row = name in ("targets", "sample_weight", "softcap", "temperature")
    if not per_row or ndim == 1 or value.ndim < ndim - 1 or value.shape[0] != height:
        return value
    if name in ("softcap", "temperature") and value.ndim < ndim:
        return value
    return value[piece]


@quiet
def _reduce_layer(work: Work, *blocks: Any) -> Any:
    found = [reduce.reduce_block(inner, *arguments) for inner, arguments, _, _ in _logits(work, blocks)]
    if len(found) == 1:
        return found[0]
    xp = space(found[0].top)
    return type(found[0])(*(_join_rows(xp, field) for field in zip(*found, strict=True)))


def _join_rows(xp: Any, parts: tuple[Any, ...]) -> Any:
    """Join arrays over rows; a number is the same in all parts and is returned unchanged."""
    return xp.concat(parts) if hasattr(parts[0], "ndim") and parts[0].ndim else parts[0]


@quiet
def _cut_layer_gradients(work: Work, *blocks: Any) -> tuple[Any, Any, Any]:
    """Compute the gradient by the logits of a block, and its terms of the gradients by hidden, weight and bias."""
    by_hidden, by_weight, by_bias = [], 0.0, 0.0
    exact = work._replace(plan=dataclasses.replace(work.plan, result=work.plan.compute))
    for inner, arguments, hidden, weight in _logits(exact, blocks):
        g = finish.cut_gradient(inner, *arguments)
        xp = space(g)
        by_hidden.append(g @ weight)
        flat = xp.reshape(g, (-1, g.shape[-1]))
        by_weight = by_weight + xp.matrix_transpose(flat) @ _features_with_gradient(xp, flat, hidden)
        by_bias = by_bias + xp.sum(flat, axis=0)
    return xp.concat(by_hidden) if len(by_hidden) > 1 else by_hidden[0], by_weight, by_bias


def _features_with_gradient(xp: Any, g: Any, hidden: Any) -> Any:
    """Return the features of rows, 0 if a row has no gradient: 0 * NaN would make the weight gradient NaN."""
    flat = xp.reshape(hidden, (len(g), hidden.shape[-1]))
    return xp.where(xp.any(g != 0.0, axis=1, keepdims=True), flat, 0.0)


# -- calls ------------------------------------------------------------------------------------------------------------


def _reduced_chunks_of_layer(layer: LazyLayer) -> Array:
    lines = layer.lines
    beginnings = [*lines.where_rows_begin(), *lines.where_classes_begin()]
    return layer.map(_reduce_layer, lines.entries, beginnings)


def layer_loss(plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions) -> Array:
    """Return the loss."""
    lazy = LazyLayer(plan, layer, targets, options)
    lines = lazy.lines
    if lines.whole:
        parts = lazy.map(_layer_losses, lines.rows, lines.where_rows_begin())
    else:
        return totals.of_parts(lines, _reduced_chunks_of_layer(lazy))[0]
    return totals.reduce_parts(lines, parts, lines.rows)[0]


def layer_loss_and_gradients(
    plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions
) -> tuple[Array, Array, Array, Array]:
    """Return the loss and the gradients by hidden features, weights and bias."""
    lazy = LazyLayer(plan, layer, targets, options)
    lines, features = lazy.lines, layer.hidden.shape[-1]
    whole = [lines.share()] if plan.reduction == "mean" else []
    if lines.whole:
        blocks = lazy.map(_layer_gradients, lines.entries, [*lines.where_rows_begin(), *whole])
        loss, first = totals.reduce_parts(lines, blocks, lines.entries)[0], 4
    else:
        pairs = Operand("pair", lines.merged(_reduced_chunks_of_layer(lazy), totals.merge_of(lines)), lines.rows)
        loss, first = totals.reduce_parts(lines, totals.of_pairs(lines, pairs), lines.rows)[0], 0
        blocks = lazy.map(_cut_layer_gradients, lines.entries, [pairs, *lines.where_classes_begin(), *whole])
    by_class = lazy.classes + lazy.features
    dhidden = lazy.summed(blocks, first, lines.axes, lines.rows + lazy.features, plan.gradients[0], features)
    dweight = lazy.summed(blocks, first + 1, lines.rows, by_class, plan.gradients[1], features)
    if layer.bias is None:
        return loss, dhidden, dweight, None
    return loss, dhidden, dweight, lazy.summed(blocks, first + 2, lines.rows, lazy.classes, plan.gradients[2], 0)
