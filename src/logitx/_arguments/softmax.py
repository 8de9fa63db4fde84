"""Argument rules of softmax, log_softmax, logsumexp, their gradients and merge_logsumexp."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from logitx._arguments import operands as _operands
from logitx._arguments import out as _out
from logitx._arguments.log_space import complex_logsumexp, is_complex
from logitx._arguments.plans import default_float_of, dtypes_of, planned, start
from logitx._arguments.ranges import fit_factors, fit_numbers
from logitx._arguments.scaling import check_scaling
from logitx._arrays.family import FLOATING, dtype_name
from logitx._arrays.folding import fold_axes
from logitx._arrays.stacking import as_array
from logitx._labelled.table import Labelled, is_labelled
from logitx._plan import Call


def over_axis(
    op: str, x: Any, out: Any, axis: Any, where: Any, temperature: Any, softcap: Any, empty: Any, dtype: Any
) -> Call:
    """Check softmax and log_softmax."""
    family, array, plan = start(op, "x", x, axis, dtype, False, (("empty", empty),))
    lay = plan.layout
    where, temperature, softcap = check_scaling(where, temperature, softcap, family, array, lay)
    if out is not None:
        out = _out.out(out, family, array, lay.given, plan.result)
        _out.apart(out, {"where": where, "temperature": temperature, "softcap": softcap}, family)
    if softcap is not None or temperature is not None:
        plan = fit_numbers(plan, family, array, softcap, temperature)
    return Call(plan, (fold_axes(family, array, lay), where, temperature, softcap, out), out)


def logsumexp(
    op: str,
    x: Any,
    out: Any,
    axis: Any,
    b: Any,
    where: Any,
    keepdims: Any,
    return_sign: Any,
    dtype: Any,
    log_b: Any = None,
) -> Call:
    """Check logsumexp; the result is copied to `out` after the backend ran."""
    facts = (("keepdims", bool(keepdims)), ("return_sign", bool(return_sign)))
    if is_complex(x) or is_complex(b) or is_complex(log_b):
        return complex_logsumexp(op, x, out, axis, b, where, dtype, log_b, facts)
    if b is not None:
        x = _operands.with_factors(x, b)
    if log_b is not None:
        if b is not None:
            raise TypeError("log_b: an array is not allowed beside b; allowed is one of the two")
        x = _operands.with_factors(x, log_b)
    family, array, plan = start(op, "x", x, axis, dtype, False, facts)
    lay = plan.layout
    b = _operands.like_logits("b", b, family, array, lay)
    plan = fit_factors(plan, family, array, b)
    where = _operands.like_logits("where", where, family, array, lay, "bool")
    out = _out.out(out, family, array, lay.kept if plan.keepdims else lay.rows, plan.result)
    log_b = _operands.like_logits("log_b", log_b, family, array, lay)
    return Call(plan, (fold_axes(family, array, lay), b, where, log_b), out)


def softmax_vjp(op: str, p: Any, dp: Any, axis: Any) -> Call:
    """Check softmax_vjp."""
    return _vjp(op, ("p", "dp"), p, dp, axis)


def log_softmax_vjp(op: str, log_p: Any, dlog_p: Any, axis: Any) -> Call:
    """Check log_softmax_vjp."""
    return _vjp(op, ("log_p", "dlog_p"), log_p, dlog_p, axis)


def _vjp(op: str, names: tuple[str, str], value: Any, cotangent: Any, axis: Any) -> Call:
    family, array, plan = start(op, names[0], value, axis, None, False, ())
    cotangent = _operands.same_shape(names[1], cotangent, family, array, plan.layout, names[0])
    return Call(plan, (fold_axes(family, array, plan.layout), cotangent))


def _along(op: str, a: Any, b: Any, axis_name: Any) -> Call:
    """Check merge_logsumexp of one array along axes of a mesh."""
    if b is not None:
        raise ValueError(f"axis_name: {axis_name!r} is not allowed beside b; allowed is one of the two")
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    meshes = not is_labelled(a) and _operands.first_array("a", a)[0].meshes
    if not (meshes and names and all(isinstance(name, Hashable) for name in names)):
        raise ValueError(
            f"axis_name: {axis_name!r} is not allowed; allowed are None and, for JAX arrays, names of axes of a mesh"
        )
    _, one, plan = start(op, "a", a, (), None, False, (("axis_name", names),))
    return Call(plan, (one, None))


def merge_logsumexp(op: str, a: Any, b: Any, axis_name: Any) -> Call:
    """Check merge_logsumexp: every element is a row of its own."""
    if axis_name is not None:
        return _along(op, a, b, axis_name)
    if b is None:
        raise TypeError("b: None is not allowed without axis_name; allowed is an array or a number")
    names = ("a", "b")
    a, b = as_array(a), as_array(b)
    if _operands.is_plain(a) and not _operands.is_plain(b):  # a number or list follows the other argument
        names, a, b = ("b", "a"), b, a
    family, one = _operands.first_array(names[0], a)
    if is_labelled(b):
        raise Labelled
    two = _operands.adopt(names[1], b, family, one)
    kinds = [
        dtypes_of(family.name, n, dtype_name(x.dtype), default_float_of(family, x), None, False)[1]
        for n, x in zip(names, (one, two), strict=True)
    ]
    result = kinds[0]
    if type(b) not in (int, float) and kinds[0] != kinds[1]:  # a plain number takes the dtype of the other
        result = "float32" if set(kinds) == {"float16", "bfloat16"} else max(kinds, key=FLOATING.index)
    try:
        one, two = family.namespace(one).broadcast_arrays(one, two)
    except (ValueError, RuntimeError, TypeError):
        shapes = f"{tuple(one.shape)} and {tuple(two.shape)}"
        raise ValueError(f"{names[1]}: shapes {shapes} do not broadcast; allowed are shapes that do") from None
    plan = planned(op, names[0], family, one.shape, one.dtype, (), kinds[0], result, False, ())
    return Call(plan, (one, two) if names[0] == "a" else (two, one))
