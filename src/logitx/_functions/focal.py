"""Focal losses: cross-entropies in which what is already sure counts less."""

from __future__ import annotations

from typing import Any, Literal, Never

from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._plan import Array, Axis, Empty, Reduction, Scalar
from logitx._prepared import call


@exact
def focal_loss(
    logits: Array = MISSING,
    targets: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    gamma: Scalar = 2.0,
    class_weight: Array | Literal["balanced"] | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: Scalar = 0.0,
    softcap: Scalar | None = None,
    temperature: Scalar = 1.0,
    where: Array | None = None,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    dtype: Any = None,
    **wrong: Never,
) -> Array:
    """Focal loss of logits against class ids or probabilities.

    With the quantities of `cross_entropy` and the softmax ``p`` of the logits, for each row::

        loss = -s * sum(w * q * (1 - p)**gamma * log(p))

    Parameters
    ----------
    logits, targets, axis
        As in `cross_entropy`.
    gamma : float, default 2.0
        Power of the focal factor, 0 or more; 0 gives `cross_entropy`, to the last bit.
    class_weight : array or "balanced", optional
        One weight a class (the alpha of the focal loss), as in `cross_entropy`.
    sample_weight, ignore_index, label_smoothing, softcap, temperature, where
        As in `cross_entropy`.
    reduction, empty, dtype
        As in `cross_entropy`; "mean" divides by the sum of the weights of rows, without ``(1 - p)^gamma``.

    Returns
    -------
    array
        The loss in nats, as from `cross_entropy`.

    Raises
    ------
    TypeError
        As `cross_entropy`.
    ValueError
        As `cross_entropy`, and for a negative `gamma`.

    Notes
    -----
    Values and gradients are finite at every finite logit, also for `gamma` below 1. Special values as in
    `cross_entropy`. A Dask array whose classes are in several chunks is rechunked along the classes.

    References
    ----------
    T.-Y. Lin et al., "Focal loss for dense object detection", arXiv:1708.02002 (2017).

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> logits = np.array([[4.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # sure, and less so
    >>> print(lx.focal_loss(logits, np.array([0, 1]), reduction="none").round(4))
    [0.    0.0991]
    >>> print(lx.cross_entropy(logits, np.array([0, 1]), reduction="none").round(4))
    [0.036  0.5514]
    """
    if wrong:
        raise unexpected(focal_loss, wrong)
    return call(
        "focal_loss", logits, targets, axis, gamma, class_weight, sample_weight, ignore_index, label_smoothing,
        softcap, temperature, where, reduction, empty, dtype,
    )  # fmt: skip


@exact
def focal_loss_value_and_grad(
    logits: Array = MISSING,
    targets: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    gamma: Scalar = 2.0,
    class_weight: Array | Literal["balanced"] | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: Scalar = 0.0,
    softcap: Scalar | None = None,
    temperature: Scalar = 1.0,
    where: Array | None = None,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    dtype: Any = None,
    **wrong: Never,
) -> tuple[Array, Array]:
    """Focal loss and its gradient by the logits, for every array type.

    The gradient of the summed loss by the scaled logits is::

        v = w * q * (1 - p)**gamma * (1 - gamma * p * log(p) / (1 - p))
        dlogits = s * (p * sum(v) - v)

    Parameters
    ----------
    logits, targets, axis
        As in `focal_loss`.
    gamma, class_weight, sample_weight, ignore_index, label_smoothing, softcap, temperature, where
        As in `focal_loss`.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `focal_loss`; for "none" the gradient is that of the sum.
    empty, dtype
        As in `focal_loss`. `dtype` is the dtype of the loss; the gradient keeps that of the logits.

    Returns
    -------
    loss : array
        As from `focal_loss`.
    dlogits : array
        The gradient, of the shape and dtype of `logits`.

    Raises
    ------
    TypeError
        As `focal_loss`.
    ValueError
        As `focal_loss`.

    Notes
    -----
    As for `cross_entropy_value_and_grad`.

    References
    ----------
    As for `focal_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> loss, dlogits = lx.focal_loss_value_and_grad(np.array([[2.0, 1.0, 0.0]]), np.array([0]))
    >>> print(loss.round(4), dlogits.round(4))
    0.0457 [[-0.0983  0.0719  0.0264]]
    """
    if wrong:
        raise unexpected(focal_loss_value_and_grad, wrong)
    loss, gradient = call(
        "focal_loss_value_and_grad", logits, targets, axis, gamma, class_weight, sample_weight, ignore_index,
        label_smoothing, softcap, temperature, where, reduction, empty, dtype,
    )  # fmt: skip
    return loss, gradient


@exact
def binary_focal_loss(
    logits: Array = MISSING,
    targets: Array = MISSING,
    /,
    *,
    gamma: Scalar = 2.0,
    alpha: Scalar | None = None,
    pos_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: Scalar = 0.0,
    where: Array | None = None,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    dtype: Any = None,
    **wrong: Never,
) -> Array:
    """Binary focal loss of logits against labels or probabilities, elementwise.

    With the quantities of `binary_cross_entropy`::

        loss = -s * (alpha * w * q * (1 - p)**gamma * log(p) + (1 - alpha) * (1 - q) * p**gamma * log(1 - p))

    without the factors of `alpha` where it is None.

    Parameters
    ----------
    logits, targets
        As in `binary_cross_entropy`.
    gamma : float, default 2.0
        Power of the focal factor, 0 or more; 0 gives `binary_cross_entropy`, to the last bit.
    alpha : float, optional
        Factor of positive targets, from 0 to 1; negative ones have 1 - alpha.
    pos_weight, sample_weight, ignore_index, label_smoothing, where
        As in `binary_cross_entropy`.
    reduction, empty, dtype
        As in `binary_cross_entropy`.

    Returns
    -------
    array
        The loss in nats, as from `binary_cross_entropy`.

    Raises
    ------
    TypeError
        As `binary_cross_entropy`.
    ValueError
        As `binary_cross_entropy`, and for `gamma` or `alpha` out of range.

    Notes
    -----
    Values and gradients are finite at every finite logit, also for `gamma` below 1. Special values as in
    `binary_cross_entropy`.

    References
    ----------
    As for `focal_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.binary_focal_loss(np.array([3.0, 0.0]), np.array([1, 0]), alpha=0.25, reduction="none").round(5))
    [3.0000e-05 1.2997e-01]
    """
    if wrong:
        raise unexpected(binary_focal_loss, wrong)
    return call(
        "binary_cross_entropy", logits, targets, pos_weight, sample_weight, ignore_index, where, label_smoothing,
        reduction, empty, dtype, gamma, alpha,
    )  # fmt: skip


@exact
def binary_focal_loss_value_and_grad(
    logits: Array = MISSING,
    targets: Array = MISSING,
    /,
    *,
    gamma: Scalar = 2.0,
    alpha: Scalar | None = None,
    pos_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: Scalar = 0.0,
    where: Array | None = None,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    dtype: Any = None,
    **wrong: Never,
) -> tuple[Array, Array]:
    """Binary focal loss and its gradient by the logits, in one pass, for every array type.

    With the quantities of `binary_focal_loss`, without `alpha`, the gradient of the summed loss is::

        s * ((1 - q) * p**gamma * (p - gamma * (1 - p) * log(1 - p))
             - w * q * (1 - p)**gamma * (1 - p - gamma * p * log(p)))

    Parameters
    ----------
    logits, targets
        As in `binary_focal_loss`.
    gamma, alpha, pos_weight, sample_weight, ignore_index, label_smoothing, where
        As in `binary_focal_loss`.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `binary_focal_loss`; for "none" the gradient is that of the sum.
    empty, dtype
        As in `binary_focal_loss`. `dtype` is the dtype of the loss; the gradient keeps that of the logits.

    Returns
    -------
    loss : array
        As from `binary_focal_loss`.
    dlogits : array
        The gradient, of the shape and dtype of `logits`.

    Raises
    ------
    TypeError
        As `binary_focal_loss`.
    ValueError
        As `binary_focal_loss`.

    Notes
    -----
    As for `binary_cross_entropy_value_and_grad`.

    References
    ----------
    As for `focal_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> loss, dlogits = lx.binary_focal_loss_value_and_grad(np.array([0.0, 2.0]), np.array([1, 0]))
    >>> print(loss.round(4), dlogits.round(4))
    0.9117 [-0.1491  0.5384]
    """
    if wrong:
        raise unexpected(binary_focal_loss_value_and_grad, wrong)
    loss, gradient = call(
        "binary_cross_entropy_value_and_grad", logits, targets, pos_weight, sample_weight, ignore_index, where,
        label_smoothing, reduction, empty, dtype, gamma, alpha,
    )  # fmt: skip
    return loss, gradient
