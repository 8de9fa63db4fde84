"""`CrossEntropy`: an accumulator for data that comes in pieces."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import threading
from typing import Any, NamedTuple, Never, NoReturn

import numpy as np

from logitx._arguments import plans
from logitx._arguments.accumulator import check_options
from logitx._arguments.operands import first_array
from logitx._arrays.families import FAMILIES
from logitx._functions.evaluated_rows import EvaluatedRows
from logitx._functions.keywords import exact, unexpected
from logitx._functions.sums import Sum
from logitx._label_error import LabelError
from logitx._operations import check
from logitx._plan import Array, Axis, Empty, Plan, Scalar

_SUMS = ("_loss", "_share", "_weight", "_hits", "_near")


class Evaluation(NamedTuple):
    """The result of a `CrossEntropy`."""

    loss: float  # in nats: the mean, as `cross_entropy` has it
    perplexity: float  # exp(loss)
    accuracy: float  # share of the rows, weighted with `sample_weight`, whose label has the highest logit
    count: int  # type: ignore[assignment]  # rows that count: not ignored, not masked as a whole, of weight not 0
    top_k_accuracy: float | None  # share of the rows whose label is among the `top_k` highest logits


class CrossEntropy:
    """Cross-entropy, perplexity and accuracy of data that comes in pieces.

    With the losses of the rows and their weights ``s`` and ``c``, as in `cross_entropy`::

        loss = sum(losses) / sum(s * c),   perplexity = exp(loss)

    Any split of the rows, in any order, and any merging
    of accumulators gives the same result, up to the rounding of sums in float64 that keep what rounding takes; counts
    are exact. An accumulator can be pickled, to be merged where the data of others is. Several threads may update one.

    Parameters
    ----------
    axis : int, tuple of int or None, default -1
        The class axis or axes.
    class_weight : array, optional
        One weight a class.
    ignore_index : int or None, default -100
        A class id whose rows do not count.
    label_smoothing : float, default 0.0
        As in `cross_entropy`.
    z_loss : float, default 0.0
        As in `cross_entropy`.
    softcap, temperature
        As in `cross_entropy`.
    empty : {"nan", "zero"}, default "nan"
        The loss of a row in which every unmasked logit is -inf, and the results of no row.
    top_k : int, optional
        Also count the rows whose label is among so many highest logits.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 2.0]])
    >>> first, second = lx.CrossEntropy(), lx.CrossEntropy()
    >>> result = first.update(logits[:1], [0]).merge(second.update(logits[1:], [1, 0])).result()
    >>> print(round(result.loss, 4), round(result.perplexity, 3), round(result.accuracy, 4), result.count)
    0.6367 1.89 0.6667 3
    >>> print(lx.cross_entropy(logits, [0, 1, 0]).round(4))
    0.6367
    """

    @exact
    def __init__(
        self,
        *,
        axis: Axis = -1,
        class_weight: Array | None = None,
        ignore_index: int | None = -100,
        label_smoothing: Scalar = 0.0,
        z_loss: Scalar = 0.0,
        softcap: Scalar | None = None,
        temperature: Scalar = 1.0,
        empty: Empty = "nan",
        top_k: int | None = None,
        **wrong: Never,
    ) -> None:
        if wrong:
            raise unexpected(CrossEntropy, wrong)
        if type(class_weight) is str:
            raise ValueError(
                f"class_weight: {class_weight!r} is not allowed for data in pieces; allowed is one weight a class, as"
                " balanced_class_weight(labels, n) counts them"
            )
        options = (ignore_index, label_smoothing, z_loss, softcap, temperature)  # as `cross_entropy` has them
        check_options(axis, class_weight, options, empty)
        self._top_k = None if top_k is None else plans.positive("top_k", top_k)
        self._axis, self._class_weight, self._empty, self._options = axis, class_weight, empty, options
        self._lock = threading.RLock()  # of the sums and the count, which several threads may add to
        self.reset()

    def reset(self) -> CrossEntropy:
        """Forget all rows; the options stay.

        Returns
        -------
        CrossEntropy
            This accumulator.
        """
        with self._lock:
            self._loss, self._share, self._weight, self._hits, self._near = (Sum() for _ in range(5))
            self._count = 0
        return self

    def __call__(self, *_: Never, **__: Never) -> NoReturn:
        """Say where the loss is: `torch.nn.CrossEntropyLoss` can be called."""
        raise TypeError(
            "CrossEntropy: cannot be called, it adds up the rows of many batches with update(logits, targets) and gives"
            " result(); the loss of one batch is logitx.cross_entropy(logits, targets)"
        )

    def update(
        self, logits: Array, targets: Array, /, *, sample_weight: Array | None = None, where: Array | None = None
    ) -> CrossEntropy:
        """Take some rows.

        Parameters
        ----------
        logits, targets : array
            As in `cross_entropy`, of any array type; they are looked at now, also where they are lazy.
        sample_weight, where : array, optional
            As in `cross_entropy`.

        Returns
        -------
        CrossEntropy
            This accumulator. It is unchanged where an error was raised.

        Raises
        ------
        TypeError, ValueError
            As in `cross_entropy`.
        """
        ignore_index, label_smoothing, z_loss, softcap, temperature = self._options
        plan, operands, *_ = check(
            "cross_entropy", logits, targets, self._axis, self._class_weight, sample_weight, ignore_index,
            label_smoothing, z_loss, softcap, temperature, where, "none", self._empty, None, False,
        )  # fmt: skip
        # Weights beyond float32 need losses in float64; Dask knows of such weights when it computes a block
        wide = FAMILIES[plan.family].as_given
        plan = dataclasses.replace(plan, loss="float64" if wide else plan.compute)
        self._add(plan, EvaluatedRows(plan, operands, self._top_k))
        return self

    def _add(self, plan: Plan, rows: EvaluatedRows) -> None:
        counted = rows.share != 0.0
        weight = np.where(counted, rows.sample, 0.0)
        added = (
            float(np.sum(rows.losses, dtype=np.float64)), float(np.sum(rows.share)), float(np.sum(weight)),
            float(np.sum(weight * rows.hits)), float(np.sum(weight * rows.near)),
        )  # fmt: skip
        with self._lock:
            for name, value in zip(_SUMS, added, strict=True):
                getattr(self, name).add(value)
            self._count += int(np.count_nonzero(counted))

    def feed(
        self,
        source: Any,
        targets: Any,
        /,
        *,
        sample_weight: Any = None,
        progress: bool = False,
        block_bytes: int = 1 << 25,
    ) -> CrossEntropy:
        """Take all rows of something that can be sliced, block by block, in bounded memory.

        Parameters
        ----------
        source : array, or anything with a shape and slices that NumPy can read
            Logits, rows along the first axis: a memory map, a Zarr or HDF5 array, an array of any type. The next block
            is read while this one is computed on.
        targets : array, or anything as `source`
            Class ids or probabilities, rows along the first axis.
        sample_weight : array, or anything as `source`, optional
            One weight a row.
        progress : bool, default False
            Show a bar with the rate and the time that remains, by tqdm.
        block_bytes : int, default 33554432
            The size of a block of logits; two are in memory.

        Returns
        -------
        CrossEntropy
            This accumulator.

        Raises
        ------
        TypeError, ValueError
            As in `update`; the blocks before are counted then.
        ImportError
            Where progress is to be shown and tqdm is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> import logitx as lx
        >>> logits, labels = np.zeros((1000, 10), np.float32), np.zeros(1000, int)
        >>> print(round(lx.CrossEntropy().feed(logits, labels, block_bytes=4096).result().perplexity, 4))
        10.0
        """
        from logitx._functions import feeding  # imported here: threads and files are seldom needed

        blocks = feeding.source_blocks(
            source, targets, sample_weight, self._axis, plans.positive("block_bytes", block_bytes), progress
        )
        with contextlib.closing(blocks):  # an error closes the bar before it is printed
            for first, logits, labels, weight in blocks:
                try:
                    self.update(logits, labels, sample_weight=weight)
                except LabelError as error:
                    rows = (int(source.shape[0]), *error.plan.layout.rows[1:])
                    whole = dataclasses.replace(error.plan, layout=dataclasses.replace(error.plan.layout, rows=rows))
                    raise error.within(whole, (first, *[0] * (len(rows) - 1))) from None
        return self

    def merge(self, other: CrossEntropy, /) -> CrossEntropy:
        """Add the rows of another accumulator.

        Parameters
        ----------
        other : CrossEntropy
            An accumulator with the same options; it stays as it is.

        Returns
        -------
        CrossEntropy
            This accumulator.

        Raises
        ------
        TypeError
            For anything else.
        ValueError
            For other options.
        """
        if not isinstance(other, CrossEntropy):
            raise TypeError(f"other: {type(other).__name__} is not allowed; allowed is a CrossEntropy")
        mine, theirs = self._settings(), other._settings()
        different = [name for name in mine if not _same_option(mine[name], theirs[name])]
        if different:
            raise ValueError(f"other: has another {', '.join(different)}; allowed are the same options")
        found = copy.copy(other)  # which other threads may still add to
        with self._lock:
            for name in _SUMS:
                getattr(self, name).merge(getattr(found, name))
            self._count += found._count
        return self

    def _settings(self) -> dict[str, Any]:
        named = {"axis": self._axis, "class_weight": self._class_weight, "empty": self._empty, "top_k": self._top_k}
        names = ("ignore_index", "label_smoothing", "z_loss", "softcap", "temperature")
        return named | dict(zip(names, self._options, strict=True))

    def result(self) -> Evaluation:
        """Return loss, perplexity and accuracy of all rows so far.

        Returns
        -------
        Evaluation
            Named tuple ``(loss, perplexity, accuracy, count, top_k_accuracy)``, the loss in nats; the last is None
            without `top_k`.
        """
        undefined, found = math.nan if self._empty == "nan" else 0.0, copy.copy(self)
        loss = _ratio(found._loss, found._share, undefined)
        near = None if self._top_k is None else _ratio(found._near, found._weight, undefined)
        return Evaluation(loss, _exp(loss), _ratio(found._hits, found._weight, undefined), found._count, near)

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the lock, the sums as they are together."""
        with self._lock:
            state = {name: copy.copy(one) if isinstance(one, Sum) else one for name, one in vars(self).items()}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what `__getstate__` returned, with a lock of its own."""
        self.__dict__ |= state | {"_lock": threading.RLock()}

    def __copy__(self) -> CrossEntropy:
        """Return an accumulator with sums of its own."""
        made = type(self).__new__(type(self))
        made.__setstate__(self.__getstate__())
        return made

    def __repr__(self) -> str:
        result = self.result()
        return f"CrossEntropy({self._count} rows, loss {result.loss:.6g}, accuracy {result.accuracy:.4g})"


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _ratio(part: Sum, whole: Sum, undefined: float) -> float:
    return part.value / whole.value if whole.value != 0.0 else undefined


def _same_option(one: Any, two: Any) -> bool:
    if one is None or two is None or isinstance(one, str | tuple):
        return one is two or (type(one) is type(two) and one == two)
    return bool(np.array_equal(_option_on_host(one), _option_on_host(two)))


def _option_on_host(value: Any) -> Any:
    family, array = first_array("class_weight", value)
    return family.host(array)[0]
