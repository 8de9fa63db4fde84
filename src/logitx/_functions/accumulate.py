"""`CrossEntropy`: an accumulator for data that comes in pieces."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from logitx import _dispatch
from logitx._arguments import plans
from logitx._arguments.operands import first_array
from logitx._arrays.families import FAMILIES
from logitx._arrays.family import FLOATS, namespace_dtype
from logitx._operations import check
from logitx._plan import Array, Axis, Empty, LabelError, Plan, Scalar


class Evaluation(NamedTuple):
    """The result of a `CrossEntropy`."""

    loss: float  # in nats: the mean, as `cross_entropy` has it
    perplexity: float  # exp(loss)
    accuracy: float  # share of the rows, weighted with `sample_weight`, whose label has the highest logit
    count: int  # type: ignore[assignment]  # rows that count: not ignored, not masked as a whole, of weight not 0
    top_k_accuracy: float | None  # share of the rows whose label is among the `top_k` highest logits


class Sum:
    """A compensated sum in float64: `low` holds the rounding error of `high`."""

    __slots__ = ("high", "infinite", "low")

    def __init__(self) -> None:
        self.high = self.low = self.infinite = 0.0

    def add(self, value: float) -> None:
        """Add a number; infinities and NaN go to `infinite`, so that `low` stays finite."""
        if not math.isfinite(value):
            self.infinite += value
            return
        total = self.high + value
        larger, smaller = (self.high, value) if abs(self.high) >= abs(value) else (value, self.high)
        self.low += (larger - total) + smaller
        self.high = total

    def merge(self, other: Sum) -> None:
        """Add another sum."""
        for value in (other.high, other.low):
            self.add(value)
        self.infinite += other.infinite

    @property
    def value(self) -> float:
        """The sum."""
        return self.high + self.low + self.infinite


class CrossEntropy:
    r"""Cross-entropy, perplexity and accuracy of data that comes in pieces.

    .. math:: \ell = \frac{\sum_i \ell_i}{\sum_i s_i c_i}, \qquad \text{perplexity} = e^\ell

    with the losses :math:`\ell_i` and weights of `cross_entropy`. Any split of the rows, in any order, and any merging
    of accumulators gives the same result, up to the rounding of sums in float64 that keep what rounding takes; counts
    are exact. An accumulator can be pickled, to be merged where the data of others is.

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
    ) -> None:
        plans.choice("empty", empty)
        if type(class_weight) is str:
            raise ValueError(
                f"class_weight: {class_weight!r} is not allowed for data in pieces; allowed is one weight a class, as"
                " balanced_class_weight(labels, n) counts them"
            )
        self._top_k = None if top_k is None else plans.positive("top_k", top_k)
        self._axis, self._class_weight, self._empty = axis, class_weight, empty
        self._options = (ignore_index, label_smoothing, z_loss, softcap, temperature)  # as `cross_entropy` has them
        self._loss, self._share, self._weight, self._hits, self._near = (Sum() for _ in range(5))
        self._count = 0

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
        self._add(plan, _EvaluatedRows(plan, operands, self._top_k))
        return self

    def _add(self, plan: Plan, rows: _EvaluatedRows) -> None:
        counted = rows.share != 0.0
        weight = np.where(counted, rows.sample, 0.0)
        self._loss.add(float(np.sum(rows.losses, dtype=np.float64)))
        self._share.add(float(np.sum(rows.share)))
        self._weight.add(float(np.sum(weight)))
        self._hits.add(float(np.sum(weight * rows.hits)))
        self._near.add(float(np.sum(weight * rows.near)))
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
        for name in ("_loss", "_share", "_weight", "_hits", "_near"):
            getattr(self, name).merge(getattr(other, name))
        self._count += other._count
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
        undefined = math.nan if self._empty == "nan" else 0.0
        loss = _ratio(self._loss, self._share, undefined)
        near = None if self._top_k is None else _ratio(self._near, self._weight, undefined)
        perplexity = math.inf if loss > 709.0 else math.exp(loss)
        return Evaluation(loss, perplexity, _ratio(self._hits, self._weight, undefined), self._count, near)

    def __copy__(self) -> CrossEntropy:
        """Return an accumulator with sums of its own."""
        made = type(self).__new__(type(self))
        made.__dict__ |= {name: copy.copy(one) if isinstance(one, Sum) else one for name, one in vars(self).items()}
        return made

    def __repr__(self) -> str:
        result = self.result()
        return f"CrossEntropy({self._count} rows, loss {result.loss:.6g}, accuracy {result.accuracy:.4g})"


def _ratio(part: Sum, whole: Sum, undefined: float) -> float:
    return part.value / whole.value if whole.value != 0.0 else undefined


def _same_option(one: Any, two: Any) -> bool:
    if one is None or two is None or isinstance(one, str | tuple):
        return one is two or (type(one) is type(two) and one == two)
    return bool(np.array_equal(_option_on_host(one), _option_on_host(two)))


def _option_on_host(value: Any) -> Any:
    family, array = first_array("class_weight", value)
    return family.host(array)[0]


class _EvaluatedRows:
    """The loss, label, weight and hit of every row of an update, as NumPy arrays."""

    def __init__(self, plan: Plan, operands: tuple[Any, ...], top_k: int | None) -> None:
        self.plan, self.family = plan, FAMILIES[plan.family]
        logits, targets, options = operands
        class_weight, sample_weight, where = options.class_weight, options.sample_weight, options.where
        self.xp = self.family.namespace(logits)
        losses = _dispatch.choose(plan, operands).cross_entropy(plan, *operands)[0]
        x = self._classes_last(logits if plan.dtype in FLOATS else self._real(logits))
        if where is not None:
            where = self._classes_last(self.xp.broadcast_to(where, logits.shape))
            x = self.xp.where(where, x, -self.xp.inf)
        classes, labels = self._targets(targets, class_weight)
        lazy = {
            "losses": losses,
            "best": self.xp.argmax(x, axis=-1),
            "labels": labels,
            "classes": classes,
            "sample": sample_weight,
            "valid": None if where is None else self.xp.any(where, axis=-1),
            "near": None if top_k is None else self._near(x, labels, top_k),
        }
        there = {name: value for name, value in lazy.items() if value is not None}
        found = dict(zip(there, self.family.host(*there.values()), strict=True))
        self._settle(found, None if class_weight is None or not plan.hard else self.family.host(class_weight)[0])

    def _classes_last(self, x: Array) -> Array:
        """Return an array of the shape of the logits with one class axis, the last."""
        xp, lay = self.xp, self.plan.layout
        if self.family.as_given:
            order = (*(axis for axis in range(x.ndim) if axis not in lay.axes), *lay.axes)
            x = x if order == tuple(range(x.ndim)) else xp.permute_dims(x, order)
            return x if len(lay.axes) == 1 else xp.reshape(x, (*lay.rows, lay.n))
        last = tuple(axis for axis in range(x.ndim) if axis != lay.axis)
        return x if lay.axis == len(last) else xp.permute_dims(x, (*last, lay.axis))

    def _real(self, x: Array) -> Array:
        return self.xp.astype(x, namespace_dtype(self.xp, self.plan.compute), copy=False)

    def _targets(self, targets: Array, class_weight: Array) -> tuple[Array, Array]:
        """Return the class weight of each row (None for class ids and without weights) and its label."""
        if self.plan.hard:
            return None, targets
        xp, t = self.xp, self._real(self._classes_last(targets))
        if class_weight is None:
            return None, xp.argmax(t, axis=-1)
        return xp.sum(xp.where(t == 0.0, 0.0, t * self._real(class_weight)), axis=-1), xp.argmax(t, axis=-1)

    def _near(self, x: Array, labels: Array, top_k: int) -> Array:
        """True for rows whose label is among the `top_k` highest logits; of equal logits the first ranks higher."""
        xp = self.xp
        places, ids = xp.arange(self.plan.layout.n), xp.expand_dims(labels, axis=-1)
        own = xp.max(xp.where(places == ids, x, -xp.inf), axis=-1, keepdims=True)
        before = (x > own) | ((x == own) & (places < ids))
        rank = xp.sum(xp.astype(before, xp.int32), axis=-1)
        return (rank < top_k) & xp.squeeze(own > -xp.inf, axis=-1)

    def _settle(self, found: dict[str, Any], class_weight: Any) -> None:
        plan, labels = self.plan, found["labels"].astype(np.int64)
        counted = np.ones(labels.shape, bool)
        if plan.hard and plan.ignore_index is not None:
            counted = labels != plan.ignore_index
        classes = found.get("classes")
        if class_weight is not None:  # for a label out of range the loss raises or is NaN
            classes = class_weight[np.clip(labels, 0, plan.layout.n - 1)]
        if "valid" in found:
            counted = counted & found["valid"]
        sample = np.broadcast_to(found.get("sample", 1.0), labels.shape).astype(np.float64)
        self.losses, self.sample = found["losses"], sample
        self.share = np.where(counted, sample if classes is None else sample * classes, 0.0)
        self.hits = found["best"] == labels
        self.near = found.get("near", self.hits)
