"""Every operation jitted, on every device, under every transformation: kernels on CPUs, the generic formulas elsewhere.

What computes is one primitive (`_primitive`): the formulas, which stand once, in `generic`, and on CPUs the Numba
kernels, called by XLA itself. What is added here are derivatives in closed form: of softmax, log-softmax and
log-sum-exp by way of the probabilities, of the cross-entropy by way of its fused gradient. Every rule is made of
functions that have derivatives themselves, so that they hold to every order, forward and in reverse.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._plan import Array, Plan, Scalar
from logitx.backends import generic
from logitx.backends.formulas.class_ids import refuse, sort_out
from logitx.backends.jax import linear
from logitx.backends.jax._calls import KINDS
from logitx.backends.jax._choice import refusal
from logitx.backends.jax._handlers import missing
from logitx.backends.jax._jacobians import product
from logitx.backends.jax._merged import merged_along
from logitx.backends.jax._primitive import run

_jit = functools.partial(jax.jit, static_argnums=0)
_custom = functools.partial(jax.custom_jvp, nondiff_argnums=(0,))


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
    reason = missing() or refusal(plan, operands)
    return f"jitted JAX with custom derivatives: {reason}" if reason else "jitted JAX, on CPUs around the Numba kernels"


# -- softmax, log-softmax, log-sum-exp --------------------------------------------------------------------------------


def _direction(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Array:
    """Return the tangent of (u - max u) / temperature; 0 where a logit is masked or -inf."""
    x, where, temperature, softcap = primals
    live = x != -jnp.inf if where is None else (x != -jnp.inf) & where
    axis, compute = plan.layout.axis, plan.compute

    def scaled(x: Array, temperature: Scalar, softcap: Scalar) -> Array:
        u = jnp.where(live, x.astype(compute), 0.0)
        u = u if softcap is None else softcap * jnp.tanh(u / softcap)
        # The shift changes no probability; without it a common offset would swamp the derivative by temperature.
        top = jax.lax.stop_gradient(jnp.max(jnp.where(live, u, -jnp.inf), axis=axis, keepdims=True))
        u = u - jnp.where(jnp.isfinite(top), top, 0.0)
        return u if temperature is None else u / temperature

    dx, _, dtemperature, dsoftcap = tangents
    _, direction = jax.jvp(scaled, (x, temperature, softcap), (dx, dtemperature, dsoftcap))
    return jnp.where(live, direction, 0.0)


@_custom
def _softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    (p,) = run(plan, x, where, temperature, softcap)
    return p


@_softmax.defjvp
def _softmax_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    p = _softmax(plan, *primals)
    return p, product("softmax_vjp", plan, p, _direction(plan, primals, tangents), plan.result)


@_custom
def _log_softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    (log_p,) = run(plan, x, where, temperature, softcap)
    return log_p


@_log_softmax.defjvp
def _log_softmax_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    log_p = _log_softmax(plan, *primals)
    return log_p, product("log_softmax_jvp", plan, log_p, _direction(plan, primals, tangents), plan.result)


@_custom
def _logsumexp(plan: Plan, x: Array, where: Array) -> Array:
    (value,) = run(plan, x, where)
    return value


@_logsumexp.defjvp
def _logsumexp_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    value = _logsumexp(plan, *primals)
    p = _softmax(_with_zeros(plan), *primals, None, None).astype(plan.compute)
    direction = _direction(plan, (*primals, None, None), (*tangents, None, None))
    tangent = jnp.sum(p * direction, axis=plan.layout.axis)
    return value, tangent.astype(value.dtype)


@functools.lru_cache(maxsize=1024)
def _with_zeros(plan: Plan) -> Plan:
    return dataclasses.replace(plan, op="softmax", empty="zero")


@_jit
def softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """exp(x - max) / sum of exp(x - max)."""
    return _softmax(plan, x, where, temperature, softcap) if plan.layout.n else x.astype(plan.result)


@_jit
def log_softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """(x - max) - log(sum of exp(x - max))."""
    return _log_softmax(plan, x, where, temperature, softcap) if plan.layout.n else x.astype(plan.result)


@_jit
def logsumexp(plan: Plan, x: Array, b: Array, where: Array) -> tuple[Array, Array]:
    """max + log(sum of b exp(x - max)), and the sign of the sum."""
    if b is None and plan.layout.n:
        value = _logsumexp(plan, x, where)
        known = jax.lax.stop_gradient(value)
        return value, jnp.where(known == -jnp.inf, 0.0, jnp.where(jnp.isnan(known), known, jnp.ones_like(known)))
    return generic.logsumexp(plan, x, b, where)


# -- cross-entropy ----------------------------------------------------------------------------------------------------


@_custom
def _loss(plan: Plan, logits: Array, *operands: Any) -> Array:
    return run(plan, logits, *operands)[0]


@functools.lru_cache(maxsize=1024)
def _as(plan: Plan, op: str, exact: bool) -> Plan:
    """Return the plan of another operation on the same logits; an exact one does not round to the dtype of these."""
    return dataclasses.replace(plan, op=op, result=plan.compute if exact else plan.result)


@functools.partial(_loss.defjvp, symbolic_zeros=True)
def _loss_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    zero = jax.custom_derivatives.SymbolicZero
    by_logits, *others = (jax.tree.leaves(tangent) for tangent in tangents)
    if not isinstance(by_logits[0], zero) and all(isinstance(leaf, zero) for leaves in others for leaf in leaves):
        # By the logits alone: the loss is linear in their tangent, with the fused gradient for factors.
        loss, dlogits = _both(_as(plan, "cross_entropy_value_and_grad", False), *primals)
        terms = dlogits.astype(plan.compute) * tangents[0].astype(plan.compute)
        axes = plan.layout.axis if plan.reduction == "none" else None
        return loss, jnp.sum(terms, axis=axes).astype(loss.dtype)
    dense = jax.tree.map(
        lambda tangent: jnp.zeros(tangent.shape, tangent.dtype) if isinstance(tangent, zero) else tangent,
        tangents,
        is_leaf=lambda tangent: isinstance(tangent, zero),
    )
    loss, tangent = jax.jvp(lambda *values: generic.cross_entropy(plan, *values)[0], primals, dense)
    return loss, tangent


@_custom
def _both(plan: Plan, *operands: Any) -> tuple[Array, ...]:
    return run(plan, *operands)


@_both.defjvp
def _both_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    def formulas(*operands: Any) -> tuple[Array, ...]:
        found = generic.cross_entropy_value_and_grad(plan, *operands)
        return found if plan.return_parts else found[:2]

    return jax.jvp(formulas, primals, tangents)


@_jit
def _cross_entropy(plan: Plan, *operands: Any) -> tuple[Array, Array, Array]:
    if plan.return_parts:
        return generic.cross_entropy(plan, *operands)
    return _loss(plan, *operands), None, None


@_jit
def _value_and_grad(plan: Plan, *operands: Any) -> tuple[Array, Array, Array, Array]:
    loss, gradient, *parts = _both(plan, *operands)
    return loss, gradient, *(parts or (None, None))


_grad_hess = _jit(generic.cross_entropy_grad_hess)


def _checked(plan: Plan, targets: Array) -> None:
    """Raise for a class id out of range where the targets are concrete and on the CPU; NaN marks it elsewhere."""
    if plan.hard and FAMILIES[plan.family].readable(targets):
        ids = np.asarray(targets)  # no copy on the CPU
        refuse(plan, np, ids, sort_out(plan, np, ids.astype(np.int64))[1])


def cross_entropy(
    plan: Plan,
    logits: Array,
    targets: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
    where: Array,
) -> tuple[Array, Array, Array]:
    """s [sum of class_weight q ((max - x) + log(sum)) + z_loss c logZ^2], reduced."""
    _checked(plan, targets)
    result: tuple[Array, Array, Array] = _cross_entropy(
        plan, logits, targets, class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature, where
    )
    return result


def cross_entropy_value_and_grad(
    plan: Plan,
    logits: Array,
    targets: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
    where: Array,
) -> tuple[Array, Array, Array, Array]:
    """The loss and its gradient by the logits."""
    _checked(plan, targets)
    result: tuple[Array, Array, Array, Array] = _value_and_grad(
        plan, logits, targets, class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature, where
    )
    return result


def cross_entropy_grad_hess(
    plan: Plan, logits: Array, targets: Array, class_weight: Array, sample_weight: Array
) -> tuple[Array, Array]:
    """The gradient and the diagonal of the Hessian of the summed loss."""
    _checked(plan, targets)
    result: tuple[Array, Array] = _grad_hess(plan, logits, targets, class_weight, sample_weight)
    return result


def linear_cross_entropy(
    plan: Plan,
    hidden: Array,
    weight: Array,
    targets: Array,
    bias: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
) -> Array:
    """The cross-entropy of hidden @ weight.T + bias."""
    _checked(plan, targets)
    return linear.value(
        plan, hidden, weight, targets, bias, class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature
    )


def linear_cross_entropy_value_and_grad(
    plan: Plan,
    hidden: Array,
    weight: Array,
    targets: Array,
    bias: Array,
    class_weight: Array,
    sample_weight: Array,
    label_smoothing: Scalar,
    z_loss: Scalar,
    softcap: Scalar,
    temperature: Scalar,
) -> tuple[Array, Array, Array, Array]:
    """The loss, and with g its gradient by the logits: g @ weight, g.T @ hidden and the sum of g over the rows."""
    _checked(plan, targets)
    result: tuple[Array, Array, Array, Array] = linear.value_and_grad(
        plan, hidden, weight, targets, bias, class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature
    )
    return result


# -- gradients of probabilities, and merging --------------------------------------------------------------------------


@_jit
def softmax_vjp(plan: Plan, p: Array, dp: Array) -> Array:
    """p (dp - sum of p dp)."""
    return product("softmax_vjp", plan, p, dp, plan.result)


@_jit
def log_softmax_vjp(plan: Plan, log_p: Array, dlog_p: Array) -> Array:
    """dlog_p - p sum of dlog_p."""
    return product("log_softmax_vjp", plan, log_p, dlog_p, plan.result)


@_jit
def merge_logsumexp(plan: Plan, a: Array, b: Array) -> Array:
    """max + log1p(exp(-|a - b|)); or, along axes of a mesh, max + log1p(sum of exp(a - max), one maximum left out)."""
    return merged_along(plan, a) if plan.axis_name else generic.merge_logsumexp(plan, a, b)
