"""`Calibration`: how far confidence and accuracy are apart, of data that comes in pieces."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from logitx._arguments import plans
from logitx._calibration.rows import HostRows, RowsOfBlock, numbers_of_block
from logitx._functions.softmax import softmax
from logitx._plan import Array, Axis, Scalar

NdArray = np.ndarray[Any, Any]
_FINE = 1024  # bins of which those of equal count are made
_HALF = 26  # bits of each half of a fixed-point number
_UNIT = 2.0**52  # sums are whole multiples of 1 / _UNIT, and so are exact in any order


class Bins(NamedTuple):
    """What is known of each bin of confidences; NaN where a bin is empty."""

    lower: np.ndarray[Any, Any]  # a bin holds confidences above this
    upper: np.ndarray[Any, Any]  # and up to this
    confidence: np.ndarray[Any, Any]  # mean
    accuracy: np.ndarray[Any, Any]
    weight: np.ndarray[Any, Any]  # share of all rows


class Reliability(NamedTuple):
    """The result of a `Calibration`."""

    error: float  # expected calibration error: mean distance of accuracy and confidence over the bins
    maximum_error: float  # the largest distance
    brier: float  # mean of the squared distance of probabilities and targets, from 0 to 2
    confidence: float  # mean
    accuracy: float
    count: int  # type: ignore[assignment]  # rows that count
    bins: Bins


class Calibration:
    """Expected calibration error, Brier score and reliability of data that comes in pieces.

    The confidence of a row is its largest probability. With the rows in bins of confidence, the share of all rows in
    each bin, probabilities ``p`` and targets ``t``::

        error = sum over bins of share * abs(accuracy - confidence)
        brier = mean over rows of sum((p - t)**2)

    Sums are exact, in fixed point: any split of the rows, in any order, and any merging of accumulators gives the same
    bits. An accumulator can be pickled.

    Parameters
    ----------
    bins : int, default 15
        How many bins of confidence there are.
    strategy : {"width", "count"}, default "width"
        Bins of equal width, or of nearly as many rows each. The upper edge of a bin belongs to it: a confidence of
        exactly 1 is in the last one.
    axis : int, tuple of int or None, default -1
        The class axis or axes.
    ignore_index : int or None, default -100
        A class id whose rows do not count.
    temperature : float, default 1.0
        Divides the logits, as in `softmax`: for example that of `fit_temperature`.

    Examples
    --------
    >>> import numpy as np
    >>> from logitx.calibration import Calibration
    >>> logits = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    >>> result = Calibration(bins=5).update(logits, np.array([0, 1, 1, 1])).result()
    >>> print(round(result.error, 4), round(result.brier, 4), result.accuracy)
    0.2278 0.4383 0.75
    """

    def __init__(
        self,
        *,
        bins: int = 15,
        strategy: Literal["width", "count"] = "width",
        axis: Axis = -1,
        ignore_index: int | None = -100,
        temperature: Scalar = 1.0,
    ) -> None:
        self._bins = plans.positive("bins", bins)
        if strategy not in ("width", "count"):
            raise ValueError(f"strategy: {strategy!r} is not allowed; allowed are 'width' and 'count'")
        self._strategy, self._axis, self._ignore_index, self._temperature = strategy, axis, ignore_index, temperature
        if strategy == "width":
            self._edges = np.linspace(0.0, 1.0, self._bins + 1)
        else:  # closer together at both ends, as confidences are
            logits = np.linspace(-17.0, 17.0, _FINE - 1)
            self._edges = np.concatenate([[0.0], 1.0 / (1.0 + np.exp(-logits)), [1.0]])
        self._sums = [[0] * (len(self._edges) - 1) for _ in range(3)]  # of weights, confidences and hits
        self._brier, self._count, self._undefined = 0, 0, False

    def update(self, logits: Array, targets: Array, /, *, sample_weight: Array | None = None) -> Calibration:
        """Take some rows.

        Parameters
        ----------
        logits, targets : array
            As in `cross_entropy`, of any array type; they are brought to the host now, also where they are lazy. Of
            probabilities, the largest is the label.
        sample_weight : array, optional
            As in `cross_entropy`.

        Returns
        -------
        Calibration
            This accumulator. It is unchanged where an error was raised.

        Raises
        ------
        TypeError, ValueError
            As in `cross_entropy`.
        """
        for rows in HostRows(logits, targets, self._axis, sample_weight, self._ignore_index).blocks():
            if len(rows.logits):
                self._add(rows)
        return self

    def _add(self, rows: RowsOfBlock) -> None:
        confidence, hits, brier = _scores(rows, self._temperature)
        self._count += len(confidence)
        if not np.isfinite(brier).all():  # a NaN or +inf
            self._undefined = True
            return
        place = np.clip(np.searchsorted(self._edges[1:], confidence), 0, len(self._edges) - 2)
        weight = rows.weight
        for sums, value in zip(self._sums, (weight, weight * confidence, weight * hits), strict=True):
            for bin_, more in enumerate(_fixed_sums(value, place, len(sums))):
                sums[bin_] += more
        self._brier += _fixed_sums(weight * brier, np.zeros_like(place), 1)[0]

    def feed(
        self, source: Any, targets: Any, /, *, sample_weight: Any = None, block_bytes: int = 1 << 25
    ) -> Calibration:
        """Take all rows of something that can be sliced, block by block, in bounded memory.

        Parameters
        ----------
        source, targets, sample_weight
            As in the `feed` of `CrossEntropy`.
        block_bytes : int, default 33554432
            The size of a block of logits; two are in memory.

        Returns
        -------
        Calibration
            This accumulator.

        Raises
        ------
        TypeError, ValueError
            As in `update`; the blocks before are counted then.
        """
        from logitx._functions import feeding  # imported here: threads and files are seldom needed

        size = plans.positive("block_bytes", block_bytes)
        for _, logits, labels, weight in feeding.source_blocks(source, targets, sample_weight, self._axis, size, False):
            self.update(logits, labels, sample_weight=weight)
        return self

    def merge(self, other: Calibration, /) -> Calibration:
        """Add the rows of another accumulator.

        Parameters
        ----------
        other : Calibration
            An accumulator with the same options; it stays as it is.

        Returns
        -------
        Calibration
            This accumulator.

        Raises
        ------
        TypeError
            For anything else.
        ValueError
            For other options.
        """
        if not isinstance(other, Calibration):
            raise TypeError(f"other: {type(other).__name__} is not allowed; allowed is a Calibration")
        names = ("bins", "strategy", "axis", "ignore_index", "temperature")
        different = [name for name in names if getattr(self, f"_{name}") != getattr(other, f"_{name}")]
        if different:
            raise ValueError(f"other: has another {', '.join(different)}; allowed are the same options")
        self._sums = [
            [a + b for a, b in zip(one, two, strict=True)] for one, two in zip(self._sums, other._sums, strict=True)
        ]
        self._brier, self._count = self._brier + other._brier, self._count + other._count
        self._undefined = self._undefined or other._undefined
        return self

    def result(self) -> Reliability:
        """Return the calibration of all rows so far.

        Returns
        -------
        Reliability
            Named tuple ``(error, maximum_error, brier, confidence, accuracy, count, bins)``; numbers are NaN where no
            row counts, or one has a NaN or +inf.
        """
        edges, sums = self._edges, self._sums
        if self._strategy == "count":
            edges, sums = self._of_equal_count()
        weight, confidence, hits = (np.array([one / _UNIT for one in row]) for row in sums)
        whole = sum(self._sums[0])
        with np.errstate(invalid="ignore", divide="ignore"):
            bins = Bins(edges[:-1], edges[1:], confidence / weight, hits / weight, weight / (whole / _UNIT or math.nan))
        if not whole or self._undefined:
            return Reliability(math.nan, math.nan, math.nan, math.nan, math.nan, self._count, bins)
        gaps = np.abs(np.where(weight > 0.0, bins.accuracy - bins.confidence, 0.0))
        mean, accuracy = (sum(row) / whole for row in self._sums[1:])
        error, largest = float(gaps @ bins.weight), float(gaps.max())
        return Reliability(error, largest, self._brier / whole, mean, accuracy, self._count, bins)

    def _of_equal_count(self) -> tuple[np.ndarray[Any, Any], list[list[int]]]:
        """Return edges and sums of bins that each hold nearly the same weight."""
        weights = self._sums[0]
        whole, passed, starts = sum(weights), 0, [0]
        for place, weight in enumerate(weights):
            passed += weight
            if passed * self._bins >= whole * len(starts) and place + 1 < len(weights) and len(starts) < self._bins:
                starts.append(place + 1)
        ends = [*starts[1:], len(weights)]
        pairs = list(zip(starts, ends, strict=True))
        return self._edges[[*starts, len(weights)]], [[sum(row[a:b]) for a, b in pairs] for row in self._sums]

    def __repr__(self) -> str:
        result = self.result()
        return f"Calibration({self._count} rows, error {result.error:.4g}, Brier score {result.brier:.4g})"


def _scores(rows: RowsOfBlock, temperature: Scalar) -> tuple[NdArray, NdArray, NdArray]:
    """Return the confidence of each row, whether its label is the most probable class, and its Brier score."""
    told = numbers_of_block(rows, temperature)
    if told is not None:
        own = np.exp(told.log_prob.astype(np.float64))
        brier = told.squares.astype(np.float64) - 2.0 * own + 1.0
        return told.confidence.astype(np.float64), told.correct, np.maximum(brier, 0.0)
    p = softmax(rows.logits, temperature=temperature)
    every, best = np.arange(len(p)), p.argmax(axis=-1)
    if rows.labels.ndim == 1:
        labels = rows.labels.astype(np.int64)
        brier = np.einsum("ij,ij->i", p, p, dtype=np.float64) - 2.0 * p[every, labels] + 1.0
    else:
        labels = rows.labels.argmax(axis=-1)
        brier = ((p - rows.labels) ** 2).sum(axis=-1)
    return p[every, best].astype(np.float64), best == labels, brier


def _fixed_sums(values: np.ndarray[Any, Any], place: np.ndarray[Any, Any], count: int) -> list[int]:
    """Return the sum of the values at each place, in units of 1 / _UNIT, exactly; values are below 2^10."""
    whole = np.rint(values * _UNIT).astype(np.int64)
    high = np.bincount(place, whole >> _HALF, count)  # both sums are integers below 2^53: a float holds them
    low = np.bincount(place, whole & ((1 << _HALF) - 1), count)
    return [(int(a) << _HALF) + int(b) for a, b in zip(high, low, strict=True)]
