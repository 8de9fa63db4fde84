"""NumPy arrays and CPU tensors of PyTorch, by Numba kernels: views, a kernel, the result.

To read: `softmax` (from arrays to a kernel), `kernels.softmax` (the plainest kernel), `passes.reduce` (what kernels are
made of), `passes.blocks` (how memory is cut into blocks).
"""

from __future__ import annotations

from logitx.backends.numba.accepts import DECLINES, accepts
from logitx.backends.numba.cross_entropy import cross_entropy, cross_entropy_grad_hess, cross_entropy_value_and_grad
from logitx.backends.numba.cut_rows import differentiate_rows, merge_rows, normalize_rows, reduce_rows
from logitx.backends.numba.linear import linear_cross_entropy, linear_cross_entropy_value_and_grad
from logitx.backends.numba.log_space import logcumsumexp
from logitx.backends.numba.prepared import prepare
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
    "cross_entropy",
    "cross_entropy_grad_hess",
    "cross_entropy_value_and_grad",
    "differentiate_rows",
    "linear_cross_entropy",
    "linear_cross_entropy_value_and_grad",
    "log_softmax",
    "log_softmax_vjp",
    "logcumsumexp",
    "logsumexp",
    "merge_logsumexp",
    "merge_rows",
    "normalize_rows",
    "prepare",
    "reduce_rows",
    "segment_log_softmax",
    "segment_logsumexp",
    "segment_softmax",
    "set_num_threads",
    "softmax",
    "softmax_vjp",
]
