"""Rows whose classes are in several blocks, first step: reduce each block to a `Pair` for each row.

The backend of the block computes the maximum of a row and the sum of exponentials without it; such pairs merge exactly.
A pair also holds the logit of the label. For probabilities and label smoothing it holds a sum of losses under the
block's own normalizer, and the weight of that sum: when the normalizer grows by d, a sum of losses of weight m grows by
m d.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import logitx
from logitx import _dispatch
from logitx._arguments import scaling
from logitx._arguments.ranges import fit_numbers
from logitx._arrays.families import FAMILIES, family_of
from logitx._arrays.family import dtype_name
from logitx._arrays.folding import fold_axes, unfold_axes
from logitx._plan import Array, Layout, Plan, layout
from logitx.backends.dask.chunks import Work, first_of
from logitx.backends.dask.cut_rows.merge import Pair, as_memory
from logitx.backends.dask.whole_rows import flat_weights, solid, space, with_whole_positions
from logitx.backends.formulas.class_ids import refuse_labels, signed_ids, sort_out
from logitx.backends.formulas.numbers import quiet


class LogitsBlock(NamedTuple):
    """A block of logits, with its plan, mask, temperature and softcap."""

    plan: Plan
    x: Array
    folded: tuple[Array, Array, Any, Any]  # logits, mask, temperature and softcap, as backends take them
    valid: Array  # the mask in the shape of x, or None
    temperature: Any  # as given
    softcap: Any

    @property
    def lay(self) -> Layout:
        """Return the layout of the block, folded to one class axis."""
        return self.plan.layout

    @property
    def xp(self) -> Any:
        """Return the namespace of the block."""
        return space(self.x)

    @property
    def family(self) -> Any:
        """Return the family of the block."""
        return FAMILIES[self.plan.family]

    def by(self, operation: str, plan: Plan, *others: Any) -> Any:
        """Run one of the operations of `Merges` on the backend of the block."""
        arguments = (*self.folded, *as_memory(others))
        return _dispatch.run_on_part(operation, plan, arguments, arguments)


def block_of(work: Work, given: dict[str, Any]) -> LogitsBlock:
    """Fold a block of logits, and check operands whose values were lazy until now."""
    x, where, family = given["x"], given["where"], family_of(given["x"])
    xp = space(x)
    lay = layout(tuple(x.shape), work.plan.layout.axes)
    plan = dataclasses.replace(work.plan, family=family.name, layout=lay, dtype=dtype_name(x.dtype))  # type: ignore[union-attr]
    temperature, softcap = (
        None if given[name] is None else scaling.scalar(name, given[name], neutral, family, x, lay)  # type: ignore[arg-type]
        for name, neutral in (("temperature", 1.0), ("softcap", None))
    )
    plan = fit_numbers(plan, family, x, temperature, softcap)  # type: ignore[arg-type]
    valid = None if where is None else xp.broadcast_to(where, x.shape)
    mask = None if where is None else fold_axes(family, valid, lay)  # type: ignore[arg-type]
    folded = (fold_axes(family, x, lay), mask, temperature, softcap)  # type: ignore[arg-type]
    return LogitsBlock(plan, x, folded, valid, given["temperature"], given["softcap"])


def float64_rows(block: LogitsBlock, value: Any) -> Any:
    """Return a temperature or a softcap of a block as one number a row in float64."""
    if isinstance(value, float):
        return value
    value = block.xp.astype(block.xp.asarray(value), block.xp.float64)
    return value if value.ndim == 0 else block.xp.reshape(value, block.lay.rows)


def beside(block: LogitsBlock, value: Any) -> Any:
    """Return an array over rows with class axes of length 1."""
    return value if isinstance(value, float) or value.ndim == 0 else block.xp.reshape(value, block.lay.kept)


# -- one block --------------------------------------------------------------------------------------------------------


@quiet
def reduce_block(work: Work, *blocks: Any) -> Pair:
    """Reduce the rows of a block over its classes."""
    given, plan = work.given(blocks), work.plan
    block = block_of(work, given)
    xp, lay, targets = block.xp, block.lay, given["targets"]
    local = None
    if targets is not None and plan.hard:
        check_block_labels(plan, xp, given, lay.n)
        local = local_ids(plan, block, given)
    smoothed = given["label_smoothing"] is not None
    plain = targets is None or (plan.hard and not smoothed)  # else sums of losses go with the pair, in float64
    if lay.n == 0:
        top = xp.zeros(lay.rows, dtype=xp.float64)
        rest, logit = top - 1.0, None if local is None else top
    else:
        exact = block.plan if plain else dataclasses.replace(block.plan, compute="float64")
        top, rest, logit = block.by("reduce_rows", exact, local)
    heat = 1.0 if block.folded[2] is None else float64_rows(block, block.folded[2])
    count = None if block.valid is None else xp.sum(block.valid, axis=lay.axes, dtype=xp.float64)
    pair = Pair(top, rest, heat, count, logit, **_row_fields(plan, given, top, lay.n))
    weights = flat_weights(given["class_weight"])
    weights = None if weights is None else xp.astype(weights, xp.float64)
    if local is not None and weights is not None:
        pair = pair._replace(weight=_weights_of_labels(xp, weights, local))
    if plain:
        return pair
    pair = pair if plan.hard else _with_probabilities(block, given, pair, weights)
    return _with_smoothing(block, pair, weights) if smoothed else pair


def known_number(given: dict[str, Any], name: str) -> float | None:
    """Return label smoothing or the factor of the z-loss; None where absent."""
    return None if given[name] is None else scaling.option_number(name, given[name])


def _is_first(given: dict[str, Any], n: int) -> bool:
    """True if a block has the first classes of its rows."""
    return n > 0 and not any(first_of(given[name]) for name in given if name.startswith("class "))


def _row_fields(plan: Plan, given: dict[str, Any], top: Array, n: int) -> dict[str, Any]:
    """Return the fields of a pair that do not depend on the classes of the block."""
    if given["targets"] is None:
        return {}
    numbers = {
        "weighted": given["class_weight"] is not None,
        "smoothing": known_number(given, "label_smoothing") or 0.0,
        "z_loss": known_number(given, "z_loss"),
    }
    if not _is_first(given, n):
        return numbers
    xp, sample = space(top), given["sample_weight"]
    sample = xp.ones_like(top) if sample is None else xp.broadcast_to(sample, top.shape)
    if plan.hard:
        ids = signed_ids(plan, xp, given["targets"])
        sample = xp.where(sort_out(plan, xp, ids)[0], 0.0, sample)
    return numbers | {"sample": sample}


def _weights_of_labels(xp: Any, weights: Array, local: Array) -> Array:
    if weights.shape[0] == 0:
        return xp.zeros(local.shape, dtype=xp.float64)
    here = (local >= 0) & (local < weights.shape[0])
    return xp.where(here, weights[xp.where(here, local, 0)], 0.0)


def _under(block: LogitsBlock, targets: Array, **options: Any) -> Array:
    """Return losses under the block's own normalizer."""
    given = {"where": block.valid, "temperature": block.temperature, "softcap": block.softcap}
    options |= {name: value for name, value in given.items() if value is not None}
    found = logitx.cross_entropy(
        block.x, targets, axis=block.lay.axes, reduction="none", empty="zero", dtype="float64", **options
    )
    return solid(block.xp, found, "float64")


def _with_probabilities(block: LogitsBlock, given: dict[str, Any], pair: Pair, weights: Array) -> Pair:
    """Add the fields for targets that are probabilities: `loss` and `mass`."""
    xp, lay, t = block.xp, block.lay, given["targets"]
    if lay.n == 0:
        return pair._replace(loss=xp.zeros_like(pair.top), mass=xp.zeros_like(pair.top))
    loss = _under(block, t, class_weight=weights, ignore_index=None)
    t = xp.astype(t, xp.float64)
    wanted = t if weights is None else xp.where(t == 0.0, 0.0, t * _in_class_places(block, weights))
    mass = xp.sum(wanted, axis=lay.axes)
    loss = _with_cancelled(block, loss, mass, None if weights is None else wanted)
    loss = xp.where((mass > 0.0) & (pair.rest == -1.0), xp.inf, loss)  # another block may have entries that count
    return pair._replace(loss=loss, mass=mass)


def _with_cancelled(block: LogitsBlock, loss: Array, mass: Array, wanted: Array) -> Array:
    """Return losses, also of rows whose weights add up to 0 in this block: those of all its blocks may not."""
    if wanted is None:
        return loss
    xp = block.xp
    cancelled = (mass == 0.0) & xp.any(wanted != 0.0, axis=block.lay.axes)
    if not xp.any(cancelled):
        return loss
    return xp.where(cancelled, _under(block, wanted, ignore_index=None), loss)


def _in_class_places(block: LogitsBlock, weights: Array) -> Array:
    """Return class weights in the shape of the block."""
    xp, lay = block.xp, block.lay
    shape = tuple(lay.n if axis == lay.axis else 1 for axis in range(len(lay.shape)))
    spread = xp.broadcast_to(xp.reshape(weights, shape), lay.shape)
    return unfold_axes(block.family, spread, lay)


def _with_smoothing(block: LogitsBlock, pair: Pair, weights: Array) -> Pair:
    """Add the fields for label smoothing, over every unmasked class: `even_loss` and `even_mass`."""
    xp, lay = block.xp, block.lay
    if lay.n == 0:
        return pair._replace(even_loss=xp.zeros_like(pair.top), even_mass=xp.zeros_like(pair.top))
    count = xp.zeros_like(pair.top) + lay.n if pair.count is None else pair.count
    heaviest = _best(block) if weights is None else xp.zeros(lay.rows, dtype=xp.int64) + xp.argmax(weights)
    # smoothing is 1, so the label has no effect; it only has to be of a class with a weight
    mean = _under(block, heaviest, class_weight=weights, label_smoothing=1.0, ignore_index=None)
    if weights is None:
        mass = count
    elif block.valid is None:
        mass = xp.zeros_like(count) + xp.sum(weights)
    else:
        mass = xp.sum(xp.where(block.valid, _in_class_places(block, weights), 0.0), axis=lay.axes)
    loss = xp.where(mass == 0.0, 0.0, mean * count)
    if weights is not None:
        every = _in_class_places(block, weights)
        every = every if block.valid is None else xp.where(block.valid, every, 0.0)
        loss = _with_cancelled(block, loss, mass, every)
    loss = xp.where((pair.rest == -1.0) & (mass > 0.0), xp.inf, loss)
    return pair._replace(even_loss=loss, even_mass=mass)


def _best(block: LogitsBlock) -> Array:
    """Return the number of the class with the largest logit of each row."""
    xp, (x, mask, *_) = block.xp, block.folded
    if dtype_name(x.dtype) not in ("float16", "float32", "float64"):
        x = xp.astype(x, xp.float64)
    return xp.argmax(x if mask is None else xp.where(mask, x, -xp.inf), axis=block.lay.axis)


# -- class ids --------------------------------------------------------------------------------------------------------


def check_block_labels(plan: Plan, xp: Any, given: dict[str, Any], n: int) -> None:
    """Raise for a class id out of range, in the block that has the first classes."""
    if not _is_first(given, n):
        return
    work = Work(plan, (), ())
    with_whole_positions(work, given, _refuse_block_labels, plan, xp, given["targets"])


def _refuse_block_labels(plan: Plan, xp: Any, ids: Array) -> None:
    _, bad = sort_out(plan, xp, signed_ids(plan, xp, ids))
    if bool(xp.any(bad)):
        rows = tuple(ids.shape)
        refuse_labels(dataclasses.replace(plan, layout=dataclasses.replace(plan.layout, rows=rows)), xp, ids, bad)


def local_ids(plan: Plan, block: LogitsBlock, given: dict[str, Any]) -> Array:
    """Return class ids counted from the first class of a block; below 0, or too large, where they are in another."""
    xp, axes = block.xp, block.lay.axes
    ids = signed_ids(plan, xp, given["targets"])
    if len(axes) == 1:
        return ids - first_of(given[f"class {axes[0]}"])
    inside = (ids >= 0) & (ids < plan.layout.n)
    ids = xp.where(inside, ids, 0)
    local, step = xp.zeros_like(ids), 1
    for axis in reversed(axes):  # ids are in C order over the axes as given
        ids, place = ids // plan.layout.given[axis], ids % plan.layout.given[axis]
        place = place - first_of(given[f"class {axis}"])
        length = block.x.shape[axis]
        inside = inside & (place >= 0) & (place < length)
        local, step = local + step * place, step * length
    return xp.where(inside, local, -1)
