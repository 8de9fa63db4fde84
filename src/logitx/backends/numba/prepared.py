"""Prepared calls: a kernel with all its arguments but the arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logitx._arrays.families import FAMILIES
from logitx._plan import Array, Plan
from logitx.backends.numba.arrays import stored
from logitx.backends.numba.cross_entropy import prepare_loss_kernel
from logitx.backends.numba.passes.rows_or_columns import is_long
from logitx.backends.numba.softmax import prepare_logsumexp_kernel, prepare_softmax_kernel, prepare_vjp_kernel
from logitx.backends.protocol import Prepared


def prepare(plan: Plan, operands: tuple[Any, ...]) -> Prepared | None:
    """Return softmax, log_softmax, one of their gradients, logsumexp or a loss with all but the arrays settled.

    These may have any strides.
    """
    family, x = FAMILIES[plan.family], operands[0]
    source = family.settles(type(x))
    if is_long(plan) or plan.layout.folds or stored(plan.dtype, plan.compute) != plan.dtype:
        return None
    if source is None:
        return _PREPARE_KERNEL[plan.op](plan, *operands) if x.dtype.isnative else None
    if "bfloat16" in (plan.dtype, plan.result):
        return None  # NumPy arrays of it are another library's
    inside = _PREPARE_KERNEL[plan.op](plan, source.memory(x), *operands[1:])
    return None if inside is None else _around(inside, source.memory, source.tensor)


def _around(inside: Prepared, memory: Callable[[Array], Array], back: Callable[[Array], Array]) -> Prepared:
    """Return a settled call on NumPy arrays as one on arrays of a family that shows its memory."""

    def call(x: Array, y: Array) -> Any:
        try:
            one = memory(x)
            other = None if y is None else memory(y)
        except (RuntimeError, TypeError):  # a tensor that requires grad, say, or lies elsewhere
            return None
        found = inside(one, other)
        if found is None:
            return None
        return tuple([back(one) for one in found]) if type(found) is tuple else back(found)

    return call


_PREPARE_KERNEL: dict[str, Callable[..., Prepared | None]] = {
    "softmax": prepare_softmax_kernel,
    "log_softmax": prepare_softmax_kernel,
    "logsumexp": prepare_logsumexp_kernel,
    "cross_entropy": prepare_loss_kernel,
    "cross_entropy_value_and_grad": prepare_loss_kernel,
    "softmax_vjp": prepare_vjp_kernel,
    "log_softmax_vjp": prepare_vjp_kernel,
}
