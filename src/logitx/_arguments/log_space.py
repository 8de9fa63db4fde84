"""Argument rules of log_matmul, logcumsumexp and logsumexp of complex numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from logitx._arguments import operands as _operands
from logitx._arguments.plans import default_float_of, dtypes_of, planned, start
from logitx._arrays.family import FLOATING, LONG_DOUBLE, Family, dtype_name
from logitx._arrays.folding import fold_axes
from logitx._labelled.table import is_labelled, parameters
from logitx._plan import Array, Call, Plan, unknown


def logcumsumexp(op: str, x: Any, axis: Any, reverse: Any) -> Call:
    """Check logcumsumexp."""
    family, array, plan = start(op, "x", x, axis, None, False, (("reverse", bool(reverse)),))
    if unknown(plan.layout.n):
        raise ValueError(
            f"x: shape {tuple(array.shape)} has a length along axis {axis} that is not known; allowed are known"
            " lengths, set them with tensorflow.ensure_shape or compute_chunk_sizes of Dask"
        )
    return Call(plan, (fold_axes(family, array, plan.layout),))


def log_matmul(op: str, a: Any, b: Any) -> Call:
    """Check log_matmul; the layout of the plan is that of `a`, with the axis that is summed over for classes."""
    family, one = _operands.first_array("a", a)
    if is_labelled(b):
        refuse_labels(log_matmul, op, a, b)
    two = _operands.adopt("b", b, family, one)
    for name, value in (("a", one), ("b", two)):
        _operands.real(name, value, "real dtypes")
        if value.ndim == 0:
            raise ValueError(f"{name}: shape () is not allowed; allowed are vectors, matrices and stacks of matrices")
    inner, other = one.shape[-1], two.shape[0] if two.ndim == 1 else two.shape[-2]
    if not _operands.same_lengths((inner,), (other,)):
        raise ValueError(
            f"b: shape {tuple(two.shape)} is not allowed with a of shape {tuple(one.shape)}; allowed are {inner} rows"
        )
    try:
        np.broadcast_shapes(*(tuple(1 if unknown(d) else d for d in x.shape[:-2]) for x in (one, two)))
    except ValueError:
        raise ValueError(
            f"b: shape {tuple(two.shape)} is not allowed with a of shape {tuple(one.shape)}; allowed are axes before"
            " the last two that broadcast"
        ) from None
    pair = (("a", one, a), ("b", two, b))
    kinds = [
        dtypes_of(family.name, n, dtype_name(x.dtype), default_float_of(family, x), None, False)[1] for n, x, _ in pair
    ]
    result = "float32" if set(kinds) == {"float16", "bfloat16"} else max(kinds, key=FLOATING.index)
    plan = planned(op, "a", family, one.shape, one.dtype, -1, kinds[0], result, False, ())
    return Call(plan, (one, two))


def refuse_labels(check: Callable[..., Call], op: str, *arguments: Any) -> NoReturn:
    """Refuse labelled arrays: those of a product are not those of a factor."""
    name, value = next(pair for pair in zip(parameters(check)[1:], arguments, strict=True) if is_labelled(pair[1]))
    raise TypeError(f"{name}: {type(value).__name__} has labels, which a product has not; allowed are bare arrays")


def is_complex(value: Any) -> bool:
    """True for complex arrays, numbers and lists."""
    if isinstance(value, list | tuple):
        return any(map(is_complex, value))
    if isinstance(value, complex):
        return True
    return dtype_name(getattr(value, "dtype", "")).startswith("complex")


def complex_logsumexp(
    op: str, x: Any, out: Any, axis: Any, b: Any, where: Any, dtype: Any, log_b: Any, facts: tuple[tuple[str, Any], ...]
) -> Call:
    """Check logsumexp of complex numbers; the plan has the dtype of their parts, but for that of the first array."""
    for name, value in (("out", out), ("dtype", dtype)):
        if value is not None:
            raise TypeError(f"{name}: is not allowed for complex numbers; allowed is None")
    if b is not None and log_b is not None:
        raise TypeError("log_b: an array is not allowed beside b; allowed is one of the two")
    for factors in (b, log_b):
        x = x if factors is None else _operands.with_factors(x, factors)
    family, array = _operands.first_array("x", x)
    given = dtype_name(array.dtype)
    part = _PARTS.get(given) or default_float_of(family, array) or given
    part = "float32" if part in ("float16", "bfloat16") else part
    plan = planned(op, "x", family, array.shape, part, axis, None, None, False, facts)
    plan = dataclasses.replace(plan, dtype=_WHOLES[part], scalar=array is not x and array.ndim == 0)
    factors = [_like_logits(name, one, family, array, plan) for name, one in (("b", b), ("log_b", log_b))]
    where = _operands.like_logits("where", where, family, array, plan.layout, "bool")
    return Call(plan, (fold_axes(family, array, plan.layout), factors[0], where, factors[1]))


_PARTS = {np.dtype(np.clongdouble).name: LONG_DOUBLE, "complex64": "float32", "complex128": "float64"}
_WHOLES = {part: whole for whole, part in _PARTS.items()}


def _like_logits(name: str, value: Any, family: Family, x: Array, plan: Plan) -> Array:
    """Check and fold factors, complex or real."""
    lay = plan.layout
    if value is None or not is_complex(value):
        return _operands.like_logits(name, value, family, x, lay)
    value = _operands.adopt(name, value, family, x)
    if not _operands.broadcasts(tuple(value.shape), lay.given):
        raise ValueError(
            f"{name}: shape {tuple(value.shape)} is not allowed; allowed are shapes that broadcast to that of the"
            f" logits, {lay.given}"
        )
    return fold_axes(family, family.namespace(x).broadcast_to(value, lay.given), lay)
