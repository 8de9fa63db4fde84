"""Argument rules of the numbers of a row."""

from __future__ import annotations

import dataclasses
from typing import Any

from logitx._arguments import operands as _operands
from logitx._arguments import scaling as _scaling
from logitx._arguments.cross_entropy import adopt_targets, ignored_id, refuse_no_classes
from logitx._arguments.plans import dtypes_of, start
from logitx._arguments.scaling import check_scaling
from logitx._arrays.family import dtype_name
from logitx._arrays.folding import fold_axes
from logitx._plan import Call


def entropy(
    op: str, logits: Any, where: Any, axis: Any, temperature: Any, softcap: Any, empty: Any, dtype: Any
) -> Call:
    """Check entropy."""
    family, array, plan = start(op, "logits", logits, axis, dtype, True, (("empty", empty),))
    scaling = check_scaling(where, temperature, softcap, family, array, plan.layout)
    return Call(plan, (fold_axes(family, array, plan.layout), *scaling))


def selected_log_softmax(
    op: str,
    logits: Any,
    ids: Any,
    axis: Any,
    where: Any,
    temperature: Any,
    softcap: Any,
    ignore_index: Any,
    empty: Any,
    dtype: Any,
) -> Call:
    """Check selected_log_softmax."""
    kind = _operands.operand_dtype("ids", ids)
    if not _operands.is_integer(kind):
        raise TypeError(f"ids: dtype {kind} is not allowed; allowed are integers, convert them with astype")
    facts = (("empty", empty), ("hard", True), ("ignore_index", ignored_id(ignore_index, True)))
    family, array, plan = start(op, "logits", logits, axis, dtype, True, facts)
    lay = plan.layout
    refuse_no_classes(lay)
    ids = adopt_targets("ids", plan, ids, family, array)
    shape, place = tuple(ids.shape), lay.axes[0] if len(lay.axes) == 1 else None
    several = place is not None and shape[:place] + shape[place + 1 :] == lay.rows and len(shape) == len(lay.given)
    if not (several or _operands.same_lengths(shape, lay.rows)):
        beside = "" if place is None else f", or the same with k in place of the {lay.n} classes along axis {place}"
        raise ValueError(f"ids: shape {shape} is not allowed; allowed is {lay.rows}, one class id a row{beside}")
    scaling = check_scaling(where, temperature, softcap, family, array, lay)
    return Call(plan, (fold_axes(family, array, lay), ids, *scaling))


def kl_divergence(
    op: str, p_logits: Any, q_logits: Any, axis: Any, where: Any, temperature: Any, softcap: Any, reduction: Any,
    empty: Any, dtype: Any,
) -> Call:  # fmt: skip
    """Check kl_divergence."""
    return _divergence(
        op, p_logits, q_logits, axis, where, temperature, softcap, empty, dtype, ("reduction", reduction)
    )


def js_divergence(
    op: str, p_logits: Any, q_logits: Any, axis: Any, weight: Any, where: Any, temperature: Any, softcap: Any,
    reduction: Any, empty: Any, dtype: Any,
) -> Call:  # fmt: skip
    """Check js_divergence."""
    facts = ("weight", _scaling.share("weight", weight)), ("reduction", reduction)
    return _divergence(op, p_logits, q_logits, axis, where, temperature, softcap, empty, dtype, *facts)


def _divergence(
    op: str, p_logits: Any, q_logits: Any, axis: Any, where: Any, temperature: Any, softcap: Any, empty: Any,
    dtype: Any, *facts: tuple[str, Any],
) -> Call:  # fmt: skip
    family, array, plan = start(op, "p_logits", p_logits, axis, dtype, True, (("empty", empty), *facts))
    q = _operands.same_shape("q_logits", q_logits, family, array, plan.layout, "p_logits")
    other, *_ = dtypes_of(family.name, "q_logits", dtype_name(q.dtype), plan.compute, None, True)
    if other != plan.compute:
        plan = dataclasses.replace(plan, compute=other, loss=other if dtype is None else plan.loss)
    scaling = check_scaling(where, temperature, softcap, family, array, plan.layout)
    return Call(plan, (fold_axes(family, array, plan.layout), q, *scaling))


def softmax_mean(
    op: str, logits: Any, values: Any, axis: Any, where: Any, temperature: Any, softcap: Any, empty: Any, dtype: Any
) -> Call:
    """Check softmax_mean."""
    family, array, plan = start(op, "logits", logits, axis, dtype, True, (("empty", empty),))
    lay = plan.layout
    values = _operands.adopt("values", values, family, array)
    shape = tuple(values.shape)
    if shape == (lay.n,) != lay.given:
        values = _operands.along_classes(values, family, lay)
    elif not _operands.same_lengths(shape, lay.given):
        raise ValueError(
            f"values: shape {shape} is not allowed; allowed are ({lay.n},), one value a class, and that of the logits,"
            f" {lay.given}"
        )
    values = _operands.like_logits("values", values, family, array, lay)
    scaling = check_scaling(where, temperature, softcap, family, array, lay)
    return Call(plan, (fold_axes(family, array, lay), values, *scaling))
