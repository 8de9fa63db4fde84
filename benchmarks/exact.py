"""Reference values of the accuracy measurement: the formulas in long double (the 240-bit oracle would take hours).

A long double of 64 bits keeps an error of a few parts in 1e19, a thousandth of an ulp of float64; the differences from
the maximum are exact (Knuth's 2Sum), terms are summed in pairs. tests/test_accuracy.py holds every formula to the
oracle of `logitx.testing`, which is mpmath's arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

NDArray = np.ndarray[Any, Any]
LONG = np.longdouble
ENOUGH = np.finfo(LONG).nmant >= 63
BITS = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}  # of the fraction
LOWEST = {"float16": -14, "bfloat16": -126, "float32": -126, "float64": -1022}  # exponent of a normal number


class Inputs(NamedTuple):
    """The arguments of the functions in one measurement; first axis: rows of logits."""

    x: NDArray
    labels: NDArray
    shares: NDArray  # soft targets
    p: NDArray  # of the dtype of x: what the gradients of the softmaxes start from
    log_p: NDArray
    dy: NDArray


class Rows(NamedTuple):
    """Rows of logits, reduced."""

    top: NDArray  # index of one maximum, a column
    m: NDArray  # its value, a column
    v: NDArray  # x - m in two parts
    lost: NDArray
    e: NDArray
    rest: NDArray  # sum of e without that maximum, a column

    @property
    def log_sum(self) -> NDArray:
        """Return the logarithm of the sum, a column."""
        return np.log1p(self.rest)

    @property
    def complement(self) -> NDArray:
        """Return 1 - p without cancellation."""
        below = 1 - self.e / (1 + self.rest)
        np.put_along_axis(below, self.top, self.rest / (1 + self.rest), axis=-1)
        return below


def _difference(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    d = x - y
    from_x = d + y
    return d, (x - from_x) - (y - (from_x - d))


def reduce_rows(x: NDArray) -> Rows:
    """Reduce finite logits."""
    x = x.astype(LONG)
    top = x.argmax(axis=-1)[..., None]
    m = np.take_along_axis(x, top, axis=-1)
    v, lost = _difference(x, m)
    e = np.exp(v) * (1 + lost)
    np.put_along_axis(e, top, LONG(0), axis=-1)
    rest = e.sum(axis=-1, keepdims=True)
    np.put_along_axis(e, top, LONG(1), axis=-1)
    return Rows(top, m, v, lost, e, rest)


def softmax(rows: Rows, inputs: Inputs) -> NDArray:
    """Return e / sum."""
    return rows.e / (1 + rows.rest)


def log_softmax(rows: Rows, inputs: Inputs) -> NDArray:
    """Return (x - m) - log sum."""
    return rows.v + (rows.lost - rows.log_sum)


def logsumexp(rows: Rows, inputs: Inputs) -> NDArray:
    """Return m + log sum."""
    return (rows.m + rows.log_sum)[..., 0]


def cross_entropy(rows: Rows, inputs: Inputs) -> NDArray:
    """Return log sum - (x - m) at the label."""
    label = inputs.labels[..., None]
    v, lost = (np.take_along_axis(one, label, axis=-1) for one in (rows.v, rows.lost))
    return ((rows.log_sum - lost) - v)[..., 0]


def soft_cross_entropy(rows: Rows, inputs: Inputs) -> NDArray:
    """Return the sum of t (log sum - (x - m))."""
    return (inputs.shares.astype(LONG) * -log_softmax(rows, inputs)).sum(axis=-1)


def gradient(rows: Rows, inputs: Inputs) -> NDArray:
    """Return p, less 1 at the label."""
    result, label = softmax(rows, inputs), inputs.labels[..., None]
    np.put_along_axis(result, label, -np.take_along_axis(rows.complement, label, axis=-1), axis=-1)
    return result


def hessian(rows: Rows, inputs: Inputs) -> NDArray:
    """Return p (1 - p)."""
    return softmax(rows, inputs) * rows.complement


def softmax_vjp(rows: Rows, inputs: Inputs) -> NDArray:
    """Return p (dp - sum of p dp)."""
    p, dy = inputs.p.astype(LONG), inputs.dy.astype(LONG)
    return p * (dy - (p * dy).sum(axis=-1, keepdims=True))


def log_softmax_vjp(rows: Rows, inputs: Inputs) -> NDArray:
    """Return dlog_p - p times the sum of dlog_p."""
    dy = inputs.dy.astype(LONG)
    return dy - np.exp(inputs.log_p.astype(LONG)) * dy.sum(axis=-1, keepdims=True)


def merge_logsumexp(rows: Rows, inputs: Inputs) -> NDArray:
    """Return log(exp a + exp b) of the logits and the other array."""
    a, b = inputs.x.astype(LONG), inputs.dy.astype(LONG)
    high = np.maximum(a, b)
    d, lost = _difference(np.minimum(a, b), high)
    return high + np.log1p(np.exp(d) * (1 + lost))


Formula = Callable[[Rows, Inputs], NDArray]


def ulps(found: NDArray, right: NDArray, size: NDArray | float, dtype: str) -> NDArray:
    """Return the errors in ulp of a dtype, at numbers of a size; NaN or infinity where `found` is not finite."""
    exponent = np.maximum(np.frexp(np.abs(size))[1] - 1, LOWEST[dtype])
    return np.abs(found.astype(LONG) - right) * np.ldexp(LONG(1), BITS[dtype] - exponent)
