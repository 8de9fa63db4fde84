"""The protocols of a backend: `Backend` has the operations; the others are optional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from logitx._options import BinaryOptions, LinearLayer, LossOptions
from logitx._plan import Array, Plan, Scalar

Prepared = Callable[[Array, Array], Any]


@runtime_checkable
class Prepares(Protocol):
    """Optional: a backend that prepares a call, to run faster when the same call comes again."""

    def prepare(self, plan: Plan, operands: tuple[Any, ...]) -> Prepared | None:
        """Return a function that repeats this call on arrays of the same shapes and dtypes; None if there is none.

        Its two arguments are (x, out), where `out` may be None, or (logits, targets). It returns the result of the
        public function. It returns None if it cannot serve the arrays: then `_prepared` makes the ordinary call, and
        nothing but `out` has been written to.
        """


@runtime_checkable
class Explains(Protocol):
    """Optional: a backend that runs more than one kind of code, and reports which."""

    def explain(self, plan: Plan, operands: tuple[Any, ...]) -> str:
        """Return a message: the code that would run a call which `accepts` allows, and the reason."""


@runtime_checkable
class TellsRows(Protocol):
    """Optional: a backend that tells of each row, in the pass of a loss, what people read beside it."""

    def loss_with_numbers(
        self, plan: Plan, logits: Array, targets: Array, options: LossOptions
    ) -> tuple[tuple[Array, ...], Any] | None:
        """Return what the method ``plan.op``, a loss or a loss with its gradient, returns, and the numbers of the rows.

        These are a named tuple ``(log_prob, entropy, correct, confidence, squares, variance)`` of arrays of the shape
        of the rows: the log-probability of the label, 0 in an ignored row; the entropy; True where the label has the
        highest logit, the first among equals; the largest probability; the sum of squared probabilities; the variance
        of the logits under them. None where there is no such pass.
        """


class Draws(NamedTuple):
    """What is drawn of rows."""

    shares: Array  # of the sum of a row at which its class is drawn: (draws, rows)
    weakest: float  # classes below this share of the largest probability are left out
    kept: float  # and then those behind the most probable ones that reach this share of the sum


@runtime_checkable
class RanksClasses(Protocol):
    """Optional: a backend that finds the best classes of rows, and draws classes, without their softmax in memory.

    `plan` is one of softmax, and the last operands are its operands without an output.
    """

    def best_classes(
        self, plan: Plan, k: int, x: Array, where: Array, temperature: Scalar, softcap: Scalar
    ) -> tuple[Array, Array] | None:
        """Return the k largest probabilities of each row in the class axis, put last, and their ids; None if it cannot.

        Of equal logits the first comes first. Rows without probabilities are NaN, with the ids 0 to k - 1.
        """

    def draw_classes(
        self, plan: Plan, draws: Draws, x: Array, where: Array, temperature: Scalar, softcap: Scalar
    ) -> Array:
        """Return the class of each row at which the running sum of probabilities passes a share of the whole.

        The result has the shape (draws, then the rows). -1 stands for a row without probabilities.
        """


@runtime_checkable
class Merges(Protocol):
    """Optional: operations on rows whose classes are split over several arrays (shards of JAX, chunks of Dask).

    Let u be the logits after softcap and T the temperature. `reduce_rows` reduces each row of one array to the pair
    ``top = max(u)`` and ``rest = sum(exp((u - top) / T)) - 1``. A row in which no entry counts has (0, -1); a row with
    NaN or +inf has that value as `top` and NaN as `rest`. `merge_rows` combines the pairs of all arrays.
    `normalize_rows` and `differentiate_rows` receive the merged pair, and compute the results of one array.

    Operands are those of `Backend`. `top`, `rest`, `logit`, `share` and `ids` have one entry a row. `ids` are class ids
    counted from the first class of the array: a class of another array has an id below 0 or too large.
    """

    def reduce_rows(
        self, plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, ids: Array
    ) -> tuple[Array, Array, Array]:
        """Return (top, rest, logit) in ``plan.compute``.

        `logit` is the logit of the label after softcap, or 0 if another array has the label; None without `ids`.
        """

    def merge_rows(self, plan: Plan, tops: list[Array], rests: list[Array], temperature: Scalar) -> tuple[Array, Array]:
        """Return the merged (top, rest) in float64. The temperature is a number, or an array over rows."""

    def normalize_rows(
        self, plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, top: Array, rest: Array
    ) -> Array:
        """Return the entries of this array of ``plan.op``, which is softmax or log_softmax."""

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
        """Return the gradient of sum(share * loss) by this array. `share` is 0 in rows that do not count."""


class Backend(Protocol):
    """The operations of a backend module. Each gets its plan and its operands in order.

    Arrays of the shape of logits arrive folded to ``plan.layout.shape``, with the classes on ``plan.layout.axis``, and
    are returned in that shape. Class ids, ``sample_weight`` and results without the class axis have
    ``plan.layout.rows``. ``where`` is boolean and, like ``b``, already has the shape of logits. ``temperature`` and
    ``softcap`` are numbers, 0-d arrays or arrays of ``plan.layout.column``; ``label_smoothing`` and ``z_loss`` numbers
    or 0-d arrays. An operand that is absent or has no effect (a temperature of 1, a smoothing of 0) is None.
    """

    def accepts(self, plan: Plan, operands: tuple[Any, ...]) -> str | None:
        """Return None if this backend can serve the call, else the reason why not, as a message."""

    def softmax(self, plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
        """Return probabilities. They are written to `out` if it is not None and the backend can write to it."""

    def log_softmax(
        self, plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array
    ) -> Array:
        """Return log-probabilities; `out` as in softmax."""

    def logsumexp(self, plan: Plan, x: Array, b: Array, where: Array, log_b: Array) -> tuple[Array, Array]:
        """Return (value, sign), both of shape rows; the sign may be None unless ``plan.return_sign``.

        `log_b` has the shape of logits and is added to them.
        """

    def cross_entropy(
        self, plan: Plan, logits: Array, targets: Array, options: LossOptions
    ) -> tuple[Array, Array, Array]:
        """Return (loss, z_loss, log_normalizer); the last two may be None unless ``plan.return_parts``."""

    def cross_entropy_value_and_grad(
        self, plan: Plan, logits: Array, targets: Array, options: LossOptions
    ) -> tuple[Array, Array, Array, Array]:
        """Return (loss, dlogits, z_loss, log_normalizer), the last two as in cross_entropy."""

    def cross_entropy_grad_hess(
        self, plan: Plan, logits: Array, targets: Array, options: LossOptions
    ) -> tuple[Array, Array]:
        """Return the gradient and the diagonal of the Hessian of the summed loss."""

    def linear_cross_entropy(self, plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions) -> Array:
        """Return the loss of the logits ``hidden @ weight.T + bias``; ``plan.layout`` is the layout of these logits.

        `hidden` has the shape of the rows, followed by the features. `hidden`, `weight` and `bias` are floating.
        """

    def linear_cross_entropy_value_and_grad(
        self, plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions
    ) -> tuple[Array, Array, Array, Array]:
        """Return (loss, dhidden, dweight, dbias), in the dtypes ``plan.gradients``; dbias is None without a bias."""

    def softmax_vjp(self, plan: Plan, p: Array, dp: Array) -> Array:
        """Return the gradient by the logits, from the probabilities and the gradient by them."""

    def log_softmax_vjp(self, plan: Plan, log_p: Array, dlog_p: Array) -> Array:
        """Return the gradient by the logits, from the log-probabilities and the gradient by them."""

    def entropy(self, plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
        """Return the entropy of the softmax of every row, of shape rows and dtype ``plan.loss``."""

    def selected_log_softmax(
        self, plan: Plan, x: Array, ids: Array, where: Array, temperature: Scalar, softcap: Scalar
    ) -> Array:
        """Return the log-probabilities of class ids in ``plan.loss``; ids have the shape of rows, or k for classes."""

    def kl_divergence(
        self, plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar
    ) -> Array:
        """Return KL(p, q) of two softmaxes in ``plan.loss``: of every row, or reduced."""

    def js_divergence(
        self, plan: Plan, p: Array, q: Array, where: Array, temperature: Scalar, softcap: Scalar
    ) -> Array:
        """Return weight KL(p, m) + (1 - weight) KL(q, m), m their mixture; ``plan.weight`` is that of p."""

    def softmax_mean(
        self, plan: Plan, x: Array, values: Array, where: Array, temperature: Scalar, softcap: Scalar
    ) -> Array:
        """Return the sum of p v of every row in ``plan.loss``; `values` have the shape of the logits, as ``b`` has."""

    def log_matmul(self, plan: Plan, a: Array, b: Array) -> Array:
        """Return log(exp(a) @ exp(b)), of the shape of the product; the layout is that of `a`."""

    def logcumsumexp(self, plan: Plan, x: Array) -> Array:
        """Return the logarithms of cumulative sums of exponentials, from the last class if ``plan.reverse``."""

    def segment_softmax(self, plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
        """Return probabilities within each of ``plan.segments`` segments along the axis of the layout.

        Either `ids`, the segment of each entry, or `offsets`, where each begins and the last ends; the other is None.
        Entries whose id is out of range are NaN, and count in no segment.
        """

    def segment_log_softmax(self, plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
        """Return log-probabilities within each segment."""

    def segment_logsumexp(self, plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
        """Return one number a segment: of the shape of `x`, with ``plan.segments`` along the axis."""

    def segment_cross_entropy(
        self, plan: Plan, x: Array, targets: Array, ids: Array, offsets: Array, where: Array
    ) -> tuple[Array, Array]:
        """Return the loss of each segment, reduced, and which (with a reduction, how many) segments count."""

    def merge_logsumexp(self, plan: Plan, a: Array, b: Array) -> Array:
        """Return log(exp(a) + exp(b)), elementwise."""

    def focal_loss(self, plan: Plan, logits: Array, targets: Array, options: LossOptions, gamma: Scalar) -> Array:
        """Return the loss; that of cross_entropy if `gamma` is None."""

    def focal_loss_value_and_grad(
        self, plan: Plan, logits: Array, targets: Array, options: LossOptions, gamma: Scalar
    ) -> tuple[Array, Array]:
        """Return (loss, dlogits), as in focal_loss."""

    # Binary functions have no class axis. All their arrays have the shape ``plan.layout.given``, and are not folded.

    def sigmoid(self, plan: Plan, x: Array, out: Array) -> Array:
        """Return probabilities; `out` as in softmax."""

    def log_sigmoid(self, plan: Plan, x: Array, out: Array) -> Array:
        """Return log-probabilities; `out` as in softmax."""

    def binary_cross_entropy(self, plan: Plan, logits: Array, targets: Array, options: BinaryOptions) -> Array:
        """Return the loss."""

    def binary_cross_entropy_value_and_grad(
        self, plan: Plan, logits: Array, targets: Array, options: BinaryOptions
    ) -> tuple[Array, Array]:
        """Return (loss, dlogits)."""

    def binary_cross_entropy_grad_hess(
        self, plan: Plan, logits: Array, targets: Array, options: BinaryOptions
    ) -> tuple[Array, Array]:
        """Return the gradient and the diagonal of the Hessian of the summed loss."""
