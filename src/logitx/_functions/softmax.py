"""Softmax, log-softmax, log-sum-exp, and what goes with them."""

from __future__ import annotations

from typing import Any, Never

from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._plan import Array, Axis, Empty, Scalar
from logitx._prepared import call


@exact
def softmax(
    x: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    softcap: Scalar | None = None,
    empty: Empty = "nan",
    dtype: Any = None,
    out: Array | None = None,
    **wrong: Never,
) -> Array:
    """Probabilities of the classes along an axis.

    With the logits after softcap and temperature, ``u = softcap * tanh(x / softcap) / temperature``::

        p = exp(u - max(u)) / sum(exp(u - max(u)))

    Without a softcap, ``u = x / temperature``.

    Parameters
    ----------
    x : array
        Logits, in nats, of any shape and of any array type; integers and booleans become the library's default
        floating-point dtype first. A list or a number is a NumPy array.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None for all.
    where : array of bool, optional
        Classes that take part; broadcasts to `x`. What is masked never leaks into a result.
    temperature : float or array, default 1.0
        Divides the logits. Finite and > 0; an array holds one number, or one a row (length 1 along `axis`).
    softcap : float or array, optional
        Bounds the logits smoothly to ``(-softcap, softcap)``, before the temperature. Shaped as `temperature`.
    empty : {"nan", "zero"}, default "nan"
        The result for a row in which every unmasked logit is -inf.
    dtype : dtype or str, optional
        float16, bfloat16, float32 or float64: the dtype of the result. `x` is not rounded to it first.
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
        For an array type, a dtype or an axis that is not allowed, and for `out` with immutable arrays.
    ValueError
        For a value or shape that is not allowed. Nothing has been written then.

    Notes
    -----
    Special values are judged on `x` and over unmasked entries: a row with NaN or +inf is NaN; -inf gives 0; a row of
    only -inf gives NaN or 0 (`empty`); masked entries give 0, also where all are; an axis of length 0 gives an empty
    result.

    References
    ----------
    P. Blanchard, D. J. Higham and N. J. Higham, "Accurately computing the log-sum-exp and softmax functions", IMA
    Journal of Numerical Analysis 41 (2021), doi:10.1093/imanum/draa038. The division is their recommended form.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.softmax(np.array([1.0, 2.0, 3.0])).round(4))
    [0.09   0.2447 0.6652]
    >>> print(lx.softmax(np.array([1.0, 2.0, np.nan]), where=np.array([True, True, False])).round(4))
    [0.2689 0.7311 0.    ]
    """
    if wrong:
        raise unexpected(softmax, wrong)
    return call("softmax", x, out, axis, where, temperature, softcap, empty, dtype)


@exact
def log_softmax(
    x: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    softcap: Scalar | None = None,
    empty: Empty = "nan",
    dtype: Any = None,
    out: Array | None = None,
    **wrong: Never,
) -> Array:
    """Logarithms of the probabilities of the classes along an axis.

    With ``u`` as in `softmax`::

        log_p = (u - max(u)) - log(sum(exp(u - max(u))))

    Where the maximum dominates it is left out of the sum and log1p is used, so that
    its log-probability keeps full precision where ``log(softmax(x))`` is 0.

    Parameters
    ----------
    x : array
        Logits, in nats, of any shape and of any array type; integers and booleans become the library's default
        floating-point dtype first.
    axis : int, tuple of int or None, default -1
        The class axis or axes; None for all.
    where : array of bool, optional
        Classes that take part; broadcasts to `x`.
    temperature, softcap : float or array, optional
        As in `softmax`.
    empty : {"nan", "zero"}, default "nan"
        The result for a row in which every unmasked logit is -inf: NaN, or the logarithm of zero, -inf.
    dtype : dtype or str, optional
        float16, bfloat16, float32 or float64: the dtype of the result.
    out : array, optional
        Where to write the result: of exactly its shape and dtype. May be `x` itself.

    Returns
    -------
    array
        Log-probabilities in nats, of the shape and, unless `dtype` is given, the dtype of `x`.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed, and for `out` with immutable arrays.
    ValueError
        For a value or shape that is not allowed. Nothing has been written then.

    Notes
    -----
    A row with NaN or +inf is NaN; -inf gives -inf; a row of only -inf gives NaN or -inf (`empty`); masked entries give
    -inf, also where all are; an axis of length 0 gives an empty result.

    References
    ----------
    P. Blanchard, D. J. Higham and N. J. Higham, IMA Journal of Numerical Analysis 41 (2021),
    doi:10.1093/imanum/draa038.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.log_softmax(np.array([1.0, 2.0, 3.0])).round(4))
    [-2.4076 -1.4076 -0.4076]
    >>> print(lx.log_softmax(np.array([40.0, 0.0])))
    [-4.24835426e-18 -4.00000000e+01]
    """
    if wrong:
        raise unexpected(log_softmax, wrong)
    return call("log_softmax", x, out, axis, where, temperature, softcap, empty, dtype)


@exact
def logsumexp(
    x: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    b: Array | None = None,
    log_b: Array | None = None,
    where: Array | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    dtype: Any = None,
    out: Array | None = None,
    **wrong: Never,
) -> Any:
    """Logarithm of the sum of exponentials along an axis.

    With the factors ``b``, 1 by default::

        log(abs(sum(b * exp(x)))) = max(x) + log(abs(sum(b * exp(x - max(x)))))

    Parameters
    ----------
    x : array
        Exponents, in nats, of any shape and of any array type; integers and booleans become the library's default
        floating-point dtype first. Also complex.
    axis : int, tuple of int or None, default -1
        The axis or axes that are summed over; None for all.
    b : array, optional
        Factors, also negative ones; `x` and `b` broadcast against each other, and the axes are those of the
        outcome. Never promotes `x`. Entries where `b` is 0 do not count, even where `x` is NaN.
    log_b : array, optional
        Logarithms of factors, in place of `b`: the result is that of ``x + log_b``, which on the CPU is never in memory
        as a whole (for JAX arrays it is). Broadcasts and never promotes, as `b`. Entries where `log_b` is -inf do not
        count, even where `x` is NaN.
    where : array of bool, optional
        Entries that take part; broadcasts to `x`.
    keepdims : bool, default False
        Keep the summed axes with length 1.
    return_sign : bool, default False
        Return the pair (value, sign of the sum). Without it, a negative sum is NaN. Of complex numbers, the pair is
        (logarithm of the size, sum divided by its size).
    dtype : dtype or str, optional
        float16, bfloat16, float32 or float64: the dtype of the result.
    out : array, optional
        Where to write the value: of exactly its shape and dtype.

    Returns
    -------
    array, or a pair of arrays
        Of the dtype of `x` unless `dtype` is given. NumPy returns scalars where nothing is left of the shape.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed, and for `out` with immutable arrays.
    ValueError
        For a value or shape that is not allowed.

    Notes
    -----
    NaN gives NaN; +inf without NaN gives +inf; entries of -inf count for nothing; where nothing counts (only -inf, all
    masked, `b` only 0, an axis of length 0) the result is -inf and the sign 0.

    Of complex numbers (`x`, `b` or `log_b`), the value is complex, with a phase in (-pi, pi]. A sum that is not finite
    is ``log(sum(b * exp(x)))`` as the array library computes it, by the rules of C.

    With `b` of both signs, the sum loses only what the exponentials are rounded by: about eps times
    ``sum(abs(b) * exp(x))``, in which the largest logits do not count. A sum below that may come out as 0, or with the
    other sign.

    References
    ----------
    P. Blanchard, D. J. Higham and N. J. Higham, IMA Journal of Numerical Analysis 41 (2021),
    doi:10.1093/imanum/draa038. The arguments follow ``scipy.special.logsumexp``.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.logsumexp(np.array([1000.0, 1000.0])).round(4))
    1000.6931
    >>> value, sign = lx.logsumexp(np.array([1.0, 2.0]), b=np.array([1.0, -1.0]), return_sign=True)
    >>> print(value.round(4), sign)
    1.5413 -1.0
    >>> print(lx.logsumexp(np.zeros((2, 3)), log_b=np.array([-np.inf, 1000.0, 1000.0])).round(4))
    [1000.6931 1000.6931]
    """
    if wrong:
        raise unexpected(logsumexp, wrong)
    return call("logsumexp", x, out, axis, b, where, keepdims, return_sign, dtype, log_b)


@exact
def softmax_vjp(p: Array = MISSING, dp: Array = MISSING, /, axis: Axis = -1, **wrong: Never) -> Array:
    """Gradient by the logits, from the gradient by their softmax.

    For backward passes written by hand::

        dx = p * (dp - sum(p * dp))

    Parameters
    ----------
    p : array
        Probabilities: what `softmax` returned, at temperature 1 and without softcap.
    dp : array
        The gradient by `p`, of the same shape.
    axis : int, tuple of int or None, default -1
        The class axis or axes of `p`.

    Returns
    -------
    array
        Of the shape and dtype of `p`. Exactly 0 where `p` is 0; `dp` does not count there, even where it is NaN.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed.
    ValueError
        For a shape that is not allowed.

    Notes
    -----
    The Jacobian ``diag(p) - p p^T`` is symmetric: this is also the derivative of softmax in the direction `dp`.

    References
    ----------
    I. Goodfellow, Y. Bengio and A. Courville, "Deep Learning" (2016), section 6.2.2.3.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.softmax_vjp(np.array([0.25, 0.75]), np.array([1.0, 0.0])))
    [ 0.1875 -0.1875]
    """
    if wrong:
        raise unexpected(softmax_vjp, wrong)
    return call("softmax_vjp", p, dp, axis)


@exact
def log_softmax_vjp(log_p: Array = MISSING, dlog_p: Array = MISSING, /, axis: Axis = -1, **wrong: Never) -> Array:
    """Gradient by the logits, from the gradient by their log-softmax.

    For backward passes written by hand::

        dx = dlog_p - exp(log_p) * sum(dlog_p)

    Parameters
    ----------
    log_p : array
        Log-probabilities: what `log_softmax` returned, at temperature 1 and without softcap.
    dlog_p : array
        The gradient by `log_p`, of the same shape.
    axis : int, tuple of int or None, default -1
        The class axis or axes of `log_p`.

    Returns
    -------
    array
        Of the shape and dtype of `log_p`. Exactly 0 where `log_p` is -inf; `dlog_p` does not count there.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed.
    ValueError
        For a shape that is not allowed.

    Notes
    -----
    Where a whole row of `log_p` is -inf the gradient is 0; NaN in a row gives NaN.

    References
    ----------
    I. Goodfellow, Y. Bengio and A. Courville, "Deep Learning" (2016), section 6.2.2.3.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.log_softmax_vjp(np.log([0.25, 0.75]), np.array([1.0, 0.0])).round(4))
    [ 0.75 -0.75]
    """
    if wrong:
        raise unexpected(log_softmax_vjp, wrong)
    return call("log_softmax_vjp", log_p, dlog_p, axis)
