"""logsumexp along an axis that is not the last, of entries that lie together: `passes.woven`."""

from __future__ import annotations

from typing import Any

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.logsumexp import LogsumexpLongArrays
from logitx.backends.numba.memory.arguments import (
    FAILED,
    OK,
    UNFIT,
    has_one_a_row,
    view_of_entries,
    view_of_rows,
)
from logitx.backends.numba.memory.scratch import is_missing, load_lanes, release
from logitx.backends.numba.passes.reduce import emit, log_normalizer_of
from logitx.backends.numba.passes.woven import (
    Slab,
    Slabs,
    count_nans,
    lies_together,
    own_slabs,
    reduce_slab,
    room_for_slab,
    weave_of,
)
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import log1p_of_sum
from logitx.backends.numba.vectors.lanes import least, width_of


def logsumexp_woven(arrays: LogsumexpLongArrays, axis: int, parts: int, crew: int) -> int:
    """Write log(sum of exp(x)) of the rows of slabs (n, inner)."""
    x, fits = view_of_entries(arrays.logits, axis)
    value, like = view_of_rows(arrays.value), view_of_rows(arrays.like)
    if not (fits and has_one_a_row(value, x) and lies_together(x)):
        return UNFIT
    if x.outer >= parts:
        fine = together(crew, job_of(_reduce_own, (x, value, like)), parts)
    else:
        fine = _reduce_slabs(x, value, like, Slabs(0, x.outer, parts, crew))
    return OK if fine else FAILED


@primitive
def _reduce_own(x: Any, value: Any, like: Any, part: int, parts: int) -> bool:
    fine: bool = _reduce_slabs(x, value, like, own_slabs(x.outer, part, parts))
    return fine


@primitive
def _reduce_slabs(x: Any, value: Any, like: Any, slabs: Any) -> bool:
    """Reduce slabs one after the other; return False if there is no memory."""
    w = weave_of(x.n, x.inner, like)
    room = room_for_slab(w, like)
    if is_missing(room.tops):
        return False
    for index in range(slabs.first, slabs.stop):
        slab = Slab(w, room, index, index * x.outer_stride, 0)
        reduce_slab(x, None, slab, slabs.parts, slabs.crew)
        count_nans(x, slab)
        for at in range(0, w.inner, width_of(like)):
            top, rest, lost = load_lanes(room.tops, at), load_lanes(room.rests, at), load_lanes(room.lost, at)
            log_z = log_normalizer_of(top, rest, load_lanes(room.sums, at), top + log1p_of_sum(rest, lost))
            emit(value, index * w.inner + at, least(width_of(like), w.inner - at), log_z)
    release(room.tops)
    return True
