"""Every operation jitted, on every device, under every transformation: kernels on CPUs, the generic formulas elsewhere.

What computes is one primitive (`primitive`): the formulas, which stand once, in `generic`, and on CPUs the Numba
kernels, called by XLA itself. What is added here are derivatives in closed form: of softmax, log-softmax and
log-sum-exp by way of the probabilities, of the cross-entropy by way of its fused gradient. Every rule is made of
functions that have derivatives themselves, so that they hold to every order, forward and in reverse.
"""

from __future__ import annotations

from logitx.backends.jax.accepts import accepts, explain
from logitx.backends.jax.binary import (
    binary_cross_entropy,
    binary_cross_entropy_grad_hess,
    binary_cross_entropy_value_and_grad,
    log_sigmoid,
    sigmoid,
)
from logitx.backends.jax.cross_entropy import cross_entropy, cross_entropy_grad_hess, cross_entropy_value_and_grad
from logitx.backends.jax.focal import focal_loss, focal_loss_value_and_grad
from logitx.backends.jax.linear.loss import linear_cross_entropy, linear_cross_entropy_value_and_grad
from logitx.backends.jax.log_space import log_matmul, logcumsumexp
from logitx.backends.jax.row_numbers import entropy, js_divergence, kl_divergence, selected_log_softmax, softmax_mean
from logitx.backends.jax.segments import (
    segment_cross_entropy,
    segment_log_softmax,
    segment_logsumexp,
    segment_softmax,
)
from logitx.backends.jax.softmax import (
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
    "entropy",
    "explain",
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
