"""The vocabulary of the library: what is passed between its layers, and what a backend must offer.

Layers hand each other three things: a `Plan` (static facts, hashable), *operands* (arrays and numbers, in the order of
the operation's signature, ``None`` where absent), and results. This module imports no framework.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

Array = Any  # any array type; the concrete type comes back as it went in
Scalar = Any  # a Python number, or a 0-d array of the logits' family
Axis = int | tuple[int, ...] | None
Reduction = Literal["none", "sum", "mean"]
Empty = Literal["nan", "zero"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array with any class axes is seen as an array with exactly one.

    Several class axes are moved together, in the order given, and folded into one; a single class axis stays where it
    is. No class axis at all (a 0-d array, or ``axis=()``) makes every element a row of one class.
    """

    given: tuple[int, ...]  # shape of the array as the user passed it
    axes: tuple[int, ...]  # class axes of that shape, all >= 0, in the order given
    folds: bool  # whether `shape` differs from `given`: most arrays are used as they are
    permutation: tuple[int, ...] | None  # applied first; None where the axes already lie next to each other in order
    inverse: tuple[int, ...] | None  # undoes the permutation
    permuted: tuple[int, ...]  # shape after the permutation
    shape: tuple[int, ...]  # shape a backend sees: one class axis
    axis: int  # the class axis of that shape, >= 0
    outer: int  # product of the lengths before the class axis
    n: int  # number of classes
    inner: int  # product of the lengths after it
    rows: tuple[int, ...]  # the given shape without the class axes: one entry a row
    kept: tuple[int, ...]  # the given shape with the class axes of length 1
    column: tuple[int, ...]  # `shape` with a class axis of length 1: how a per-row array broadcasts against logits


@dataclass(frozen=True, slots=True)
class Plan:
    """The static facts of one call: no array, no number that a framework may trace. Hashable, made once a signature."""

    op: str  # name of the operation: a method of `Backend`
    family: str  # row of `_arrays.FAMILIES` that the logits belong to
    layout: Layout
    dtype: str  # of the first array as given: "float16", "bfloat16", "float32", "float64", "int64", "bool", ...
    compute: str  # "float32" or "float64": every sum and exponential happens in it
    result: str  # dtype of results: of the shape of logits, or of logsumexp
    loss: str  # dtype of losses and of log_normalizer: "float32" or "float64"
    reduction: Reduction = "none"
    empty: Empty = "nan"
    hard: bool = False  # the targets are class ids, not probabilities
    ignore_index: int | None = None
    return_parts: bool = False
    return_sign: bool = False
    keepdims: bool = False
    scalar: bool = False  # a Python or NumPy scalar went in: a 0-d result goes back as a scalar
    gradients: tuple[str, ...] = ()  # dtypes of the gradients by hidden, weight and bias, where there are these
    axis_name: tuple[str, ...] = ()  # axes of a mesh of devices along which normalizers are merged
    block_bytes: int = 0  # how much of the logits, in the dtype computed in, may be in memory at once; 0: all


class LossParts(NamedTuple):
    """What ``return_parts=True`` adds to a cross-entropy."""

    z_loss: Array  # the part of the loss that the z-loss made, reduced like the loss
    log_normalizer: Array  # log of the sum of exponentials of every row, after softcap and temperature; never reduced


class LabelError(ValueError):
    """A class id outside ``[0, n)`` that is not ``ignore_index``."""

    def __init__(self, plan: Plan, position: int, label: int) -> None:
        """Name the label at flat C-order `position` of the targets."""
        n, index = plan.layout.n, []
        for length in reversed(plan.layout.rows):
            position, last = divmod(position, length)
            index.append(last)
        self.plan, self.index, self.label = plan, tuple(reversed(index)), label
        where = f" at position {self.index}" if index else ""
        ignored = "ignore_index is None" if plan.ignore_index is None else f"ignore_index is {plan.ignore_index}"
        super().__init__(f"targets: class id {label}{where} is out of range; allowed are 0 to {n - 1} ({ignored})")

    def within(self, plan: Plan, first: tuple[int, ...]) -> LabelError:
        """Return the error of a whole, whose part that begins at `first` has this one."""
        index = tuple(map(sum, zip(self.index, first, strict=True)))
        position = 0
        for place, length in zip(index, plan.layout.rows, strict=True):
            position = position * length + place
        return LabelError(plan, position, self.label)

    def __reduce__(self) -> tuple[type[ValueError], tuple[str]]:
        """Pickle as a plain ValueError: the plan that made the message need not travel."""
        return ValueError, (str(self),)


Prepared = Callable[[Array, Array], Any]


@runtime_checkable
class Prepares(Protocol):
    """What a backend may define beside its operations."""

    def prepare(self, plan: Plan, operands: tuple[Any, ...]) -> Prepared | None:
        """Return a function of two arrays that repeats this call on others of their shapes and dtypes, or None.

        The arrays are (x, out), where `out` may be None, or (logits, targets). The function returns what the user gets;
        None where the ordinary way has to take over, and has written nothing then but to `out`.
        """


@runtime_checkable
class Explains(Protocol):
    """What a backend may define that runs more than one kind of code."""

    def explain(self, plan: Plan, operands: tuple[Any, ...]) -> str:
        """Return what would run a call that the backend accepts, and why."""


@runtime_checkable
class Merges(Protocol):
    """What a backend may define for rows of which an array has some classes only.

    A row comes down to `top`, its maximum after softcap, and `rest`, the sum of exp((u - top) / temperature) without
    one maximum. Where nothing counts these are 0 and -1; with a NaN or +inf, `rest` is NaN and `top` that. Such pairs
    merge, over the classes of all arrays; the last two operations are told what that came to. Operands are
    those of `Backend`, and numbers of rows; `ids` count from the first class of the array, so that those that are
    not in it are below 0 or too large.
    """

    def reduce_rows(
        self, plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, ids: Array
    ) -> tuple[Array, Array, Array]:
        """Return (top, rest, logit), in the dtype computed in: the logit of the label, 0 where it is not here.

        Without ids, the last is None.
        """

    def merge_rows(self, plan: Plan, tops: list[Array], rests: list[Array], temperature: Scalar) -> tuple[Array, Array]:
        """Return (top, rest) of the classes of all arrays, in float64; the temperature is a number, or one a row."""

    def normalize_rows(
        self, plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, top: Array, rest: Array
    ) -> Array:
        """Return what the operation of the plan, softmax or log_softmax, is in this array."""

    def differentiate_rows(
        self,
        plan: Plan,
        x: Array,
        where: Array,
        temperature: Scalar,
        softcap: Scalar,
        z_loss: float,
        ids: Array,
        top: Array,
        rest: Array,
        logit: Array,
        share: Array,
    ) -> Array:
        """Return the gradient of the sum of `share` times cross-entropy; a share is 0 where a row does not count."""


class Backend(Protocol):
    """What a backend module defines. Each operation gets its plan and every operand, in this order; none is optional.

    Arrays of the shape of logits arrive folded to ``plan.layout.shape``, with the classes on ``plan.layout.axis``, and
    go back in that shape. Class ids, ``sample_weight`` and results without the class axis have ``plan.layout.rows``.
    ``where`` is boolean and, like ``b``, already has the shape of logits. ``temperature`` and ``softcap`` are numbers,
    0-d arrays or arrays of ``plan.layout.column``; ``label_smoothing`` and ``z_loss`` numbers or 0-d arrays. What is
    absent or has no effect (a temperature of 1, a smoothing of 0) is None.
    """

    def accepts(self, plan: Plan, operands: tuple[Any, ...]) -> str | None:
        """Return None where this backend can serve the call, else the reason why not."""

    def softmax(self, plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
        """Return probabilities; written to `out` where it is not None and the backend can write."""

    def log_softmax(
        self, plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array
    ) -> Array:
        """Return log-probabilities; `out` as in softmax."""

    def logsumexp(self, plan: Plan, x: Array, b: Array, where: Array) -> tuple[Array, Array]:
        """Return (value, sign), both of shape rows; the sign may be None unless ``plan.return_sign``."""

    def cross_entropy(
        self,
        plan: Plan,
        logits: Array,
        targets: Array,
        class_weight: Array,
        sample_weight: Array,
        label_smoothing: Scalar,
        z_loss: Scalar,
        softcap: Scalar,
        temperature: Scalar,
        where: Array,
    ) -> tuple[Array, Array, Array]:
        """Return (loss, z_loss, log_normalizer); the last two may be None unless ``plan.return_parts``."""

    def cross_entropy_value_and_grad(
        self,
        plan: Plan,
        logits: Array,
        targets: Array,
        class_weight: Array,
        sample_weight: Array,
        label_smoothing: Scalar,
        z_loss: Scalar,
        softcap: Scalar,
        temperature: Scalar,
        where: Array,
    ) -> tuple[Array, Array, Array, Array]:
        """Return (loss, dlogits, z_loss, log_normalizer), the last two as in cross_entropy."""

    def cross_entropy_grad_hess(
        self, plan: Plan, logits: Array, targets: Array, class_weight: Array, sample_weight: Array
    ) -> tuple[Array, Array]:
        """Return the gradient and the diagonal of the Hessian of the summed loss."""

    def linear_cross_entropy(
        self,
        plan: Plan,
        hidden: Array,
        weight: Array,
        targets: Array,
        bias: Array,
        class_weight: Array,
        sample_weight: Array,
        label_smoothing: Scalar,
        z_loss: Scalar,
        softcap: Scalar,
        temperature: Scalar,
    ) -> Array:
        """Return the loss of the logits ``hidden @ weight.T + bias``, whose layout is that of the plan.

        `hidden` has the shape of the rows and then its features; it, `weight` and `bias` are floating.
        """

    def linear_cross_entropy_value_and_grad(
        self,
        plan: Plan,
        hidden: Array,
        weight: Array,
        targets: Array,
        bias: Array,
        class_weight: Array,
        sample_weight: Array,
        label_smoothing: Scalar,
        z_loss: Scalar,
        softcap: Scalar,
        temperature: Scalar,
    ) -> tuple[Array, Array, Array, Array]:
        """Return (loss, dhidden, dweight, dbias), in ``plan.gradients``; the last is None without a bias."""

    def softmax_vjp(self, plan: Plan, p: Array, dp: Array) -> Array:
        """Return the gradient by the logits, from the probabilities and the gradient by them."""

    def log_softmax_vjp(self, plan: Plan, log_p: Array, dlog_p: Array) -> Array:
        """Return the gradient by the logits, from the log-probabilities and the gradient by them."""

    def merge_logsumexp(self, plan: Plan, a: Array, b: Array) -> Array:
        """Return log(exp(a) + exp(b)), elementwise."""
