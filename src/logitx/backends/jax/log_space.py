"""A matrix product and a cumulative sum of exponentials: the formulas, jitted; JAX differentiates them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from logitx._plan import Array, Plan
from logitx.backends.generic.log_space import Ways, cumulated, finite_or_nothing, log_of_product, log_of_sums
from logitx.backends.jax.primitive import jitted


def _scan(plan: Plan, merge: Callable[..., tuple[Array, ...]], state: tuple[Array, ...]) -> tuple[Array, ...]:
    found: tuple[Array, ...] = jax.lax.associative_scan(merge, state, axis=plan.layout.axis)
    return found


@jitted
def logcumsumexp(plan: Plan, x: Array) -> Array:
    """log(sum of exp(x_j) over j <= i), from pairs (max, sum of exp(x - max)) that are merged."""
    return cumulated(plan, x, _scan)


@jitted
def log_matmul(plan: Plan, a: Array, b: Array) -> Array:
    """log(exp(a - max) @ exp(b - max)) + max + max; sums that are too small for that are computed anew."""
    return log_of_product(plan, a, b, Ways(lambda *way: jax.lax.cond(way[0], way[1], lambda: way[2]), _small_sums))


def _small_sums(plan: Plan, a: Array, b: Array, value: Array, small: Array) -> Array:
    """Replace the logarithms of small sums, row by row; a backward pass computes each row again."""

    @jax.checkpoint
    def of_row(row: Array, turned: Array) -> Array:
        return log_of_sums(plan, jnp, jnp.expand_dims(row, 0) + turned)

    def of_matrices(a: Array, b: Array) -> Array:
        return jax.lax.map(lambda row: of_row(row, b.T), a)

    product = jnp.vectorize(of_matrices, signature="(n,k),(k,m)->(n,m)")
    return jnp.where(small, product(finite_or_nothing(jnp, a), finite_or_nothing(jnp, b)), value)
