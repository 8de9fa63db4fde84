"""sample: class ids drawn from the softmax of every row, from one read of the logits."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import inlined, primitive, separate
from logitx.backends.numba.kernels.signature import Computed, Ids, Mask, OfLogits, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, OK, UNFIT, view_beside, view_of_entries, view_of_rows
from logitx.backends.numba.memory.load_store import put_integer, read_one
from logitx.backends.numba.memory.prefetch import ahead_of
from logitx.backends.numba.memory.scratch import after, load_lanes, place_one, store_lanes, take_one
from logitx.backends.numba.passes.blocks import vectors_for
from logitx.backends.numba.passes.class_ids import place_in_panel
from logitx.backends.numba.passes.kept_share import FEW, keep_share
from logitx.backends.numba.passes.loop import Logits, Passes, RoomNeeds, define_passes, run_blocks
from logitx.backends.numba.passes.reduce import MaximumAndSum, peak, rest_of
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.lanes import cast_as, fold_sum, lane, least, select, spread_as, width_of

SPAN = 256  # classes whose exponentials are added up first, to find one among few


class DrawArrays(NamedTuple):
    """The arrays of `draw_rows`; those of the options may be absent."""

    logits: OfLogits
    where: Mask
    temperature: Wide
    softcap: Computed
    shares: Wide  # of the sum of a row at which its class is drawn, in [0, 1): one for each draw and row
    ids: Ids  # as many


class DrawOptions(NamedTuple):
    """The numbers of `draw_rows`."""

    axis: int
    draws: int  # of each row
    weakest: float  # a class with a smaller share of the largest probability is never drawn
    kept: float  # the most probable classes that reach this share of the sum may be drawn; 1 for all


class DrawTask(NamedTuple):
    """The task of the loop."""

    room: Any
    shares: Any
    ids: Any
    rows: int  # of the array
    draws: int
    weakest: float
    kept: float


def draw_rows(arrays: DrawArrays, options: DrawOptions, across: Way, adjusted: Way, parts: int, crew: int) -> int:
    """Write the first id at which the sum of exponentials passes each share of the whole; -1 where there is no sum."""
    x, fits_x = view_of_entries(arrays.logits, options.axis)
    where, fits_where = view_beside(arrays.where, options.axis, x)
    shares, ids, rows = view_of_rows(arrays.shares), view_of_rows(arrays.ids), x.outer * x.inner
    if not (fits_x and fits_where and shares.outer == ids.outer == options.draws * rows):
        return UNFIT
    logits = Logits(x, where, view_of_rows(arrays.temperature), view_of_rows(arrays.softcap))
    more = vectors_for(x.n, width_of(logits.softcap)) * width_of(logits.softcap) + FEW + 2 * vectors_for(x.n, SPAN)
    room = RoomNeeds(0, 0, more, False, False, 0.0)
    task = DrawTask(room, shares, ids, rows, options.draws, options.weakest, options.kept)
    return OK if together(crew, job_of(run_blocks, (logits, task, across, adjusted, adjusted)), parts) else FAILED


@inlined
def _reduce_to_terms(panel: Any, across: Any, task: Any) -> Any:
    tile, base, steps = panel.memory.tile, panel.base, panel.g.steps
    ahead = ahead_of(panel.x, panel.g, panel.first, panel.nth, tile, across)
    top = peak(tile, base, steps, panel.seen, panel.unchanged, across)
    rest, lost = rest_of(tile, base, steps, top, panel.scale, None, ahead, across)
    if task.weakest > 0.0:
        bound, zero = spread_as(tile, task.weakest), spread_as(tile, 0.0)
        for at in range(base, base + steps * width_of(tile), width_of(tile)):
            e = load_lanes(tile, at)
            store_lanes(tile, at, select(e < bound, zero, e))
    if task.kept < 1.0:
        if across is not None:
            keep_share(tile, base, steps, task.kept, panel.memory.more)
        else:
            _keep_share_of_columns(panel, task.kept)
    return MaximumAndSum(top, rest, lost)


@separate
def _keep_share_of_columns(panel: Any, kept: float) -> None:
    """Do what `keep_share` does for each row of a panel of columns: in a copy of the row."""
    tile, row, n, lanes = panel.memory.tile, panel.memory.more, panel.g.n, width_of(panel.memory.tile)
    steps = vectors_for(n, lanes)
    for at in range(0, steps * lanes, lanes):
        store_lanes(row, at, spread_as(tile, 0.0))
    for i in range(panel.rows):
        for j in range(n):
            place_one(row, j, take_one(tile, panel.base + j * lanes + i))
        keep_share(row, 0, steps, kept, after(row, steps * lanes))
        for j in range(n):
            place_one(tile, panel.base + j * lanes + i, take_one(row, j))


@inlined
def _draw(panel: Any, pair: Any, across: Any, task: Any) -> bool:
    for i in range(panel.rows):
        row = panel.row + i
        if lane(pair.rest, i) >= 0.0:
            total = _running_sums(panel, i, across)
            for draw in range(task.draws):
                place = draw * task.rows + row
                share = read_one(task.shares, place * task.shares.outer_stride, task.shares)
                put_integer(task.ids, place, _crossing(panel, i, share * total, across))
        else:  # NaN, +inf or nothing that counts
            for draw in range(task.draws):
                put_integer(task.ids, draw * task.rows + row, -1)
    return True


@primitive
def _room_of_sums(panel: Any) -> Any:
    lanes = width_of(panel.memory.tile)
    return after(panel.memory.more, vectors_for(panel.g.n, lanes) * lanes + FEW)


@separate
def _running_sums(panel: Any, i: int, across: Any) -> float:
    """Write the sums up to the end of each span of a row, each in two numbers of a tile; return the whole."""
    tile, sums, n = panel.memory.tile, _room_of_sums(panel), panel.g.n
    total = 0.0
    for span in range(vectors_for(n, SPAN)):
        if across is None:
            for j in range(span * SPAN, least((span + 1) * SPAN, n)):
                total += take_one(tile, panel.base + place_in_panel(j, i, tile, across))
        else:
            part = spread_as(tile, 0.0)
            end = least((span + 1) * SPAN, panel.g.steps * width_of(tile))
            for at in range(span * SPAN, end, width_of(tile)):
                part = part + load_lanes(tile, panel.base + at)
            total += fold_sum(part, spread_as(tile, 0.0))
        high = cast_as(total, tile)
        place_one(sums, 2 * span, high)
        place_one(sums, 2 * span + 1, cast_as(total - high, tile))
    return total


@separate
def _crossing(panel: Any, i: int, wanted: float, across: Any) -> int:
    """Return the first class at which the running sum of a row passes `wanted`: its span first, then the class."""
    tile, sums, n = panel.memory.tile, _room_of_sums(panel), panel.g.n
    low, high = 0, vectors_for(n, SPAN) - 1
    while low < high:
        middle = (low + high) // 2
        if _sum_at(sums, middle) > wanted:
            high = middle
        else:
            low = middle + 1
    total = _sum_at(sums, low - 1) if low > 0 else 0.0
    found = low * SPAN
    for j in range(low * SPAN, least((low + 1) * SPAN, n)):
        e = take_one(tile, panel.base + place_in_panel(j, i, tile, across))
        if e > 0.0:
            found = j  # the last one, where rounding leads to the end of the span
            total += e
            if total > wanted:
                break
    return found


@primitive
def _sum_at(sums: Any, span: int) -> float:
    found: float = float(take_one(sums, 2 * span)) + take_one(sums, 2 * span + 1)
    return found


define_passes(DrawTask, Passes(None, None, _reduce_to_terms, _draw, None))
