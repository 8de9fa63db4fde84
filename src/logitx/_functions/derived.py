"""Derived functions: made of public functions, so that they work on every array type without a line in any backend."""

from __future__ import annotations

import math
from typing import Any, Never

import numpy as np

from logitx._arguments.operands import first_array, is_plain, operand_dtype
from logitx._arrays.family import FLOATING, FLOATS, LONG_DOUBLE
from logitx._functions.cut_rows import merge_logsumexp
from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._functions.softmax import log_softmax, logsumexp
from logitx._plan import Array, Axis, layout

_WIDE = ("float64", "float64'>", "longdouble'>", LONG_DOUBLE)  # how the texts of dtypes end that sums are computed in


@exact
def logmeanexp(
    x: Array = MISSING,
    /,
    axis: Axis = -1,
    *,
    where: Array | None = None,
    keepdims: bool = False,
    dtype: Any = None,
    **wrong: Never,
) -> Array:
    """Logarithm of the mean of exponentials along an axis.

    With the number ``n`` of unmasked entries::

        log(sum(exp(x)) / n) = log(sum(exp(x))) - log(n)

    Parameters
    ----------
    x : array
        Exponents, in nats, of any shape and of any array type, as in `logsumexp`.
    axis : int, tuple of int or None, default -1
        The axis or axes that are averaged over; None for all.
    where : array of bool, optional
        Entries that take part; broadcasts to `x`.
    keepdims : bool, default False
        Keep the averaged axes with length 1.
    dtype : dtype or str, optional
        float16, bfloat16, float32 or float64: the dtype of the result.

    Returns
    -------
    array
        Of the dtype of `x` unless `dtype` is given. float16 and bfloat16 are computed in float32 and rounded once.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed.
    ValueError
        For a value or shape that is not allowed.

    Notes
    -----
    NaN gives NaN; +inf without NaN gives +inf; entries of -inf count as zeros in the mean, and only -inf gives -inf.
    The mean of nothing (all masked, an axis of length 0) is NaN.

    References
    ----------
    As for `logsumexp`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.logmeanexp(np.array([1000.0, 1000.0])))
    1000.0
    """
    if wrong:
        raise unexpected(logmeanexp, wrong)
    if is_plain(x):  # a list has no `!=` of its entries
        x = first_array("x", x)[1]
    half = _dtype_of(x).endswith("float16")
    wide = dtype if str(dtype).endswith(_WIDE) else "float32" if half else None
    value = logsumexp(x, axis, where=where, keepdims=keepdims, dtype=wide)
    value = value - _log_count(x, axis, where, keepdims, _dtype_of(value))
    result = _dtype_of(x) if half and dtype is None else dtype
    return value if result is None or result is wide else logsumexp(value, (), dtype=result)  # rounded once


def _dtype_of(x: Array) -> str:
    """Return the name of the dtype of an array, a list or a frame."""
    if not hasattr(x, "dtype"):
        return operand_dtype("x", x)
    return getattr(x.dtype, "name", None) or str(x.dtype).rpartition(".")[2]


def _log_count(x: Array, axis: Axis, where: Array | None, keepdims: bool, dtype: str) -> Any:
    """Return the logarithm of the number of entries that are averaged, NaN where there are none."""
    shape = getattr(x, "shape", None)
    if where is None and shape is not None and not hasattr(x, "mask") and not hasattr(x, "dims"):
        n = layout(tuple(shape), axis).n
        if isinstance(n, int):
            if n and dtype in FLOATING[len(FLOATS) :]:
                return np.log(np.longdouble(n))
            return math.log(n) if n else math.nan
    zeros = x != x  # in rows with a NaN the result is NaN, whatever is subtracted
    count = logsumexp(zeros, axis, where=where, keepdims=keepdims, dtype=dtype)
    return count + log_softmax(count, ())  # of one class: 0, or NaN where nothing counts


@exact
def logaddexp(a: Array = MISSING, b: Array = MISSING, /, **wrong: Never) -> Array:
    """Logarithm of the sum of two exponentials, elementwise.

    As NumPy's function::

        log(exp(a) + exp(b)) = max(a, b) + log(1 + exp(-abs(a - b)))

    The function of NumPy's name, for every array type; `merge_logsumexp` without `axis_name` is the same function.

    Parameters
    ----------
    a, b : array
        Exponents, in nats, of any shapes that broadcast and of any array type.

    Returns
    -------
    array
        Of the wider dtype of the two (float32 for float16 with bfloat16). A plain number takes the dtype of the other
        argument.

    Raises
    ------
    TypeError
        For an array type or a dtype that is not allowed, or two arrays of different libraries.
    ValueError
        For shapes that do not broadcast.

    Notes
    -----
    -inf is neutral; +inf without NaN gives +inf; NaN gives NaN.

    References
    ----------
    As for `merge_logsumexp`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.logaddexp(np.array([0.0, -np.inf]), 0.0).round(4))
    [0.6931 0.    ]
    """
    if wrong:
        raise unexpected(logaddexp, wrong)
    return merge_logsumexp(a, b)
