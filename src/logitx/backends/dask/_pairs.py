"""Rows whose classes are in several blocks: blocks reduce them, reductions merge, a last step makes results of them.

A row of a block comes down to its maximum and the logarithm of its sum of exponentials beside that; such pairs merge
exactly. With them goes what the targets ask for, as a sum of losses under the block's own normalizer and the weight of
that sum: when the normalizer grows by d, a sum of losses of weight m grows by m d. Nothing cancels: all of it is >= 0.
All of this is in float64, one number a row, whatever the dtype of the logits.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import logitx
from logitx._arguments.axes import layout
from logitx._arrays import dtype_name, family_of, fold, unfold
from logitx._typing import Array, Layout, Plan
from logitx.backends.dask._calls import Part, checked, flat, solid, space
from logitx.backends.dask._lines import Work
from logitx.backends.generic.cross_entropy import refuse, sort_out
from logitx.backends.generic.rows import quiet


class Pair(NamedTuple):
    """The reduction of rows over some of their classes. Everything is float64, and all but the first five optional."""

    worst: Array  # the largest logit as found: NaN, +inf, and -inf where nothing counts
    top: Array  # the same after softcap; 0 where it is not finite
    rest: Array  # log of the sum of exponentials of (u - top) / temperature; 0 where nothing counts
    heat: Array  # the temperature
    count: Array  # unmasked classes
    loss: Array = 0.0  # sum of weights times (log-normalizer - u): for class ids without their class weight
    mass: Array = 0.0  # sum of these weights
    weight: Array = 0.0  # class weight of the label
    even_loss: Array = 0.0  # as `loss`, where every unmasked class has its class weight
    even_mass: Array = 0.0


class Block(NamedTuple):
    """A block of logits with what is known of its rows and classes."""

    x: Array
    valid: Array  # of the shape of x, or None
    temperature: Any
    softcap: Any
    lay: Layout
    xp: Any
    family: Any


def block_of(work: Work, given: dict[str, Any]) -> Block:
    """Look at a block of logits."""
    x, where = given["x"], given["where"]
    xp = space(x)
    valid = None if where is None else xp.broadcast_to(where, x.shape)
    lay = layout(tuple(x.shape), work.plan.layout.axes)
    return Block(x, valid, given["temperature"], given["softcap"], lay, xp, family_of(x))


def per_row(block: Block, value: Any) -> Any:
    """Return a temperature or a softcap as one number a row in float64."""
    if isinstance(value, float):
        return value
    value = block.xp.astype(block.xp.asarray(value), block.xp.float64)
    if value.ndim == 0:
        return value
    value = block.xp.reshape(value, (1,) * (len(block.lay.given) - value.ndim) + tuple(value.shape))
    return block.xp.reshape(value, tuple(k for axis, k in enumerate(value.shape) if axis not in block.lay.axes))


def beside(block: Block, value: Any) -> Any:
    """Return numbers of rows with the class axes at length 1."""
    return value if isinstance(value, float) or value.ndim == 0 else block.xp.reshape(value, block.lay.kept)


def capped(block: Block, x: Array, softcap: Any) -> Array:
    """Return logits after softcap."""
    return x if softcap is None else block.xp.where(block.xp.isinf(x), x, softcap * block.xp.tanh(x / softcap))


# -- one block --------------------------------------------------------------------------------------------------------


def _worst(block: Block) -> tuple[Array, Array]:
    """Return the largest unmasked logit of each row, and the number of its class in the block."""
    xp, lay = block.xp, block.lay
    x = block.x
    if dtype_name(x.dtype) not in ("float16", "float32", "float64"):
        x = xp.astype(x, xp.float64)
    x = fold(block.family, x, lay)
    if block.valid is not None:
        x = xp.where(fold(block.family, block.valid, lay), x, -xp.inf)
    at = xp.argmax(x, axis=lay.axis)
    worst = xp.take_along_axis(x, xp.expand_dims(at, axis=lay.axis), axis=lay.axis)
    return xp.astype(xp.squeeze(worst, axis=lay.axis), xp.float64), at


def _under(block: Block, targets: Array, **options: Any) -> Array:
    """Return losses under the normalizer of the block."""
    given = {"where": block.valid, "temperature": block.temperature, "softcap": block.softcap}
    options |= {name: value for name, value in given.items() if value is not None}
    found = logitx.cross_entropy(
        block.x, targets, axis=block.lay.axes, reduction="none", empty="zero", dtype="float64", **options
    )
    return solid(block.xp, found, "float64")


@quiet
def reduced(work: Work, *blocks: Any) -> Pair:
    """Reduce the rows of a block over its classes."""
    given = work.given(blocks)
    block = block_of(work, given)
    xp, lay, plan = block.xp, block.lay, work.plan
    zero = xp.zeros(lay.rows, dtype=xp.float64)
    heat = zero + (1.0 if block.temperature is None else per_row(block, block.temperature))
    if lay.n == 0:
        return Pair(zero - xp.inf, zero, zero, heat, zero, zero, zero, zero, zero, zero)
    worst, at = _worst(block)
    top = capped(block, worst, None if block.softcap is None else per_row(block, block.softcap))
    top = xp.where(xp.isfinite(top), top, 0.0)
    rest = _under(block, at, ignore_index=None)
    count = zero + lay.n if block.valid is None else xp.sum(block.valid, axis=lay.axes, dtype=xp.float64)
    pair = Pair(worst, top, rest, heat, count)
    if given["targets"] is None:
        return pair
    weights = flat(given["class_weight"])
    weights = None if weights is None else xp.astype(weights, xp.float64)
    pair = _labelled(plan, block, given, pair, weights) if plan.hard else _shared(block, given, pair, weights)
    return pair if given["label_smoothing"] is None else _spread(block, pair, weights, at)


def _labelled(plan: Plan, block: Block, given: dict[str, Any], pair: Pair, weights: Array) -> Pair:
    """Add what class ids ask for."""
    xp = block.xp
    check_labels(plan, xp, given)
    local = local_ids(plan, block, given)
    held = local >= 0
    loss = _under(block, local, ignore_index=-1)
    loss = xp.where(held & (pair.worst == -xp.inf), xp.inf, loss)  # of other blocks something may count
    mass = xp.astype(held, xp.float64)
    return pair._replace(
        loss=loss, mass=mass, weight=mass if weights is None else xp.where(held, weights[xp.where(held, local, 0)], 0.0)
    )


def _shared(block: Block, given: dict[str, Any], pair: Pair, weights: Array) -> Pair:
    """Add what probabilities ask for."""
    xp, lay, t = block.xp, block.lay, given["targets"]
    loss = _under(block, t, class_weight=weights, ignore_index=None)
    t = xp.astype(t, xp.float64)
    wanted = t if weights is None else xp.where(t == 0.0, 0.0, t * _per_class(block, weights))
    mass = xp.sum(wanted, axis=lay.axes)
    loss = xp.where((mass > 0.0) & (pair.worst == -xp.inf), xp.inf, loss)
    return pair._replace(loss=loss, mass=mass)


def _per_class(block: Block, weights: Array) -> Array:
    """Return numbers of classes in the places that the classes have in a block."""
    xp, lay = block.xp, block.lay
    shape = tuple(lay.n if axis == lay.axis else 1 for axis in range(len(lay.shape)))
    spread = xp.broadcast_to(xp.reshape(weights, shape), lay.shape)
    return unfold(block.family, spread, lay)


def _spread(block: Block, pair: Pair, weights: Array, at: Array) -> Pair:
    """Add what label smoothing asks for: every unmasked class, by its weight."""
    xp, lay = block.xp, block.lay
    heaviest = at if weights is None else xp.zeros_like(at) + xp.argmax(weights)  # a label whose row has a weight
    mean = _under(block, heaviest, class_weight=weights, label_smoothing=1.0, ignore_index=None)
    if weights is None:
        mass = pair.count
    elif block.valid is None:
        mass = xp.zeros_like(pair.count) + xp.sum(weights)
    else:
        mass = xp.sum(xp.where(block.valid, _per_class(block, weights), 0.0), axis=lay.axes)
    loss = xp.where(mass == 0.0, 0.0, mean * pair.count)
    loss = xp.where((pair.worst == -xp.inf) & (mass > 0.0), xp.inf, loss)
    return pair._replace(even_loss=loss, even_mass=mass)


# -- class ids --------------------------------------------------------------------------------------------------------


def check_labels(plan: Plan, xp: Any, given: dict[str, Any]) -> None:
    """Raise for a class id out of range, in the block that has the first classes."""
    if any(int(given[name][0]) for name in given if name.startswith("class ")):
        return
    work = Work(plan, (), ())
    checked(work, given, _check, plan, xp, given["targets"])


def _check(plan: Plan, xp: Any, ids: Array) -> None:
    _, bad = sort_out(plan, xp, xp.astype(ids, xp.int64, copy=False))
    if bool(xp.any(bad)):
        rows = tuple(ids.shape)
        refuse(dataclasses.replace(plan, layout=dataclasses.replace(plan.layout, rows=rows)), xp, ids, bad)


def local_ids(plan: Plan, block: Block, given: dict[str, Any]) -> Array:
    """Return class ids counted from the first class of a block; -1 where they are ignored or in another block."""
    xp, axes = block.xp, block.lay.axes
    ids = xp.astype(given["targets"], xp.int64, copy=False)
    ignored, bad = sort_out(plan, xp, ids)
    inside, ids = ~(ignored | bad), xp.where(ignored | bad, 0, ids)
    local, step = xp.zeros_like(ids), 1
    for axis in reversed(axes):  # ids are in C order over the axes as given
        ids, place = ids // plan.layout.given[axis], ids % plan.layout.given[axis]
        place = place - int(given[f"class {axis}"][0])
        length = block.x.shape[axis]
        inside = inside & (place >= 0) & (place < length)
        local, step = local + step * place, step * length
    return xp.where(inside, local, -1)


# -- merging ----------------------------------------------------------------------------------------------------------


@quiet
def merged(one: Pair, two: Pair) -> Pair:
    """Return the reduction over the classes of both."""
    xp = space(one.worst)
    first, second = one.worst == -xp.inf, two.worst == -xp.inf
    top = xp.where(first, two.top, xp.where(second, one.top, xp.maximum(one.top, two.top)))
    a = xp.where(first, -xp.inf, one.rest - (top - one.top) / one.heat)
    b = xp.where(second, -xp.inf, two.rest - (top - two.top) / two.heat)
    rest = xp.where(first & second, 0.0, xp.logaddexp(a, b))
    more, less = _growth(xp, a, b), _growth(xp, b, a)

    def summed(name: str) -> Any:
        total, mass = f"{name}loss", f"{name}mass"
        terms = [
            getattr(pair, total) + xp.where(getattr(pair, mass) == 0.0, 0.0, getattr(pair, mass) * growth)
            for pair, growth in ((one, more), (two, less))
        ]
        return terms[0] + terms[1]

    return Pair(
        xp.maximum(one.worst, two.worst), top, rest, one.heat, one.count + two.count, summed(""), one.mass + two.mass,
        one.weight + two.weight, summed("even_"), one.even_mass + two.even_mass,
    )  # fmt: skip


def _growth(xp: Any, own: Array, other: Array) -> Array:
    """Return log(exp(own) + exp(other)) - own."""
    return xp.where(other == -xp.inf, 0.0, xp.logaddexp(0.0, other - own))


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
    log_normalizer: Array
    poison: Array
    nothing: Array


def _times(xp: Any, factor: Any, value: Any) -> Any:
    """Multiply; 0 times infinity is 0."""
    return xp.where((factor == 0.0) | xp.zeros_like(value, dtype=bool), 0.0, factor * value)


def wanted(plan: Plan, xp: Any, pair: Pair, given: dict[str, Any]) -> Wanted:
    """Return what targets and weights ask of rows."""
    weighted = given["class_weight"] is not None or "weighted" in given
    eps = 0.0 if given["label_smoothing"] is None else float(given["label_smoothing"])
    keep, even = 1.0 - eps, xp.where(pair.count == 0.0, 0.0, eps / xp.where(pair.count == 0.0, 1.0, pair.count))
    skipped = pair.count == 0.0
    if plan.hard:
        ids = xp.astype(given["targets"], xp.int64, copy=False)
        skipped = skipped | sort_out(plan, xp, ids)[0]
        own, total, classes = keep * pair.weight, keep * pair.weight, pair.weight
    else:
        own, total = xp.zeros_like(pair.top), keep * pair.mass
        classes = pair.mass if weighted else xp.ones_like(pair.top)
    sample = 1.0 if given["sample_weight"] is None else xp.astype(given["sample_weight"], xp.float64)
    sample = sample + xp.zeros_like(pair.top)
    factor = xp.where(skipped, 0.0, sample * classes)
    return Wanted(
        own, total + even * pair.even_mass, keep, even, classes, sample, factor, pair.top / pair.heat + pair.rest,
        xp.isnan(pair.worst) | (pair.worst == xp.inf), pair.worst == -xp.inf,
    )  # fmt: skip


@quiet
def finished(work: Work, *blocks: Any) -> Part:
    """Return the losses of rows whose reduction is known."""
    given, plan = work.given(blocks), work.plan
    pair = given["pair"]
    xp = space(pair.worst)
    row = wanted(plan, xp, pair, given)
    loss = _times(xp, row.keep * (pair.weight if plan.hard else 1.0), pair.loss) + _times(xp, row.even, pair.even_loss)
    undefined = xp.nan if plan.empty == "nan" else 0.0

    def settled(value: Array) -> Array:
        value = xp.where(row.nothing, undefined, row.sample * value)
        return xp.where(row.factor == 0.0, 0.0, xp.where(row.poison, xp.nan, value))

    z = xp.zeros_like(loss)
    if given["z_loss"] is not None:
        z = settled(float(given["z_loss"]) * row.classes * row.log_normalizer**2)
    known = xp.where(row.poison | row.nothing, pair.worst, row.log_normalizer)
    return Part(settled(loss) + z, z, solid(xp, known, plan.loss), row.factor)


@quiet
def normalizer(work: Work, *blocks: Any) -> tuple[Any, Any]:
    """Return logsumexp and its sign, of rows whose reduction is known."""
    (pair,) = blocks
    xp, plan = space(pair.worst), work.plan
    known = xp.isfinite(pair.worst)
    value = xp.where(known, pair.top + pair.rest, pair.worst)
    sign = xp.where(xp.isnan(value), value, xp.where(pair.worst == -xp.inf, 0.0, 1.0))
    return solid(xp, value, plan.result), solid(xp, sign, plan.result)
