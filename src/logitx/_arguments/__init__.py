"""Every argument rule, once: what a user may pass, and the frozen Plan and operands that it becomes.

One function an operation. Each returns the plan and the operands in the order of the backend's signature, folded to one
class axis, with None for what is absent or has no effect. All argument errors are raised here, before anything runs;
only a class id out of range is found later, in the pass over the data.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Hashable
from typing import Any

from logitx._arguments import operands as _operands
from logitx._arguments import products as _products
from logitx._arguments.axes import layout as _layout
from logitx._arguments.labels import Labelled, Labels, bare, is_labelled, take_apart
from logitx._arguments.labels.layer import take_layer_apart
from logitx._arrays import FLOATS, Family, dtype_name, fold
from logitx._typing import Array, Plan

# The last only where arrays have labels, which are put back on the results.
Call = tuple[Plan, tuple[Any, ...]] | tuple[Plan, tuple[Any, ...], Labels]

_CHOICES = {"empty": ("nan", "zero"), "reduction": ("none", "sum", "mean")}


def choice(name: str, value: Any) -> None:
    """Check one of a few words."""
    if not isinstance(value, str) or value not in _CHOICES[name]:
        allowed = ", ".join(repr(one) for one in _CHOICES[name])
        raise ValueError(f"{name}: {value!r} is not allowed; allowed are {allowed}")


def _requested(dtype: Any, loss: bool) -> str | None:
    if dtype is None:
        return None
    allowed = FLOATS[2:] if loss else FLOATS
    try:
        name = dtype_name(dtype)
    except TypeError:
        name = ""
    if name not in FLOATS:
        raise TypeError(f"dtype: {dtype!r} is not allowed; allowed are None, {', '.join(allowed)}")
    if name not in allowed:
        raise ValueError(f"dtype: {name} is not allowed for a loss; allowed are None, {', '.join(allowed)}")
    return name


@functools.lru_cache(maxsize=1024)
def _dtypes(argument: str, given: str, default: str | None, asked: str | None, loss: bool) -> tuple[str, str, str]:
    """Return the names of the dtypes (computed in, of the result, of the loss): the one dtype rule."""
    if given not in FLOATS and given != "bool" and not _operands.is_integer(given):
        raise TypeError(f"{argument}: dtype {given} is not allowed; allowed are {', '.join(FLOATS)}, integers and bool")
    result = default or given
    compute = "float64" if "float64" in (given, result, asked) else "float32"
    if loss:
        return compute, result, asked or compute
    return compute, asked or result, compute


@functools.lru_cache(maxsize=4096, typed=True)
def _plan(
    op: str,
    argument: str,
    family: str,
    shape: tuple[int, ...],
    dtype: Any,
    axis: Any,
    default: str | None,
    requested: Any,
    loss: bool,
    facts: tuple[tuple[str, Any], ...],
) -> Plan:
    """Return the plan of a call; a signature that has been seen before costs one look-up."""
    for name, value in facts:
        if name in _CHOICES:
            choice(name, value)
    given = dtype_name(dtype)
    dtypes = _dtypes(argument, given, default, _requested(requested, loss), loss)
    return Plan(op, family, _layout(tuple(shape), axis), given, *dtypes, **dict(facts))


def _default_float(family: Family, x: Array) -> str | None:
    """Return what integers become; None for what is floating already (the default may change between calls)."""
    return None if dtype_name(x.dtype) in FLOATS else family.default_float(x)


def _start(
    op: str, argument: str, value: Any, axis: Any, requested: Any, loss: bool, facts: tuple[tuple[str, Any], ...]
) -> tuple[Family, Array, Plan]:
    """Recognize the array that decides, and look its plan up."""
    family, array = _operands.first(argument, value)
    if array is not value and array.ndim == 0:
        facts = (*facts, ("scalar", True))
    default = _default_float(family, array)
    plan = _planned(op, argument, family, array.shape, array.dtype, axis, default, requested, loss, facts)
    return family, array, plan


def _planned(op: str, argument: str, family: Family, *signature: Any) -> Plan:
    """Look a plan up. What cannot be hashed has none there: a length that is traced, or an option with a message."""
    try:
        return _plan(op, argument, family.name, *signature)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _plan.__wrapped__(op, argument, family.name, *signature)


first = _operands.first


def over_axis(
    op: str, x: Any, axis: Any, where: Any, temperature: Any, softcap: Any, empty: Any, dtype: Any, out: Any
) -> Call:
    """Check softmax and log_softmax."""
    try:
        family, array, plan = _start(op, "x", x, axis, dtype, False, (("empty", empty),))
    except Labelled:
        return take_apart(over_axis, op, x, axis, where, temperature, softcap, empty, dtype, out)
    lay = plan.layout
    where = _operands.like_logits("where", where, family, array, lay, "bool")
    temperature = _operands.scalar("temperature", temperature, 1.0, family, array, lay)
    softcap = _operands.scalar("softcap", softcap, None, family, array, lay)
    out = _operands.out(out, family, array, lay.given, plan.result)
    _operands.apart(out, where, family)
    return plan, (fold(family, array, lay), where, temperature, softcap, out)


def logsumexp(x: Any, axis: Any, b: Any, where: Any, keepdims: Any, return_sign: Any, dtype: Any, out: Any) -> Call:
    """Check logsumexp; `out` is the last operand, and no backend's."""
    facts = (("keepdims", bool(keepdims)), ("return_sign", bool(return_sign)))
    if b is not None:
        x = _operands.with_factors(x, b)
    try:
        family, array, plan = _start("logsumexp", "x", x, axis, dtype, False, facts)
    except Labelled:
        return take_apart(logsumexp, x, axis, b, where, keepdims, return_sign, dtype, out)
    lay = plan.layout
    b = _operands.like_logits("b", b, family, array, lay)
    where = _operands.like_logits("where", where, family, array, lay, "bool")
    out = _operands.out(out, family, array, lay.kept if plan.keepdims else lay.rows, plan.result)
    return plan, (fold(family, array, lay), b, where, out)


def _targets(plan: Plan, targets: Any, family: Family, logits: Array) -> Array:
    """Check the shape of the targets, and fold probabilities."""
    targets = _operands.adopt("targets", targets, family, logits)
    lay, shape, dtype = plan.layout, tuple(targets.shape), dtype_name(targets.dtype)
    if _operands.same(shape, lay.rows if plan.hard else lay.given):
        return targets if plan.hard else fold(family, targets, lay)
    fix = ""
    if plan.hard and shape == lay.given:
        fix = "; for one-hot targets pass argmax over the class axis, or convert them to floating point"
    elif plan.hard and shape == lay.kept:
        fix = "; remove the class axis of length 1, with squeeze or reshape"
    elif not plan.hard and shape in (lay.rows, lay.kept):
        fix = "; class ids must have an integer dtype, convert them with astype"
    what, allowed = ("class ids", lay.rows) if plan.hard else ("probabilities", lay.given)
    raise ValueError(f"targets: shape {shape} is not allowed; allowed for {what} ({dtype}) is exactly {allowed}{fix}")


def positive(name: str, value: Any) -> int:
    """Check an integer of 1 or more."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {value!r} is not allowed; allowed are integers of 1 or more") from None
    if number < 1:
        raise ValueError(f"{name}: {number} is not allowed; allowed are integers of 1 or more")
    return number


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
    labels = _labels(targets, ignore_index)
    facts = (("reduction", reduction), ("empty", empty), ("return_parts", bool(return_parts)), *labels)
    try:
        family, array, plan = _start(op, "logits", logits, axis, dtype, True, facts)
    except Labelled:
        return take_apart(
            cross_entropy, op, logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing,
            z_loss, softcap, temperature, where, reduction, empty, dtype, return_parts,
        )  # fmt: skip
    lay = plan.layout
    targets, class_weight, sample_weight = _loss(plan, family, array, targets, class_weight, sample_weight)
    label_smoothing = _operands.scalar("label_smoothing", label_smoothing, 0.0, family, array, lay)
    z_loss = _operands.scalar("z_loss", z_loss, 0.0, family, array, lay)
    softcap = _operands.scalar("softcap", softcap, None, family, array, lay)
    temperature = _operands.scalar("temperature", temperature, 1.0, family, array, lay)
    where = _operands.like_logits("where", where, family, array, lay, "bool")
    logits = fold(family, array, lay)
    return plan, (
        logits, targets, class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature, where
    )  # fmt: skip


def _labels(targets: Any, ignore_index: Any) -> tuple[tuple[str, Any], ...]:
    """Tell class ids from probabilities by the dtype."""
    dtype = _operands.dtype_of("targets", targets)
    hard = _operands.is_integer(dtype)
    if not hard and dtype not in FLOATS and is_labelled(targets):  # whose library may have dtypes of its own
        dtype = dtype_name(bare(targets, "targets").dtype)
        hard = _operands.is_integer(dtype)
    if not hard and dtype not in FLOATS:
        raise TypeError(f"targets: dtype {dtype} is not allowed; allowed are integer ids and floating probabilities")
    return ("hard", hard), ("ignore_index", _ignored_id(ignore_index, hard))


def _loss(
    plan: Plan, family: Family, logits: Array, targets: Any, class_weight: Any, sample_weight: Any
) -> tuple[Array, Array, Array]:
    lay = plan.layout
    if lay.n == 0:
        raise ValueError(f"logits: shape {lay.given} has no class along axis {lay.axes}; allowed are 1 or more")
    if lay.n is None:
        raise ValueError(
            f"logits: shape {lay.given} has no known length along axis {lay.axes}; allowed are known numbers of"
            " classes, set it with tensorflow.ensure_shape or compute_chunk_sizes of Dask"
        )
    targets = _targets(plan, targets, family, logits)
    class_weight = _operands.class_weight(class_weight, family, logits, lay)
    return targets, class_weight, _operands.sample_weight(sample_weight, family, logits, lay)


def cross_entropy_grad_hess(logits: Any, targets: Any, axis: Any, class_weight: Any, sample_weight: Any) -> Call:
    """Check cross_entropy_grad_hess."""
    facts = (("reduction", "sum"), *_labels(targets, None))
    try:
        family, array, plan = _start("cross_entropy_grad_hess", "logits", logits, axis, None, False, facts)
    except Labelled:
        return take_apart(cross_entropy_grad_hess, logits, targets, axis, class_weight, sample_weight)
    targets, class_weight, sample_weight = _loss(plan, family, array, targets, class_weight, sample_weight)
    return plan, (fold(family, array, plan.layout), targets, class_weight, sample_weight)


def linear_cross_entropy(
    op: str,
    hidden: Any,
    weight: Any,
    targets: Any,
    bias: Any,
    class_weight: Any,
    sample_weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    z_loss: Any,
    softcap: Any,
    temperature: Any,
    reduction: Any,
    empty: Any,
    block_bytes: Any,
) -> Call:
    """Check linear_cross_entropy and linear_cross_entropy_value_and_grad; the layout is that of the logits."""
    labels = _labels(targets, ignore_index)
    try:
        family, array = _operands.first("hidden", hidden)
    except Labelled:
        return take_layer_apart(
            linear_cross_entropy, op, hidden, weight, targets, bias, class_weight, sample_weight, ignore_index,
            label_smoothing, z_loss, softcap, temperature, reduction, empty, block_bytes,
        )  # fmt: skip
    array, weight, bias = _products.factors(family, array, weight, bias)
    gradients = tuple(dtype_name(one.dtype) for one in (array, weight, bias) if one is not None)
    facts = (
        ("reduction", reduction), ("empty", empty), ("gradients", gradients),
        ("block_bytes", positive("block_bytes", block_bytes)), *labels,
    )  # fmt: skip
    wide = "float64" if "float64" in gradients else None
    shape = (*array.shape[:-1], weight.shape[0])
    plan = _planned(op, "hidden", family, shape, array.dtype, -1, None, wide, True, facts)
    lay = plan.layout
    targets, class_weight, sample_weight = _loss(plan, family, array, targets, class_weight, sample_weight)
    label_smoothing = _operands.scalar("label_smoothing", label_smoothing, 0.0, family, array, lay)
    z_loss = _operands.scalar("z_loss", z_loss, 0.0, family, array, lay)
    softcap = _operands.scalar("softcap", softcap, None, family, array, lay)
    temperature = _operands.scalar("temperature", temperature, 1.0, family, array, lay)
    return plan, (
        array, weight, targets, bias, class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature
    )  # fmt: skip


def vjp(op: str, names: tuple[str, str], value: Any, cotangent: Any, axis: Any) -> Call:
    """Check softmax_vjp and log_softmax_vjp."""
    try:
        family, array, plan = _start(op, names[0], value, axis, None, False, ())
    except Labelled:
        return take_apart(vjp, op, names, value, cotangent, axis)
    cotangent = _operands.same_shape(names[1], cotangent, family, array, plan.layout, names[0])
    return plan, (fold(family, array, plan.layout), cotangent)


def _along(a: Any, b: Any, axis_name: Any) -> Call:
    """Check merge_logsumexp of one array along axes of a mesh."""
    if b is not None:
        raise ValueError(f"axis_name: {axis_name!r} is not allowed beside b; allowed is one of the two")
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    meshes = not is_labelled(a) and _operands.first("a", a)[0].meshes
    if not (meshes and names and all(isinstance(name, Hashable) for name in names)):
        raise ValueError(
            f"axis_name: {axis_name!r} is not allowed; allowed are None and, for JAX arrays, names of axes of a mesh"
        )
    _, one, plan = _start("merge_logsumexp", "a", a, (), None, False, (("axis_name", names),))
    return plan, (one, None)


def merge_logsumexp(a: Any, b: Any, axis_name: Any) -> Call:
    """Check merge_logsumexp: every element is a row of its own."""
    if axis_name is not None:
        return _along(a, b, axis_name)
    if b is None:
        raise TypeError("b: None is not allowed without axis_name; allowed is an array or a number")
    names = ("a", "b")
    if _operands.is_plain(a) and not _operands.is_plain(b):  # a number or list follows the other argument
        names, a, b = ("b", "a"), b, a
    try:
        family, one = _operands.first(names[0], a)
    except Labelled:
        return take_apart(merge_logsumexp, *((a, b) if names[0] == "a" else (b, a)), None)
    if is_labelled(b):
        return take_apart(merge_logsumexp, *((a, b) if names[0] == "a" else (b, a)), None)
    two = _operands.adopt(names[1], b, family, one)
    kinds = [
        _dtypes(n, dtype_name(x.dtype), _default_float(family, x), None, False)[1]
        for n, x in zip(names, (one, two), strict=True)
    ]
    result = kinds[0]
    if type(b) not in (int, float) and kinds[0] != kinds[1]:  # a plain number takes the dtype of the other
        result = "float32" if set(kinds) == {"float16", "bfloat16"} else max(kinds, key=FLOATS.index)
    try:
        one, two = family.namespace(one).broadcast_arrays(one, two)
    except (ValueError, RuntimeError, TypeError):
        shapes = f"{tuple(one.shape)} and {tuple(two.shape)}"
        raise ValueError(f"{names[1]}: shapes {shapes} do not broadcast; allowed are shapes that do") from None
    plan = _planned("merge_logsumexp", names[0], family, one.shape, one.dtype, (), kinds[0], result, False, ())
    return plan, (one, two) if names[0] == "a" else (two, one)
