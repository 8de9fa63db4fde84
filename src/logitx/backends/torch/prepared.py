"""Prepared calls with default options that autograd records: in a call on ten numbers, checks take most of the time.

They run the autograd functions of `softmax` and `cross_entropy`, on values from kernels whose other arguments were
prepared. A backward pass that is recorded, transformed or not on plain memory is computed as in other eager calls.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from logitx._options import LossOptions
from logitx._plan import Array, Plan
from logitx.backends.numba.prepared import prepare as prepare_kernel
from logitx.backends.protocol import Prepared
from logitx.backends.torch.cross_entropy import LOSS_AND_GRADIENT, Loss, PreparedLoss
from logitx.backends.torch.softmax import (
    LogSumExp,
    Normalized,
    PreparedNormalizing,
    PreparedReducing,
    memory_or_none,
)

_DTYPES = ("float32", "float64")


def prepare(plan: Plan, operands: tuple[Any, ...]) -> Prepared | None:
    """Return a call, differentiated by the logits, with all arguments prepared but the arrays; or None."""
    if plan.dtype not in _DTYPES or plan.result != plan.dtype or plan.op not in _PREPARE:
        return None
    return _PREPARE[plan.op](plan, *(x.detach().numpy() if isinstance(x, torch.Tensor) else x for x in operands))


def _prepare_recorded_normalizing(plan: Plan, x: Array, *options: Any) -> Prepared | None:
    if any(option is not None for option in options):
        return None
    compute = prepare_kernel(plan, (x, *options))
    pull_back = prepare_kernel(dataclasses.replace(plan, op=f"{plan.op}_vjp"), (x, x))
    if compute is None or pull_back is None:
        return None
    prepared, apply = PreparedNormalizing(plan, pull_back), _applied(Normalized)
    single, first, total = math.prod(plan.layout.rows) == 1, (slice(None),) * plan.layout.axis + (0,), np.add.reduce

    def call(x: Array, _out: None) -> Any:
        memory = memory_or_none(x)
        y = None if memory is None else compute(memory, None)
        if y is None:
            return None
        some = y.item(0) if single else total(y[first], None)  # as in `softmax.has_special_rows`
        return apply(prepared, (y, some != some), x)

    return call


def _prepare_recorded_reducing(plan: Plan, x: Array, *options: Any) -> Prepared | None:
    softmax = dataclasses.replace(plan, op="softmax", empty="zero", keepdims=False)
    compute = prepare_kernel(plan, (x, *options))
    probabilities = prepare_kernel(softmax, (x, None, None, None, None))
    if compute is None or probabilities is None:
        return None
    prepared, apply = PreparedReducing(plan, probabilities), _applied(LogSumExp)

    def call(x: Array, _out: None) -> Any:
        memory = memory_or_none(x)
        values = None if memory is None else compute(memory, None)
        return None if values is None else apply(prepared, values, x)

    return call


def _prepare_recorded_loss(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> Prepared | None:
    compute = prepare_kernel(dataclasses.replace(plan, op=LOSS_AND_GRADIENT), (logits, targets, options))
    if compute is None:
        return None
    prepared, apply = PreparedLoss(plan, tuple(options)), _applied(Loss)

    def call(logits: Array, targets: Array) -> Any:
        memory, labels = memory_or_none(logits), memory_or_none(targets)
        found = None if memory is None or labels is None else compute(memory, labels)
        return None if found is None else apply(prepared, found, logits, targets)

    return call


def _applied(function: Any) -> Any:
    """Return the `apply` of an autograd function that binds no arguments to its signature, as in `autograd.apply`."""
    return super(torch.autograd.Function, function).apply


_PREPARE: dict[str, Callable[..., Prepared | None]] = {
    "softmax": _prepare_recorded_normalizing,
    "log_softmax": _prepare_recorded_normalizing,
    "logsumexp": _prepare_recorded_reducing,
    "cross_entropy": _prepare_recorded_loss,
}
