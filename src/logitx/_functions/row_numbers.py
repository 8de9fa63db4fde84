"""Numbers of a row: what people ask of the probabilities of a row, at the price of reading its logits once."""

from __future__ import annotations

from typing import Any

from logitx._plan import Array, Axis, Empty, Scalar
from logitx._prepared import call


def entropy(
    logits: Array,
    /,
    axis: Axis = -1,
    *,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    softcap: Scalar | None = None,
    empty: Empty = "nan",
    dtype: Any = None,
) -> Array:
    r"""Entropy of the softmax of every row, in nats.

    .. math:: H = -\sum_j p_j \log p_j = \log \sum_j \exp(v_j) - \sum_j p_j v_j, \qquad v = u - \max u

    with the probabilities :math:`p` and the logits :math:`u` of `softmax`. Both terms of the second form are >= 0, so
    that nothing cancels: the entropy is never negative, and accurate where it is nearly 0.

    Parameters
    ----------
    logits : array
        Logits, in nats, of any shape and of any array type; integers and booleans become the library's default
        floating-point dtype first.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None for all.
    where : array of bool, optional
        Classes that take part; broadcasts to `logits`.
    temperature, softcap : float or array, optional
        As in `softmax`.
    empty : {"nan", "zero"}, default "nan"
        The result for a row in which nothing counts: every logit is -inf or masked, or there is none.
    dtype : dtype or str, optional
        float32 or float64: the dtype of the result.

    Returns
    -------
    array
        One number a row: the shape of `logits` without `axis`. float32, or float64 for logits of float64, unless
        `dtype` is given.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed.
    ValueError
        For a value or shape that is not allowed.

    Notes
    -----
    A row with NaN or +inf is NaN; a row of one class is 0; classes that are -inf or masked count for nothing, also in
    the gradient, :math:`-p (\log p + H)`, which is exactly 0 there. The exponential of the entropy is the perplexity of
    the row; divide by ``math.log(2)`` for bits.

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", Bell System Technical Journal 27 (1948),
    doi:10.1002/j.1538-7305.1948.tb01338.x.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.entropy(np.array([[0.0, 0.0], [9.0, -np.inf]])).round(4))
    [0.6931 0.    ]
    """
    return call("entropy", logits, where, axis, temperature, softcap, empty, dtype)
