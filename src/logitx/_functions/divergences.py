"""Public functions of two arrays of logits: how far their softmaxes are apart."""

from __future__ import annotations

from typing import Any, Never

from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._plan import Array, Axis, Empty, Reduction, Scalar
from logitx._prepared import call


@exact
def kl_divergence(
    p_logits: Array = MISSING,
    q_logits: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    softcap: Scalar | None = None,
    reduction: Reduction = "none",
    empty: Empty = "nan",
    dtype: Any = None,
    **wrong: Never,
) -> Array:
    """Kullback-Leibler divergence of the softmaxes of two arrays of logits, in nats.

    With the two probabilities p and q::

        sum(p * log(p / q)) = sum(q - p + p * log(p / q))

    The second form is what is computed: each term is >= 0 and small where p is near q, so that the result is never
    negative, exactly 0 for equal logits, and accurate between.

    Parameters
    ----------
    p_logits, q_logits : array
        Logits of p and of q, in nats, of one shape and of any array type. The order is that of the mathematics, not
        that of ``torch.nn.functional.kl_div(log_q, p)``.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None for all.
    where : array of bool, optional
        Classes that take part, in both; broadcasts to the logits.
    temperature, softcap : float or array, optional
        As in `softmax`; they scale both.
    reduction : {"none", "sum", "mean"}, default "none"
        One number a row, their sum, or their mean over the rows (what PyTorch calls "batchmean").
    empty : {"nan", "zero"}, default "nan"
        For rows in which nothing counts in p or in q: NaN; or the probabilities there are all 0, and so is a term
        with p = 0.
    dtype : dtype or str, optional
        float32 or float64: the dtype of the result.

    Returns
    -------
    array
        One number a row, or one number. float32, or float64 if logits are float64, unless `dtype` is given.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed.
    ValueError
        For a value or shape that is not allowed.

    Notes
    -----
    A row with NaN or +inf in either is NaN. A class that is -inf in q but not in p gives +inf; one that is -inf in p
    gives what q loses there; one that is -inf in both counts for nothing. The gradients are
    ``p * (log(p / q) - KL) / T`` and ``(q - p) / T``: for distillation at temperature T multiply the
    divergence by T**2, so that their size does not depend on it.

    References
    ----------
    S. Kullback and R. A. Leibler, "On information and sufficiency", Annals of Mathematical Statistics 22 (1951),
    doi:10.1214/aoms/1177729694. G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network",
    arXiv:1503.02531 (2015).

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> teacher, student = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 1.0, 1.0]])
    >>> print(lx.kl_divergence(teacher, student).round(4))
    [0.2662]
    >>> print(lx.kl_divergence(teacher, teacher))
    [0.]
    >>> print((lx.kl_divergence(teacher, student, temperature=2.0, reduction="mean") * 2.0**2).round(4))
    0.3137
    """
    if wrong:
        raise unexpected(kl_divergence, wrong)
    return call(
        "kl_divergence", p_logits, q_logits, axis, where, temperature, softcap, reduction, empty, dtype
    )  # fmt: skip


@exact
def js_divergence(
    p_logits: Array = MISSING,
    q_logits: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    weight: float = 0.5,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    softcap: Scalar | None = None,
    reduction: Reduction = "none",
    empty: Empty = "nan",
    dtype: Any = None,
    **wrong: Never,
) -> Array:
    """Jensen-Shannon divergence of the softmaxes of two arrays of logits, in nats.

    With the weight w and the mixture ``m = w * p + (1 - w) * q``::

        w * KL(p, m) + (1 - w) * KL(q, m)

    It is never negative, at most ``log(2)`` for equal weights, and exactly 0 for equal
    logits.

    Parameters
    ----------
    p_logits, q_logits : array
        Logits of p and of q, in nats, of one shape and of any array type.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None for all.
    weight : float, default 0.5
        The share of p in the mixture, from 0 to 1: a Python number.
    where, temperature, softcap, reduction : optional
        As in `kl_divergence`.
    empty : {"nan", "zero"}, default "nan"
        For rows in which nothing counts in p or in q: NaN; or the probabilities there are all 0.
    dtype : dtype or str, optional
        float32 or float64: the dtype of the result.

    Returns
    -------
    array
        One number a row, or one number. float32, or float64 if logits are float64, unless `dtype` is given.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed.
    ValueError
        For a value or shape that is not allowed.

    Notes
    -----
    A row with NaN or +inf in either is NaN. Classes that are -inf in one of them are finite here: p without q gives
    ``-w log(w) p``.

    References
    ----------
    J. Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37 (1991),
    doi:10.1109/18.61115.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.js_divergence(np.array([[0.0, -np.inf]]), np.array([[-np.inf, 0.0]])).round(4))
    [0.6931]
    """
    if wrong:
        raise unexpected(js_divergence, wrong)
    return call(
        "js_divergence", p_logits, q_logits, axis, weight, where, temperature, softcap, reduction, empty, dtype
    )  # fmt: skip
