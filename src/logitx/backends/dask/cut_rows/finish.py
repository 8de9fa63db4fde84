"""Rows whose classes are in several blocks, last step: compute the entries of a block from the merged pairs."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

from logitx._arguments.ranges import need_float64
from logitx._arrays.family import namespace_dtype
from logitx._arrays.folding import unfold_axes
from logitx._plan import Array, Plan
from logitx.backends.dask.chunks import Work
from logitx.backends.dask.cut_rows.merge import Pair, RowTargets, row_targets, shares_of
from logitx.backends.dask.cut_rows.reduce import LogitsBlock, beside, block_of, float64_rows, local_ids
from logitx.backends.dask.whole_rows import share_of, solid, space
from logitx.backends.formulas.class_ids import weights_in_place
from logitx.backends.formulas.exact_sums import HALF_OF_THE_BITS, in_two_parts, two_sum
from logitx.backends.formulas.numbers import complement_of, quiet, softcap_slope


def _in_compute(plan: Plan, xp: Any, value: Any) -> Any:
    return value if isinstance(value, float) else xp.astype(value, namespace_dtype(xp, plan.compute), copy=False)


def _mask_and_round(plan: Plan, block: LogitsBlock, x: Array, masked: float) -> Array:
    xp = block.xp
    if block.valid is not None:
        x = xp.where(block.valid, x, masked)
    return solid(xp, x, plan.result)


def _unfolded(plan: Plan, block: LogitsBlock, x: Array) -> Array:
    return solid(block.xp, unfold_axes(block.family, x, block.lay), plan.result)


@quiet
def cut_normalized(work: Work, *blocks: Any) -> Any:
    """Compute softmax or log_softmax of a block."""
    given, plan = work.given(blocks), work.plan
    block, pair = block_of(work, given), given["pair"]
    if block.lay.n == 0:
        return solid(block.xp, block.x, plan.result)
    return _unfolded(plan, block, block.by("normalize_rows", block.plan, pair.top, pair.rest))


class _Entries:
    """The arrays from which the gradient of a block is computed; those of rows broadcast against the block."""

    def __init__(self, work: Work, given: dict[str, Any], block: LogitsBlock) -> None:
        self.given, self.plan, self.block, self.xp = given, work.plan, block, block.xp
        if need_float64(block.family, block.x, given["class_weight"], given["sample_weight"]):
            self.plan = dataclasses.replace(self.plan, compute="float64")
        self.pair: Pair = given["pair"]
        self.row: RowTargets = row_targets(self.plan, self.xp, self.pair)
        asked = dataclasses.replace(block.plan, op="softmax", result=self.plan.compute, empty="zero")
        p = block.by("normalize_rows", asked, self.pair.top, self.pair.rest)
        self.p = unfold_axes(block.family, p, block.lay)
        # only the maximum can have more than a half
        beside_top = self.of_rows(self.pair.rest / (1.0 + self.pair.rest))
        self.complement = complement_of(self.xp, self.p, self.p > 0.5, beside_top)

    def of_rows(self, value: Array) -> Array:
        """Return an array over rows in ``plan.compute``, with class axes of length 1."""
        return _in_compute(self.plan, self.xp, beside(self.block, value))

    def weights(self) -> Array:
        """Return class_weight q of every entry."""
        given, xp, block, row = self.given, self.xp, self.block, self.row
        if self.plan.hard:
            local = local_ids(self.plan, block, given)
            q = xp.where(self._hot(local), self.of_rows(row.own), 0.0)
        else:
            q = self.of_rows(xp.full_like(row.even, row.keep)) * _in_compute(self.plan, xp, given["targets"])
        even = self.of_rows(row.even)
        even = even if block.valid is None else xp.where(block.valid, even, 0.0)
        if given["class_weight"] is None:
            return q + even
        weight = weights_in_place(xp, given["class_weight"], block.x.shape, block.lay.axes)
        places = tuple(k if axis in block.lay.axes else 1 for axis, k in enumerate(block.x.shape))
        weight = _in_compute(self.plan, xp, xp.reshape(weight, places))
        return q + weight * even if self.plan.hard else xp.where(q + even == 0.0, 0.0, weight * (q + even))

    def _hot(self, local: Array) -> Array:
        """Return a mask of the entries of labels."""
        xp, block = self.xp, self.block
        ids = xp.reshape(xp.arange(block.lay.n), tuple(block.x.shape[axis] for axis in block.lay.axes))
        order = sorted(range(len(block.lay.axes)), key=lambda i: block.lay.axes[i])
        ids = xp.permute_dims(ids, tuple(order)) if len(order) > 1 else ids
        places = tuple(k if axis in block.lay.axes else 1 for axis, k in enumerate(block.x.shape))
        return xp.reshape(ids, places) == xp.reshape(local, block.lay.kept)

    def settled(self, g: Array) -> Array:
        """Override special rows and entries, then round once."""
        xp, row = self.xp, self.row
        g = xp.where(beside(self.block, row.poison), xp.nan, g)
        g = xp.where(beside(self.block, row.nothing | (row.factor == 0.0)), 0.0, g)
        return _mask_and_round(self.plan, self.block, xp.where(self.block.x == -xp.inf, 0.0, g), 0.0)

    def slope(self, g: Array) -> Array:
        """Multiply by the derivative of the softcap."""
        xp, block = self.xp, self.block
        if block.folded[3] is None:
            return g
        limit = self.of_rows(xp.zeros_like(self.pair.top) + float64_rows(block, block.folded[3]))
        return g * softcap_slope(xp, _in_compute(self.plan, xp, block.x), limit)


@quiet
def cut_gradient(work: Work, *blocks: Any) -> Any:
    """Compute s [p (A - wq) - wq (1 - p) + 2 z c logZ p] du/dx, divided by the denominator of the mean."""
    given, plan = work.given(blocks), work.plan
    block = block_of(work, given)
    if block.lay.n == 0:
        return solid(block.xp, block.x, plan.result)
    if plan.hard and given["label_smoothing"] is None:
        return _gradient_of_labels(work, given, block)
    entries = _Entries(work, given, block)
    row, wq = entries.row, entries.weights()
    g = entries.p * (entries.of_rows(row.total) - wq) - wq * entries.complement
    if entries.pair.z_loss is not None:
        pull = 2.0 * entries.pair.z_loss * row.classes * row.log_normalizer
        g = g + entries.of_rows(pull) * entries.p
    factor = row.sample * share_of(given)
    return entries.settled(entries.slope(g * entries.of_rows(factor / entries.pair.heat)))


def _gradient_of_labels(work: Work, given: dict[str, Any], block: LogitsBlock) -> Any:
    """Compute the gradient if only the label has a weight (no smoothing, no probabilities)."""
    plan, pair = work.plan, given["pair"]
    share = shares_of(pair) * share_of(given)
    ids = local_ids(plan, block, given)
    found = block.by("differentiate_rows", block.plan, pair.z_loss or 0.0, ids, pair.top, pair.rest, pair.logit, share)
    return _unfolded(plan, block, found)


@quiet
def cut_gradient_and_hessian(work: Work, *blocks: Any) -> tuple[Any, Any]:
    """Compute s [p (A - wt) - wt (1 - p)] and s A p (1 - p)."""
    given = work.given(blocks)
    block = block_of(work, given)
    if block.lay.n == 0:
        return (solid(block.xp, block.x, work.plan.result),) * 2
    entries = _Entries(work, given, block)
    row, wq = entries.row, entries.weights()
    total, sample = entries.of_rows(row.total), entries.of_rows(row.sample)
    g = sample * (entries.p * (total - wq) - wq * entries.complement)
    return entries.settled(g), entries.settled(sample * total * entries.p * entries.complement)


# -- gradients of probabilities ---------------------------------------------------------------------------------------


@quiet
def vjp_sums(work: Work, *blocks: Any) -> Any:
    """Return the sums over classes that softmax_vjp or log_softmax_vjp subtracts."""
    given, plan = work.given(blocks), work.plan
    value, cotangent = (space(one).astype(one, space(one).float64) for one in (given["x"], given["cotangent"]))
    xp = space(value)
    if plan.op == "softmax_vjp":
        terms = xp.where(value == 0.0, 0.0, value * cotangent)
    else:
        terms = xp.where(value == -xp.inf, 0.0, cotangent)
    return xp.sum(terms, axis=plan.layout.axes)


@quiet
def cut_pulled_back(work: Work, *blocks: Any) -> Any:
    """Compute p (dp - sum), or dlog_p - p sum."""
    given, plan = work.given(blocks), work.plan
    block = block_of(work, given)
    xp, compute = block.xp, plan.compute
    value, cotangent = (_in_compute(plan, xp, one) for one in (block.x, given["cotangent"]))
    total = beside(block, given["pair"])
    if plan.op == "softmax_vjp":
        y = xp.where(value == 0.0, 0.0, value * _narrow(xp, cotangent - total, compute))
    else:
        y = xp.where(value == -xp.inf, 0.0, cotangent - xp.exp(value) * _narrow(xp, total, compute))
    return solid(xp, y, plan.result)


def _narrow(xp: Any, value: Array, compute: str) -> Array:
    return xp.astype(value, namespace_dtype(xp, compute), copy=False)


# -- sums with signs --------------------------------------------------------------------------------------------------


@quiet
def signed_sums(work: Work, *blocks: Any) -> tuple[Any, ...]:
    """Reduce b exp(x) to (max, sum of b exp(x - max), its rounding error, has +inf, has -inf, has NaN)."""
    given = work.given(blocks)
    block = block_of(work, given)
    xp, axes = block.xp, block.lay.axes
    x, b = (xp.astype(one, xp.float64) for one in (block.x, xp.broadcast_to(given["b"], block.x.shape)))
    used = (b != 0.0) if block.valid is None else (b != 0.0) & block.valid
    live = used & (x != -xp.inf)
    finite = live & xp.isfinite(x)
    top = xp.max(xp.where(finite, x, -xp.inf), axis=axes, initial=-xp.inf)
    shift = beside(block, xp.where(top == -xp.inf, 0.0, top))
    b_finite, e = xp.where(finite, b, 0.0), xp.where(finite, xp.exp(xp.where(finite, x - shift, 0.0)), 0.0)
    total, lost = _cancelling(xp, block, b_finite, e)
    up, down = (xp.any(live & (x == xp.inf) & sign, axis=axes) for sign in (b > 0.0, b < 0.0))
    return top, total, lost, up, down, xp.any(live & (xp.isnan(x) | xp.isnan(b)), axis=axes)


def _cancelling(xp: Any, block: LogitsBlock, factors: Array, terms: Array) -> tuple[Array, Array]:
    """Return the sum of products of each row and its rounding error."""
    plain = xp.sum(factors * terms, axis=block.lay.axes)
    if not math.prod(factors.shape):
        return plain, plain
    order = (*(axis for axis in range(factors.ndim) if axis not in block.lay.axes), *block.lay.axes)
    factors, terms = (xp.reshape(xp.permute_dims(one, order), (*plain.shape, -1)) for one in (factors, terms))
    high, low = in_two_parts(plain.ndim, factors.shape[-1], factors, terms, HALF_OF_THE_BITS["float64"])
    total, lost = (xp.squeeze(one, axis=plain.ndim) for one in (high, low))
    kept = xp.isfinite(total + lost)
    return xp.where(kept, total, plain), xp.where(kept, lost, 0.0)


@quiet
def merge_signed_sums(blocks: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Merge signed sums of several blocks."""
    return functools.reduce(_merge_two_signed_sums, blocks)


def _merge_two_signed_sums(one: tuple[Any, ...], two: tuple[Any, ...]) -> tuple[Any, ...]:
    xp = space(one[0])
    top = xp.maximum(one[0], two[0])
    fall = [xp.where(part[0] == -xp.inf, 0.0, xp.exp(part[0] - top)) for part in (one, two)]
    total, lost = two_sum(fall[0] * one[1], fall[1] * two[1])
    lost = fall[0] * one[2] + fall[1] * two[2] + xp.where(xp.isfinite(total), lost, 0.0)
    return (top, total, lost, *(a | b for a, b in zip(one[3:], two[3:], strict=True)))


@quiet
def signed_normalizer(plan: Plan, reduction: tuple[Any, ...]) -> Any:
    """Return log |sum|, and the sign if `return_sign` is set."""
    top, total, lost, up, down, nan = reduction
    xp = space(top)
    total = total + lost
    nan = nan | (up & down)
    value = xp.where(total == 0.0, -xp.inf, top + xp.log(xp.abs(total)))
    value = xp.where(up | down, xp.inf, value)
    sign = xp.where(up, 1.0, xp.where(down, -1.0, xp.sign(total)))
    value, sign = (xp.where(nan, xp.nan, one) for one in (value, sign))
    if not plan.return_sign:
        return solid(xp, xp.where(sign < 0.0, xp.nan, value), plan.result)
    return solid(xp, value, plan.result), solid(xp, sign, plan.result)
