"""The binary family: sigmoid and binary cross-entropy, where every element is a logit of its own."""

from __future__ import annotations

from typing import Any, Never

from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._plan import Array, Empty, Reduction, Scalar
from logitx._prepared import call


@exact
def sigmoid(
    x: Array = MISSING,
    /,
    *,
    dtype: Any = None,
    out: Array | None = None,
    **wrong: Never,
) -> Array:
    """Probability of the second of two classes, elementwise.

    The probability is::

        1 / (1 + exp(-x)) = exp(x) / (1 + exp(x))

    Each element of `x` is a logit of its own; `softmax` of the logits ``(0, x)`` is ``(1 - p, p)``.

    Parameters
    ----------
    x : array
        Logits, in nats, of any shape and of any array type, as in `softmax`.
    dtype : dtype or str, optional
        float16, bfloat16, float32 or float64: the dtype of the result.
    out : array, optional
        Where to write the result: of exactly its shape and dtype. May be `x` itself.

    Returns
    -------
    array
        Of the shape and, unless `dtype` is given, the dtype of `x`. float16 and bfloat16 are computed in float32 and
        rounded once.

    Raises
    ------
    TypeError
        For an array type or a dtype that is not allowed, and for `out` with immutable arrays.
    ValueError
        For a value or shape that is not allowed. Nothing has been written then.

    Notes
    -----
    -inf gives 0, +inf gives 1, NaN gives NaN. Small probabilities have full relative accuracy. Use ``sigmoid(-x)`` for
    ``1 - sigmoid(x)``: the subtraction cancels.

    References
    ----------
    As for `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.sigmoid(np.array([-np.inf, 0.0, 2.0])).round(4))
    [0.     0.5    0.8808]
    """
    if wrong:
        raise unexpected(sigmoid, wrong)
    return call("sigmoid", x, out, dtype)


@exact
def log_sigmoid(
    x: Array = MISSING,
    /,
    *,
    dtype: Any = None,
    out: Array | None = None,
    **wrong: Never,
) -> Array:
    """Logarithm of the probability of the second of two classes, elementwise.

    With full accuracy at both ends::

        log(sigmoid(x)) = -log(1 + exp(-x)) = min(x, 0) - log(1 + exp(-abs(x)))

    Parameters
    ----------
    x : array
        Logits, in nats, of any shape and of any array type.
    dtype, out
        As in `sigmoid`.

    Returns
    -------
    array
        In nats; as from `sigmoid`.

    Raises
    ------
    TypeError
        As `sigmoid`.
    ValueError
        As `sigmoid`.

    Notes
    -----
    -inf gives -inf, +inf gives 0, NaN gives NaN. The result has full relative accuracy at both ends.
    ``-log_sigmoid(-x)`` is the softplus of `x`.

    References
    ----------
    M. Maechler, "Accurately computing ``log(1 - exp(-|a|))``", vignette of the R package Rmpfr (2012).

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.log_sigmoid(np.array([-1000.0, 0.0, 1000.0])).round(4))
    [-1.000e+03 -6.931e-01  0.000e+00]
    """
    if wrong:
        raise unexpected(log_sigmoid, wrong)
    return call("log_sigmoid", x, out, dtype)


@exact
def binary_cross_entropy(
    logits: Array = MISSING,
    targets: Array = MISSING,
    /,
    *,
    pos_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: Scalar = 0.0,
    where: Array | None = None,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    dtype: Any = None,
    **wrong: Never,
) -> Any:
    """Binary cross-entropy of logits against labels or probabilities, elementwise.

    With the sigmoid ``p`` of the logit, the target ``t``, the sample weight ``s``, the positive weight ``w`` and the
    smoothing ``eps``::

        q = (1 - eps) * t + eps / 2
        loss = -s * (w * q * log(p) + (1 - q) * log(1 - p))

    Every element of `logits` is a logit of its own: one label a sample, or one column a label where a sample may have
    several (multi-label).

    Parameters
    ----------
    logits : array
        Logits of the positive class, in nats, of any shape and of any array type.
    targets : array
        Of exactly the shape of `logits`: booleans or integers 0 and 1, or floating probabilities of the positive class.
        The dtype decides.
    pos_weight : float or array, optional
        Factor of the loss of positive targets; broadcasts to `logits`, so a vector holds one weight a column.
    sample_weight : float or array, optional
        Factor of the loss of an element; broadcasts to `logits`. Weights of rows need a last axis of length 1.
    ignore_index : int or None, default -100
        An integer target whose elements do not count: loss and gradient are 0.
    label_smoothing : float, default 0.0
        ``eps``, from 0 to 1: targets move towards 1/2 by this share.
    where : array of bool, optional
        Elements that count; broadcasts to `logits`.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides the sum by the sum of ``s`` over the elements that count, whatever `pos_weight`.
    empty : {"nan", "zero"}, default "nan"
        The mean over no element.
    dtype : dtype or str, optional
        float32 or float64: the dtype of the loss.

    Returns
    -------
    array
        The loss in nats: of the shape of `logits` for "none", else a scalar. At least float32.

    Raises
    ------
    TypeError
        For an array type or a dtype that is not allowed.
    ValueError
        For a value or shape that is not allowed. For an integer target other than 0, 1 and `ignore_index`, with its
        position, where the data is concrete and on the CPU; elsewhere the loss of that element is NaN.

    Notes
    -----
    NaN gives NaN. A logit of -inf or +inf gives 0 where the target agrees, else +inf; a target of exactly 0 times an
    infinite loss is 0. Elements that are ignored, masked or without weight give exactly 0, even for NaN.
    `cross_entropy` of the logits ``(0, x)`` is the same loss.

    References
    ----------
    As for `log_sigmoid`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> logits = np.array([[2.0, -1.0], [0.5, 3.0]])
    >>> print(lx.binary_cross_entropy(logits, np.array([[1, 0], [1, 0]])).round(4))
    0.9907
    >>> print(lx.binary_cross_entropy(logits, [[1, 0], [-100, 0]], reduction="none").round(4))
    [[0.1269 0.3133]
     [0.     3.0486]]
    """
    if wrong:
        raise unexpected(binary_cross_entropy, wrong)
    return call(
        "binary_cross_entropy",
        logits,
        targets,
        pos_weight,
        sample_weight,
        ignore_index,
        where,
        label_smoothing,
        reduction,
        empty,
        dtype,
    )


@exact
def binary_cross_entropy_value_and_grad(
    logits: Array = MISSING,
    targets: Array = MISSING,
    /,
    *,
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
    """Binary cross-entropy and its gradient by the logits, in one pass, for every array type.

    With the quantities of `binary_cross_entropy`, the gradient of the summed loss is::

        s * ((1 - q) * p - w * q * (1 - p))

    divided by the denominator of the mean where the reduction is "mean".

    Parameters
    ----------
    logits, targets
        As in `binary_cross_entropy`.
    pos_weight, sample_weight, ignore_index, label_smoothing, where
        As in `binary_cross_entropy`.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `binary_cross_entropy`; for "none" the gradient is that of the sum.
    empty, dtype
        As in `binary_cross_entropy`. `dtype` is the dtype of the loss; the gradient keeps that of the logits.

    Returns
    -------
    loss : array
        As from `binary_cross_entropy`, in nats.
    dlogits : array
        The gradient, of the shape and dtype of `logits` (integers: of the default floating-point dtype).

    Raises
    ------
    TypeError
        As `binary_cross_entropy`.
    ValueError
        As `binary_cross_entropy`.

    Notes
    -----
    The gradient is exactly 0 at elements that are ignored, masked or without weight. At a logit of -inf or +inf it is
    the limit: 0 where the target agrees.

    References
    ----------
    As for `binary_cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> loss, dlogits = lx.binary_cross_entropy_value_and_grad(np.array([0.0, 2.0]), np.array([1, 0]))
    >>> print(loss.round(4), dlogits.round(4))
    1.41 [-0.25    0.4404]
    """
    if wrong:
        raise unexpected(binary_cross_entropy_value_and_grad, wrong)
    loss, gradient = call(
        "binary_cross_entropy_value_and_grad",
        logits,
        targets,
        pos_weight,
        sample_weight,
        ignore_index,
        where,
        label_smoothing,
        reduction,
        empty,
        dtype,
    )
    return loss, gradient


@exact
def binary_cross_entropy_grad_hess(
    logits: Array = MISSING,
    targets: Array = MISSING,
    /,
    *,
    pos_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    where: Array | None = None,
    **wrong: Never,
) -> tuple[Array, Array]:
    """Gradient and diagonal of the Hessian of the summed binary cross-entropy, as boosting objectives want them.

    With the sigmoid ``p`` of the logit, the target ``t``, the sample weight ``s`` and the positive weight ``w``::

        gradient = s * ((1 - t) * p - w * t * (1 - p))
        hessian = s * (w * t + 1 - t) * p * (1 - p)

    Parameters
    ----------
    logits : array
        Raw scores, in nats, of any shape and of any array type: one column a label for multi-label objectives.
    targets : array
        Labels or probabilities, as in `binary_cross_entropy`.
    pos_weight, sample_weight : float or array, optional
        Factors of positive targets and of elements; they broadcast to `logits`.
    ignore_index : int or None, default -100
        An integer target whose elements do not count.
    where : array of bool, optional
        Elements that count; broadcasts to `logits`.

    Returns
    -------
    gradient, hessian : array
        Of the shape and dtype of `logits`.

    Raises
    ------
    TypeError
        For an array type or a dtype that is not allowed.
    ValueError
        For a value or shape that is not allowed, and for a target out of range, as in `binary_cross_entropy`.

    Notes
    -----
    Both are 0 at elements that are ignored, masked or without weight; NaN gives NaN.

    References
    ----------
    As for `cross_entropy_grad_hess`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> gradient, hessian = lx.binary_cross_entropy_grad_hess(np.zeros(2), np.array([1, 0]))
    >>> print(gradient, hessian)
    [-0.5  0.5] [0.25 0.25]
    """
    if wrong:
        raise unexpected(binary_cross_entropy_grad_hess, wrong)
    gradient, hessian = call(
        "binary_cross_entropy_grad_hess", logits, targets, pos_weight, sample_weight, ignore_index, where
    )
    return gradient, hessian
