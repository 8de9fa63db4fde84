"""Numbers of a row: what people ask of the probabilities of a row, at the price of reading its logits once."""

from __future__ import annotations

from typing import Any, Never

from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._plan import Array, Axis, Empty, Scalar
from logitx._prepared import call


@exact
def entropy(
    logits: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    softcap: Scalar | None = None,
    empty: Empty = "nan",
    dtype: Any = None,
    **wrong: Never,
) -> Array:
    """Entropy of the softmax of every row, in nats.

    With the probabilities p and the logits u of `softmax`, and ``v = u - max(u)``::

        H = -sum(p * log(p)) = log(sum(exp(v))) - sum(p * v)

    Both terms of the second form are >= 0, so that nothing cancels: the entropy is never negative, and accurate where
    it is nearly 0.

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
    the gradient, ``-p * (log(p) + H)``, which is exactly 0 there. The exponential of the entropy is the perplexity of
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
    if wrong:
        raise unexpected(entropy, wrong)
    return call("entropy", logits, where, axis, temperature, softcap, empty, dtype)


@exact
def selected_log_softmax(
    logits: Array = MISSING,
    ids: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    softcap: Scalar | None = None,
    ignore_index: int | None = -100,
    empty: Empty = "nan",
    dtype: Any = None,
    **wrong: Never,
) -> Array:
    """Log-probabilities of chosen classes, without those of all others.

    With the logits u of `log_softmax`::

        log p[id] = (u[id] - max(u)) - log(sum(exp(u - max(u))))

    Others know it as ``log_prob``, token log-probabilities, selective
    log-softmax, or ``gather(log_softmax(logits), ids)``; no array of the size of the logits is made here.

    Parameters
    ----------
    logits : array
        Logits, in nats, of any shape and of any array type; integers and booleans become the library's default
        floating-point dtype first.
    ids : array of int
        Class ids, one a row: of the shape of `logits` without `axis`. Or k a row, where `axis` is one axis: of the
        shape of `logits` with k in place of the classes. With several class axes an id is a flat C-order index.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None for all.
    where : array of bool, optional
        Classes that take part; broadcasts to `logits`.
    temperature, softcap : float or array, optional
        As in `softmax`.
    ignore_index : int or None, default -100
        The result for this id is 0.
    empty : {"nan", "zero"}, default "nan"
        As in `log_softmax`.
    dtype : dtype or str, optional
        float32 or float64: the dtype of the result.

    Returns
    -------
    array
        Of the shape of `ids`. float32, or float64 for logits of float64, unless `dtype` is given.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed, or ids that are no integers.
    ValueError
        For a value or shape that is not allowed, and for an id that is no class, where ids can be read; it gives NaN
        under tracing and on accelerators.

    Notes
    -----
    As in `log_softmax`: a row with NaN or +inf is NaN; a class that is masked or whose logit is -inf gives -inf. The
    cost is that of `cross_entropy` for any k: its loss for the most probable of the ids, and one difference for each
    other id.

    References
    ----------
    As for `log_softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> logits = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    >>> print(lx.selected_log_softmax(logits, np.array([2, -100])).round(4))
    [-0.4076  0.    ]
    >>> print(lx.selected_log_softmax(logits, np.array([[2, 0], [0, 1]])).round(4))
    [[-0.4076 -2.4076]
     [-0.4076 -1.4076]]
    """
    if wrong:
        raise unexpected(selected_log_softmax, wrong)
    return call(
        "selected_log_softmax", logits, ids, axis, where, temperature, softcap, ignore_index, empty, dtype
    )  # fmt: skip


@exact
def softmax_mean(
    logits: Array = MISSING,
    values: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    softcap: Scalar | None = None,
    empty: Empty = "nan",
    dtype: Any = None,
    **wrong: Never,
) -> Array:
    """Mean of values under the softmax of every row.

    With the probabilities p of `softmax`, of which no array is made::

        sum(p * values)

    Values of both signs may cancel: the
    rounding errors of products and sums are carried along, as for the factors of `logsumexp`.

    Parameters
    ----------
    logits : array
        Logits, in nats, of any shape and of any array type; integers and booleans become the library's default
        floating-point dtype first.
    values : array
        One value a class, or an array of the shape of `logits`; with several class axes the first is in C order.
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
    A row with NaN or +inf is NaN. Values of classes whose probability is 0 count for nothing, also infinite ones. The
    gradient by the logits is ``p * (values - mean) / T``, by the values p.

    References
    ----------
    As for `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.softmax_mean(np.array([[0.0, 0.0], [9.0, -np.inf]]), np.array([1.0, 2.0])).round(4))
    [1.5 1. ]
    """
    if wrong:
        raise unexpected(softmax_mean, wrong)
    return call("softmax_mean", logits, values, axis, where, temperature, softcap, empty, dtype)
