"""TensorFlow tensors that are differentiated or traced: custom gradients around the kernels and the formulas.

Eager tensors under a tape run on the kernels, in both passes. Traced calls (`tf.function`, Keras), and gradients that a
tape records for a second derivative, run on the formulas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from logitx._arrays import tensorflow as xp
from logitx._options import LossOptions, flat, nested
from logitx._plan import Array, Plan, Scalar
from logitx.backends import generic, numba
from logitx.backends.formulas.log_space import add_log_factors
from logitx.backends.formulas.numbers import softcap_slope

_FORMULAS = "differentiated by way of the formulas"
DECLINES = {
    "focal_loss": "differentiated by way of the formulas",
    "focal_loss_value_and_grad": "differentiated by way of the formulas",
    "cross_entropy_value_and_grad": "differentiated by way of the formulas",
    "cross_entropy_grad_hess": "differentiated by way of the formulas",
    "linear_cross_entropy": "differentiated by way of the formulas",
    "linear_cross_entropy_value_and_grad": "differentiated by way of the formulas",
    "entropy": "differentiated by way of the formulas",
    "selected_log_softmax": "differentiated by way of the formulas",
    "js_divergence": "differentiated by way of the formulas",
    "kl_divergence": "differentiated by way of the formulas",
    "softmax_mean": "differentiated by way of the formulas",
    "softmax_vjp": "differentiated by way of the formulas",
    "log_softmax_vjp": "differentiated by way of the formulas",
    "merge_logsumexp": "differentiated by way of the formulas",
    "sigmoid": "differentiated by way of the formulas",
    "log_sigmoid": "differentiated by way of the formulas",
    "binary_cross_entropy": "differentiated by way of the formulas",
    "binary_cross_entropy_value_and_grad": "differentiated by way of the formulas",
    "binary_cross_entropy_grad_hess": "differentiated by way of the formulas",
    "log_matmul": "differentiated by way of the formulas",
    "logcumsumexp": "differentiated by way of the formulas",
    "segment_softmax": "differentiated by way of the formulas",
    "segment_log_softmax": "differentiated by way of the formulas",
    "segment_logsumexp": "differentiated by way of the formulas",
    "segment_cross_entropy": "differentiated by way of the formulas",
}


def accepts(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return None where a gradient may be asked for, else the reason why not."""
    if plan.op in DECLINES:
        return DECLINES[plan.op]
    if plan.dtype.startswith("complex"):
        return "complex numbers are summed by the formulas"
    by_factors = plan.op == "logsumexp" and operands[3] is not None and xp.recorded(operands[3])
    if _held_on_cpu(operands) and not (by_factors or xp.recorded(operands[0])):
        return "no tape watches the logits"
    if plan.layout.n == 0:
        return "there are no classes"
    if plan.op == "logsumexp" and operands[1] is not None:
        return f"b: its sums are {_FORMULAS}"
    return f"the parts of a loss are {_FORMULAS}" if plan.return_parts else None


def _held_on_cpu(operands: tuple[Any, ...]) -> bool:
    """True if all tensors hold data on the CPU."""
    return all(xp.readable(one) for one in operands if tf.is_tensor(one))


def _part_of_gradient(op: str, plan: Plan, *operands: Any) -> Any:
    """Run an operation of the backward pass: on the formulas if a tape records it, else on the kernels."""
    backend = numba if _held_on_cpu(operands) and not xp.recording() else generic
    return getattr(backend, op)(plan, *operands)


Forward = Callable[..., tuple[Array, tuple[Any, ...]]]  # (backend, *operands) -> (value, what the gradient needs)
Backward = Callable[..., Array]  # (gradient by the value, what the gradient needs) -> gradient by the logits


def _differentiable(forward: Forward, backward: Backward, operands: tuple[Any, ...]) -> Array:
    """Compute `forward`; its gradient by the logits is `backward`, by other operands that of the formulas."""
    held = _held_on_cpu(operands)
    others = [
        i
        for i, one in enumerate(operands)
        if i and tf.is_tensor(one) and one.dtype.is_floating and (not held or xp.recorded(one))
    ]

    def filled(tensors: tuple[Array, ...]) -> tuple[Any, ...]:
        given = dict(zip((0, *others), tensors, strict=True))
        return tuple(given.get(i, one) for i, one in enumerate(operands))

    @tf.custom_gradient
    def function(*tensors: Array) -> Any:
        value, kept = forward(numba if held else generic, *filled(tensors))

        def gradients(dvalue: Array) -> list[Array]:
            # Tapes take `kept` for a constant: for a second derivative, compute it again while the tape records
            needed = forward(generic, *filled(tensors))[1] if xp.recording() else kept
            by_logits = backward(dvalue, *needed)
            if not others:
                return [by_logits]
            with tf.GradientTape() as tape:
                tape.watch(tensors[1:])
                formula, _ = forward(generic, *filled(tensors))
            return [by_logits, *tape.gradient(formula, tensors[1:], dvalue)]

        return value, gradients

    return function(*(operands[i] for i in (0, *others)))


def softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """exp(x - max) / sum of exp(x - max)."""
    return _normalized_with_gradient(plan, x, where, temperature, softcap)


def log_softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """(x - max) - log(sum of exp(x - max))."""
    return _normalized_with_gradient(plan, x, where, temperature, softcap)


def _normalized_with_gradient(plan: Plan, *operands: Any) -> Array:
    exact = dataclasses.replace(plan, dtype=plan.result, result=plan.compute)

    def forward(backend: Any, *operands: Any) -> tuple[Array, tuple[Any, ...]]:
        y = getattr(backend, plan.op)(plan, *operands, None)
        return y, (y, *operands)

    def backward(dy: Array, y: Array, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
        dx = _part_of_gradient(f"{plan.op}_vjp", exact, y, dy)
        if softcap is not None:
            u = tf.cast(x, dx.dtype)
            dx = dx * softcap_slope(tf, xp.where(tf.math.is_finite(u), u, 0.0), _cast_like(softcap, dx))
        dx = dx if temperature is None else dx / _cast_like(temperature, dx)
        return tf.cast(xp.where(x == -xp.inf, 0.0, dx), x.dtype)

    return _differentiable(forward, backward, operands)


def _cast_like(value: Scalar, like: Array) -> Scalar:
    return tf.cast(value, like.dtype) if tf.is_tensor(value) else value


def logsumexp(plan: Plan, x: Array, b: Array, where: Array, log_b: Array) -> tuple[Array, Array]:
    """max + log(sum of exp(x - max)), and the sign of the sum."""
    if log_b is not None:
        plan, x = add_log_factors(plan, x, log_b)
    exact = dataclasses.replace(plan, op="softmax", empty="zero", result=plan.compute)

    def forward(backend: Any, x: Array, where: Array) -> tuple[Array, tuple[Any, ...]]:
        return backend.logsumexp(plan, x, None, where, None)[0], (x, where)

    def backward(dvalue: Array, x: Array, where: Array) -> Array:
        p = _part_of_gradient("softmax", exact, x, where, None, None, None)
        dx = p * tf.cast(xp.reshape(dvalue, plan.layout.column), p.dtype)
        return tf.cast(xp.where((x == -xp.inf) | (p == 0.0), 0.0, dx), x.dtype)

    value = _differentiable(forward, backward, (x, where))
    if not plan.return_sign:
        return value, None
    sign = xp.where(value == -xp.inf, 0.0, xp.where(xp.isnan(value), value, xp.ones_like(value)))
    return value, xp.stop_gradient(sign)


def cross_entropy(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array, Array]:
    """s [sum of class_weight q ((max - x) + log(sum)) + z_loss c logZ^2], reduced; one pass makes the gradient too."""
    exact = dataclasses.replace(plan, result=plan.compute)  # not rounded before it is scaled

    def forward(backend: Any, *operands: Any) -> tuple[Array, tuple[Any, ...]]:
        loss, dlogits, *_ = backend.cross_entropy_value_and_grad(exact, *nested(plan.op, operands))
        return loss, (dlogits,)

    def backward(dloss: Array, dlogits: Array) -> Array:
        dloss = tf.cast(dloss, dlogits.dtype)
        dx = dlogits * (xp.reshape(dloss, plan.layout.column) if plan.reduction == "none" else dloss)
        return tf.cast(xp.where(dlogits == 0.0, 0.0, dx), logits.dtype)

    return _differentiable(forward, backward, flat((logits, targets, options))), None, None
