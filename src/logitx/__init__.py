"""Softmax, log-softmax, log-sum-exp and cross-entropy, with their gradients, for any array type.

>>> import numpy as np
>>> import logitx as lx
>>> print(lx.softmax(np.array([[1.0, 2.0, 3.0]])).round(4))
[[0.09   0.2447 0.6652]]

All names; ``help(logitx.softmax)`` and its like have the formula, parameters, special values, errors and examples.

softmax
    Probabilities of the classes along an axis.
log_softmax
    Logarithms of the probabilities of the classes along an axis.
logsumexp
    Logarithm of the sum of exponentials along an axis.
logmeanexp
    Logarithm of the mean of exponentials along an axis.
logaddexp
    Logarithm of the sum of two exponentials, elementwise.
merge_logsumexp
    Merge partial log-normalizers, of a stream, of chunks or of shards.
cross_entropy
    Cross-entropy of logits against class ids or probabilities.
cross_entropy_value_and_grad
    Cross-entropy and its gradient by the logits, in one pass, for every array type.
cross_entropy_grad_hess
    Gradient and diagonal of the Hessian of the summed cross-entropy, as boosting objectives want them.
linear_cross_entropy
    Cross-entropy of the logits of a linear layer, which are never in memory as a whole.
linear_cross_entropy_value_and_grad
    Cross-entropy of a linear layer and its gradients, in one go, for every array type.
softmax_vjp
    Gradient by the logits, from the gradient by their softmax.
log_softmax_vjp
    Gradient by the logits, from the gradient by their log-softmax.
entropy
    Entropy of the softmax of every row, in nats.
selected_log_softmax
    Log-probabilities of chosen classes, without those of all others.
kl_divergence
    Kullback-Leibler divergence of the softmaxes of two arrays of logits, in nats.
js_divergence
    Jensen-Shannon divergence of the softmaxes of two arrays of logits, in nats.
softmax_mean
    Mean of values under the softmax of every row.
softmax_top_k
    The k most probable classes of every row: their probabilities, and their ids.
sample
    Class ids drawn from the softmax of every row.
gumbel_softmax
    A differentiable sample: the softmax of logits with Gumbel noise.
segment_softmax
    Probabilities within each segment of an axis.
segment_log_softmax
    Logarithms of the probabilities within each segment of an axis.
segment_logsumexp
    Logarithm of the sum of exponentials of each segment of an axis.
segment_cross_entropy
    Cross-entropy of each segment of an axis against probabilities.
log_matmul
    Logarithm of the matrix product of exponentials.
logcumsumexp
    Logarithms of the cumulative sums of exponentials along an axis.
sigmoid
    Probability of the second of two classes, elementwise.
log_sigmoid
    Logarithm of the probability of the second of two classes, elementwise.
binary_cross_entropy
    Binary cross-entropy of logits against labels or probabilities, elementwise.
binary_cross_entropy_value_and_grad
    Binary cross-entropy and its gradient by the logits, in one pass, for every array type.
binary_cross_entropy_grad_hess
    Gradient and diagonal of the Hessian of the summed binary cross-entropy, as boosting objectives want them.
focal_loss
    Focal loss of logits against class ids or probabilities.
focal_loss_value_and_grad
    Focal loss and its gradient by the logits, for every array type.
binary_focal_loss
    Binary focal loss of logits against labels or probabilities, elementwise.
binary_focal_loss_value_and_grad
    Binary focal loss and its gradient by the logits, in one pass, for every array type.
info_nce
    Contrastive loss of pairs of embeddings (InfoNCE, the loss of CLIP), without the matrix of all pairs.
info_nce_value_and_grad
    Contrastive loss of pairs and its gradients, for every array type, without the matrix of all pairs.
balanced_class_weight
    Class weights that give every class the same total weight, as ``class_weight="balanced"`` has them.
CrossEntropy
    Cross-entropy, perplexity and accuracy of data that comes in pieces.
backends
    List the backends in the order in which they are tried.
which
    Return the backend that a call would run on, and why.
use_backend
    Run on the named backend from here on, or within a ``with`` statement.
set_num_threads
    Limit the number of threads that the kernels on the CPU use.
warmup
    Compile ahead what NumPy arrays and PyTorch tensors on the CPU will run, so that no first call has to wait.
LabelError
    A class id outside ``[0, n)`` that is not ``ignore_index``: a ValueError.
"""

from logitx import _dynamo as _dynamo  # torch.compile looks for what this module sets
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
from logitx._functions.cut_rows import merge_logsumexp
from logitx._functions.derived import logaddexp, logmeanexp
from logitx._functions.divergences import js_divergence, kl_divergence
from logitx._functions.focal import (
    binary_focal_loss,
    binary_focal_loss_value_and_grad,
    focal_loss,
    focal_loss_value_and_grad,
)
from logitx._functions.linear import linear_cross_entropy, linear_cross_entropy_value_and_grad
from logitx._functions.log_space import log_matmul, logcumsumexp
from logitx._functions.row_numbers import (
    entropy,
    selected_log_softmax,
    softmax_mean,
)
from logitx._functions.sampling import gumbel_softmax, sample, softmax_top_k
from logitx._functions.segments import (
    segment_cross_entropy,
    segment_log_softmax,
    segment_logsumexp,
    segment_softmax,
)
from logitx._functions.softmax import (
    log_softmax,
    log_softmax_vjp,
    logsumexp,
    softmax,
    softmax_vjp,
)
from logitx._label_error import LabelError

__version__ = "0.1.0"

__all__ = [
    "CrossEntropy",
    "LabelError",
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
    "entropy",
    "focal_loss",
    "focal_loss_value_and_grad",
    "gumbel_softmax",
    "info_nce",
    "info_nce_value_and_grad",
    "js_divergence",
    "kl_divergence",
    "linear_cross_entropy",
    "linear_cross_entropy_value_and_grad",
    "log_matmul",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_vjp",
    "logaddexp",
    "logcumsumexp",
    "logmeanexp",
    "logsumexp",
    "merge_logsumexp",
    "sample",
    "segment_cross_entropy",
    "segment_log_softmax",
    "segment_logsumexp",
    "segment_softmax",
    "selected_log_softmax",
    "set_num_threads",
    "sigmoid",
    "softmax",
    "softmax_mean",
    "softmax_top_k",
    "softmax_vjp",
    "use_backend",
    "warmup",
    "which",
]


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__doc__", "__version__"]
