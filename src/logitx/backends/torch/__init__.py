"""PyTorch tensors that are differentiated, transformed or traced: derivatives and operators around the kernels.

A call runs in one of three ways. Eager calls run an autograd function (`softmax.Normalized`, `cross_entropy.Loss`) on
the tensors' own memory. Under torch.func and forward-mode differentiation, calls differentiated by the logits do so too
(`softmax.TransformedNormalized`). Where torch.compile or torch.export trace tensors on the CPU, an operator is left in
the graph (`operators`).
"""

from __future__ import annotations

from logitx.backends.torch.accepts import DECLINES, accepts, explain
from logitx.backends.torch.binary import binary_cross_entropy
from logitx.backends.torch.cross_entropy import cross_entropy, cross_entropy_grad_hess, cross_entropy_value_and_grad
from logitx.backends.torch.linear import linear_cross_entropy, linear_cross_entropy_value_and_grad
from logitx.backends.torch.operators import OPERATORS
from logitx.backends.torch.prepared import prepare
from logitx.backends.torch.row_numbers import entropy, js_divergence, kl_divergence, selected_log_softmax, softmax_mean
from logitx.backends.torch.segments import segment_log_softmax, segment_logsumexp, segment_softmax
from logitx.backends.torch.softmax import log_softmax, log_softmax_vjp, logsumexp, softmax, softmax_vjp

__all__ = [
    "DECLINES",
    "OPERATORS",
    "accepts",
    "binary_cross_entropy",
    "cross_entropy",
    "cross_entropy_grad_hess",
    "cross_entropy_value_and_grad",
    "entropy",
    "explain",
    "js_divergence",
    "kl_divergence",
    "linear_cross_entropy",
    "linear_cross_entropy_value_and_grad",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "prepare",
    "segment_log_softmax",
    "segment_logsumexp",
    "segment_softmax",
    "selected_log_softmax",
    "softmax",
    "softmax_mean",
    "softmax_vjp",
]
