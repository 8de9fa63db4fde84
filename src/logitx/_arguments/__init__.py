"""Every argument rule, once: what a user may pass, and the frozen Plan and operands that it becomes.

One function an operation. Each returns the plan and the operands in the order of the backend's signature, folded to one
class axis, with None for what is absent or has no effect. All argument errors are raised here, before anything runs;
only a class id out of range is found later, in the pass over the data.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

from logitx._arguments import operands as _operands
from logitx._arguments.axes import layout as _layout
from logitx._arrays import FLOATS, Family, dtype_name, fold
from logitx._typing import Array, Layout, Plan

Call = tuple[Plan, tuple[Any, ...]]

_CHOICES = {"empty": ("nan", "zero"), "reduction": ("none", "sum", "mean")}


def _choice(name: str, value: Any) -> None:
    if not isinstance(value, str) or value not in _CHOICES[name]:
        allowed = ", ".join(repr(one) for one in _CHOICES[name])
        raise ValueError(f"{name}: {value!r} is not allowed; allowed are {allowed}")


def _default_float(family: Family, x: Array) -> str | None:
    """Return what integers become; None for what is floating already (the default may change between calls)."""
    return None if dtype_name(x.dtype) in FLOATS else family.default_float(x)


@functools.lru_cache(maxsize=4096, typed=True)
def _dtypes(name: str, dtype: Any, default: str | None, requested: Any, loss: bool) -> tuple[str, str, str, str]:
    """Return the names of the dtypes (of the input, computed in, of the result, of the loss): the one dtype rule."""
    given = dtype_name(dtype)
    if given not in FLOATS and given != "bool" and not _operands.is_integer(given):
        raise TypeError(f"{name}: dtype {given} is not allowed; allowed are {', '.join(FLOATS)}, integers and bool")
    result = given if default is None else default
    wide = {given, result}
    if requested is not None:
        asked = dtype_name(requested)
        allowed = FLOATS[2:] if loss else FLOATS
        if asked not in FLOATS:
            raise TypeError(f"dtype: {requested!r} is not allowed; allowed are None, {', '.join(allowed)}")
        if asked not in allowed:
            raise ValueError(f"dtype: {asked} is not allowed for a loss; allowed are None, {', '.join(allowed)}")
        wide.add(asked)
    compute = "float64" if "float64" in wide else "float32"
    if loss:
        return given, compute, result, compute if requested is None else asked
    return given, compute, result if requested is None else asked, compute


@functools.lru_cache(maxsize=4096, typed=True)
def _plan(op: str, family: str, lay: Layout, dtypes: tuple[str, str, str, str], **facts: Any) -> Plan:
    given, compute, result, loss = dtypes
    return Plan(op, family, lay, given, compute, result, loss, **facts)


def _request(family: Family, dtype: Any) -> Any:
    """Return a requested dtype in a form that can be hashed and compared across libraries."""
    if dtype is None or isinstance(dtype, str):
        return dtype
    try:
        return dtype_name(dtype)
    except TypeError:
        raise TypeError(f"dtype: {dtype!r} is not allowed; allowed are None, {', '.join(FLOATS)}") from None


def over_axis(
    op: str, x: Any, axis: Any, where: Any, temperature: Any, softcap: Any, empty: Any, dtype: Any, out: Any
) -> Call:
    """Check softmax and log_softmax."""
    family, array = _operands.first("x", x)
    _choice("empty", empty)
    dtypes = _dtypes("x", array.dtype, _default_float(family, array), _request(family, dtype), False)
    lay = _layout(tuple(array.shape), axis)
    where = _operands.like_logits("where", where, family, array, lay, "bool")
    temperature = _operands.scalar("temperature", temperature, 1.0, family, array, lay)
    softcap = _operands.scalar("softcap", softcap, None, family, array, lay)
    out = _operands.out(out, family, array, lay.given, dtypes[2])
    plan = _plan(op, family.name, lay, dtypes, empty=empty, scalar=array is not x and array.ndim == 0)
    return plan, (fold(family, array, lay), where, temperature, softcap, out)


def logsumexp(x: Any, axis: Any, b: Any, where: Any, keepdims: Any, return_sign: Any, dtype: Any, out: Any) -> Call:
    """Check logsumexp; `out` is the last operand, and no backend's."""
    family, array = _operands.first("x", x)
    dtypes = _dtypes("x", array.dtype, _default_float(family, array), _request(family, dtype), False)
    lay = _layout(tuple(array.shape), axis)
    b = _operands.like_logits("b", b, family, array, lay)
    where = _operands.like_logits("where", where, family, array, lay, "bool")
    keepdims, return_sign = bool(keepdims), bool(return_sign)
    out = _operands.out(out, family, array, lay.kept if keepdims else lay.rows, dtypes[2])
    plan = _plan("logsumexp", family.name, lay, dtypes, keepdims=keepdims, return_sign=return_sign)
    return plan, (fold(family, array, lay), b, where, out)


def _targets(targets: Any, family: Family, logits: Array, lay: Layout) -> tuple[bool, Array]:
    """Tell class ids from probabilities by the dtype, and check their shape."""
    targets = _operands.adopt("targets", targets, family, logits)
    dtype = dtype_name(targets.dtype)
    hard = _operands.is_integer(dtype)
    if not hard and dtype not in FLOATS:
        raise TypeError(
            f"targets: dtype {dtype} is not allowed; allowed are integer class ids and floating probabilities"
        )
    shape = tuple(targets.shape)
    if shape == (lay.rows if hard else lay.given):
        return hard, targets if hard else fold(family, targets, lay)
    fix = ""
    if hard and shape == lay.given:
        fix = "; for one-hot targets pass argmax over the class axis, or convert them to floating point"
    elif hard and shape == lay.kept:
        fix = "; remove the class axis of length 1, with squeeze or reshape"
    elif not hard and shape in (lay.rows, lay.kept):
        fix = "; class ids must have an integer dtype, convert them with astype"
    what, allowed = ("class ids", lay.rows) if hard else ("probabilities", lay.given)
    raise ValueError(f"targets: shape {shape} is not allowed; allowed for {what} ({dtype}) is exactly {allowed}{fix}")


def _ignored_id(ignore_index: Any, hard: bool) -> int | None:
    if ignore_index is None:
        return None
    try:
        if isinstance(ignore_index, bool):
            raise TypeError
        index = operator.index(ignore_index)
    except TypeError:
        raise TypeError(f"ignore_index: {ignore_index!r} is not allowed; allowed are an int or None") from None
    if not -(2**63) <= index < 2**63:
        raise ValueError(f"ignore_index: {index} is not allowed; allowed are 64-bit integers or None")
    if not hard and index >= 0:
        raise ValueError(f"ignore_index: {index} is not allowed with probabilities as targets; allowed is None")
    return index if hard else None


def cross_entropy(
    op: str,
    logits: Any,
    targets: Any,
    axis: Any,
    class_weight: Any,
    sample_weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    z_loss: Any,
    softcap: Any,
    temperature: Any,
    where: Any,
    reduction: Any,
    empty: Any,
    dtype: Any,
    return_parts: Any,
) -> Call:
    """Check cross_entropy and cross_entropy_value_and_grad."""
    family, array = _operands.first("logits", logits)
    _choice("reduction", reduction)
    _choice("empty", empty)
    dtypes = _dtypes("logits", array.dtype, _default_float(family, array), _request(family, dtype), True)
    lay, hard, targets, class_weight, sample_weight = _loss(family, array, targets, axis, class_weight, sample_weight)
    index = _ignored_id(ignore_index, hard)
    label_smoothing = _operands.scalar("label_smoothing", label_smoothing, 0.0, family, array, lay)
    z_loss = _operands.scalar("z_loss", z_loss, 0.0, family, array, lay)
    softcap = _operands.scalar("softcap", softcap, None, family, array, lay)
    temperature = _operands.scalar("temperature", temperature, 1.0, family, array, lay)
    where = _operands.like_logits("where", where, family, array, lay, "bool")
    plan = _plan(
        op, family.name, lay, dtypes, reduction=reduction, empty=empty, hard=hard, ignore_index=index,
        return_parts=bool(return_parts), scalar=array is not logits and array.ndim == 0,
    )  # fmt: skip
    logits = fold(family, array, lay)
    return plan, (
        logits, targets, class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature, where
    )  # fmt: skip


def _loss(
    family: Family, logits: Array, targets: Any, axis: Any, class_weight: Any, sample_weight: Any
) -> tuple[Layout, bool, Array, Array, Array]:
    lay = _layout(tuple(logits.shape), axis)
    if lay.n == 0:
        raise ValueError(f"logits: shape {lay.given} has no class along axis {axis}; allowed are 1 or more")
    hard, targets = _targets(targets, family, logits, lay)
    class_weight = _operands.class_weight(class_weight, family, logits, lay)
    sample_weight = _operands.sample_weight(sample_weight, family, logits, lay)
    return lay, hard, targets, class_weight, sample_weight


def cross_entropy_grad_hess(logits: Any, targets: Any, axis: Any, class_weight: Any, sample_weight: Any) -> Call:
    """Check cross_entropy_grad_hess."""
    family, array = _operands.first("logits", logits)
    dtypes = _dtypes("logits", array.dtype, _default_float(family, array), None, False)
    lay, hard, targets, class_weight, sample_weight = _loss(family, array, targets, axis, class_weight, sample_weight)
    scalar = array is not logits and array.ndim == 0
    plan = _plan("cross_entropy_grad_hess", family.name, lay, dtypes, reduction="sum", hard=hard, scalar=scalar)
    return plan, (fold(family, array, lay), targets, class_weight, sample_weight)


def vjp(op: str, names: tuple[str, str], value: Any, cotangent: Any, axis: Any) -> Call:
    """Check softmax_vjp and log_softmax_vjp."""
    family, array = _operands.first(names[0], value)
    dtypes = _dtypes(names[0], array.dtype, _default_float(family, array), None, False)
    lay = _layout(tuple(array.shape), axis)
    cotangent = _operands.same_shape(names[1], cotangent, family, array, lay, names[0])
    plan = _plan(op, family.name, lay, dtypes, scalar=array is not value and array.ndim == 0)
    return plan, (fold(family, array, lay), cotangent)


def merge_logsumexp(a: Any, b: Any) -> Call:
    """Check merge_logsumexp: every element is a row of its own."""
    family, first = _operands.first("a", a)
    second, names = b, ("a", "b")
    if family.name == "numpy" and not isinstance(a, type(first)) and b is not a:  # a number or list follows the other
        family, first = _operands.first("b", b)
        second, names = a, ("b", "a")
    second = _operands.adopt(names[1], second, family, first)
    dtypes = _merged_dtypes(names, family, first, second, b if names[0] == "a" else a)
    xp = family.namespace(first)
    try:
        first, second = xp.broadcast_arrays(first, second)
    except (ValueError, RuntimeError, TypeError):
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"{names[1]}: shapes {shapes} do not broadcast; allowed are shapes that do") from None
    lay = _layout(tuple(first.shape), ())
    plan = _plan("merge_logsumexp", family.name, lay, dtypes)
    return plan, (first, second) if names[0] == "a" else (second, first)


def _merged_dtypes(
    names: tuple[str, str], family: Family, first: Array, second: Array, given: Any
) -> tuple[str, str, str, str]:
    one = _dtypes(names[0], first.dtype, _default_float(family, first), None, False)
    two = _dtypes(names[1], second.dtype, _default_float(family, second), None, False)
    if type(given) in (int, float) or one[2] == two[2]:  # a plain number takes the dtype of the other
        return one
    wider = max(one[2], two[2], key=FLOATS.index)
    result = "float32" if {one[2], two[2]} == {"float16", "bfloat16"} else wider
    compute = "float64" if result == "float64" else "float32"
    return one[0], compute, result, compute
