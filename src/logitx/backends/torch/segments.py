"""Softmax, log-softmax and log-sum-exp of segments with derivatives of every order, around the kernels.

The derivatives are sums over segments of operations that have derivatives themselves.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from logitx._plan import Array, Plan
from logitx.backends.torch.autograd import apply
from logitx.backends.torch.state import run_eagerly


def segment_softmax(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """exp(x - max) / sum of exp(x - max) of each segment."""
    return apply(SegmentNormalized, plan, x, ids, offsets, where)


def segment_log_softmax(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """(x - max) - log(sum of exp(x - max)) of each segment."""
    return apply(SegmentNormalized, plan, x, ids, offsets, where)


def segment_logsumexp(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """max + log(sum of exp(x - max)) of each segment."""
    return apply(SegmentReduced, plan, x, ids, offsets, where)


def _ids(ids: Array, offsets: Array) -> Array:
    """Return the segment of each entry."""
    if offsets is None:
        return ids.to(torch.int64)
    lengths = torch.diff(offsets)
    return torch.repeat_interleave(torch.arange(len(lengths), device=offsets.device), lengths)


def _sum_within(plan: Plan, x: Array, ids: Array) -> Array:
    """Return for each entry the sum over its segment."""
    axis, shape = plan.layout.axis, list(x.shape)
    shape[axis] = plan.segments
    return x.new_zeros(shape).index_add(axis, ids, x).index_select(axis, ids)


class SegmentNormalized(torch.autograd.Function):
    """softmax or log_softmax of segments of tensors that hold data."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
        """Compute the values, and save them."""
        y = run_eagerly(plan.op, plan, x, ids, offsets, where)
        ctx.plan = plan
        ctx.save_for_backward(y, x, _ids(ids, offsets))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Pull a cotangent back."""
        plan, (y, x, ids) = ctx.plan, ctx.saved_tensors
        kind = getattr(torch, plan.compute)
        log = plan.op == "segment_log_softmax"
        value, dy = y.to(kind), dy.to(kind)
        dead = (value == (-torch.inf if log else 0.0)) | (x == -torch.inf)
        p, dy = torch.exp(value) if log else value, torch.where(dead, 0.0, dy)
        if log:
            dx = dy - p * _sum_within(plan, dy, ids)
        else:
            product = torch.where(dead, 0.0, p * dy)
            dx = product - p * _sum_within(plan, product, ids)
        return None, torch.where(dead, 0.0, dx).to(x.dtype), None, None, None


class SegmentReduced(torch.autograd.Function):
    """logsumexp of segments of tensors that hold data."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
        """Compute the values, and save the logits."""
        ctx.plan, ctx.others = plan, (offsets, where)
        ctx.save_for_backward(x, _ids(ids, offsets))
        return run_eagerly(plan.op, plan, x, ids, offsets, where)

    @staticmethod
    def backward(ctx: Any, dy: Array) -> tuple[Any, ...]:
        """Multiply the cotangent by the probabilities."""
        x, ids = ctx.saved_tensors
        _, where = ctx.others
        plan = dataclasses.replace(ctx.plan, op="segment_softmax", empty="zero", result=ctx.plan.compute)
        p = apply(SegmentNormalized, plan, x, ids, None, where)
        dx = p * dy.to(p.dtype).index_select(plan.layout.axis, ids)
        return None, torch.where((x == -torch.inf) | (p == 0.0), 0.0, dx).to(x.dtype), None, None, None
