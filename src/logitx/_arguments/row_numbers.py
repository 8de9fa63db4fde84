"""Argument rules of the numbers of a row."""

from __future__ import annotations

from typing import Any

from logitx._arguments.plans import start
from logitx._arguments.softmax import check_scaling
from logitx._arrays.folding import fold_axes
from logitx._plan import Call


def entropy(
    op: str, logits: Any, where: Any, axis: Any, temperature: Any, softcap: Any, empty: Any, dtype: Any
) -> Call:
    """Check entropy."""
    family, array, plan = start(op, "logits", logits, axis, dtype, True, (("empty", empty),))
    scaling = check_scaling(where, temperature, softcap, family, array, plan.layout)
    return Call(plan, (fold_axes(family, array, plan.layout), *scaling))
