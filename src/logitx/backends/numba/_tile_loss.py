"""Cross-entropy of a tile of logits: some classes of some rows, in the dtype computed in.

Two kernels. `reduce` finds what a tile adds to the reduction of its rows, to be merged with what other tiles add;
`differentiate` turns a tile into its gradient in place, once the reductions of its rows are known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.backends.numba._blocks import scratch
from logitx.backends.numba._compile import primitive
from logitx.backends.numba._lanes import cast, fma, lane, least, load, select, spread, store, width
from logitx.backends.numba._rows import (
    SPAN,
    add,
    cap,
    exponent,
    folded,
    limit_at,
    multiply,
    peak,
    rest_of,
    scale_at,
)
from logitx.backends.numba._simd import exp
from logitx.backends.numba._storage import read_lanes, read_one, write

TOP, REST, TERMS, TOTAL = range(4)  # what `reduce` finds: a row's maximum, its sum beside that, sums of the targets
PEAK, INVERSE, BESIDE, FACTOR, WHOLE, PULL, CHANGE = range(7)  # what `differentiate` is told of a row


def reduce(
    tile: Any, first: int, bias: Any, labels: Any, rows: Any, targets: Any, class_weight: Any, even: float, keep: float,
    temperature: Any, softcap: Any, found: Any, logits: Any, part: int, parts: int,
) -> None:  # fmt: skip
    """Reduce the rows of a tile whose first class is `first`; write the logits of labels that are in it.

    The weight of class j in a row with targets t is class_weight_j (even + keep t_j); labels have theirs added by the
    caller. `targets` are those of `rows`, of all classes, or have size 0. In `found`, TERMS is the sum of weights times
    (maximum - logit) / temperature, and TOTAL the sum of weights.
    """
    count, n = tile.shape
    panel = scratch((n + width(softcap) - 1) // width(softcap) * width(softcap), softcap)
    steps = panel.size // width(panel)
    shift, weight = _classes(bias, first, n, panel, 0.0), _classes(class_weight, first, n, panel, 1.0)
    room = scratch(2 * width(panel), softcap)
    weighted = even > 0.0 or targets.size > 0
    share = scratch(panel.size if weighted else 0, softcap)
    for i in range(count * part // parts, count * (part + 1) // parts):
        _load(tile, i, 0, n, panel, -np.inf)
        if bias.size > 0:
            _add(panel, shift)
        if softcap.size > 0:
            cap(panel, panel[:0], 0, steps, limit_at(softcap, i, 1, room, True))
        scale = scale_at(temperature, i, 1, room, True)
        if labels.size > 0 and first <= labels[i] < first + n:
            logits[i] = panel[labels[i] - first]
        top = peak(panel, 0, steps, True)
        found[i, TOP] = lane(top, 0)
        found[i, REST] = lane(rest_of(panel, 0, steps, top, scale, False, True), 0)
        if weighted:
            _weigh(share, weight, targets, rows[i], first, n, even, keep)
            found[i, TERMS], found[i, TOTAL] = _terms(panel, share, steps, top, scale)


def differentiate(
    tile: Any, first: int, bias: Any, labels: Any, rows: Any, targets: Any, class_weight: Any, even: float, keep: float,
    temperature: Any, softcap: Any, facts: Any, part: int, parts: int,
) -> None:  # fmt: skip
    """Replace the logits of a tile by FACTOR [p (WHOLE - w) - w (1 - p) + PULL p] du/dx; by CHANGE du/dx at labels.

    Weights w are those of `reduce`; INVERSE is 1 over the sum of exponentials, BESIDE what that lacks to 1.
    """
    count, n = tile.shape
    panel = scratch((n + width(softcap) - 1) // width(softcap) * width(softcap), softcap)
    steps = panel.size // width(panel)
    shift, weight = _classes(bias, first, n, panel, 0.0), _classes(class_weight, first, n, panel, 1.0)
    room = scratch(2 * width(panel), softcap)
    weighted = even > 0.0 or targets.size > 0
    share = scratch(panel.size if weighted else 0, softcap)
    slope = scratch(panel.size if softcap.size > 0 else 0, softcap)
    for i in range(count * part // parts, count * (part + 1) // parts):
        _load(tile, i, 0, n, panel, -np.inf)
        if bias.size > 0:
            _add(panel, shift)
        if softcap.size > 0:
            cap(panel, slope, 0, steps, limit_at(softcap, i, 1, room, True))
        scale = scale_at(temperature, i, 1, room, True)
        if weighted:
            _weigh(share, weight, targets, rows[i], first, n, even, keep)
            _descend_weighted(panel, share, steps, facts[i], scale)
        else:
            _descend(panel, steps, facts[i], scale)
        if labels.size > 0 and first <= labels[i] < first + n:
            panel[labels[i] - first] = facts[i, CHANGE]
        if softcap.size > 0:
            multiply(panel, slope, panel.size)
        _store(panel, tile, i, n)


@primitive
def _load(source: Any, row: int, first: int, n: int, panel: Any, pad: float) -> None:
    """Copy classes of a row; the rest of the panel holds `pad`."""
    lanes, stride = width(panel), source.strides[1]
    start = row * source.strides[0] + first * stride
    whole = 0
    if stride == source.itemsize:
        whole = n // lanes * lanes
        for j in range(0, whole, lanes):
            store(panel, j, read_lanes(source, start + j * stride, panel))
    if n < panel.size:
        store(panel, panel.size - lanes, spread(panel, pad))
    for j in range(whole, n):
        panel[j] = read_one(source, start + j * stride, panel)


@primitive
def _store(panel: Any, target: Any, row: int, n: int) -> None:
    lanes = width(panel)
    start = row * target.strides[0]
    whole = n // lanes * lanes
    for j in range(0, whole, lanes):
        write(target, start + j * target.itemsize, load(panel, j))
    for j in range(whole, n):
        write(target, start + j * target.itemsize, panel[j])


@primitive
def _classes(source: Any, first: int, n: int, panel: Any, absent: float) -> Any:
    """Return numbers of the classes of a tile, 0 in the padding; `absent` for each where there are none."""
    numbers = scratch(panel.size, panel)
    for j in range(panel.size):
        numbers[j] = 0.0 if j >= n else source[first + j] if source.size > 0 else absent
    return numbers


@primitive
def _add(panel: Any, shift: Any) -> None:
    for at in range(0, panel.size, width(panel)):
        store(panel, at, load(panel, at) + load(shift, at))


@primitive
def _weigh(share: Any, weight: Any, targets: Any, row: int, first: int, n: int, even: float, keep: float) -> None:
    """Write class_weight (even + keep t)."""
    base, factor = spread(share, even), spread(share, keep)
    if targets.size > 0:
        _load(targets, row, first, n, share, 0.0)
    for at in range(0, share.size, width(share)):
        q = base
        if targets.size > 0:
            q = fma(factor, load(share, at), base)
        store(share, at, load(weight, at) * q)


@primitive
def _terms(panel: Any, share: Any, steps: int, top: Any, scale: Any) -> Any:
    """Return the sum of weights times (maximum - logit) / temperature, and the sum of weights."""
    zero = spread(panel, 0.0)
    high, low, whole_high, whole_low = zero, zero, zero, zero
    for start in range(0, steps, SPAN):
        part, whole = zero, zero
        for step in range(start, least(start + SPAN, steps)):
            w = load(share, step * width(panel))
            v, _ = exponent(load(panel, step * width(panel)), top, scale)
            part = part + select(w == zero, zero, w * (zero - v))
            whole = whole + w
        high, low = add(high, low, part)
        whole_high, whole_low = add(whole_high, whole_low, whole)
    return lane(folded(panel, high, low, True), 0), lane(folded(panel, whole_high, whole_low, True), 0)


@primitive
def _inverse(facts: Any, panel: Any) -> Any:
    """Return 1 over the sum of exponentials in two parts."""
    high = cast(facts[INVERSE], panel)
    return spread(panel, high), spread(panel, cast(facts[INVERSE] - high, panel))


@primitive
def _descend(panel: Any, steps: int, facts: Any, scale: Any) -> None:
    """Write the gradient where no class but the label has a weight."""
    zero, dead, top = spread(panel, 0.0), spread(panel, -np.inf), spread(panel, facts[PEAK])
    high, low = _inverse(facts, panel)
    slant = spread(panel, facts[FACTOR] * (facts[WHOLE] + facts[PULL]))
    for at in range(0, steps * width(panel), width(panel)):
        x = load(panel, at)
        v, lost = exponent(x, top, scale)
        e = exp(v, lost)
        store(panel, at, select(x == dead, zero, slant * fma(e, high, e * low)))


@primitive
def _descend_weighted(panel: Any, share: Any, steps: int, facts: Any, scale: Any) -> None:
    """Write the gradient where any class may have a weight."""
    zero, one = spread(panel, 0.0), spread(panel, 1.0)
    dead, top = spread(panel, -np.inf), spread(panel, facts[PEAK])
    high, low = _inverse(facts, panel)
    factor, whole, pull = spread(panel, facts[FACTOR]), spread(panel, facts[WHOLE]), spread(panel, facts[PULL])
    beside = spread(panel, facts[BESIDE])
    for at in range(0, steps * width(panel), width(panel)):
        x, w = load(panel, at), load(share, at)
        v, lost = exponent(x, top, scale)
        e = exp(v, lost)
        p = fma(e, high, e * low)
        complement = select(v == zero, beside, one - p)  # at the maximum 1 - p would cancel
        gradient = fma(p, whole - w, fma(pull, p, zero - w * complement))
        store(panel, at, select(x == dead, zero, factor * gradient))
