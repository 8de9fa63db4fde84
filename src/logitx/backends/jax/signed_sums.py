"""The logarithm of a sum of exponentials with factors of both signs, by the formulas."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from logitx._plan import Array, Plan
from logitx.backends.generic import signed_sums


def of_formulas(plan: Plan, x: Array, b: Array, where: Array) -> tuple[Array, Array]:
    """Return the logarithm of the size of the sum, and its sign."""
    found: tuple[Array, Array] = signed_sums.signed_logsumexp(plan, x, b, where, _uncancelled)
    return found


def _uncancelled(plan: Plan, x: Array, b: Array, used: Array, found: signed_sums.SignedRows) -> Array:
    """Return which entries are used without those that cancel at the top, as often as that is so."""
    x, b = jax.lax.stop_gradient((x, b))

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        left, dropped = signed_sums.without_cancelled(plan, x, b, state[0])
        return left, jnp.any(dropped)

    left, _ = jax.lax.while_loop(
        lambda state: state[1], step, (used, jnp.any(signed_sums.may_have_cancelled(plan, found)))
    )
    return left
