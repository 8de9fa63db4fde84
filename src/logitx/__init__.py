"""Softmax, log-softmax, log-sum-exp and cross-entropy, with their gradients, for any array type.

>>> import numpy as np
>>> import logitx as lx
>>> print(lx.softmax(np.array([[1.0, 2.0, 3.0]])).round(4))
[[0.09   0.2447 0.6652]]
"""

from logitx import _dynamo as _dynamo  # torch.compile looks for what this module sets
from logitx import calibration as calibration
from logitx._functions.accumulate import CrossEntropy
from logitx._functions.balanced import balanced_class_weight
from logitx._functions.binary import (
    binary_cross_entropy,
    binary_cross_entropy_grad_hess,
    binary_cross_entropy_value_and_grad,
    log_sigmoid,
    sigmoid,
)
from logitx._functions.contrastive import info_nce, info_nce_value_and_grad
from logitx._functions.control import backends, set_num_threads, use_backend, warmup, which
from logitx._functions.cross_entropy import cross_entropy, cross_entropy_grad_hess, cross_entropy_value_and_grad
from logitx._functions.derived import logaddexp, logmeanexp
from logitx._functions.focal import (
    binary_focal_loss,
    binary_focal_loss_value_and_grad,
    focal_loss,
    focal_loss_value_and_grad,
)
from logitx._functions.linear import linear_cross_entropy, linear_cross_entropy_value_and_grad
from logitx._functions.softmax import (
    log_softmax,
    log_softmax_vjp,
    logsumexp,
    merge_logsumexp,
    softmax,
    softmax_vjp,
)

__version__ = "0.1.0"

__all__ = [
    "CrossEntropy",
    "backends",
    "balanced_class_weight",
    "binary_cross_entropy",
    "binary_cross_entropy_grad_hess",
    "binary_cross_entropy_value_and_grad",
    "binary_focal_loss",
    "binary_focal_loss_value_and_grad",
    "cross_entropy",
    "cross_entropy_grad_hess",
    "cross_entropy_value_and_grad",
    "focal_loss",
    "focal_loss_value_and_grad",
    "info_nce",
    "info_nce_value_and_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_value_and_grad",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_vjp",
    "logaddexp",
    "logmeanexp",
    "logsumexp",
    "merge_logsumexp",
    "set_num_threads",
    "sigmoid",
    "softmax",
    "softmax_vjp",
    "use_backend",
    "warmup",
    "which",
]
