"""The operations: one row each, with all that differs from one to another outside the backends.

To add an operation, add a row here, a check in `_arguments` and a method in each backend. `check` is the way from the
arguments of a public function to a `Call`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from logitx import _results as results
from logitx._arguments.binary import binary_cross_entropy, elementwise
from logitx._arguments.cross_entropy import cross_entropy, cross_entropy_grad_hess
from logitx._arguments.focal import focal_loss
from logitx._arguments.linear import linear_cross_entropy
from logitx._arguments.log_space import log_matmul, logcumsumexp, refuse_labels
from logitx._arguments.row_numbers import (
    entropy,
    js_divergence,
    kl_divergence,
    selected_log_softmax,
    softmax_mean,
)
from logitx._arguments.segments import over_segments, segment_cross_entropy, segment_logsumexp
from logitx._arguments.softmax import log_softmax_vjp, logsumexp, merge_logsumexp, over_axis, softmax_vjp
from logitx._labelled.linear import take_layer_apart
from logitx._labelled.table import Labelled, take_apart, take_rows_apart
from logitx._plan import Call


class Operation(NamedTuple):
    """What the library must know of an operation."""

    check: Callable[..., Call]  # takes the name of the operation and the arguments of the public function, by its names
    outputs: tuple[results.Kind, ...]  # the kind of each output of the backend's method
    assemble: Callable[..., Any] = results.single  # from the finished outputs to what the user gets
    out: Literal["written", "copied"] | None = None  # `out=`: the backend writes to it, or a result is copied to it
    prepares: bool = False  # calls with plain options may be prepared (`_prepared`)
    weighs: bool = False  # the check computes in float64 for extreme weights (`_arguments.ranges`)
    reads: bool = False  # the plan depends on numbers in arrays, as segment ids: `_prepared` repeats none
    without_labels: Callable[..., Call] = take_apart  # runs the check of a call whose first array has labels


_LOSS = (results.reduced_loss, results.reduced_loss, results.row_number)  # loss, z_loss, log_normalizer

OPERATIONS: dict[str, Operation] = {
    "softmax": Operation(over_axis, (results.logits_like,), out="written", prepares=True),
    "log_softmax": Operation(over_axis, (results.logits_like,), out="written", prepares=True),
    "logsumexp": Operation(
        logsumexp, (results.row_reduction,) * 2, results.value_and_sign, out="copied", prepares=True
    ),
    "cross_entropy": Operation(cross_entropy, _LOSS, results.loss_and_parts, prepares=True, weighs=True),
    "cross_entropy_value_and_grad": Operation(
        cross_entropy,
        (results.reduced_loss, results.logits_like, *_LOSS[1:]),
        results.loss_gradient_and_parts,
        prepares=True,
        weighs=True,
    ),
    "cross_entropy_grad_hess": Operation(
        cross_entropy_grad_hess, (results.logits_like,) * 2, results.pair, weighs=True
    ),
    "linear_cross_entropy": Operation(
        linear_cross_entropy, (results.reduced_loss,), weighs=True, without_labels=take_layer_apart
    ),
    "linear_cross_entropy_value_and_grad": Operation(
        linear_cross_entropy,
        (results.reduced_loss, *map(results.layer_gradient, range(3))),
        results.loss_and_gradients,
        weighs=True,
        without_labels=take_layer_apart,
    ),
    "softmax_vjp": Operation(softmax_vjp, (results.logits_like,), prepares=True),
    "log_softmax_vjp": Operation(log_softmax_vjp, (results.logits_like,), prepares=True),
    "entropy": Operation(entropy, (results.row_number,)),
    "selected_log_softmax": Operation(selected_log_softmax, (results.row_number,), without_labels=take_rows_apart),
    "kl_divergence": Operation(kl_divergence, (results.reduced_loss,)),
    "js_divergence": Operation(js_divergence, (results.reduced_loss,)),
    "softmax_mean": Operation(softmax_mean, (results.row_number,)),
    "merge_logsumexp": Operation(merge_logsumexp, (results.elementwise,)),
    "focal_loss": Operation(focal_loss, (results.reduced_loss,), weighs=True),
    "focal_loss_value_and_grad": Operation(
        focal_loss, (results.reduced_loss, results.logits_like), results.pair, weighs=True
    ),
    "sigmoid": Operation(elementwise, (results.logits_like,), out="written"),
    "log_sigmoid": Operation(elementwise, (results.logits_like,), out="written"),
    "binary_cross_entropy": Operation(binary_cross_entropy, (results.reduced_loss,), weighs=True),
    "binary_cross_entropy_value_and_grad": Operation(
        binary_cross_entropy, (results.reduced_loss, results.logits_like), results.pair, weighs=True
    ),
    "binary_cross_entropy_grad_hess": Operation(binary_cross_entropy, (results.logits_like,) * 2, results.pair),
    "log_matmul": Operation(log_matmul, (results.product,), without_labels=refuse_labels),
    "logcumsumexp": Operation(logcumsumexp, (results.logits_like,)),
    "segment_softmax": Operation(over_segments, (results.logits_like,), reads=True),
    "segment_log_softmax": Operation(over_segments, (results.logits_like,), reads=True),
    "segment_logsumexp": Operation(segment_logsumexp, (results.segment_number,), reads=True),
    "segment_cross_entropy": Operation(segment_cross_entropy, (results.segment_loss,) * 2, reads=True),
}


def check(op: str, *arguments: Any) -> Call:
    """Check the arguments of an operation, in the order of its check; take labels off first where there are some."""
    row = OPERATIONS[op]
    try:
        return row.check(op, *arguments)
    except Labelled:
        return row.without_labels(row.check, op, *arguments)
