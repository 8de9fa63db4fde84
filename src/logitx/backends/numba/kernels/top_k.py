"""softmax_top_k: the k most probable classes of every row, from one read of the logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.numba.compile.policy import inlined, primitive, separate
from logitx.backends.numba.kernels.signature import Computed, Ids, Mask, OfLogits, OfResult, Way, Wide
from logitx.backends.numba.kernels.softmax import formula_of
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.load_store import class_id, put_integer, write_back
from logitx.backends.numba.memory.prefetch import ahead_of
from logitx.backends.numba.memory.scratch import after, load_lanes, place_one, store_lanes, take_one
from logitx.backends.numba.passes.blocks import vectors_for
from logitx.backends.numba.passes.class_ids import place_in_panel
from logitx.backends.numba.passes.finish import finish_element
from logitx.backends.numba.passes.loop import Logits, Passes, RoomNeeds, define_passes, run_blocks
from logitx.backends.numba.passes.reduce import MaximumAndSum, peak, rest_of
from logitx.backends.numba.passes.scaling import exponent
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import exp_of_sum
from logitx.backends.numba.vectors.lanes import (
    bits_of,
    cast_as,
    first_of,
    fold_maximum,
    fold_sum,
    lane,
    least,
    maximum_of_two,
    select,
    spread_as,
    width_of,
)

# `_lower_bound` looks at GROUPS groups of classes for each class that is wanted, and halves an interval HALVINGS times.
# k = 40 of (2048, 10000) takes 1.7 reads of the logits with 2 and 10, 1.8 with 4 or 8 groups or 7 halvings
GROUPS, HALVINGS = 2, 10


class TopKArrays(NamedTuple):
    """The arrays of `top_k_rows`; those of the options may be absent."""

    logits: OfLogits
    where: Mask
    temperature: Wide
    softcap: Computed  # always absent: ids are in the order of the logits as they were given
    values: OfResult  # k a row
    ids: Ids  # k a row


class TopKOptions(NamedTuple):
    """The numbers of `top_k_rows`."""

    axis: int
    k: int
    undefined: float  # the probabilities of a row in which nothing counts: NaN, or 0


class TopKTask(NamedTuple):
    """The task of the loop."""

    room: Any
    values: Any
    ids: Any
    k: int
    undefined: float


def top_k_rows(arrays: TopKArrays, options: TopKOptions, across: Way, adjusted: Way, parts: int, crew: int) -> int:
    """Write the k largest probabilities of every row in descending order, and their class ids."""
    x, fits_x = view_of_entries(arrays.logits, options.axis)
    where, fits_where = view_beside(arrays.where, options.axis, x)
    values, ids, k = view_of_rows(arrays.values), view_of_rows(arrays.ids), options.k
    fits = values.outer == ids.outer == k * x.outer * x.inner and 0 < k <= x.n
    if not (fits_x and fits_where and fits):
        return UNFIT
    logits = Logits(x, where, view_of_rows(arrays.temperature), view_of_rows(arrays.softcap))
    lanes = width_of(logits.softcap)
    beside = k if across is None else vectors_for(GROUPS * k, lanes)
    more = (vectors_for(k, lanes) + beside) * lanes
    task = TopKTask(RoomNeeds(0, 0, more, False, False, 0.0), values, ids, k, options.undefined)
    return OK if together(crew, job_of(run_blocks, (logits, task, across, adjusted, adjusted)), parts) else FAILED


@inlined
def _reduce_and_keep(panel: Any, across: Any, _task: Any) -> Any:
    tile, base, steps = panel.memory.tile, panel.base, panel.g.steps
    ahead = ahead_of(panel.x, panel.g, panel.first, panel.nth, tile, across)
    top = peak(tile, base, steps, panel.seen, panel.unchanged, across)
    rest, lost = rest_of(tile, base, steps, top, panel.scale, True, ahead, across)
    return MaximumAndSum(top, rest, lost)


@inlined
def _write_best(panel: Any, pair: Any, across: Any, task: Any) -> bool:
    lanes, k, heap = width_of(panel.memory.tile), task.k, panel.memory.more
    columns = after(heap, vectors_for(k, lanes) * lanes)
    for i in range(panel.rows):
        first = (panel.row + i) * k
        if lane(pair.rest, i) == lane(pair.rest, i):
            _keep_largest(panel, heap, task.ids, first, k, i, across)
        else:  # NaN or +inf: nothing can be ranked
            for r in range(k):
                put_integer(task.ids, first + r, r)
        if across is None:
            for r in range(k):
                place_one(columns, r * lanes + i, take_one(heap, r))
    how = formula_of(pair.top, pair.rest, pair.lost, panel.scale, task.undefined, None)
    kept = columns if across is None else heap
    for c in range(k if across is None else vectors_for(k, lanes)):
        v, lost = exponent(load_lanes(kept, c * lanes), pair.top, panel.scale)
        p = finish_element(exp_of_sum(v, lost), how)
        step = task.values.outer_stride
        if across is None:
            for i in range(panel.rows):
                write_back(task.values, ((panel.row + i) * k + c) * step, lane(p, i))
        else:
            for r in range(least(lanes, k - c * lanes)):
                write_back(task.values, (panel.row * k + c * lanes + r) * step, lane(p, r))
    return True


@separate
def _keep_largest(panel: Any, heap: Any, ids: Any, first: int, k: int, i: int, across: Any) -> None:
    """Put the k largest logits of a row in descending order into `heap`, and their ids behind `first` into `ids`.

    They are collected in a heap, the worst at its root: the least, and the last among equals.
    """
    tile, base, n, lanes, count = panel.memory.tile, panel.base, panel.g.n, width_of(panel.memory.tile), 0
    if across is None:
        for j in range(n):
            count = _offer(heap, ids, first, k, count, take_one(tile, base + place_in_panel(j, i, tile, across)), j)
    else:
        bound = _lower_bound(tile, base, panel.g.steps, after(heap, vectors_for(k, lanes) * lanes), k)
        for at in range(0, panel.g.steps * lanes, lanes):
            found = bits_of(spread_as(tile, bound) <= load_lanes(tile, base + at))
            if found != 0:
                while found != 0:
                    j = at + first_of(found)
                    found &= found - 1
                    if j < n:  # behind the row a tile holds -inf
                        count = _offer(heap, ids, first, k, count, take_one(tile, base + j), j)
                if count == k:
                    bound = take_one(heap, 0)
    for end in range(k - 1, 0, -1):
        x, j = take_one(heap, end), class_id(ids, first + end)
        place_one(heap, end, take_one(heap, 0))
        put_integer(ids, first + end, class_id(ids, first))
        _sink(heap, ids, first, end, x, j)


@primitive
def _offer(heap: Any, ids: Any, first: int, k: int, count: int, x: float, j: int) -> int:
    """Take an entry into the heap if it is one of the k largest so far; return how many there are."""
    if count == k:
        if x > take_one(heap, 0):
            _sink(heap, ids, first, k, x, j)
        return count
    place = count
    while place > 0:
        parent = (place - 1) // 2
        if take_one(heap, parent) < x:  # of equals the one with the higher id is worse: it rises above the parent
            break
        place_one(heap, place, take_one(heap, parent))
        put_integer(ids, first + place, class_id(ids, first + parent))
        place = parent
    place_one(heap, place, x)
    put_integer(ids, first + place, j)
    return count + 1


@separate
def _sink(heap: Any, ids: Any, first: int, count: int, x: float, j: int) -> None:
    """Put an entry at the root of a heap of `count` and let it sink below what is worse."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= count:
            break
        if child + 1 < count and _is_worse(
            heap, ids, first, child + 1, take_one(heap, child), class_id(ids, first + child)
        ):
            child += 1
        if not _is_worse(heap, ids, first, child, x, j):
            break
        place_one(heap, place, take_one(heap, child))
        put_integer(ids, first + place, class_id(ids, first + child))
        place = child
    place_one(heap, place, x)
    put_integer(ids, first + place, j)


@primitive
def _is_worse(heap: Any, ids: Any, first: int, place: int, x: float, j: int) -> bool:
    """Return True if an entry of a heap comes behind the entry (x, j)."""
    own = take_one(heap, place)
    worse: bool = own < x or (own == x and class_id(ids, first + place) > j)
    return worse


@separate
def _lower_bound(tile: Any, base: int, steps: int, maxima: Any, k: int) -> Any:
    """Return a number that at least k entries of a row reach, and few more.

    Each lane of a run of vectors has a maximum. The bound is reached by k of these: it is found by halving an interval.
    """
    lanes, none = width_of(tile), spread_as(tile, -np.inf)
    size = (steps + vectors_for(GROUPS * k, lanes) - 1) // vectors_for(GROUPS * k, lanes)
    count = (steps + size - 1) // size
    if count * lanes < k:
        return cast_as(-np.inf, tile)
    lowest, highest = spread_as(tile, np.inf), none
    for group in range(count):
        found = none
        for step in range(group * size, least((group + 1) * size, steps)):
            found = maximum_of_two(load_lanes(tile, base + step * lanes), found)
        store_lanes(maxima, group * lanes, found)
        highest = maximum_of_two(found, highest)
        lowest = select(found < lowest, found, lowest)
    high = fold_maximum(highest)
    low = -fold_maximum(spread_as(tile, 0.0) - lowest)
    if low == -np.inf:
        return low
    for _ in range(HALVINGS):
        middle = low + (high - low) * cast_as(0.5, tile)
        reached = spread_as(tile, 0.0)
        for group in range(count):
            enough = spread_as(tile, middle) <= load_lanes(maxima, group * lanes)
            reached = reached + select(enough, spread_as(tile, 1.0), spread_as(tile, 0.0))
        if fold_sum(reached, spread_as(tile, 0.0)) >= k:
            low = middle
        else:
            high = middle
    return low


define_passes(TopKTask, Passes(None, None, _reduce_and_keep, _write_best, None))
