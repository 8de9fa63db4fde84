"""Cross-entropy and its gradients."""

from __future__ import annotations

from typing import Any, Literal, Never

from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._functions.loss_parts import call_with_parts
from logitx._plan import Array, Axis, Empty, Reduction, Scalar
from logitx._prepared import call


@exact
def cross_entropy(
    logits: Array = MISSING,
    targets: Array = MISSING,
    axis: Axis = -1,
    *,
    class_weight: Array | Literal["balanced"] | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: Scalar = 0.0,
    z_loss: Scalar = 0.0,
    softcap: Scalar | None = None,
    temperature: Scalar = 1.0,
    where: Array | None = None,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    dtype: Any = None,
    return_parts: bool | str | list[str] | tuple[str, ...] = False,
    **wrong: Never,
) -> Any:
    """Cross-entropy of logits against class ids or probabilities.

    The loss of a row, summed over its classes::

        loss = s * (sum(w * q * (log_Z - u)) + z_loss * c * log_Z**2)

        u      logits after softcap and temperature, as in `softmax`
        log_Z  log-normalizer, log(sum(exp(u)))
        t      target, one-hot for a class id
        q      smoothed target, (1 - label_smoothing) * t + label_smoothing / K for each of K unmasked classes
        s, w   sample weight of the row, class weights; 1 by default
        c      class weight of the row, sum(w * t); 1 without class weights

    Parameters
    ----------
    logits : array
        Unnormalized log-probabilities, in nats, of any shape and of any array type.
    targets : array
        Integer class ids, of the shape of `logits` without `axis`; or floating probabilities, of exactly the shape of
        `logits`, which need not sum to 1. The dtype decides. With several class axes, ids are flat C-order indices
        over them in the order given.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None for all.
    class_weight : array or "balanced", optional
        One weight a class. "balanced" gives every class of the targets the same total weight: those of
        `balanced_class_weight`.
    sample_weight : array, optional
        One weight a row: of the shape of `logits` without `axis`, or what broadcasts to it.
    ignore_index : int or None, default -100
        A class id whose rows do not count: loss and gradient are 0. It may be a valid id.
    label_smoothing : float, default 0.0
        From 0 to 1: this share of the target is spread over the unmasked classes.
    z_loss : float, default 0.0
        Factor of the squared log-normalizer.
    softcap, temperature : float or array, optional
        As in `softmax`.
    where : array of bool, optional
        Classes that take part; broadcasts to `logits`. If the class of the label is masked, the loss is +inf. To
        leave out whole rows, use `sample_weight` or `ignore_index`.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides the sum by the sum of ``s * c`` over the rows that count.
    empty : {"nan", "zero"}, default "nan"
        The loss of a row in which every unmasked logit is -inf, and the mean over no row.
    dtype : dtype or str, optional
        float32 or float64: the dtype of the loss.
    return_parts : bool or tuple of str, default False
        Also return a named tuple of parts: True for ``(z_loss, log_normalizer)``, or names out of "z_loss",
        "log_normalizer", "log_prob", "entropy" and "correct", in any order.

    Returns
    -------
    array, or a pair of an array and a named tuple
        The loss in nats: of the shape of `logits` without `axis` for "none", else a scalar. At least float32. The part
        ``z_loss`` is reduced like the loss. The others have one number a row: ``log_normalizer`` is ``log_Z``;
        ``log_prob`` is ``sum(t * (u - log_Z))``, the log-probability of a class id, and 0 for an ignored row;
        ``entropy`` is that of the softmax; ``correct`` is True where the label has the highest logit, the first among
        equals.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed; for boolean targets.
    ValueError
        For a value or shape that is not allowed. For a class id outside ``[0, n)`` that is not `ignore_index`, with
        its position, where the data is concrete and on the CPU; elsewhere the loss of that row is NaN.

    Notes
    -----
    A row with NaN or +inf gives NaN. A label whose logit is -inf gives +inf; where its weight is 0, 0. Ignored rows,
    fully masked rows and rows with ``s * c == 0`` give exactly 0, even with NaN in them. Ignored and fully masked
    rows are not counted. Unlike in PyTorch, the mean of weighted probabilities has the same denominator as that of
    class ids, and float16 and bfloat16 logits give a float32 loss.

    References
    ----------
    C. Szegedy et al., "Rethinking the Inception architecture for computer vision", arXiv:1512.00567 (2015), for label
    smoothing; A. Chowdhery et al., "PaLM", arXiv:2204.02311 (2022), for the z-loss.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
    >>> print(lx.cross_entropy(logits, np.array([0, 1])).round(4))
    0.2513
    >>> print(lx.cross_entropy(logits, [0, -100], label_smoothing=0.1, reduction="none").round(4))
    [0.5076 0.    ]
    """
    if wrong:
        raise unexpected(cross_entropy, wrong)
    run = call if isinstance(return_parts, bool) else call_with_parts
    return run(
        "cross_entropy",
        logits,
        targets,
        axis,
        class_weight,
        sample_weight,
        ignore_index,
        label_smoothing,
        z_loss,
        softcap,
        temperature,
        where,
        reduction,
        empty,
        dtype,
        return_parts,
    )


@exact
def cross_entropy_value_and_grad(
    logits: Array = MISSING,
    targets: Array = MISSING,
    axis: Axis = -1,
    *,
    class_weight: Array | Literal["balanced"] | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: Scalar = 0.0,
    z_loss: Scalar = 0.0,
    softcap: Scalar | None = None,
    temperature: Scalar = 1.0,
    where: Array | None = None,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    dtype: Any = None,
    return_parts: bool | str | list[str] | tuple[str, ...] = False,
    **wrong: Never,
) -> Any:
    """Cross-entropy and its gradient by the logits, in one pass, for every array type.

    With the quantities of `cross_entropy` and the softmax ``p`` of ``u``, the gradient of the summed loss is::

        dlogits = s * (sum(w * q) * p - w * q + 2 * z_loss * c * log_Z * p) * du/dx

    It is divided by the denominator of the mean where the reduction is "mean".

    Parameters
    ----------
    logits, targets, axis
        As in `cross_entropy`.
    class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, temperature, where
        As in `cross_entropy`.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `cross_entropy`; for "none" the gradient is that of the sum.
    empty, dtype, return_parts
        As in `cross_entropy`. `dtype` is the dtype of the loss; the gradient keeps that of the logits.

    Returns
    -------
    loss : array
        As from `cross_entropy`, in nats.
    dlogits : array
        The gradient, of the shape and dtype of `logits` (integers: of the default floating-point dtype).
    parts : named tuple
        Only with `return_parts`: as from `cross_entropy`.

    Raises
    ------
    TypeError
        As `cross_entropy`.
    ValueError
        As `cross_entropy`.

    Notes
    -----
    The gradient is exactly 0 at masked entries and those of -inf, and in rows that are ignored, have no weight or hold
    only -inf. Rows with NaN or +inf have NaN elsewhere. Where a label's logit is -inf the gradient is ``p`` at the
    other classes.

    References
    ----------
    As for `cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> loss, dlogits = lx.cross_entropy_value_and_grad(np.array([[2.0, 1.0, 0.0]]), np.array([0]))
    >>> print(loss.round(4), dlogits.round(4))
    0.4076 [[-0.3348  0.2447  0.09  ]]
    """
    if wrong:
        raise unexpected(cross_entropy_value_and_grad, wrong)
    run = call if isinstance(return_parts, bool) else call_with_parts
    return run(
        "cross_entropy_value_and_grad",
        logits,
        targets,
        axis,
        class_weight,
        sample_weight,
        ignore_index,
        label_smoothing,
        z_loss,
        softcap,
        temperature,
        where,
        reduction,
        empty,
        dtype,
        return_parts,
    )


@exact
def cross_entropy_grad_hess(
    logits: Array = MISSING,
    targets: Array = MISSING,
    axis: Axis = -1,
    *,
    class_weight: Array | Literal["balanced"] | None = None,
    sample_weight: Array | None = None,
    **wrong: Never,
) -> tuple[Array, Array]:
    """Gradient and diagonal of the Hessian of the summed cross-entropy, as boosting objectives want them.

    With the softmax ``p`` of the logits, the target ``t`` (one-hot for a class id), the sample weight ``s`` of the row
    and the class weights ``w``::

        gradient = s * (sum(w * t) * p - w * t)
        hessian = s * sum(w * t) * p * (1 - p)

    There is no factor ``K / (K - 1)`` for K classes, and no floor, which some boosting libraries apply.

    Parameters
    ----------
    logits : array
        Raw scores, in nats, of any shape and of any array type.
    targets : array
        Class ids or probabilities, as in `cross_entropy`.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None for all.
    class_weight : array or "balanced", optional
        One weight a class. "balanced" gives every class of the targets the same total weight: those of
        `balanced_class_weight`.
    sample_weight : array, optional
        One weight a row.

    Returns
    -------
    gradient, hessian : array
        Of the shape and dtype of `logits`.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed; for boolean targets.
    ValueError
        For a value or shape that is not allowed, and for a class id out of range, as in `cross_entropy`.

    Notes
    -----
    Both are 0 at -inf and in rows without weight or of only -inf; rows with NaN or +inf are NaN elsewhere.

    References
    ----------
    J. Friedman, "Greedy function approximation: a gradient boosting machine", Annals of Statistics 29 (2001),
    doi:10.1214/aos/1013203451.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> gradient, hessian = lx.cross_entropy_grad_hess(np.zeros((1, 2)), np.array([1]))
    >>> print(gradient, hessian)
    [[ 0.5 -0.5]] [[0.25 0.25]]
    """
    if wrong:
        raise unexpected(cross_entropy_grad_hess, wrong)
    gradient, hessian = call("cross_entropy_grad_hess", logits, targets, axis, class_weight, sample_weight)
    return gradient, hessian
