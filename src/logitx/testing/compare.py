"""Compare a result with the truth, within an error budget, and check its type, shape and dtype.

An entry passes if

    |result - truth| <= ulps * eps(computing dtype) * slack  +  half an ulp of the result dtype  +  underflow

where *slack* comes with the truth: the movement of the textbook formula under one rounding error in each intermediate
(see `logitx.testing.oracle`), and *ulps* is the budget of the function. The half ulp is the one rounding to the result
dtype that even a perfect function must make. NaN, infinities and zeros must stand exactly where the truth has them.

The logarithm of a sum whose terms cancel may be off by ``-log(1 - r)``, where *r*, the relative error of that sum, is
the budget times its condition. From r = 1 on the sum may have any sign and be as small as one likes: what holds then is
that the result, where it is a number, is at most the logarithm of twice the error, as -inf is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from logitx.testing.cases import NDArray
from logitx.testing.expect import Expected


@dataclass(frozen=True, slots=True)
class Precision:
    """What a dtype can hold."""

    eps: float  # distance from 1 to the next number
    tiny: float  # smallest normal number
    largest: float  # largest finite number


PRECISIONS = {
    "float16": Precision(2.0**-10, 2.0**-14, 65504.0),
    "bfloat16": Precision(2.0**-7, 2.0**-126, (2.0 - 2.0**-7) * 2.0**127),
    "float32": Precision(2.0**-23, 2.0**-126, (2.0 - 2.0**-23) * 2.0**127),
    "float64": Precision(2.0**-52, 2.0**-1022, 1.7976931348623157e308),
}


def wider(*dtypes: str) -> str:
    """Return the dtype in which a function must compute: float64 if anything is, else float32."""
    return "float64" if "float64" in dtypes else "float32"


class Mismatch(AssertionError):
    """A result that is not what it must be."""


def assert_matches(
    actual: NDArray,
    dtype: str,
    expected: Expected,
    *,
    ulps: float,
    compute: str,
    result: str,
    rows: Sequence[str] = (),
) -> float:
    """Check values, shape and dtype of one array of a result.

    Parameters
    ----------
    actual : ndarray
        The result, read back exactly as float64.
    dtype : str
        Name of the dtype that it had.
    expected : Expected
        The truth.
    ulps : float
        Error budget of the function, in units of ``eps(compute) * slack``.
    compute : str
        The dtype the function must compute in.
    result : str
        The dtype the result must have.
    rows : sequence of str, optional
        Names of the rows of logits, for messages.

    Returns
    -------
    float
        The largest error, in units of the budget: at most 1.

    Raises
    ------
    Mismatch
        Where the result is not the truth; names the worst entry and the row it is in.
    """
    if dtype != result:
        raise Mismatch(f"{expected.name}: dtype is {dtype}; expected is {result}")
    if actual.shape != expected.high.shape:
        raise Mismatch(f"{expected.name}: shape is {actual.shape}; expected is {expected.high.shape}")
    if not actual.size:
        return 0.0
    excess = _excess(actual, expected, ulps, PRECISIONS[compute], PRECISIONS[result])
    if (excess <= 1).all():
        return float(excess.max())
    raise Mismatch(_describe(actual, expected, excess, rows))


def _excess(actual: NDArray, expected: Expected, ulps: float, compute: Precision, result: Precision) -> NDArray:
    """Return the error of each entry in units of what it may be; infinite where no error is allowed."""
    high, low = expected.high, expected.low
    finite = np.isfinite(high)
    with np.errstate(all="ignore"):
        error = np.abs((actual - high) - low)
        size = np.maximum(np.abs(high), result.tiny)
        ulp = result.eps * np.exp2(np.floor(np.log2(np.minimum(size, result.largest))))
        # what underflows in the computing dtype may be flushed to zero, and be multiplied after that
        allowed = ulps * compute.eps * expected.slack + 0.501 * ulp + 1024 * compute.tiny
        if expected.moved is not None:
            allowed = allowed + _bend(ulps * compute.eps * expected.moved)
        excess = np.where(error <= allowed, error / allowed, np.maximum(error / allowed, 1.001))
        wrong = np.where(np.isnan(high), ~np.isnan(actual), actual != high)  # NaN, inf: exact
        excess = np.where(finite, excess, np.where(wrong, np.inf, 0.0))
        exact = (high == 0) & (low == 0) & (expected.slack == 0)  # a zero by rule, not one by cancellation
        excess = np.where(exact & (actual != 0), np.inf, excess)
        beyond = finite & (np.abs(high) > result.largest) & (np.sign(actual) == np.sign(high))
        excess = np.where(beyond & (np.abs(actual) >= result.largest), 0.0, excess)
        excess = np.where(finite & ~beyond & ~np.isfinite(actual), np.inf, excess)
        if expected.moved is None:
            return excess
        gone = ulps * compute.eps * expected.moved >= 1
        return np.where(gone, np.where(_is_small(actual, expected, ulps * compute.eps, result), 0.0, np.inf), excess)


def _bend(r: NDArray) -> NDArray:
    """Return how much more than r the logarithm of a sum is off by that is off by r, relative to it."""
    return np.where(r < 1, -np.log1p(-np.minimum(r, 0.999)) - r, 0.0)


def _is_small(actual: NDArray, expected: Expected, eps: float, result: Precision) -> NDArray:
    """True where a result is at most the logarithm of twice the error, or NaN where the sign is undefined."""
    small = actual - np.abs(actual) * result.eps <= np.asarray(expected.ceiling) + np.log(2 * eps)
    return np.asarray(small | (np.isnan(actual) & expected.undefined))


def _describe(actual: NDArray, expected: Expected, excess: NDArray, rows: Sequence[str]) -> str:
    worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
    wrong = excess > 1
    named = ""
    if rows and expected.by_row.size:
        names = list(dict.fromkeys(rows[number] for number in expected.by_row[wrong].tolist()))
        named = " in row " + ", ".join(repr(name) for name in names)
    where = f"[{', '.join(str(int(i)) for i in worst)}]" if worst else ""
    return (
        f"{expected.name}: {int(wrong.sum())} of {wrong.size} entries are wrong{named}; worst is {where} = "
        f"{float(actual[worst])!r}, expected {float(expected.high[worst])!r}, "
        f"{float(excess[worst]):.3g} times the allowed error"
    )
