"""The choice of how rows fill lanes: one at a time, or as columns, one in each lane; `blocks` explains both."""

from __future__ import annotations

from logitx._plan import Plan
from logitx.backends.numba.passes.blocks import LONG
from logitx.backends.numba.vectors.lanes import LANES

FEW_VECTORS = 8  # up to so many vectors of classes, turning rows into columns costs less than folding each row


FEW_TO_PULL_BACK = 3  # the same for a gradient that is pulled back: two arrays are turned, for few operations


def is_long(plan: Plan) -> bool:
    """Return True if a row is too long for scratch memory, or for one thread."""
    return plan.layout.inner == 1 and plan.layout.n >= LONG


def is_across(plan: Plan, few: int = FEW_VECTORS) -> bool | None:
    """Choose how to fill lanes: True for one row at a time, None for columns; kernels are compiled for either."""
    return True if plan.layout.inner == 1 and plan.layout.n > few * LANES[plan.compute] else None
