"""Numbers of a row: derivatives around the primitive."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp

from logitx._plan import Array, Plan, Scalar
from logitx.backends import generic
from logitx.backends.formulas.selected import check_ids, selected_by_losses
from logitx.backends.jax.cross_entropy import cross_entropy
from logitx.backends.jax.primitive import custom_jvp, jitted, run_primitive
from logitx.backends.jax.softmax import differentiable_log_softmax, direction_of


@functools.lru_cache(maxsize=1024)
def _log_probabilities(plan: Plan) -> Plan:
    """Return the plan of the log-probabilities of the same rows, -inf where nothing counts."""
    return dataclasses.replace(plan, op="log_softmax", empty="zero", result=plan.compute)


@custom_jvp
def _entropy(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    (value,) = run_primitive(plan, x, where, temperature, softcap)
    return value


@_entropy.defjvp
def _entropy_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    """Return the entropies, and the sum of -p (log p + H) times the direction."""
    value = _entropy(plan, *primals)
    log_p = differentiable_log_softmax(_log_probabilities(plan), *primals)
    live = log_p != -jnp.inf
    log_p, p = jnp.where(live, log_p, 0.0), jnp.where(live, jnp.exp(log_p), 0.0)
    known = jnp.expand_dims(value.astype(plan.compute), plan.layout.axis)
    known = jnp.where(jnp.any(live, axis=plan.layout.axis, keepdims=True), known, 0.0)
    slope = p * (log_p + known)
    return value, -jnp.sum(slope * direction_of(plan, primals, tangents), axis=plan.layout.axis).astype(value.dtype)


@jitted
def entropy(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """log(sum) + sum of p (max - x)."""
    if not plan.layout.n:
        return generic.entropy(plan, x, where, temperature, softcap)
    return _entropy(plan, x, where, temperature, softcap)


@jitted
def _jitted_selected(plan: Plan, *operands: Any) -> Array:
    return selected_by_losses(cross_entropy, plan, *operands)


def selected_log_softmax(plan: Plan, x: Array, ids: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """-loss of the most probable id, and the distance of the other logits to its logit."""
    check_ids(plan, ids)
    value: Array = _jitted_selected(plan, x, ids, where, temperature, softcap)
    return value


kl_divergence = jitted(generic.kl_divergence)
js_divergence = jitted(generic.js_divergence)
softmax_mean = jitted(generic.softmax_mean)
