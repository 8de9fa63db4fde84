"""Temperature scaling: the temperatures that make probabilities believable, by Newton's method and L-BFGS."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from logitx._calibration.rows import HostRows, RowsOfBlock, numbers_of_block
from logitx._functions.softmax import softmax
from logitx._plan import Array, Axis

NdArray = np.ndarray[Any, Any]

_LOWEST, _HIGHEST = math.exp(-10.0), math.exp(10.0)  # of the inverse temperature
_PAIRS = 10  # of steps that L-BFGS remembers


def fit_temperature(
    logits: Array,
    targets: Array,
    /,
    axis: Axis = -1,
    *,
    per_class: bool = False,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
) -> Any:
    """Temperature with the least cross-entropy: one number, or one a class.

    It is the `temperature` for which `cross_entropy` of the logits, with the sample weights, is least. Fit it on data
    that the model was not trained on, and pass it as the ``temperature`` of other functions; the classes keep their
    order, so accuracy stays what it is.

    Parameters
    ----------
    logits, targets : array
        As in `cross_entropy`, of any array type; they are brought to the host.
    axis : int, tuple of int or None, default -1
        The class axis or axes.
    per_class : bool, default False
        Fit one temperature a class, by which logits are divided before the softmax. The order of classes may change.
    sample_weight : array, optional
        As in `cross_entropy`.
    ignore_index : int or None, default -100
        A class id whose rows do not count.

    Returns
    -------
    float, or ndarray of shape (classes,)
        From exp(-10) to exp(10). Logits without an optimum, such as those that are all right, get a number on the way
        to the bound, where the loss is as good as constant.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`; ValueError also where no row counts.

    Notes
    -----
    The loss is convex in 1 / T. Newton's method reads the logits 4 to 8 times, at most 10; one temperature a class
    takes more. Rows whose label has a logit of -inf have no influence.

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", arXiv:1706.04599 (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from logitx.calibration import fit_temperature
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(size=(2000, 3))
    >>> labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from these probabilities
    >>> print(round(fit_temperature(3 * logits, labels), 1))
    2.9
    """
    rows = HostRows(logits, targets, axis, sample_weight, ignore_index)
    if not rows.counted.any():
        raise ValueError("targets: no row counts; allowed are targets with one that does")
    if per_class:
        return 1.0 / _vector_of_least_loss(rows)
    return 1.0 / _number_of_least_loss(rows)


def _with_targets(rows: RowsOfBlock) -> tuple[NdArray, NdArray, NdArray]:
    """Return logits below their maximum with finite entries for -inf, one-hot or soft targets, and the weights."""
    x = rows.logits
    with np.errstate(invalid="ignore"):
        x = x - x.max(axis=-1, keepdims=True)
    if rows.labels.ndim == 1:
        label = rows.labels.astype(np.int64)[:, None]
        own = np.take_along_axis(x, label, axis=-1)[:, 0]
    else:
        own = np.where(rows.labels == 0.0, 0.0, rows.labels * x).sum(axis=-1)
    return x, own, np.where(np.isfinite(own), rows.weight, 0.0)


def _slope_and_curvature(rows: HostRows, beta: float) -> tuple[float, float]:
    """Return the first and second derivative of the loss by the inverse temperature, in one read."""
    slope = curvature = 0.0
    for block in rows.blocks():
        told = numbers_of_block(block, 1.0 / beta)
        if told is not None:  # of u = beta x: the mean under p less the label's is loss less entropy
            gap = -(told.log_prob.astype(np.float64) + told.entropy)
            counted = np.isfinite(gap)
            slope += float(block.weight[counted] @ gap[counted]) / beta
            curvature += float(block.weight[counted] @ told.variance[counted]) / beta**2
            continue
        x, own, weight = _with_targets(block)
        p = softmax(x, temperature=1.0 / beta)
        x = np.where(p == 0.0, 0.0, x)
        first = np.einsum("ij,ij->i", p, x, dtype=np.float64)
        second = np.einsum("ij,ij,ij->i", p, x, x, dtype=np.float64)
        mass = 1.0 if block.labels.ndim == 1 else block.labels.sum(axis=-1)
        slope += float(weight @ np.where(weight == 0.0, 0.0, mass * first - own))
        curvature += float(weight @ np.where(weight == 0.0, 0.0, mass * (second - first**2)))
    return slope, curvature


def _number_of_least_loss(rows: HostRows) -> float:
    """Return the inverse temperature: Newton's method, kept within what the signs of the slope have shown."""
    low, high, beta, alike = _LOWEST, _HIGHEST, 1.0, 0  # so many steps went in the same direction
    for _ in range(10):
        slope, curvature = _slope_and_curvature(rows, beta)
        if slope > 0.0:
            high, alike = beta, min(alike, 0) - 1
        elif slope < 0.0:
            low, alike = beta, max(alike, 0) + 1
        else:
            return beta
        step = beta - slope / curvature if curvature > 0.0 else beta
        if (
            abs(alike) > 3 and 1e-2 * beta < abs(step - beta) < beta / 2.0
        ):  # the loss only falls: there may be no optimum
            step = beta * 8.0 if alike > 0 else beta / 8.0
        if not low < step < high:  # as far as Newton's method may go at once, or between what is known
            step = min(max(step, beta / 8.0), beta * 8.0)
            step = step if low < step < high else math.sqrt(low * high)
        if abs(step - beta) <= 1e-7 * beta:
            return step
        beta = step
    return beta


def _loss_and_slopes(rows: HostRows, beta: NdArray) -> tuple[float, NdArray]:
    """Return the loss and its derivative by the logarithm of each inverse temperature."""
    loss, slopes = 0.0, np.zeros_like(beta)
    for block in rows.blocks():
        x = np.where(np.isfinite(block.logits), block.logits, -1e30 if block.logits.dtype == np.float32 else -1e300)
        u = (x * beta).astype(x.dtype)
        p = softmax(u).astype(np.float64)
        t = block.labels
        if t.ndim == 1:
            t = np.zeros(p.shape)
            t[np.arange(len(p)), block.labels.astype(np.int64)] = 1.0
        top = u.max(axis=-1, keepdims=True)
        log_p = (u - top) - np.log(np.exp(u - top).sum(axis=-1, keepdims=True))
        live = (p > 0.0) | (t > 0.0)
        loss -= float(block.weight @ np.where(t > 0.0, t * log_p, 0.0).sum(axis=-1))
        error = p * t.sum(axis=-1, keepdims=True) - t
        slopes += (block.weight[:, None] * np.where(live, error * u, 0.0)).sum(axis=0)
    return loss, slopes


def _vector_of_least_loss(rows: HostRows) -> NdArray:
    """Return an inverse temperature a class: L-BFGS on their logarithms."""
    start = np.full(rows.x.shape[1], math.log(_number_of_least_loss(rows)))
    whole = float(rows.weight.sum())

    def scaled(theta: NdArray) -> tuple[float, NdArray]:
        loss, slopes = _loss_and_slopes(rows, np.exp(np.clip(theta, -10.0, 10.0)))
        return loss / whole, slopes / whole

    found: NdArray = np.exp(np.clip(_least(scaled, start), -10.0, 10.0))
    return found


def _least(function: Callable[[NdArray], tuple[float, NdArray]], x: NdArray) -> NdArray:
    """Return where a smooth function is least: L-BFGS with backtracking."""
    value, slope = function(x)
    steps: list[tuple[NdArray, NdArray]] = []
    for _ in range(200):
        if np.abs(slope).max() <= 1e-8:
            break
        direction, factors = -slope, []
        for s, y in reversed(steps):
            factors.append((s @ direction) / (s @ y))
            direction = direction - factors[-1] * y
        if steps:
            s, y = steps[-1]
            direction = direction * ((s @ y) / (y @ y))
        for (s, y), factor in zip(steps, reversed(factors), strict=True):
            direction = direction + (factor - (y @ direction) / (s @ y)) * s
        size = min(1.0, 1.0 / np.abs(direction).max())
        while size > 1e-10:
            new_value, new_slope = function(x + size * direction)
            if new_value <= value + 1e-4 * size * (slope @ direction):
                break
            size /= 2.0
        else:
            break
        s, y = size * direction, new_slope - slope
        x, value, slope = x + s, new_value, new_slope
        if s @ y > 0.0:
            steps = [*steps, (s, y)][-_PAIRS:]
    return x
