"""Sums in log space: a matrix product and a cumulative sum of exponentials."""

from __future__ import annotations

from typing import Never

from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._plan import Array, Axis
from logitx._prepared import call


@exact
def logcumsumexp(
    x: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    reverse: bool = False,
    **wrong: Never,
) -> Array:
    """Logarithms of the cumulative sums of exponentials along an axis.

    With the sum over ``j <= i``, or with `reverse` over ``j >= i``::

        y_i = log(sum_j exp(x_j))

    Parameters
    ----------
    x : array
        Exponents, in nats, of any shape and of any array type; integers and booleans become the library's default
        floating-point dtype first.
    axis : int, tuple of int or None, default -1
        The axis along which the sum grows; several, or None for all, are run through in C order of the axes given.
    reverse : bool, default False
        Sum from the last entry to the first.

    Returns
    -------
    array
        Of the shape and dtype of `x`. float16 and bfloat16 are computed in float32 and rounded once.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed.
    ValueError
        For a value or shape that is not allowed.

    Notes
    -----
    From the first NaN on the result is NaN; from the first +inf on, up to a NaN, it is +inf; where only -inf came it is
    -inf. Each result is relative to the largest exponent so far, so that none overflows and none vanishes.

    References
    ----------
    G. E. Blelloch, "Prefix sums and their applications", CMU-CS-90-190 (1990), for sums in log(n) steps. The name is
    that of ``torch.logcumsumexp``.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.logcumsumexp(np.array([1000.0, 1000.0, 0.0])).round(4))
    [1000.     1000.6931 1000.6931]
    >>> print(lx.logcumsumexp(np.zeros(3), reverse=True).round(4))
    [1.0986 0.6931 0.    ]
    """
    if wrong:
        raise unexpected(logcumsumexp, wrong)
    return call("logcumsumexp", x, axis, reverse)


@exact
def log_matmul(
    a: Array = MISSING,
    b: Array = MISSING,
    /,
    **wrong: Never,
) -> Array:
    """Logarithm of the matrix product of exponentials.

    With the sum over the shared axis k::

        y_ij = log(sum_k exp(a_ik + b_kj))

    Parameters
    ----------
    a : array
        Exponents, in nats, of shape (..., N, K), or (K,).
    b : array
        Exponents of shape (..., K, M), or (K,), of the same array library. Other axes broadcast, as in matmul.

    Returns
    -------
    array
        Of the shape of ``matmul(a, b)`` and of the wider dtype of the two (float32 for float16 with bfloat16).

    Raises
    ------
    TypeError
        For an array type or a dtype that is not allowed, for labelled arrays and for two arrays of different libraries.
    ValueError
        For shapes that do not go together.

    Notes
    -----
    The product is that of matrices whose largest exponents are 0 in each row of `a` and each column of `b`. Sums in
    which that leaves too little, as in ``[[0, -200]]`` by ``[[-200], [0]]``, are computed anew, relative to their own
    largest terms: the result is finite wherever its value is. Where values cannot be read (`torch.compile`,
    `tf.function`), all sums are computed that way too, a sixteenth of the terms in memory at a time.

    Errors are those of a sum of positive terms, relative to the larger of 1 and the result.

    NaN in a row of `a` or a column of `b` gives NaN; +inf plus anything above -inf gives +inf; terms of -inf count for
    nothing, also beside +inf; where nothing counts (K = 0 included) the result is -inf.

    References
    ----------
    P. Blanchard, D. J. Higham and N. J. Higham, "Accurately computing the log-sum-exp and softmax functions", IMA
    Journal of Numerical Analysis 41 (2021), doi:10.1093/imanum/draa038, for each of the sums.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.log_matmul(np.array([[0.0, -200.0]]), np.array([[-200.0], [0.0]])).round(4))
    [[-199.3069]]
    """
    if wrong:
        raise unexpected(log_matmul, wrong)
    return call("log_matmul", a, b)
