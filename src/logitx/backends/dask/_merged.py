"""Rows whose blocks have been reduced: reductions merge, and what follows from them for a row, one number each.

Merged in float64, whatever the dtype of the logits, in any array library.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from logitx._arguments import operands
from logitx._typing import Array, Plan
from logitx.backends import row_sums
from logitx.backends.dask._calls import Part, solid, space
from logitx.backends.dask._lines import Work
from logitx.backends.generic.cross_entropy import sort_out
from logitx.backends.generic.rows import quiet
from logitx.backends.tiles import pieces

# How many rows are computed with at a time. On the workers of a cluster memory is given back as soon as it is free, so
# that arrays of 128 KiB and more are fresh pages each: merging four pairs of 25,000 rows took 12.8 ms at once, so 2.8.
PIECE = 8192


class Pair(NamedTuple):
    """The reduction of rows over some of their classes; None for what nothing asks for."""

    top: Array  # the maximum after softcap: NaN or +inf where there is one, 0 where nothing counts
    rest: Array  # sum of exp((u - top) / temperature) without one maximum: NaN for the former, -1 for the latter
    heat: Array | float  # the temperature
    count: Array = None  # unmasked classes, if any is masked
    logit: Array = None  # of the label, 0 where that is elsewhere
    weight: Array = None  # class weight of the label
    loss: Array = None  # sum of weights times (log-normalizer - u), of probabilities
    mass: Array = None  # sum of these weights
    even_loss: Array = None  # as `loss`, where every unmasked class has its class weight
    even_mass: Array = None


# -- merging ----------------------------------------------------------------------------------------------------------


@quiet
def merged(one: Pair, two: Pair) -> Pair:
    """Return the reduction over the classes of both."""
    found: Pair = in_pieces(_merged, one.top, one, two)
    return found


def _merged(one: Pair, two: Pair) -> Pair:
    xp = space(one.top)
    first, second = (_sums(xp, pair) for pair in (one, two))
    top, rest, *_ = row_sums.merged(xp, first, second, one.heat)
    pair = Pair(
        top, rest, one.heat, _added(one.count, two.count), _added(one.logit, two.logit), _added(one.weight, two.weight)
    )
    if one.mass is None and one.even_mass is None:
        return pair
    rises = [_rise(xp, part, top, rest, one.heat) for part in (first, second)]
    found: dict[str, Array] = {}
    for loss, mass in (("loss", "mass"), ("even_loss", "even_mass")):
        if getattr(one, mass) is not None:
            terms = [
                getattr(part, loss) + xp.where(getattr(part, mass) == 0.0, 0.0, getattr(part, mass) * rise)
                for part, rise in zip((one, two), rises, strict=True)
            ]
            found |= {loss: terms[0] + terms[1], mass: getattr(one, mass) + getattr(two, mass)}
    return pair._replace(**found)


def _sums(xp: Any, pair: Pair) -> row_sums.Sums:
    top, rest = (xp.astype(one, xp.float64, copy=False) for one in (pair.top, pair.rest))
    return row_sums.Sums(top, rest, 0.0, 0.0)


def _added(one: Array, two: Array) -> Array:
    return None if one is None else one + two


def _rise(xp: Any, part: row_sums.Sums, top: Array, rest: Array, heat: Any) -> Array:
    """Return by how much the log-normalizer of a part grows; 0 where nothing counts in it."""
    nothing = part.rest == -1.0
    gap = xp.where(part.top == top, 0.0, (top - part.top) / heat)
    return xp.where(nothing, 0.0, gap + (xp.log1p(rest) - xp.log1p(xp.where(nothing, 0.0, part.rest))))


# -- rows -------------------------------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """What is asked of rows, one number each."""

    own: Array  # the weight of the label beside that of all classes: (1 - eps) c; 0 for probabilities
    total: Array  # sum of class_weight q
    keep: float  # 1 - eps
    even: Array  # eps / K
    classes: Array  # c
    sample: Array  # s
    factor: Array  # s c where the row counts, else 0
    log_sum: Array  # of the exponentials of (u - top) / temperature
    log_normalizer: Array
    poison: Array
    nothing: Array


def _times(xp: Any, factor: Any, value: Any) -> Any:
    """Multiply; 0 times infinity is 0."""
    return xp.where((factor == 0.0) | xp.zeros_like(value, dtype=bool), 0.0, factor * value)


def number(given: dict[str, Any], name: str) -> float:
    """Return label smoothing or the factor of the z-loss; 0 where absent."""
    return 0.0 if given[name] is None else operands.number(name, given[name])


def shares_of(plan: Plan, pair: Pair, given: dict[str, Any]) -> Array:
    """Return s c of each row of class ids that counts, else 0."""
    xp = space(pair.top)
    skipped = sort_out(plan, xp, xp.astype(given["targets"], xp.int64, copy=False))[0]
    if pair.count is not None:
        skipped = skipped | (pair.count == 0.0)
    classes = xp.ones_like(pair.rest) if pair.weight is None else pair.weight
    if given["sample_weight"] is not None:
        classes = classes * xp.astype(given["sample_weight"], xp.float64)
    return xp.where(skipped, 0.0, classes)


def wanted(plan: Plan, xp: Any, pair: Pair, given: dict[str, Any]) -> Wanted:
    """Return what targets and weights ask of rows."""
    weighted = given["class_weight"] is not None or "weighted" in given
    eps, one = number(given, "label_smoothing"), xp.ones(pair.top.shape, dtype=xp.float64)
    count = one * plan.layout.n if pair.count is None else pair.count
    keep, even, skipped = 1.0 - eps, eps / xp.where(count == 0.0, 1.0, count), count == 0.0
    if plan.hard:
        ids = xp.astype(given["targets"], xp.int64, copy=False)
        skipped = skipped | sort_out(plan, xp, ids)[0]
        classes = one if pair.weight is None else pair.weight
        own = total = keep * classes
    else:
        own, total = xp.zeros_like(one), keep * pair.mass
        classes = pair.mass if weighted else one
    sample = 1.0 if given["sample_weight"] is None else xp.astype(given["sample_weight"], xp.float64)
    sample = sample + xp.zeros_like(one)
    factor = xp.where(skipped, 0.0, sample * classes)
    if pair.even_mass is not None:
        total = total + even * pair.even_mass
    poison, nothing = xp.isnan(pair.rest), pair.rest == -1.0
    log_sum = xp.log1p(xp.where(nothing, 0.0, pair.rest))
    return Wanted(
        own, total, keep, even, classes, sample, factor, log_sum, pair.top / pair.heat + log_sum, poison, nothing
    )  # fmt: skip


@quiet
def finished(work: Work, *blocks: Any) -> Part:
    """Return the losses of rows whose reduction is known."""
    given, plan = work.given(blocks), work.plan
    top = given["pair"].top
    xp = space(top)
    ids, sample = given["targets"] if plan.hard else None, given["sample_weight"]
    of_rows = Numbers(ids, None if sample is None else xp.broadcast_to(sample, top.shape))
    found: Part = in_pieces(functools.partial(_finished, plan, given), top, given["pair"], of_rows)
    return found


class Numbers(NamedTuple):
    """What belongs to rows."""

    ids: Array
    sample: Array


def _finished(plan: Plan, shared: dict[str, Any], pair: Pair, of_rows: Numbers) -> Part:
    xp, given = space(pair.top), shared | {"targets": of_rows.ids, "sample_weight": of_rows.sample}
    row = wanted(plan, xp, pair, given)
    if plan.hard:
        loss = _times(xp, row.own, (pair.top - pair.logit) / pair.heat + row.log_sum)
    else:
        loss = _times(xp, row.keep, pair.loss)
    if pair.even_loss is not None:
        loss = loss + _times(xp, row.even, pair.even_loss)
    undefined = xp.nan if plan.empty == "nan" else 0.0

    def settled(value: Array) -> Array:
        value = xp.where(row.nothing, undefined, row.sample * value)
        return xp.where(row.factor == 0.0, 0.0, xp.where(row.poison, xp.nan, value))

    loss, z = settled(loss), None
    if given["z_loss"] is not None:
        z = settled(number(given, "z_loss") * row.classes * row.log_normalizer**2)
        loss = loss + z
    if not plan.return_parts:
        return Part(loss, None, None, row.factor)
    known = xp.where(row.poison, pair.top, xp.where(row.nothing, -xp.inf, row.log_normalizer))
    return Part(loss, xp.zeros_like(loss) if z is None else z, solid(xp, known, plan.loss), row.factor)


class Value(NamedTuple):
    """A normalizer and its sign."""

    value: Array
    sign: Array


@quiet
def normalizer(work: Work, *blocks: Any) -> Value:
    """Return logsumexp and its sign, of rows whose reduction is known."""
    (pair,) = blocks
    found: Value = in_pieces(functools.partial(_normalizer, work.plan), pair.top, pair)
    return found


def _normalizer(plan: Plan, pair: Pair) -> Value:
    xp = space(pair.top)
    nothing = pair.rest == -1.0
    value = xp.where(xp.isnan(pair.rest), pair.top, pair.top + xp.log1p(xp.where(nothing, 0.0, pair.rest)))
    value = xp.where(nothing, -xp.inf, value)
    sign = xp.where(xp.isnan(value), value, xp.where(nothing, 0.0, 1.0))
    return Value(solid(xp, value, plan.result), solid(xp, sign, plan.result))


# -- some rows at a time ----------------------------------------------------------------------------------------------


def in_pieces(function: Callable[..., Any], like: Array, *groups: Any) -> Any:
    """Call a function of named tuples, of which every array has a number a row, on some rows at a time."""
    shape, count = tuple(like.shape), math.prod(like.shape)
    if count <= PIECE:
        return function(*groups)
    xp = space(like)
    flat = [type(group)(*(_flat(xp, one) for one in group)) for group in groups]
    found = [
        function(*(type(group)(*(one[piece] if _is_long(one) else one for one in group)) for group in flat))
        for piece in pieces(count, PIECE)
    ]
    joined = (
        xp.reshape(xp.concat(parts), shape) if _is_long(parts[0]) else parts[0] for parts in zip(*found, strict=True)
    )
    return type(found[0])(*joined)


def _flat(xp: Any, one: Any) -> Any:
    return xp.reshape(one, (-1,)) if _is_long(one) else one


def _is_long(one: Any) -> bool:
    """Tell a number a row from one for all, and from none."""
    return getattr(one, "ndim", 0) > 0
