"""logcumsumexp: from arrays to a kernel and back."""

from __future__ import annotations

from logitx._plan import Array, Plan
from logitx.backends.numba.arrays import CLASS_AXIS, checked_code, empty_3d, given_back, stored, view_3d
from logitx.backends.numba.kernels.logcumsumexp import CumulativeArrays, cumulative
from logitx.backends.numba.kernels.signature import Dtypes, compiled_kernel
from logitx.backends.numba.threads.policy import CREW, parts_for


def logcumsumexp(plan: Plan, x: Array) -> Array:
    """log(sum of exp(x_j) over j <= i)."""
    held = stored(plan.dtype, plan.compute)
    view, written = view_3d(plan, x, plan.dtype, held), empty_3d(plan, plan.result)
    kernel = compiled_kernel(cumulative, (), Dtypes(held, plan.compute, plan.result))
    parts = min(parts_for(view.nbytes), max(1, plan.layout.outer * plan.layout.inner))
    checked_code(kernel(CumulativeArrays(view, written, None, None), CLASS_AXIS, plan.reverse, parts, CREW.address))
    return given_back(plan, written, plan.result, plan.layout.shape)
