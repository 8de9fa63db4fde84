"""The compiled kernels: one for each combination of dtypes, made when it is first needed, whatever the layout."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numba.core.types import boolean, float64, int64

from logitx.backends.numba import _cross_entropy, _logsumexp, _soft_targets, _softmax, _tile_loss, _vjp
from logitx.backends.numba._compile import kernel, scalar, source, target

Kernel = Callable[..., Any]
_MASK = source("bool", 3)
_ROWS = source("float64", 1)
_REPORTS = target("float64", 2)


@functools.cache
def normalize(held: str, compute: str, result: str) -> Kernel:
    """Return the kernel of softmax and log_softmax."""
    signature = (
        source(held, 3), _MASK, target(result, 3), boolean, _ROWS, source(compute, 1),
        float64, int64, int64,
    )  # fmt: skip
    return kernel(_softmax.normalize, signature)


@functools.cache
def reduce(held: str, compute: str, result: str) -> Kernel:
    """Return the kernel of logsumexp."""
    rows = target(result, 1)
    signature = (source(held, 3), source(compute, 3), _MASK, rows, rows, source(compute, 1), int64, int64)
    return kernel(_logsumexp.reduce, signature)


@functools.cache
def hard(held: str, compute: str, result: str, loss: str) -> Kernel:
    """Return the kernel of cross-entropy with class ids."""
    weights, rows = source(compute, 1), target(loss, 1)
    signature = (
        source(held, 3), source("int64", 1), weights, weights, _MASK, target(result, 3), rows, rows, rows,
        boolean, int64, float64, source(compute, 1), _ROWS, float64, int64, _REPORTS, int64, int64,
    )  # fmt: skip
    return kernel(_cross_entropy.hard, signature)


@functools.cache
def soft(held: str, targets: str, compute: str, result: str, loss: str) -> Kernel:
    """Return the kernel of cross-entropy with probabilities or smoothed class ids, and of its Hessian."""
    weights, rows, gradient = source(compute, 1), target(loss, 1), target(result, 3)
    signature = (
        source(held, 3), source(targets, 3), source("int64", 1), weights, weights, _MASK, gradient, gradient,
        rows, rows, rows, boolean, int64, scalar(compute), float64, source(compute, 1), _ROWS, float64, int64,
        _REPORTS, int64, int64,
    )  # fmt: skip
    return kernel(_soft_targets.soft, signature)


@functools.cache
def pull_back(held: str, cotangent: str, compute: str, result: str) -> Kernel:
    """Return the kernel of softmax_vjp and log_softmax_vjp."""
    signature = (
        source(held, 3), source(cotangent, 3), target(result, 3), boolean, source(compute, 1), int64, int64,
    )  # fmt: skip
    return kernel(_vjp.pull_back, signature)


def _tile(compute: str, targets: str, tile: Any) -> tuple[Any, ...]:
    numbers, ids = source(compute, 1), source("int64", 1)
    return (
        tile, int64, numbers, ids, ids, source(targets, 2), numbers, float64, float64, _ROWS, numbers
    )  # fmt: skip


@functools.cache
def reduce_tile(compute: str, targets: str) -> Kernel:
    """Return the kernel that reduces the rows of a tile of logits."""
    found = target("float64", 2), target("float64", 1)
    return kernel(_tile_loss.reduce, (*_tile(compute, targets, source(compute, 2)), *found, int64, int64))


@functools.cache
def differentiate_tile(compute: str, targets: str) -> Kernel:
    """Return the kernel that turns a tile of logits into its gradient."""
    facts = source("float64", 2)
    return kernel(_tile_loss.differentiate, (*_tile(compute, targets, target(compute, 2)), facts, int64, int64))
