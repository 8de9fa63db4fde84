"""The operations: one row each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logitx import _dispatch
from logitx._arguments import cross_entropy, linear, softmax

CHECKS: tuple[Callable[..., Any], ...] = (
    softmax.over_axis,
    softmax.logsumexp,
    cross_entropy.cross_entropy,
    cross_entropy.cross_entropy_grad_hess,
    linear.linear_cross_entropy,
    softmax.vjp,
    softmax.merge_logsumexp,
)
RUNS: tuple[Callable[..., Any], ...] = (_dispatch.run, _dispatch.run_into, _dispatch.run_reduction_into)
