"""Which calls this backend takes: all on JAX arrays; and what runs them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from logitx._arrays.families import FAMILIES
from logitx._options import flat
from logitx._plan import Plan
from logitx.backends.jax.kernel_calls import KINDS
from logitx.backends.jax.primitive import kernel_refusal
from logitx.backends.jax.registration import why_missing


def accepts(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Accept every JAX array and tracer."""
    return None


def explain(plan: Plan, operands: tuple[Any, ...]) -> str:
    """Say whether XLA calls the kernels, and if not why."""
    if plan.op.startswith("linear"):
        return "jitted JAX, block by block: products by XLA, what is between them as in cross_entropy"
    if plan.op not in KINDS:
        return "jitted JAX: there are no kernels for this function"
    if not isinstance(operands[0], jax.core.Tracer) and not FAMILIES[plan.family].readable(operands[0]):
        return "jitted JAX with custom derivatives: the array is not on the CPU"
    reason = why_missing() or kernel_refusal(plan, flat(operands))
    if reason:
        return f"jitted JAX with custom derivatives: {reason}"
    others = plan.op != "logsumexp" and any(
        jnp.issubdtype(jnp.result_type(one), jnp.floating) for one in flat(operands)[1:] if one is not None
    )
    formulas = "; derivatives by other operands than the first are taken by way of the formulas" if others else ""
    return f"jitted JAX, on CPUs around the Numba kernels{formulas}"
