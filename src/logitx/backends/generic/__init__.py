"""Every operation on the Array API standard. Read this backend first: each formula is written out once, plainly.

`rows` reduces each row of logits to its maximum and the sum of ``exp(x - max)``. `softmax` and `cross_entropy` compute
every result from that pair, `linear` calls `cross_entropy` on blocks of rows, and `cut_rows` has the operations of
`Merges`. The formulas are differentiable if the array library is: masked entries, rows without a defined result and the
choice of the maximum are replaced by constants first, so that no derivative flows through them.
"""

from __future__ import annotations

from typing import Any

from logitx._plan import Plan
from logitx.backends.generic.binary import (
    binary_cross_entropy,
    binary_cross_entropy_grad_hess,
    binary_cross_entropy_value_and_grad,
    log_sigmoid,
    sigmoid,
)
from logitx.backends.generic.cross_entropy import (
    cross_entropy,
    cross_entropy_grad_hess,
    cross_entropy_value_and_grad,
)
from logitx.backends.generic.cut_rows import differentiate_rows, merge_rows, normalize_rows, reduce_rows
from logitx.backends.generic.focal import focal_loss, focal_loss_value_and_grad
from logitx.backends.generic.linear import linear_cross_entropy, linear_cross_entropy_value_and_grad
from logitx.backends.generic.log_space import log_matmul, logcumsumexp
from logitx.backends.generic.row_numbers import (
    entropy,
    js_divergence,
    kl_divergence,
    selected_log_softmax,
    softmax_mean,
)
from logitx.backends.generic.segments import (
    segment_cross_entropy,
    segment_log_softmax,
    segment_logsumexp,
    segment_softmax,
)
from logitx.backends.generic.softmax import (
    log_softmax,
    log_softmax_vjp,
    logsumexp,
    merge_logsumexp,
    softmax,
    softmax_vjp,
)

__all__ = [
    "accepts",
    "binary_cross_entropy",
    "binary_cross_entropy_grad_hess",
    "binary_cross_entropy_value_and_grad",
    "cross_entropy",
    "cross_entropy_grad_hess",
    "cross_entropy_value_and_grad",
    "differentiate_rows",
    "entropy",
    "focal_loss",
    "focal_loss_value_and_grad",
    "js_divergence",
    "kl_divergence",
    "linear_cross_entropy",
    "linear_cross_entropy_value_and_grad",
    "log_matmul",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_vjp",
    "logcumsumexp",
    "logsumexp",
    "merge_logsumexp",
    "merge_rows",
    "normalize_rows",
    "reduce_rows",
    "segment_cross_entropy",
    "segment_log_softmax",
    "segment_logsumexp",
    "segment_softmax",
    "selected_log_softmax",
    "sigmoid",
    "softmax",
    "softmax_mean",
    "softmax_vjp",
]


def accepts(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Accept every Array API array, everywhere."""
    return "axis_name: the standard knows no other devices" if plan.axis_name else None
