"""Where the kernels are faster than what XLA makes of the formulas."""

from __future__ import annotations

from typing import Any

from logitx._arrays import dtype_name
from logitx._typing import Plan

LEAST = {"any": 1}  # elements


def is_faster(plan: Plan, operands: tuple[Any, ...]) -> bool:
    """Tell whether to call a kernel; operands are arrays or descriptions of them."""
    lay = plan.layout
    if not all(lay.shape) or lay.outer * lay.n * lay.inner < LEAST["any"]:
        return False
    return not (plan.hard and dtype_name(operands[1].dtype) in ("uint32", "uint64"))
