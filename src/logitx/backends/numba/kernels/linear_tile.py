"""Cross-entropy of a tile of logits: some classes of some rows, in the dtype computed in, one row at a time.

Two kernels. `reduce_tile` finds what a tile adds to the reduction of its rows, to be merged with what other tiles add;
`differentiate_tile` turns a tile into its gradient in place, once the reductions of its rows are known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from logitx.backends.formulas.pairs import Facts, RowSums
from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.kernels.signature import Computed, Ids, OfOther, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, OK, bytes_per_element, given, view_of_entries, view_of_rows
from logitx.backends.numba.memory.load_store import class_id, number_at, read_lanes, read_one, write_back
from logitx.backends.numba.memory.prefetch import Next
from logitx.backends.numba.memory.scratch import (
    after,
    is_missing,
    load_lanes,
    place_one,
    release,
    reserve,
    store_lanes,
    take_one,
)
from logitx.backends.numba.passes.finish import complement_of
from logitx.backends.numba.passes.reduce import multiply, peak, rest_of
from logitx.backends.numba.passes.scaling import cap, exponent, limit_at, scale_at
from logitx.backends.numba.passes.sums import SPAN_STEPS, add_to_sum, fold_rows
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import exp_of_sum
from logitx.backends.numba.vectors.lanes import cast_as, fma, least, maximum_of_two, select, spread_as, width_of

FOUND_MAXIMUM, FOUND_REST, FOUND_TERMS, FOUND_TOTAL = map(
    RowSums._fields.index, ("top", "rest", "terms", "total")
)  # of what `reduce_tile` finds
FACT_MAXIMUM, FACT_INVERSE, FACT_BESIDE, FACT_FACTOR, FACT_WHOLE, FACT_PULL, FACT_CHANGE = (
    map(  # of what `differentiate_tile` is given for each row
        Facts._fields.index, ("top", "inverse", "beside", "factor", "whole", "pull", "change")
    )
)


class TileArrays(NamedTuple):
    """The arrays of a tile of logits; all but the first may be absent."""

    tile: Computed
    bias: Computed
    labels: Ids
    numbers: Ids  # of the rows, among those of `targets`
    targets: OfOther  # of all classes
    class_weight: Computed
    temperature: Wide
    softcap: Computed


class TileNumbers(NamedTuple):
    """The numbers of a tile of logits: the weight of class j in a row is class_weight_j (even + keep target_j)."""

    first: int  # class of the tile
    even: float
    keep: float


class TileTask(NamedTuple):
    """A tile whose first class is `first`, and what belongs to its rows and classes."""

    tile: Any
    first: int
    bias: Any
    labels: Any
    numbers: Any  # of the rows, among those of `targets`
    targets: Any  # of all classes
    class_weight: Any
    even: float
    keep: float
    temperature: Any
    softcap: Any


class Scratch(NamedTuple):
    """The memory of a part: `size` numbers of each, but those that a task has no use for."""

    room: Any  # which all is in, and which begins with room for two vectors
    panel: Any  # the logits of a row
    shift: Any  # bias
    weight: Any  # class weights
    share: Any  # weights of the classes in a row
    slope: Any  # derivatives of the softcap
    size: int


def reduce_tile(
    arrays: TileArrays, numbers: TileNumbers, found: Wide, logits: Wide, across: Way, parts: int, crew: int
) -> int:
    """Reduce the rows of a tile; write the logits of labels that are in it. Return a code of `arguments`.

    Labels have their weights added by the caller. In `found`, TERMS is the sum of weights times
    (maximum - logit) / temperature, and TOTAL the sum of weights.
    """
    sums, _ = view_of_entries(found, found.ndim - 1)
    work = job_of(_reduce_tile_rows, (_tile_task(arrays, numbers), sums, view_of_rows(logits), across))
    return OK if together(crew, work, parts) else FAILED


def differentiate_tile(
    arrays: TileArrays, numbers: TileNumbers, facts: Wide, across: Way, parts: int, crew: int
) -> int:
    """Replace the logits of a tile by FACTOR [p (WHOLE - w) - w (1 - p) + PULL p] du/dx; by CHANGE du/dx at labels.

    Weights w are those of `reduce_tile`; INVERSE is 1 over the sum of exponentials, BESIDE is 1 - INVERSE.
    """
    known, _ = view_of_entries(facts, facts.ndim - 1)
    return (
        OK
        if together(crew, job_of(_differentiate_tile_rows, (_tile_task(arrays, numbers), known, across)), parts)
        else FAILED
    )


@primitive
def _tile_task(arrays: Any, numbers: Any) -> Any:
    logits, _ = view_of_entries(arrays.tile, arrays.tile.ndim - 1)  # a matrix fits as it lies
    targets, _ = view_of_entries(arrays.targets, arrays.targets.ndim - 1)
    return TileTask(
        logits,
        numbers.first,
        view_of_rows(arrays.bias),
        view_of_rows(arrays.labels),
        view_of_rows(arrays.numbers),
        targets,
        view_of_rows(arrays.class_weight),
        numbers.even,
        numbers.keep,
        view_of_rows(arrays.temperature),
        view_of_rows(arrays.softcap),
    )


@primitive
def _has_weights(task: Any) -> bool:
    """Return True if classes other than the label have a weight."""
    there: bool = task.even > 0.0 or given(task.targets)
    return there


@primitive
def _scratch(task: Any, sloping: bool) -> Any:
    weighted, biased, lanes = _has_weights(task), given(task.bias), width_of(task.softcap)
    size = (task.tile.n + lanes - 1) // lanes * lanes
    room = reserve(2 * lanes + (1 + biased + 2 * weighted + sloping) * size, task.softcap)
    panel = after(room, 2 * lanes)
    shift = after(panel, size)
    weight = after(shift, biased * size)
    share = after(weight, weighted * size)
    slope = after(share, weighted * size)
    if not is_missing(room):
        if biased:
            _fill(shift, size, task.bias, task.first, task.tile.n, 0.0)
        if weighted:
            _fill(weight, size, task.class_weight, task.first, task.tile.n, 1.0)
    return Scratch(room, panel, shift, weight, share, slope, size)


@primitive
def _fill(tile: Any, size: int, source: Any, first: int, n: int, absent: float) -> None:
    """Write numbers of the classes of a tile, 0 in the padding; `absent` for each where there are none."""
    for at in range(0, size, width_of(tile)):
        store_lanes(tile, at, spread_as(tile, 0.0))
    for j in range(n):
        place_one(tile, j, number_at(source, first + j, tile) if given(source) else cast_as(absent, tile))


@primitive
def _reduce_tile_rows(task: Any, found: Any, logits: Any, across: Any, part: int, parts: int) -> bool:
    tile = task.tile
    scratch = _scratch(task, False)
    if is_missing(scratch.room):
        return False
    panel, steps = scratch.panel, scratch.size // width_of(scratch.panel)
    for i in range(tile.outer * part // parts, tile.outer * (part + 1) // parts):
        tops = _load_logits(task, scratch, i, False, across)
        scale = scale_at(task.temperature, i, 1, scratch.room, True, across)
        if given(task.labels):
            j = class_id(task.labels, i) - task.first
            if 0 <= j < tile.n:
                write_back(logits, i * logits.outer_stride, take_one(panel, j))
        top = peak(panel, 0, steps, tops, not given(task.bias) and not given(task.softcap), across)
        following = tile.address + least(i + 1, tile.outer - 1) * tile.outer_stride
        ahead = Next(following, width_of(panel) * bytes_per_element(tile))
        at = i * found.outer_stride
        write_back(found, at + FOUND_MAXIMUM * found.n_stride, top)
        rest, _ = rest_of(panel, 0, steps, top, scale, True, ahead, across)
        write_back(found, at + FOUND_REST * found.n_stride, rest)
        if _has_weights(task):
            _weigh_classes(task, scratch, i)
            terms, total = _weighted_terms(panel, scratch.share, steps, top, scale, across)
            write_back(found, at + FOUND_TERMS * found.n_stride, terms)
            write_back(found, at + FOUND_TOTAL * found.n_stride, total)
    release(scratch.room)
    return True


@primitive
def _differentiate_tile_rows(task: Any, facts: Any, across: Any, part: int, parts: int) -> bool:
    tile, capped = task.tile, given(task.softcap)
    scratch = _scratch(task, capped)
    if is_missing(scratch.room):
        return False
    panel, steps = scratch.panel, scratch.size // width_of(scratch.panel)
    for i in range(tile.outer * part // parts, tile.outer * (part + 1) // parts):
        _load_logits(task, scratch, i, capped, across)
        scale = scale_at(task.temperature, i, 1, scratch.room, True, across)
        if _has_weights(task):
            _weigh_classes(task, scratch, i)
            _differentiate_weighted(panel, scratch.share, steps, facts, i, scale)
        else:
            _differentiate_by_label(panel, steps, facts, i, scale)
        if given(task.labels):
            j = class_id(task.labels, i) - task.first
            if 0 <= j < tile.n:
                place_one(panel, j, cast_as(_fact_of(facts, i, FACT_CHANGE), panel))
        if capped:
            multiply(panel, scratch.slope, scratch.size)
        _store_classes(panel, tile, i)
    release(scratch.room)
    return True


@primitive
def _load_logits(task: Any, scratch: Any, i: int, sloping: bool, across: Any) -> Any:
    """Fill the panel with the logits of a row; return the maximum of each lane before bias and softcap."""
    tile, panel = task.tile, scratch.panel
    tops = _load_classes(tile, i * tile.outer_stride, tile.n, panel, scratch.size, -np.inf)
    if given(task.bias):
        for at in range(0, scratch.size, width_of(panel)):
            store_lanes(panel, at, load_lanes(panel, at) + load_lanes(scratch.shift, at))
    if given(task.softcap):
        limit = limit_at(task.softcap, i, 1, scratch.room, across)
        cap(panel, scratch.slope, sloping, 0, scratch.size // width_of(panel), limit)
    return tops


@primitive
def _load_classes(source: Any, start: int, n: int, panel: Any, size: int, pad: float) -> Any:
    """Copy classes from a place on, of any number; the rest of the panel holds `pad`. Return the maximum of lanes."""
    lanes, stride = width_of(panel), source.n_stride
    tops = spread_as(panel, -np.inf)
    whole = 0
    if stride == bytes_per_element(source):
        whole = n // lanes * lanes
        for j in range(0, whole, lanes):
            x = read_lanes(source, start + j * stride, panel)
            store_lanes(panel, j, x)
            tops = maximum_of_two(x, tops)
    if n < size:
        store_lanes(panel, size - lanes, spread_as(panel, pad))
    for j in range(whole, n):
        place_one(panel, j, read_one(source, start + j * stride, panel))
    for at in range(whole, size, lanes):
        tops = maximum_of_two(load_lanes(panel, at), tops)
    return tops


@primitive
def _store_classes(panel: Any, target: Any, row: int) -> None:
    """Copy a panel to a row of contiguous memory."""
    lanes = width_of(panel)
    start, stride = row * target.outer_stride, bytes_per_element(target)
    whole = target.n // lanes * lanes
    for j in range(0, whole, lanes):
        write_back(target, start + j * stride, load_lanes(panel, j))
    for j in range(whole, target.n):
        write_back(target, start + j * stride, take_one(panel, j))


@primitive
def _weigh_classes(task: Any, scratch: Any, i: int) -> None:
    """Write class_weight (even + keep t)."""
    share, weight, targets = scratch.share, scratch.weight, task.targets
    base, factor = spread_as(share, task.even), spread_as(share, task.keep)
    if given(targets):
        start = class_id(task.numbers, i) * targets.outer_stride + task.first * targets.n_stride
        _load_classes(targets, start, task.tile.n, share, scratch.size, 0.0)
    for at in range(0, scratch.size, width_of(share)):
        q = base
        if given(targets):
            q = fma(factor, load_lanes(share, at), base)
        store_lanes(share, at, load_lanes(weight, at) * q)


@primitive
def _weighted_terms(panel: Any, share: Any, steps: int, top: Any, scale: Any, across: Any) -> Any:
    """Return the sum of weights times (maximum - logit) / temperature, and the sum of weights."""
    zero = spread_as(panel, 0.0)
    high, low, whole_high, whole_low = zero, zero, zero, zero
    for start in range(0, steps, SPAN_STEPS):
        part, whole = zero, zero
        for step in range(start, least(start + SPAN_STEPS, steps)):
            w = load_lanes(share, step * width_of(panel))
            v, _ = exponent(load_lanes(panel, step * width_of(panel)), top, scale)
            part = part + select(w == zero, zero, w * (zero - v))
            whole = whole + w
        high, low = add_to_sum(high, low, part)
        whole_high, whole_low = add_to_sum(whole_high, whole_low, whole)
    return fold_rows(high, low, across), fold_rows(whole_high, whole_low, across)


@primitive
def _fact_of(facts: Any, row: int, which: int) -> float:
    value: float = read_one(facts, row * facts.outer_stride + which * facts.n_stride, facts)
    return value


@primitive
def _inverse_fact(facts: Any, row: int, panel: Any) -> Any:
    """Return 1 over the sum of exponentials in two parts."""
    inverse = _fact_of(facts, row, FACT_INVERSE)
    high = cast_as(inverse, panel)
    return spread_as(panel, high), spread_as(panel, cast_as(inverse - high, panel))


@primitive
def _differentiate_by_label(panel: Any, steps: int, facts: Any, row: int, scale: Any) -> None:
    """Write the gradient where no class but the label has a weight."""
    zero, dead, top = (
        spread_as(panel, 0.0),
        spread_as(panel, -np.inf),
        spread_as(panel, _fact_of(facts, row, FACT_MAXIMUM)),
    )
    high, low = _inverse_fact(facts, row, panel)
    slant = spread_as(
        panel, _fact_of(facts, row, FACT_FACTOR) * (_fact_of(facts, row, FACT_WHOLE) + _fact_of(facts, row, FACT_PULL))
    )
    for at in range(0, steps * width_of(panel), width_of(panel)):
        x = load_lanes(panel, at)
        v, lost = exponent(x, top, scale)
        e = exp_of_sum(v, lost)
        store_lanes(panel, at, select(x == dead, zero, slant * fma(e, high, e * low)))


@primitive
def _differentiate_weighted(panel: Any, share: Any, steps: int, facts: Any, row: int, scale: Any) -> None:
    """Write the gradient where any class may have a weight."""
    zero = spread_as(panel, 0.0)
    dead, top = spread_as(panel, -np.inf), spread_as(panel, _fact_of(facts, row, FACT_MAXIMUM))
    high, low = _inverse_fact(facts, row, panel)
    factor, whole = (
        spread_as(panel, _fact_of(facts, row, FACT_FACTOR)),
        spread_as(panel, _fact_of(facts, row, FACT_WHOLE)),
    )
    pull, beside = (
        spread_as(panel, _fact_of(facts, row, FACT_PULL)),
        spread_as(panel, _fact_of(facts, row, FACT_BESIDE)),
    )
    for at in range(0, steps * width_of(panel), width_of(panel)):
        x, w = load_lanes(panel, at), load_lanes(share, at)
        v, lost = exponent(x, top, scale)
        e = exp_of_sum(v, lost)
        p = fma(e, high, e * low)
        complement = complement_of(p, v, beside)
        gradient = fma(p, whole - w, fma(pull, p, zero - w * complement))
        store_lanes(panel, at, select(x == dead, zero, factor * gradient))
