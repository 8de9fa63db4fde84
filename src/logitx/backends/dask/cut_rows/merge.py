"""Rows whose classes are in several blocks, middle step: merge pairs, then compute losses and normalizers of rows.

Pairs are merged in float64 for every dtype of the logits, in any array library.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from logitx import _dispatch
from logitx._arrays.families import family_of
from logitx._plan import Array, Plan
from logitx.backends.dask.whole_rows import Part, Totals, solid, space, totals
from logitx.backends.formulas.linear_blocks import pieces
from logitx.backends.formulas.numbers import empty_value, quiet

# Rows that are computed at a time. On the workers of a cluster memory is given back as soon as it is free,
# and arrays of 128 KiB and more are fresh pages each: merging four pairs of 25,000 rows by formulas took 12.8 ms at
# once, 2.8 in pieces.
NUMBERS_AT_A_TIME = 8192


class Pair(NamedTuple):
    """The reduction of rows over some of their classes; a field is None if the call does not need it."""

    top: Array  # the maximum after softcap: NaN or +inf where there is one, 0 where nothing counts
    rest: Array  # sum of exp((u - top) / temperature) without one maximum: NaN with NaN or +inf, -1 if none counts
    heat: Array | float  # the temperature
    count: Array = None  # unmasked classes, if any is masked
    logit: Array = None  # of the label, 0 where that is elsewhere
    weight: Array = None  # class weight of the label
    loss: Array = None  # sum of weights times (log-normalizer - u), of probabilities
    mass: Array = None  # sum of these weights
    even_loss: Array = None  # as `loss`, where every unmasked class has its class weight
    even_mass: Array = None
    sample: Array = None  # sample weight, 0 where the label is ignored; of the block that has the first classes
    weighted: bool = False  # whether classes have weights
    smoothing: float = 0.0
    z_loss: float | None = None


# -- merging ----------------------------------------------------------------------------------------------------------


@quiet
def merge_pairs(plan: Plan, pairs: list[Pair]) -> Pair:
    """Merge pairs of several blocks of classes."""
    first = pairs[0]
    plan = dataclasses.replace(plan, family=family_of(first.top).name)  # type: ignore[union-attr]
    heat = None if isinstance(first.heat, float) and first.heat == 1.0 else first.heat
    operands = as_memory([pair.top for pair in pairs]), as_memory([pair.rest for pair in pairs]), heat
    top, rest = _dispatch.run_on_part("merge_rows", plan, operands, (*operands[0], *operands[1], heat))
    sums = ("count", "logit", "weight", "sample", "mass", "even_mass")
    found = {name: _sum_present([getattr(pair, name) for pair in pairs]) for name in sums}
    for loss, mass in (("loss", "mass"), ("even_loss", "even_mass")):
        if getattr(first, mass) is not None:
            found[loss] = _sum_present(
                [_raised(pair, top, rest, getattr(pair, loss), getattr(pair, mass)) for pair in pairs]
            )
    return first._replace(top=top, rest=rest, **found)


def as_memory(numbers: Iterable[Any]) -> list[Any]:
    """Return NumPy scalars, which reductions of a single row return, as 0-d arrays: kernels need memory."""
    return [np.asarray(one) if isinstance(one, np.generic) else one for one in numbers]


def _raised(pair: Pair, top: Array, rest: Array, loss: Array, mass: Array) -> Array:
    """Return a sum of losses under the merged log-normalizer: if that grew by d, the sum grows by mass * d."""
    xp, nothing = space(pair.top), pair.rest == -1.0
    gap = xp.where(pair.top == top, 0.0, (top - pair.top) / pair.heat)
    growth = xp.where(nothing, 0.0, gap + (xp.log1p(rest) - xp.log1p(xp.where(nothing, 0.0, pair.rest))))
    return loss + xp.where(mass == 0.0, 0.0, mass * growth)


def _sum_present(ones: list[Array]) -> Array:
    """Return the sum of those that are not None; None if all are."""
    there = [one for one in ones if one is not None]
    return functools.reduce(operator.add, there) if there else None


# -- rows -------------------------------------------------------------------------------------------------------------


class RowTargets(NamedTuple):
    """Weights and normalizers of rows, from the targets and the merged pair; one number a row."""

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


def shares_of(pair: Pair) -> Array:
    """Return s c of each row of class ids that counts, else 0."""
    xp = space(pair.top)
    share = xp.astype(pair.sample, xp.float64, copy=False)
    share = share if pair.weight is None else share * pair.weight
    return share if pair.count is None else xp.where(pair.count == 0.0, 0.0, share)


def row_targets(plan: Plan, xp: Any, pair: Pair) -> RowTargets:
    """Return weights and normalizers of rows from the merged pair."""
    sample = xp.astype(pair.sample, xp.float64, copy=False)
    one = xp.ones_like(sample)
    count = one * plan.layout.n if pair.count is None else pair.count
    keep, even = 1.0 - pair.smoothing, pair.smoothing / xp.where(count == 0.0, 1.0, count)
    if plan.hard:
        classes = one if pair.weight is None else pair.weight
        own = total = keep * classes
    else:
        own, total = xp.zeros_like(one), keep * pair.mass
        classes = pair.mass if pair.weighted else one
    factor = xp.where(count == 0.0, 0.0, sample * classes)
    if pair.even_mass is not None:
        total = total + even * pair.even_mass
    poison, nothing = xp.isnan(pair.rest), pair.rest == -1.0
    log_sum = xp.log1p(xp.where(nothing, 0.0, pair.rest))
    return RowTargets(
        own, total, keep, even, classes, sample, factor, log_sum, pair.top / pair.heat + log_sum, poison, nothing
    )  # fmt: skip


@quiet
def losses_of_pairs(plan: Plan, pair: Pair) -> Part:
    """Return the losses of rows whose reduction is known."""
    found: Part = in_pieces(functools.partial(_losses_of_pairs, plan), pair.top, pair)
    return found


def summed_losses(plan: Plan, pair: Pair) -> Totals:
    """Return the sums of the losses of rows whose reduction is known."""
    return totals(losses_of_pairs(plan, pair))


def _losses_of_pairs(plan: Plan, pair: Pair) -> Part:
    xp = space(pair.top)
    row = row_targets(plan, xp, pair)
    if plan.hard:
        loss = _times(xp, row.own, (pair.top - pair.logit) / pair.heat + row.log_sum)
    else:
        loss = _times(xp, row.keep, pair.loss)
    if pair.even_loss is not None:
        loss = loss + _times(xp, row.even, pair.even_loss)
    undefined = empty_value(plan)

    def settled(value: Array) -> Array:
        value = xp.where(row.nothing, undefined, row.sample * value)
        return xp.where(row.factor == 0.0, 0.0, xp.where(row.poison, xp.nan, value))

    loss, z = settled(loss), None
    if pair.z_loss is not None:
        z = settled(pair.z_loss * row.classes * row.log_normalizer**2)
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
def normalizer_of_pairs(plan: Plan, pair: Pair) -> Any:
    """Return logsumexp of merged pairs, and its sign if `return_sign` is set."""
    found: Value = in_pieces(functools.partial(_normalizer_of_pairs, plan), pair.top, pair)
    return found if plan.return_sign else found.value


def _normalizer_of_pairs(plan: Plan, pair: Pair) -> Value:
    xp = space(pair.top)
    nothing = pair.rest == -1.0
    value = xp.where(xp.isnan(pair.rest), pair.top, pair.top + xp.log1p(xp.where(nothing, 0.0, pair.rest)))
    value = xp.where(nothing, -xp.inf, value)
    sign = xp.where(xp.isnan(value), value, xp.where(nothing, 0.0, 1.0)) if plan.return_sign else value
    return Value(solid(xp, value, plan.result), solid(xp, sign, plan.result))


# -- some rows at a time ----------------------------------------------------------------------------------------------


def in_pieces(function: Callable[..., Any], like: Array, *groups: Any) -> Any:
    """Call a function of named tuples on some rows at a time; their arrays have one number a row."""
    shape, count = tuple(like.shape), math.prod(like.shape)
    size = NUMBERS_AT_A_TIME // len(groups)
    if count <= size:
        return function(*groups)
    xp = space(like)
    flat = [type(group)(*(_flat_field(xp, one) for one in group)) for group in groups]
    found = [
        function(*(type(group)(*(one[piece] if _is_per_row(one) else one for one in group)) for group in flat))
        for piece in pieces(count, size)
    ]
    joined = (
        xp.reshape(xp.concat(parts), shape) if _is_per_row(parts[0]) else parts[0] for parts in zip(*found, strict=True)
    )
    return type(found[0])(*joined)


def _flat_field(xp: Any, one: Any) -> Any:
    return xp.reshape(one, (-1,)) if _is_per_row(one) else one


def _is_per_row(one: Any) -> bool:
    """True for an array over rows; False for a number shared by all rows and for None."""
    return getattr(one, "ndim", 0) > 0
