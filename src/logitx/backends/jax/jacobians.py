"""Products with the Jacobians of softmax and log-softmax: linear in the tangent, each the transpose of one of them.

A primitive, as JAX has no other way to say of a function that it is linear, what its transpose is, and how it is mapped
over batches. From that follow forward mode, reverse mode, `vmap` and every order.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from logitx._arrays.family import dtype_name
from logitx._plan import Array, Plan
from logitx.backends.jax.primitive import alike, lowered_for_devices, run_primitive, stretched

jacobian_p = Primitive("logitx_jacobian")

# diag(p) - p p^T is symmetric, I - 1 p^T (forward) and I - p 1^T (backward) are not
_TRANSPOSED = {
    "softmax_vjp": "softmax_vjp",
    "log_softmax_jvp": "log_softmax_vjp",
    "log_softmax_vjp": "log_softmax_jvp",
}


def jacobian_product(op: str, plan: Plan, value: Array, tangent: Array, dtype: str) -> Array:
    """Return the product of the Jacobian, given by the `value` of the function, with a tangent or cotangent."""
    exact = dataclasses.replace(plan, op=op, dtype=plan.result, result=dtype)
    return jacobian_p.bind(*alike(value, tangent), plan=exact)


def _live_operands(plan: Plan, value: Array, tangent: Array) -> tuple[Array, Array, Array]:
    """Return (mask of nonzero probabilities, probabilities, tangent set to 0 outside of the mask)."""
    value, tangent = value.astype(plan.compute), tangent.astype(plan.compute)
    live = value != (0.0 if plan.op == "softmax_vjp" else -jnp.inf)
    return live, value if plan.op == "softmax_vjp" else jnp.exp(value), jnp.where(live, tangent, 0.0)


def _computed(value: Array, tangent: Array, *, plan: Plan) -> Array:
    if plan.op != "log_softmax_jvp":
        (found,) = run_primitive(plan, value, tangent)
        return found
    live, p, tangent = _live_operands(plan, value, tangent)
    mean = jnp.sum(jnp.where(p == 0.0, 0.0, p * tangent), axis=plan.layout.axis, keepdims=True)
    return jnp.where(live, tangent - mean, 0.0).astype(plan.result)


def _by_value(dvalue: Array, value: Array, tangent: Array, *, plan: Plan) -> Array:
    """Return the derivative of the product by the value of the function."""
    live, p, tangent = _live_operands(plan, value, tangent)
    change = jnp.where(live, dvalue.astype(plan.compute), 0.0)
    total = functools.partial(jnp.sum, axis=plan.layout.axis, keepdims=True)
    if plan.op == "softmax_vjp":
        found = change * (tangent - total(p * tangent)) - p * total(change * tangent)
    elif plan.op == "log_softmax_jvp":
        found = -total(jnp.where(p == 0.0, 0.0, p * change * tangent)) + 0.0 * tangent
    else:
        found = -p * change * total(tangent)
    return jnp.where(live, found, 0.0).astype(plan.result)


def _transpose(cotangent: Any, value: Array, tangent: Any, *, plan: Plan) -> tuple[None, Any]:
    if type(cotangent) is ad.Zero:
        return None, ad.Zero(tangent.aval)
    back = dataclasses.replace(plan, op=_TRANSPOSED[plan.op], result=dtype_name(tangent.aval.dtype))
    return None, jacobian_p.bind(value, cotangent, plan=back)


def _batch_jacobian(arrays: tuple[Array, ...], dims: tuple[Any, ...], *, plan: Plan) -> tuple[Array, int]:
    size = next(x.shape[dim] for x, dim in zip(arrays, dims, strict=True) if dim is not None)
    moved = (
        jnp.broadcast_to(x, (size, *x.shape)) if dim is None else jnp.moveaxis(x, dim, 0)
        for x, dim in zip(arrays, dims, strict=True)
    )
    return jacobian_p.bind(*moved, plan=stretched(plan, size)), 0


@jacobian_p.def_abstract_eval
def _abstract_jacobian(value: Any, tangent: Any, *, plan: Plan) -> Any:
    return tangent.update(shape=plan.layout.shape, dtype=jnp.dtype(plan.result), weak_type=False)


jacobian_p.def_impl(functools.partial(jax.jit, static_argnames="plan")(_computed))
ad.defjvp(jacobian_p, _by_value, lambda dtangent, value, _, *, plan: jacobian_p.bind(value, dtangent, plan=plan))
ad.primitive_transposes[jacobian_p] = _transpose
batching.primitive_batchers[jacobian_p] = _batch_jacobian
lowered_for_devices(jacobian_p)
mlir.register_lowering(jacobian_p, mlir.lower_fun(_computed, multiple_results=False))
