"""Argument rules of the cross-entropies of logits."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np

from logitx._arguments import cures
from logitx._arguments import operands as _operands
from logitx._arguments import scaling as _scaling
from logitx._arguments.balanced import balanced_weights
from logitx._arguments.plans import start
from logitx._arguments.ranges import fit_weights
from logitx._arrays.family import FLOATING, Family, dtype_name
from logitx._arrays.folding import fold_axes
from logitx._label_error import LabelError
from logitx._labelled.table import Labelled, is_labelled, without_labels
from logitx._options import LossOptions
from logitx._plan import Array, Call, Layout, Plan


def _targets(plan: Plan, targets: Any, family: Family, logits: Array) -> Array:
    """Check the shape of the targets, and fold probabilities."""
    targets = adopt_targets("targets", plan, targets, family, logits)
    lay, shape, dtype = plan.layout, tuple(targets.shape), dtype_name(targets.dtype)
    if _operands.same_lengths(shape, lay.rows if plan.hard else lay.given):
        return targets if plan.hard else fold_axes(family, targets, lay)
    what, allowed = ("class ids", lay.rows) if plan.hard else ("probabilities", lay.given)
    fix = cures.of_targets(plan, shape)
    raise ValueError(f"targets: shape {shape} is not allowed; allowed for {what} ({dtype}) is exactly {allowed}{fix}")


def adopt_targets(name: str, plan: Plan, targets: Any, family: Family, logits: Array) -> Array:
    """Return class ids or probabilities as an array of the family of the logits."""
    narrow = functools.partial(_narrow_ids, name, plan) if plan.hard else None
    return _operands.adopt(name, targets, family, logits, narrow)


def _narrow_ids(name: str, plan: Plan, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return class ids that int32 holds; raise for one that would become another id."""
    if ids.dtype not in (np.int64, np.uint32, np.uint64) or not ids.size or -(2**31) <= ids.min() <= ids.max() < 2**31:
        return ids
    bad = ((ids < 0) | (ids >= plan.ids)) & (ids != plan.ignore_index)
    if ids.shape == plan.layout.rows and bad.any():
        position = int(np.argmax(bad))
        raise LabelError(plan, position, int(ids.flat[position]))
    label = int(ids.flat[np.argmax(np.abs(ids.astype(np.float64)))])
    raise ValueError(
        f"{name}: class id {label} does not fit int32, and JAX has no wider dtype here; allowed are 32-bit ids, or set"
        " jax_enable_x64"
    )


def ignored_id(ignore_index: Any, hard: bool) -> int | None:
    """Check `ignore_index`; None for targets that are probabilities."""
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
    facts = (("reduction", reduction), ("empty", empty), ("return_parts", bool(return_parts)))
    family, array, plan = start(
        op, "logits", logits, axis, dtype, True, (*facts, *target_facts(logits, targets, ignore_index))
    )
    given = LossOptions(class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature, where)
    targets, options = targets_and_options(plan, family, array, targets, given)
    plan, options = fit_weights(plan, family, array, options)
    return Call(plan, (fold_axes(family, array, plan.layout), targets, options))


def target_facts(logits: Any, targets: Any, ignore_index: Any) -> tuple[tuple[str, Any], ...]:
    """Return the facts of the targets; integer dtypes are class ids, floating dtypes probabilities."""
    dtype = given = _operands.operand_dtype("targets", targets)
    hard = _operands.is_integer(dtype)
    if not hard and dtype not in FLOATING and is_labelled(targets):  # pandas has dtypes of its own
        dtype = dtype_name(without_labels(targets, "targets").dtype)
        hard = _operands.is_integer(dtype)
    if not hard and dtype not in FLOATING:
        if is_labelled(logits):
            raise Labelled  # names of classes may be among the labels
        fix = cures.of_dtype(given)
        raise TypeError(
            f"targets: dtype {given} is not allowed; allowed are integer ids and floating probabilities{fix}"
        )
    return ("hard", hard), ("ignore_index", ignored_id(ignore_index, hard))


def refuse_no_classes(lay: Layout) -> None:
    """Raise for logits without classes, or whose number is not known."""
    if lay.n == 0:
        raise ValueError(f"logits: shape {lay.given} has no class along axis {lay.axes}; allowed are 1 or more")
    if lay.n is None:
        raise ValueError(
            f"logits: shape {lay.given} has no known length along axis {lay.axes}; allowed are known numbers of"
            " classes, set it with tensorflow.ensure_shape or compute_chunk_sizes of Dask"
        )


def targets_and_options(
    plan: Plan, family: Family, logits: Array, targets: Any, given: LossOptions
) -> tuple[Array, LossOptions]:
    """Check the targets and the options of a loss; return them in the order of the backends' arguments."""
    lay = plan.layout
    refuse_no_classes(lay)
    targets = _targets(plan, targets, family, logits)
    class_weight = given.class_weight
    if class_weight is not None:
        if isinstance(class_weight, str):
            class_weight = balanced_weights(plan, targets, class_weight)
        class_weight = _operands.class_weight(class_weight, family, logits, lay)
    sample_weight = _operands.sample_weight(given.sample_weight, family, logits, lay)
    label_smoothing = _scaling.scalar("label_smoothing", given.label_smoothing, 0.0, family, logits, lay)
    z_loss = _scaling.scalar("z_loss", given.z_loss, 0.0, family, logits, lay)
    softcap = _scaling.scalar("softcap", given.softcap, None, family, logits, lay)
    temperature = _scaling.scalar("temperature", given.temperature, 1.0, family, logits, lay)
    where = _operands.like_logits("where", given.where, family, logits, lay, "bool")
    return targets, LossOptions(class_weight, sample_weight, label_smoothing, z_loss, softcap, temperature, where)


def cross_entropy_grad_hess(
    op: str, logits: Any, targets: Any, axis: Any, class_weight: Any, sample_weight: Any
) -> Call:
    """Check cross_entropy_grad_hess."""
    facts = (("reduction", "sum"), *target_facts(logits, targets, None))
    family, array, plan = start(op, "logits", logits, axis, None, False, facts)
    given = LossOptions(class_weight, sample_weight, label_smoothing=0.0, z_loss=0.0, temperature=1.0)
    targets, options = targets_and_options(plan, family, array, targets, given)
    plan, options = fit_weights(plan, family, array, options)
    return Call(plan, (fold_axes(family, array, plan.layout), targets, options))
