"""softmax, log_softmax, logsumexp and their gradients: from arrays to kernels and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import FLOATS, dtype_name, namespace_dtype
from logitx._arrays.overlap import overlaps_itself
from logitx._plan import Array, Plan, Scalar
from logitx.backends.numba.arrays import (
    CLASS_AXIS,
    HELD,
    broadcast_view_3d,
    checked_code,
    decode_bfloat16,
    empty_3d,
    given_back,
    has_slabs_together,
    output_view,
    rounded_to_dtype,
    scaling_array,
    static_flag,
    stored,
    view_3d,
    with_slabs_together,
)
from logitx.backends.numba.kernels.logsumexp import LogsumexpArrays, LogsumexpLongArrays, logsumexp_long, logsumexp_rows
from logitx.backends.numba.kernels.logsumexp_woven import logsumexp_woven
from logitx.backends.numba.kernels.signature import Dtypes, compiled_kernel
from logitx.backends.numba.kernels.softmax import (
    NormalizeArrays,
    NormalizeLongArrays,
    NormalizeOptions,
    normalize,
    normalize_long,
)
from logitx.backends.numba.kernels.softmax_woven import normalize_woven
from logitx.backends.numba.kernels.vjp import PullBackArrays, PullBackOptions, pull_back
from logitx.backends.numba.kernels.vjp_woven import pull_back_woven
from logitx.backends.numba.memory.arguments import OK
from logitx.backends.numba.passes.rows_or_columns import FEW_TO_PULL_BACK, is_across, is_long, is_woven
from logitx.backends.numba.threads.policy import CREW, SERIAL_BYTES, parts_for
from logitx.backends.protocol import Prepared


def prepare_softmax_kernel(
    plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, given: Array
) -> Prepared | None:
    """Return softmax or log_softmax with all arguments of its kernel but the arrays."""
    if plan.scalar or where is not None or (given is not None and not given.dtype.isnative):
        return None
    if is_woven(plan):
        return None if temperature is not None or softcap is not None else _prepare_woven_softmax(plan, x.nbytes)
    kernel, options, (across, log, adjusted), heat, cap = _settled(plan, False, temperature, softcap)
    shape, dtype, axis, nbytes = plan.layout.given, namespace_dtype(np, plan.result), plan.layout.axis, x.nbytes
    empty, crew, options = np.empty, CREW, options._replace(axis=axis)

    def call(x: Array, out: Array) -> Array | None:
        if out is None:
            out = empty(shape, dtype)
        elif not _is_apart(x, out):
            return None
        parts = 1 if nbytes < SERIAL_BYTES else parts_for(nbytes)
        if kernel((x, None, heat, cap, out), options, across, log, adjusted, parts, crew.address) == OK:
            return out
        return None

    return call


def _prepare_woven_softmax(plan: Plan, nbytes: int) -> Prepared:
    kernel, (log, keeping) = _plain_kernel(plan)
    shape, dtype, options = plan.layout.given, namespace_dtype(np, plan.result), _options(plan, plan.layout.axis)

    def call(x: Array, out: Array) -> Array | None:
        if out is None:
            out = np.empty(shape, dtype)
        elif not _is_apart(x, out):
            return None
        code = kernel(NormalizeLongArrays(x, out, None, None), options, log, keeping, parts_for(nbytes), CREW.address)
        return out if code == OK else None  # the entries of a slab may not lie together

    return call


def _is_apart(x: Array, out: Array) -> bool:
    """True if a kernel may write to `out` while it reads `x`: `out` is `x` itself, or apart from it."""
    flags = out.flags
    distinct = flags.forc or not overlaps_itself(out)
    return flags.writeable and distinct and (out is x or not np.may_share_memory(out, x))


def prepare_logsumexp_kernel(plan: Plan, x: Array, b: Array, where: Array, log_b: Array) -> Prepared | None:
    """Return logsumexp with all arguments of its kernel but the arrays."""
    if b is not None or where is not None or log_b is not None or plan.return_sign:
        return None
    if is_woven(plan):
        return _prepare_woven_logsumexp(plan, x.nbytes)
    across, shape = is_across(plan), plan.layout.kept if plan.keepdims else plan.layout.rows
    kernel = compiled_kernel(logsumexp_rows, (across, None), Dtypes(plan.dtype, plan.compute, plan.result))
    dtype, axis, nbytes, empty, crew = namespace_dtype(np, plan.result), plan.layout.axis, x.nbytes, np.empty, CREW
    scalar = FAMILIES[plan.family].scalar

    def call(x: Array, _out: None) -> Array | None:
        value = empty(shape, dtype)
        parts = 1 if nbytes < SERIAL_BYTES else parts_for(nbytes)
        if kernel((x, None, None, None, None, value, None), axis, across, None, parts, crew.address) == OK:
            return value if shape else scalar(value)
        return None

    return call


def _prepare_woven_logsumexp(plan: Plan, nbytes: int) -> Prepared:
    kernel = compiled_kernel(logsumexp_woven, (), Dtypes(plan.dtype, plan.compute, plan.result))
    shape, dtype = plan.layout.kept if plan.keepdims else plan.layout.rows, namespace_dtype(np, plan.result)

    def call(x: Array, _out: None) -> Array | None:
        value = np.empty(shape, dtype)
        arrays = LogsumexpLongArrays(x, value, None, None)
        return value if kernel(arrays, plan.layout.axis, parts_for(nbytes), CREW.address) == OK else None

    return call


def prepare_vjp_kernel(plan: Plan, value: Array, cotangent: Array) -> Prepared | None:
    """Return softmax_vjp or log_softmax_vjp with all arguments of its kernel but the arrays."""
    given = dtype_name(cotangent.dtype)
    if plan.scalar or given not in FLOATS or not getattr(cotangent.dtype, "isnative", True):
        return None
    log = plan.op == "log_softmax_vjp"
    options, (entry, way) = PullBackOptions(plan.layout.axis, log), _pull_back_way(plan, log)
    kernel = compiled_kernel(entry, (way,), Dtypes(plan.dtype, plan.compute, plan.result, other=given))
    shape, dtype, nbytes = plan.layout.given, namespace_dtype(np, plan.result), value.nbytes
    empty, crew = np.empty, CREW

    def call(value: Array, cotangent: Array) -> Array | None:
        out = empty(shape, dtype)
        parts = 1 if nbytes < SERIAL_BYTES else parts_for(nbytes)
        if kernel((value, cotangent, out, None), options, way, parts, crew.address) == OK:
            return out
        return None

    return call


def softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """exp(x - max) / sum of exp(x - max)."""
    return _run_softmax_kernel(plan, x, where, temperature, softcap, out)


def log_softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """(x - max) - log(sum of exp(x - max))."""
    return _run_softmax_kernel(plan, x, where, temperature, softcap, out)


def _settled(plan: Plan, masked: bool, temperature: Scalar, softcap: Scalar) -> tuple[Any, ...]:
    """Return (kernel, options, ways, temperature, softcap) of `normalize`: all but the arrays of the logits' shape."""
    heat, cap = scaling_array(plan, temperature, "float64"), scaling_array(plan, softcap, plan.compute)
    adjusted = True if masked or heat is not None or cap is not None else None
    ways = is_across(plan), True if plan.op == "log_softmax" else None, adjusted
    kernel = compiled_kernel(normalize, ways, Dtypes(stored(plan.dtype, plan.compute), plan.compute, plan.result))
    return kernel, _options(plan, CLASS_AXIS), ways, heat, cap


def _options(plan: Plan, axis: int) -> NormalizeOptions:
    return NormalizeOptions(axis, np.nan if plan.empty == "nan" else 0.0)


def _plain_kernel(plan: Plan) -> tuple[Any, tuple[Any, Any]]:
    """Return the kernel of long or woven rows, which nothing masks or scales, and its ways."""
    log = static_flag(plan.op == "log_softmax")
    ways = log, static_flag(log is None and plan.result == plan.compute)
    dtypes = Dtypes(stored(plan.dtype, plan.compute), plan.compute, plan.result)
    return compiled_kernel(normalize_long if is_long(plan) else normalize_woven, ways, dtypes), ways


def _run_softmax_kernel(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    result, held = plan.result, stored(plan.dtype, plan.compute)
    view = view_3d(plan, x, plan.dtype, held)
    mask = None if where is None else view_3d(plan, where, "bool", "bool")
    written = None if out is None else output_view(plan, out, result)
    plain = mask is None and temperature is None and softcap is None
    if plain and is_woven(plan) and written is not None and not has_slabs_together(written):
        written = None
    direct = written is not None
    if written is None:
        written = empty_3d(plan, result)
    if plain and (is_long(plan) or is_woven(plan)):
        _run_plain_kernel(plan, view, written)
    else:
        kernel, options, ways, heat, cap = _settled(plan, mask is not None, temperature, softcap)
        arrays = NormalizeArrays(view, mask, heat, cap, written)
        checked_code(kernel(arrays, options, *ways, parts_for(view.nbytes), CREW.address))
    return out if direct else given_back(plan, written, result, plan.layout.shape)


def _run_plain_kernel(plan: Plan, view: Array, written: Array) -> None:
    kernel, ways = _plain_kernel(plan)
    arrays = NormalizeLongArrays(view if is_long(plan) else with_slabs_together(view), written, None, None)
    checked_code(kernel(arrays, _options(plan, CLASS_AXIS), *ways, parts_for(view.nbytes), CREW.address))


def logsumexp(plan: Plan, x: Array, b: Array, where: Array, log_b: Array) -> tuple[Array, Array]:
    """max + log(sum of b exp(x - max)), and the sign of the sum."""
    compute, held, layout = plan.compute, stored(plan.dtype, plan.compute), plan.layout
    view = view_3d(plan, x, plan.dtype, held)
    mask = None if where is None else view_3d(plan, where, "bool", "bool")
    factor = None if b is None else view_3d(plan, b, dtype_name(b.dtype), compute)
    more = None if log_b is None else broadcast_view_3d(plan, log_b, compute)
    value = np.empty(layout.outer * layout.inner, HELD[plan.result])
    sign = np.empty_like(value) if plan.return_sign else None
    ways = is_across(plan), static_flag(mask is not None or factor is not None or more is not None)
    parts = parts_for(view.nbytes)
    if (is_long(plan) or is_woven(plan)) and ways[1] is None and sign is None:
        entry, view = (logsumexp_long, view) if is_long(plan) else (logsumexp_woven, with_slabs_together(view))
        kernel = compiled_kernel(entry, (), Dtypes(held, compute, plan.result))
        checked_code(kernel(LogsumexpLongArrays(view, value, None, None), CLASS_AXIS, parts, CREW.address))
    else:
        kernel = compiled_kernel(logsumexp_rows, ways, Dtypes(held, compute, plan.result))
        arrays = LogsumexpArrays(view, factor, more, mask, None, value, sign)
        checked_code(kernel(arrays, CLASS_AXIS, *ways, parts, CREW.address))
    found = given_back(plan, value, plan.result, layout.rows)
    return found, None if sign is None else given_back(plan, sign, plan.result, layout.rows)


def softmax_vjp(plan: Plan, p: Array, dp: Array) -> Array:
    """p (dp - sum of p dp)."""
    return _run_vjp_kernel(plan, p, dp, False)


def log_softmax_vjp(plan: Plan, log_p: Array, dlog_p: Array) -> Array:
    """dlog_p - p sum of dlog_p."""
    return _run_vjp_kernel(plan, log_p, dlog_p, True)


def _pull_back_way(plan: Plan, log: bool) -> tuple[Any, Any]:
    """Return the entry function for a gradient, and its way. In PyTorch the plan is that of the forward pass."""
    if is_woven(plan):
        return pull_back_woven, static_flag(log)
    return pull_back, is_across(plan, FEW_TO_PULL_BACK)


def _run_vjp_kernel(plan: Plan, value: Array, cotangent: Array, log: bool) -> Array:
    compute, held = plan.compute, stored(plan.dtype, plan.compute)
    dtype = dtype_name(cotangent.dtype)
    other = stored(dtype, compute)
    view, pulled = view_3d(plan, value, plan.dtype, held), view_3d(plan, cotangent, dtype, other)
    written, (entry, way) = empty_3d(plan, plan.result), _pull_back_way(plan, log)
    if is_woven(plan):
        view, pulled = with_slabs_together(view), with_slabs_together(pulled)
    elif way is not None:
        view, pulled = (one if one.strides[1] == one.itemsize else np.ascontiguousarray(one) for one in (view, pulled))
    kernel = compiled_kernel(entry, (way,), Dtypes(held, compute, plan.result, other=other))
    arrays, options = PullBackArrays(view, pulled, written, None), PullBackOptions(CLASS_AXIS, log)
    checked_code(kernel(arrays, options, way, parts_for(view.nbytes), CREW.address))
    return given_back(plan, written, plan.result, plan.layout.shape)


def merge_logsumexp(plan: Plan, a: Array, b: Array) -> Array:
    """max + log1p(exp(-|a - b|)); small, so NumPy's own function will do."""
    view = FAMILIES[plan.family].to_numpy
    with np.errstate(all="ignore"):
        one, two = (decode_bfloat16(view(x), dtype_name(x.dtype)).astype(plan.compute) for x in (a, b))  # type: ignore[misc]
        merged = np.logaddexp(one, two)
    return given_back(plan, rounded_to_dtype(merged, plan.result), plan.result, merged.shape)
