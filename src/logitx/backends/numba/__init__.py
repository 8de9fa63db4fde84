"""NumPy arrays and CPU tensors of PyTorch, by Numba kernels: views, a kernel, the result.

To read: `softmax` (from arrays to a kernel), `kernels.softmax` (the plainest kernel), `passes.reduce` (what kernels are
made of), `passes.blocks` (how memory is cut into blocks).
"""

from __future__ import annotations

from logitx.backends.numba.accepts import DECLINES, accepts
from logitx.backends.numba.binary import (
    binary_cross_entropy,
    binary_cross_entropy_grad_hess,
    binary_cross_entropy_value_and_grad,
    log_sigmoid,
    sigmoid,
)
from logitx.backends.numba.cross_entropy import (
    cross_entropy,
    cross_entropy_grad_hess,
    cross_entropy_value_and_grad,
    loss_with_numbers,
)
from logitx.backends.numba.cut_rows import differentiate_rows, merge_rows, normalize_rows, reduce_rows
from logitx.backends.numba.focal import focal_loss, focal_loss_value_and_grad
from logitx.backends.numba.linear import linear_cross_entropy, linear_cross_entropy_value_and_grad
from logitx.backends.numba.log_space import logcumsumexp
from logitx.backends.numba.prepared import prepare
from logitx.backends.numba.row_numbers import (
    divergence_gradients,
    entropy,
    entropy_gradient,
    js_divergence,
    kl_divergence,
    selected_log_softmax,
    softmax_mean,
)
from logitx.backends.numba.sampling import best_classes, draw_classes
from logitx.backends.numba.segments import segment_log_softmax, segment_logsumexp, segment_softmax
from logitx.backends.numba.softmax import (
    log_softmax,
    log_softmax_vjp,
    logsumexp,
    merge_logsumexp,
    softmax,
    softmax_vjp,
)
from logitx.backends.numba.threads.policy import set_num_threads

__all__ = [
    "DECLINES",
    "accepts",
    "best_classes",
    "binary_cross_entropy",
    "binary_cross_entropy_grad_hess",
    "binary_cross_entropy_value_and_grad",
    "cross_entropy",
    "cross_entropy_grad_hess",
    "cross_entropy_value_and_grad",
    "differentiate_rows",
    "divergence_gradients",
    "draw_classes",
    "entropy",
    "entropy_gradient",
    "focal_loss",
    "focal_loss_value_and_grad",
    "js_divergence",
    "kl_divergence",
    "linear_cross_entropy",
    "linear_cross_entropy_value_and_grad",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_vjp",
    "logcumsumexp",
    "logsumexp",
    "loss_with_numbers",
    "merge_logsumexp",
    "merge_rows",
    "normalize_rows",
    "prepare",
    "reduce_rows",
    "segment_log_softmax",
    "segment_logsumexp",
    "segment_softmax",
    "selected_log_softmax",
    "set_num_threads",
    "sigmoid",
    "softmax",
    "softmax_mean",
    "softmax_vjp",
]
