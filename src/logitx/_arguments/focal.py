"""Argument rules of the focal loss of rows: those of cross-entropy, and a power."""

from __future__ import annotations

from typing import Any

from logitx._arguments import scaling as _scaling
from logitx._arguments.cross_entropy import cross_entropy
from logitx._arrays.families import FAMILIES
from logitx._plan import Call


def focal_loss(
    op: str,
    logits: Any,
    targets: Any,
    axis: Any,
    gamma: Any,
    class_weight: Any,
    sample_weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    softcap: Any,
    temperature: Any,
    where: Any,
    reduction: Any,
    empty: Any,
    dtype: Any,
) -> Call:
    """Check focal_loss and focal_loss_value_and_grad."""
    plan, (array, *rest), *more = cross_entropy(
        op, logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing, 0.0, softcap,
        temperature, where, reduction, empty, dtype, False,
    )  # fmt: skip
    gamma = _scaling.scalar("gamma", gamma, 0.0, FAMILIES[plan.family], array, plan.layout)
    return Call(plan, (array, *rest, gamma), *more)
