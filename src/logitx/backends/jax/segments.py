"""Softmax, log-softmax, log-sum-exp and cross-entropy of segments: the formulas, jitted; JAX differentiates them."""

from __future__ import annotations

from logitx.backends import generic
from logitx.backends.jax.primitive import jitted

segment_softmax = jitted(generic.segment_softmax)
segment_log_softmax = jitted(generic.segment_log_softmax)
segment_logsumexp = jitted(generic.segment_logsumexp)
segment_cross_entropy = jitted(generic.segment_cross_entropy)
