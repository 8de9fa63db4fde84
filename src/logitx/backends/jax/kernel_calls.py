"""What each operation asks of XLA: which handler, with which operands and facts, for which results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from logitx._arrays.family import FLOATS, dtype_name
from logitx._options import LossOptions
from logitx._plan import Array, Plan
from logitx.backends.formulas.numbers import divisor
from logitx.backends.jax.registration import registered
from logitx.backends.xla.facts import CallFacts

# Of an operation's operands: of the shape of the logits, one number a row, that or a single one, one a class, one
ENTRIES, ROWS, ROWS_OR_ONE, CLASSES, ONE = range(5)
_LOSS_KINDS = (ENTRIES, ROWS, CLASSES, ROWS, ONE, ONE, ROWS_OR_ONE, ROWS_OR_ONE, ENTRIES)
KINDS = {
    "softmax": (ENTRIES, ENTRIES, ROWS_OR_ONE, ROWS_OR_ONE),
    "log_softmax": (ENTRIES, ENTRIES, ROWS_OR_ONE, ROWS_OR_ONE),
    "logsumexp": (ENTRIES, ENTRIES),
    "signed_logsumexp": (ENTRIES, ENTRIES, ENTRIES),
    "entropy": (ENTRIES, ENTRIES, ROWS_OR_ONE, ROWS_OR_ONE),
    "cross_entropy": _LOSS_KINDS,
    "cross_entropy_value_and_grad": _LOSS_KINDS,
    "softmax_vjp": (ENTRIES, ENTRIES),
    "log_softmax_vjp": (ENTRIES, ENTRIES),
    "reduce_rows": (ENTRIES, ENTRIES, ROWS_OR_ONE, ROWS_OR_ONE, ROWS),
}


def kinds(plan: Plan) -> tuple[int, ...]:
    """Return what each operand is one of."""
    given = KINDS[plan.op]
    if given is _LOSS_KINDS and not plan.hard:
        return (ENTRIES, ENTRIES, *given[2:])
    return given


def results(plan: Plan) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Return the shapes and dtypes of the results, without what nobody asked for."""
    lay = plan.layout
    full, loss = jax.ShapeDtypeStruct(lay.shape, plan.result), lay.rows if plan.reduction == "none" else ()
    if plan.op == "logsumexp":
        return (jax.ShapeDtypeStruct(lay.rows, plan.result),)
    if plan.op == "signed_logsumexp":
        return (jax.ShapeDtypeStruct(lay.rows, plan.result),) * 2
    if plan.op == "entropy":
        return (jax.ShapeDtypeStruct(lay.rows, plan.loss),)
    if plan.op == "reduce_rows":
        return (jax.ShapeDtypeStruct(lay.rows, plan.compute),) * 3
    if not plan.op.startswith("cross_entropy"):
        return (full,)
    value = jax.ShapeDtypeStruct(loss, plan.loss)
    parts = (value, jax.ShapeDtypeStruct(lay.rows, plan.loss)) if plan.return_parts else ()
    return (value, *parts) if plan.op == "cross_entropy" else (value, full, *parts)


class HandlerCall(NamedTuple):
    """A call of a handler."""

    handler: Any
    operands: tuple[Array, ...]
    facts: CallFacts


def _way(wanted: bool) -> bool | None:
    return True if wanted else None


def held_dtype(dtype: str, compute: str) -> str:
    """Return the dtype in which kernels read an array of `dtype`."""
    return dtype if dtype in FLOATS else compute


def _handler(kind: str, ways: tuple[bool | None, ...], **dtypes: str) -> Any:
    """Return the handler for a kernel; `dtypes` are the fields of a Dtypes."""
    from logitx.backends.numba.kernels.signature import Dtypes
    from logitx.backends.xla.handlers import Handler

    return Handler(kind, ways, Dtypes(**dtypes))


def _packed(operands: tuple[tuple[Array, str | None], ...], first: int) -> tuple[list[Array], list[int]]:
    """Return what is given, in the dtypes that kernels take, and at which index each is, 0 for none."""
    arrays: list[Array] = []
    places = []
    for operand, dtype in operands:
        places.append(0 if operand is None else first + len(arrays))
        if operand is not None:
            arrays.append(jnp.asarray(operand, dtype))
    return arrays, places


def _divisors(plan: Plan, *values: Array) -> tuple[tuple[Array, str], ...]:
    return tuple((divisor(plan, value), plan.compute) for value in values)


def _normalize_call(plan: Plan, x: Array, where: Array, temperature: Array, softcap: Array) -> HandlerCall:
    from logitx.backends.numba.passes.rows_or_columns import is_across, is_long, is_woven

    compute, store = plan.compute, held_dtype(plan.dtype, plan.compute)
    others, (at_where, at_heat, at_cap) = _packed(((where, "bool"), *_divisors(plan, temperature, softcap)), 1)
    log = _way(plan.op == "log_softmax")
    facts = CallFacts(plan.layout.axis, int(plan.empty == "nan"), where=at_where, temperature=at_heat, softcap=at_cap)
    if (is_long(plan) or is_woven(plan)) and not others:
        keeping = _way(log is None and plan.result == compute)
        kind = "normalize_long" if is_long(plan) else "normalize_woven"
        handler = _handler(kind, (log, keeping), logits=store, compute=compute, result=plan.result)
    else:
        ways = is_across(plan), log, _way(bool(others))
        handler = _handler("normalize", ways, logits=store, compute=compute, result=plan.result)
    return HandlerCall(handler, (x.astype(store), *others), facts)


def _logsumexp_call(plan: Plan, x: Array, where: Array) -> HandlerCall:
    from logitx.backends.numba.passes.rows_or_columns import is_across, is_long, is_woven

    compute, store = plan.compute, held_dtype(plan.dtype, plan.compute)
    others, (at_where,) = _packed(((where, "bool"),), 1)
    facts = CallFacts(plan.layout.axis, where=at_where)
    if (is_long(plan) or is_woven(plan)) and not others:
        kind = "reduce_long" if is_long(plan) else "reduce_woven"
        handler = _handler(kind, (), logits=store, compute=compute, result=plan.result)
    else:
        ways = is_across(plan), _way(bool(others))
        handler = _handler("reduce", ways, logits=store, compute=compute, result=plan.result)
    return HandlerCall(handler, (x.astype(store), *others), facts)


def _signed_logsumexp_call(plan: Plan, x: Array, b: Array, where: Array) -> HandlerCall:
    from logitx.backends.numba.passes.rows_or_columns import is_across

    compute, store = plan.compute, held_dtype(plan.dtype, plan.compute)
    others, (at_b, at_where) = _packed(((b, compute), (where, "bool")), 1)
    facts = CallFacts(plan.layout.axis, where=at_where, b=at_b, sign=1)
    handler = _handler("reduce", (is_across(plan), True), logits=store, compute=compute, result=plan.result)
    return HandlerCall(handler, (x.astype(store), *others), facts)


def _entropy_call(plan: Plan, x: Array, where: Array, temperature: Array, softcap: Array) -> HandlerCall:
    from logitx.backends.numba.passes.rows_or_columns import is_across

    compute, store = plan.compute, held_dtype(plan.dtype, plan.compute)
    others, (at_where, at_heat, at_cap) = _packed(((where, "bool"), *_divisors(plan, temperature, softcap)), 1)
    undefined = int(plan.empty == "nan")
    facts = CallFacts(plan.layout.axis, undefined, where=at_where, temperature=at_heat, softcap=at_cap)
    ways = is_across(plan), None, _way(bool(others))
    handler = _handler("entropy", ways, logits=store, compute=compute, result=plan.result, loss=plan.loss)
    return HandlerCall(handler, (x.astype(store), *others), facts)


def _pull_back_call(plan: Plan, value: Array, cotangent: Array) -> HandlerCall:
    from logitx.backends.numba.passes.rows_or_columns import FEW_TO_PULL_BACK, is_across, is_woven

    compute, store = plan.compute, held_dtype(plan.dtype, plan.compute)
    other = held_dtype(dtype_name(cotangent.dtype), compute)
    log = plan.op == "log_softmax_vjp"
    kind, way = ("pull_back_woven", _way(log)) if is_woven(plan) else ("pull_back", is_across(plan, FEW_TO_PULL_BACK))
    handler = _handler(kind, (way,), logits=store, compute=compute, result=plan.result, other=other)
    facts = CallFacts(plan.layout.axis, log=int(log))
    return HandlerCall(handler, (value.astype(store), cotangent.astype(other)), facts)


_REDUCTION_CODES = {"none": 0, "sum": 1, "mean": 2}
_SMALL_IDS = ("int8", "int16", "int32", "uint8", "uint16")


def _ids(targets: Array) -> Array:
    """Return class ids as int32 or int64."""
    return targets.astype("int32") if dtype_name(targets.dtype) in _SMALL_IDS else targets


def _loss_call(plan: Plan, logits: Array, targets: Array, *values: Array) -> HandlerCall:
    from logitx.backends.numba.passes.rows_or_columns import is_across, is_long, is_woven

    compute, store = plan.compute, held_dtype(plan.dtype, plan.compute)
    shares = store if plan.hard else held_dtype(dtype_name(targets.dtype), compute)
    targets, options = _ids(targets) if plan.hard else targets.astype(shares), LossOptions(*values)
    named = (
        (options.where, "bool"), *_divisors(plan, options.temperature, options.softcap),
        (options.class_weight, compute), (options.sample_weight, compute), (options.label_smoothing, compute),
        (options.z_loss, compute),
    )  # fmt: skip
    others, (at_where, at_heat, at_cap, at_classes, at_samples, at_smoothing, at_z) = _packed(named, 2)
    backward = plan.op == "cross_entropy_value_and_grad"
    after = 2 if backward else 1
    facts = CallFacts(
        plan.layout.axis,
        int(plan.empty == "nan"),
        where=at_where,
        temperature=at_heat,
        softcap=at_cap,
        reduction=_REDUCTION_CODES[plan.reduction],
        ignoring=int(plan.ignore_index is not None),
        ignored=plan.ignore_index or 0,
        hard=int(plan.hard),
        class_weight=at_classes,
        sample_weight=at_samples,
        smoothing=at_smoothing,
        z_loss=at_z,
        gradient=int(backward),
        z_part=after if plan.return_parts else 0,
        log_normalizer=after + 1 if plan.return_parts else 0,
    )
    ways = is_across(plan), _way(backward), _way(len(others) > (options.z_loss is not None))
    if not plan.hard or options.label_smoothing is not None:
        handler = _handler(
            "soft", ways[:1], logits=store, compute=compute, result=plan.result, loss=plan.loss, other=shares
        )
    elif (is_long(plan) or is_woven(plan)) and ways[2] is None:
        keeping = _way(backward and plan.result == compute)
        handler = _handler(
            "hard_long" if is_long(plan) else "hard_woven",
            (ways[1], keeping),
            logits=store,
            compute=compute,
            result=plan.result,
            loss=plan.loss,
        )
    else:
        handler = _handler("hard", ways, logits=store, compute=compute, result=plan.result, loss=plan.loss)
    return HandlerCall(handler, (logits.astype(store), targets, *others), facts)


def _reduce_part_call(
    plan: Plan, x: Array, where: Array, temperature: Array, softcap: Array, ids: Array
) -> HandlerCall:
    from logitx.backends.numba.passes.rows_or_columns import is_across

    compute, store = plan.compute, held_dtype(plan.dtype, plan.compute)
    named = (where, "bool"), *_divisors(plan, temperature, softcap), (None if ids is None else _ids(ids), None)
    others, (at_where, at_heat, at_cap, at_ids) = _packed(named, 1)
    options = _way(len(others) > (ids is not None))
    facts = CallFacts(plan.layout.axis, where=at_where, temperature=at_heat, softcap=at_cap, labels=at_ids)
    handler = _handler("reduce_part", (is_across(plan), options), logits=store, compute=compute)
    return HandlerCall(handler, (x.astype(store), *others), facts)


_CALLS: dict[str, Callable[..., HandlerCall]] = {
    "softmax": _normalize_call,
    "log_softmax": _normalize_call,
    "logsumexp": _logsumexp_call,
    "signed_logsumexp": _signed_logsumexp_call,
    "entropy": _entropy_call,
    "cross_entropy": _loss_call,
    "cross_entropy_value_and_grad": _loss_call,
    "softmax_vjp": _pull_back_call,
    "log_softmax_vjp": _pull_back_call,
    "reduce_rows": _reduce_part_call,
}


def kernel(plan: Plan, *operands: Array) -> tuple[Array, ...]:
    """Call the handler for an operation."""
    call = _CALLS[plan.op](plan, *operands)
    function = jax.ffi.ffi_call(registered(call.handler), results(plan))
    found: tuple[Array, ...] = function(*call.operands, facts=np.asarray(call.facts, np.int64))
    return found
