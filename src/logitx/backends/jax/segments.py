"""Softmax, log-softmax, log-sum-exp and cross-entropy of segments: the formulas, jitted; JAX differentiates them.

Maxima and sums are scattered to a table of segments, so that nothing is sorted. Entries are dealt out to `SUMS` sums a
segment, so that each has few terms.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from logitx._plan import Array, Plan
from logitx.backends.generic import segments
from logitx.backends.generic.segments import Segments
from logitx.backends.jax.primitive import jitted

SUMS = 8


class ScatteredSegments(Segments):
    """Segments whose entries stay where they are."""

    def total(self, x: Array) -> Array:
        """Sum the entries of each segment."""
        axis, count = self.plan.layout.axis, self.plan.segments
        place = self.ids * SUMS + jnp.arange(self.plan.layout.n, dtype=self.ids.dtype) % SUMS
        parts = jax.ops.segment_sum(jnp.moveaxis(x, axis, 0), place, count * SUMS)
        return jnp.moveaxis(jnp.sum(parts.reshape(count, SUMS, *parts.shape[1:]), axis=1), 0, axis)

    def largest(self, x: Array) -> Array:
        """Return the largest of the entries of each segment."""
        axis = self.plan.layout.axis
        return jnp.moveaxis(jax.ops.segment_max(jnp.moveaxis(x, axis, 0), self.ids, self.plan.segments), 0, axis)


def _scattered(plan: Plan, x: Array, ids: Array, offsets: Array) -> Segments:
    n, last, stray = plan.layout.n, plan.segments - 1, None
    if offsets is not None:
        ids = jnp.searchsorted(offsets[1:], jnp.arange(n), side="right", method="sort")
    else:
        stray = (ids < 0) | (ids > last)
    return ScatteredSegments(jnp, plan, None, None, jnp.clip(ids, 0, last).astype(jnp.int32), stray, None, None)


@jitted
def segment_softmax(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """exp(x - max) / sum of exp(x - max) of each segment."""
    return segments.softmax_of(plan, x, ids, offsets, where, _scattered)


@jitted
def segment_log_softmax(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """(x - max) - log(sum of exp(x - max)) of each segment."""
    return segments.log_softmax_of(plan, x, ids, offsets, where, _scattered)


@jitted
def segment_logsumexp(plan: Plan, x: Array, ids: Array, offsets: Array, where: Array) -> Array:
    """max + log(sum of exp(x - max)) of each segment."""
    return segments.logsumexp_of(plan, x, ids, offsets, where, _scattered)


@jitted
def segment_cross_entropy(
    plan: Plan, x: Array, targets: Array, ids: Array, offsets: Array, where: Array
) -> tuple[Array, Array]:
    """Sum of t ((max - x) + log(sum)) of each segment, reduced; and which segments count."""
    return segments.cross_entropy_of(plan, x, targets, ids, offsets, where, _scattered)
