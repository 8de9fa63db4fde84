"""The protocols of a backend: the operations it defines, and what it may define beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from logitx._plan import Array, Plan, Scalar

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
