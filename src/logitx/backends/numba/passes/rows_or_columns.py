"""The choice of how rows fill lanes: one at a time, as columns (`blocks` explains both), or woven (`passes.woven`)."""

from __future__ import annotations

from logitx._plan import Plan
from logitx.backends.numba.passes.blocks import LONG
from logitx.backends.numba.vectors.lanes import LANES

FEW_VECTORS = 8  # up to so many vectors of classes, turning rows into columns costs less than folding each row

FEW_TO_PULL_BACK = 3  # the same for a gradient that is pulled back: two arrays are turned, for few operations
LEAST_CLASSES, LEAST_ENTRIES = 200, 1500  # of woven rows: below, putting their parts together takes too long
WIDEST = 8192  # inner axis of woven rows: above, their maxima and sums do not fit into a second-level cache


def is_long(plan: Plan) -> bool:
    """Return True if a row is too long for scratch memory, or for one thread."""
    return plan.layout.inner == 1 and plan.layout.n >= LONG


def is_across(plan: Plan, few: int = FEW_VECTORS) -> bool | None:
    """Choose how to fill lanes: True for one row at a time, None for columns; kernels are compiled for either."""
    return True if plan.layout.inner == 1 and plan.layout.n > few * LANES[plan.compute] else None


def is_woven(plan: Plan) -> bool:
    """Return True if rows along an inner axis are taken in the order of memory, which needs many classes.

    Softmax of (1, 6007, 613) takes 0.8 ns an entry, as columns 1.6; of (2, 50000, 5) 0.6 and 3.7; of (365, 37, 37) 2.7
    and 1.0. Halves are converted in each of three passes: of (1, 6007, 64) 1.4 and 0.7, of (16, 6007, 5) 1.8 and 3.7.
    """
    n, inner = plan.layout.n, plan.layout.inner
    widest = WIDEST if plan.dtype == plan.compute else LANES[plan.compute] - 1
    return 1 < inner <= widest and n >= LEAST_CLASSES and n * inner >= LEAST_ENTRIES
