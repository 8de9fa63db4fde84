"""How the rows of a linear layer are taken: in blocks, of one device those that count first, of several spread evenly.

Where rows are sharded over devices, a block takes its rows at even distances from the whole array, not side by side:
every device has its part of every block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from logitx._plan import Array, Plan
from logitx.backends.formulas.linear_blocks import block_rows
from logitx.backends.generic.linear import LayerOperands, Samples
from logitx.backends.jax.primitive import zeros_among

Step = Callable[[Any, Samples], tuple[Any, Any]]  # (what is carried, rows of a block) -> (that, results of rows)

_ROW_MULTIPLE = 8  # rows of a padded block are a multiple of this, for devices to share


def block_sizes(plan: Plan) -> tuple[int, int]:
    """Return how many rows a block has, and how many blocks there are."""
    count = plan.layout.outer
    if not isinstance(count, int):  # an export for any number of rows: they cannot be counted off
        return count, 1
    most = block_rows(plan, count)
    height = most if jax.device_count() == 1 else _height(count, most)
    return height, -(-count // height) if height else 0


def _height(count: int, most: int) -> int:
    """Return how many rows a block has: if possible without a rest, which would have to be padded."""
    if most >= count:
        return count
    for rows in range(most, max(1, most * 2 // 3) - 1, -1):
        if count % rows == 0:
            return rows
    return max(1, most // _ROW_MULTIPLE * _ROW_MULTIPLE)


# -- several devices --------------------------------------------------------------------------------------------------


def _cut_evenly(plan: Plan, samples: Samples) -> Samples:
    """Return what belongs to rows with a leading axis of blocks."""
    count = plan.layout.outer
    height, number = block_sizes(plan)

    def cut(x: Array) -> Array:
        if x is None:
            return None
        # A row of padding weighs nothing; its scaling must only be one that divides
        missing = [(0, number * height - count)] + [(0, 0)] * (x.ndim - 1)
        x = jnp.pad(x, missing, mode="edge") if number * height > count else x
        return jnp.moveaxis(x.reshape(height, number, *x.shape[1:]), 1, 0)

    cuts = Samples(*map(cut, samples))
    if number * height > count:
        row = jnp.arange(height)[None, :] * number + jnp.arange(number)[:, None]
        cuts = cuts._replace(sample_weight=jnp.where(row < count, cuts.sample_weight, 0.0))
    return cuts


def _uncut(x: Array, count: int) -> Array:
    """Undo the cut of an array."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[:count]


def scan_blocks(plan: Plan, samples: Samples, step: Step, carry: Any) -> tuple[Any, Any]:
    """Take one step a block; return what is carried, and what the steps return of all rows."""
    if block_sizes(plan)[1] <= 1:
        return step(carry, samples)
    carry, found = jax.lax.scan(step, carry, _cut_evenly(plan, samples))
    return carry, jax.tree.map(lambda x: _uncut(x, plan.layout.outer), found)


# -- one device -------------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """Rows in line to be taken, those that count first."""

    samples: Samples  # in the order given
    order: Array  # numbers of rows, and more behind them to fill a block
    counting: Array  # how many rows count

    def take(self, start: Array, size: int) -> Samples:
        """Return so many rows from one on; what is behind the last weighs nothing."""
        index = jax.lax.dynamic_slice(self.order, (start,), (size,))
        one = Samples(*(None if x is None else jnp.take(x, index, axis=0, mode="clip") for x in self.samples))
        inside = index < self.samples.hidden.shape[0]
        return one._replace(sample_weight=jnp.where(inside, one.sample_weight, 0.0))

    def returned(self, x: Array) -> Array:
        """Put results of rows in the order given."""
        return x[jnp.argsort(self.order[: self.samples.hidden.shape[0]])]


def in_line(samples: Samples, share: Array, height: int) -> Line:
    """Line rows up for blocks of a height; those of share 0 do not count."""
    behind = jnp.full(height, share.shape[0], "int32")
    order = jnp.argsort(share == 0.0).astype("int32")
    return Line(samples, jnp.concatenate([order, behind]), jnp.sum(share != 0.0, dtype="int32"))


def over_blocks(
    plan: Plan, layer: LayerOperands, samples: Samples, share: Array, step: Callable[[Samples], Array]
) -> Array:
    """Return the results of a step a block. Blocks in which no row counts are skipped on one device, and are 0."""
    height, number = block_sizes(plan)
    if number <= 1 or jax.device_count() > 1:
        return scan_blocks(plan, samples, lambda _, one: (None, step(one)), None)[1]
    line = in_line(samples, share, height)

    def body(i: Array, found: Array) -> Array:
        return jax.lax.dynamic_update_slice(found, step(line.take(i * height, height)), (i * height,))

    found = zeros_among(number * height, plan.compute, layer, samples)
    return line.returned(jax.lax.fori_loop(0, -(-line.counting // height), body, found))
