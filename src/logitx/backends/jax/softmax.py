"""softmax, log_softmax, logsumexp and their gradients: derivatives around the primitive."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from logitx._plan import Array, Plan, Scalar
from logitx.backends import generic
from logitx.backends.formulas.log_space import add_log_factors
from logitx.backends.formulas.numbers import capped
from logitx.backends.jax import signed_sums
from logitx.backends.jax.cut_rows import merged_along
from logitx.backends.jax.jacobians import jacobian_product
from logitx.backends.jax.primitive import custom_jvp, jitted, run_primitive


def direction_of(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Array:
    """Return the tangent of (u - max u) / temperature; 0 where a logit is masked or -inf."""
    x, where, temperature, softcap = primals
    live = x != -jnp.inf if where is None else (x != -jnp.inf) & where
    axis, compute = plan.layout.axis, plan.compute

    def scaled(x: Array, temperature: Scalar, softcap: Scalar) -> Array:
        u = jnp.where(live, x.astype(compute), 0.0)
        u = capped(jnp, plan, u, softcap)
        # The shift changes no probability; without it a common offset would swamp the derivative by temperature.
        top = jax.lax.stop_gradient(jnp.max(jnp.where(live, u, -jnp.inf), axis=axis, keepdims=True))
        u = u - jnp.where(jnp.isfinite(top), top, 0.0)
        return u if temperature is None else u / temperature

    dx, _, dtemperature, dsoftcap = tangents
    _, direction = jax.jvp(scaled, (x, temperature, softcap), (dx, dtemperature, dsoftcap))
    return jnp.where(live, direction, 0.0)


@custom_jvp
def _softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    (p,) = run_primitive(plan, x, where, temperature, softcap)
    return p


@_softmax.defjvp
def _softmax_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    p = _softmax(plan, *primals)
    return p, jacobian_product("softmax_vjp", plan, p, direction_of(plan, primals, tangents), plan.result)


@custom_jvp
def differentiable_log_softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    """Return log-probabilities, with derivatives of every order."""
    (log_p,) = run_primitive(plan, x, where, temperature, softcap)
    return log_p


@differentiable_log_softmax.defjvp
def _log_softmax_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    log_p = differentiable_log_softmax(plan, *primals)
    return log_p, jacobian_product("log_softmax_jvp", plan, log_p, direction_of(plan, primals, tangents), plan.result)


@custom_jvp
def _logsumexp(plan: Plan, x: Array, where: Array) -> Array:
    (value,) = run_primitive(plan, x, where)
    return value


@_logsumexp.defjvp
def _logsumexp_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    value = _logsumexp(plan, *primals)
    p = _softmax(_with_zeros(plan), *primals, None, None).astype(plan.compute)
    direction = direction_of(plan, (*primals, None, None), (*tangents, None, None))
    tangent = jnp.sum(p * direction, axis=plan.layout.axis)
    return value, tangent.astype(value.dtype)


@custom_jvp
def _signed_logsumexp(plan: Plan, x: Array, b: Array, where: Array) -> tuple[Array, Array]:
    value, sign = run_primitive(plan, x, b, where)
    return value, sign


@_signed_logsumexp.defjvp
def _signed_logsumexp_jvp(plan: Plan, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return the tangent, sum of p (b dx + db) / sum of p b; by the formulas if a sum has no plain logarithm.

    Either way gives the slopes by x and b, since a branch that holds the tangents would keep all that it computes.
    """
    x, b, where = primals
    dx, db, _ = tangents
    found, axis = _signed_logsumexp(plan, *primals), plan.layout.axis
    used = b != 0.0 if where is None else (b != 0.0) & where
    p = _softmax(_with_zeros(plan), x, used, None, None)
    total = jnp.sum(p * b, axis=axis, keepdims=True)
    plain = jnp.all(jnp.isfinite(1.0 / total) & (total != 0.0))

    def by_kernels(x: Array, b: Array) -> tuple[Array, Array]:
        return (p * b / total).astype(plan.compute), (p / total).astype(plan.compute)

    def by_formulas(x: Array, b: Array) -> tuple[Array, Array]:
        value, pull_back = jax.vjp(
            lambda x, b: signed_sums.of_formulas(plan, x, b, where)[0], x, b.astype(plan.compute)
        )
        return tuple(one.astype(plan.compute) for one in pull_back(jnp.ones_like(value)))

    of_x, of_b = jax.lax.cond(plain, by_kernels, by_formulas, x, b)
    change = of_x * dx
    if db.dtype != jax.dtypes.float0:  # that of factors which are integers
        change = change + of_b * db
    tangent = jnp.sum(change, axis=axis).astype(plan.result)
    return found, (tangent, jnp.zeros_like(found[1]))


@functools.lru_cache(maxsize=1024)
def _with_sign(plan: Plan) -> Plan:
    return dataclasses.replace(plan, op="signed_logsumexp", return_sign=True)


@functools.lru_cache(maxsize=1024)
def _with_zeros(plan: Plan) -> Plan:
    return dataclasses.replace(plan, op="softmax", empty="zero", result=plan.compute)


@jitted
def softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """exp(x - max) / sum of exp(x - max)."""
    return _softmax(plan, x, where, temperature, softcap) if plan.layout.n else x.astype(plan.result)


@jitted
def log_softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """(x - max) - log(sum of exp(x - max))."""
    return differentiable_log_softmax(plan, x, where, temperature, softcap) if plan.layout.n else x.astype(plan.result)


@jitted
def logsumexp(plan: Plan, x: Array, b: Array, where: Array, log_b: Array) -> tuple[Array, Array]:
    """max + log(sum of b exp(x - max)), and the sign of the sum."""
    if plan.dtype.startswith("complex"):
        return generic.logsumexp(plan, x, b, where, log_b)
    if log_b is not None:
        plan, x = add_log_factors(plan, x, log_b)
    if b is None and plan.layout.n:
        value = _logsumexp(plan, x, where)
        known = jax.lax.stop_gradient(value)
        return value, jnp.where(known == -jnp.inf, 0.0, jnp.where(jnp.isnan(known), known, jnp.ones_like(known)))
    if b is None or not plan.layout.n:
        return generic.logsumexp(plan, x, b, where, None)
    value, sign = _signed_logsumexp(_with_sign(plan), x, b, where)
    if not plan.return_sign:  # NaN where negative; a NaN as such stops a program under `debug_nans` without jit
        value = value + jnp.log(jnp.where(sign < 0.0, -1.0, 1.0)).astype(value.dtype)
    return value, sign


@jitted
def softmax_vjp(plan: Plan, p: Array, dp: Array) -> Array:
    """p (dp - sum of p dp)."""
    return jacobian_product("softmax_vjp", plan, p, dp, plan.result)


@jitted
def log_softmax_vjp(plan: Plan, log_p: Array, dlog_p: Array) -> Array:
    """dlog_p - p sum of dlog_p."""
    return jacobian_product("log_softmax_vjp", plan, log_p, dlog_p, plan.result)


@jitted
def merge_logsumexp(plan: Plan, a: Array, b: Array) -> Array:
    """max + log1p(exp(-|a - b|)); or, along axes of a mesh, max + log1p(sum of exp(a - max), one maximum left out)."""
    return merged_along(plan, a) if plan.axis_name else generic.merge_logsumexp(plan, a, b)
