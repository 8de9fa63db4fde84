"""Gradients of a linear layer on one device, block by block of rows, without memory of the size of the logits.

Logits of as many rows as there are features wait in the gradient by the weights: it has that many numbers for each
class, and nothing is written to it before. They become their gradient in place, and that, piece by piece of some
classes, makes way for what it was made for. Nothing is computed twice, and nothing added up block by block. Measured in
one run each, full logits and jitted `jax.value_and_grad` = 1: (1024, 1024) by 128256 classes at 32 MiB takes 0.99, in
blocks of 65 rows 1.32. Rows beyond these are taken in blocks, whose products are added up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import dynamic_slice, dynamic_slice_in_dim, dynamic_update_slice, dynamic_update_slice_in_dim

from logitx._plan import Array, Plan
from logitx.backends.formulas.linear_blocks import ENOUGH, block_rows, budget_of, evenly
from logitx.backends.generic.linear import LayerOperands, Samples
from logitx.backends.jax.linear.layer import classes_of, from_logits, logits_of, over
from logitx.backends.jax.linear.row_blocks import Line, in_line
from logitx.backends.jax.primitive import zeros_among

Read = Callable[[Array, Any, int], Array]  # (gradient by weights, first class, how many) -> gradient by logits
Write = Callable[[Array, Any, Array], Array]  # (gradient by weights, first class, product) -> gradient by weights

_BUDGET_PARTS = 4  # pieces, and rows that become their gradient at a time, take this part of the budget
_LIMIT = 2**31  # places that JAX can count without 64 bits
_WORTH = 2, 3  # the part of the rows that wait which must count: fewer are cheaper in low blocks


def _writable_zeros(shape: Any, dtype: str, *arrays: Any) -> Array:
    """Return zeros that XLA writes to in place, for values computed from `arrays`; it makes no new array."""
    return jax.lax.optimization_barrier(zeros_among(shape, dtype, *arrays))


class Room(NamedTuple):
    """Memory for the logits of a block."""

    rows: int
    classes: int
    stride: int  # numbers that it has for each class, at least one a row
    width: int  # classes of a piece

    def put(self, memory: Array, part: Array, start: Any, row: Any) -> Array:
        """Write rows of a piece, or a part of them."""
        return dynamic_update_slice(memory, part.reshape(-1), (start * self.stride + row * part.shape[1],))

    def get(self, memory: Array, start: Any, width: int, row: Any, rows: int) -> Array:
        """Read rows of a piece."""
        return dynamic_slice(memory, (start * self.stride + row * width,), (rows * width,)).reshape(rows, width)


def _piece_width(plan: Plan, rows: int, features: int) -> int:
    """Return how many classes are in a piece, of the logits of so many rows and of weights."""
    return evenly(plan.layout.n, max(1, budget_of(plan) // (_BUDGET_PARTS * max(1, rows, features))))


def _held_rows(plan: Plan, features: int) -> int:
    """Return the logits of how many rows wait in the gradient by the weights; 0 where blocks are high without.

    On other devices than CPUs none do: there, thousands of small copies would cost more than low products.
    """
    room = min(plan.layout.outer, features)
    low = block_rows(plan, plan.layout.outer) < min(room, ENOUGH)
    return room if low and plan.layout.n * features < _LIMIT and jax.default_backend() == "cpu" else 0


def _slice_rows(samples: Samples, start: Any, size: int) -> Samples:
    return Samples(*(None if x is None else dynamic_slice_in_dim(x, start, size, 0) for x in samples))


def _logits_to_gradient(
    plan: Plan, layer: LayerOperands, room: Room, one: Samples, memory: Array
) -> tuple[Array, Array]:
    """Write logits to memory, then replace them by their gradient; return that memory, and the losses."""
    compute, n = plan.compute, room.classes

    def write(start: Any, size: int, memory: Array) -> Array:
        return room.put(memory, logits_of(plan, classes_of(layer, start, size), one.hidden), start, 0)

    def replace(row: Any, rows: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        memory, losses = state

        def gather(start: Any, size: int, x: Array) -> Array:
            return dynamic_update_slice_in_dim(x, room.get(memory, start, size, row, rows), start, 1)

        x = over(n, room.width, gather, _writable_zeros((rows, n), compute, memory))
        found, g = from_logits("cross_entropy_value_and_grad", plan, layer, _slice_rows(one, row, rows), x)

        def scatter(start: Any, size: int, memory: Array) -> Array:
            return room.put(memory, dynamic_slice_in_dim(g, start, size, 1), start, row)

        memory = over(n, room.width, scatter, memory)
        return memory, dynamic_update_slice_in_dim(losses, found, row, 0)

    memory = over(n, room.width, write, memory)
    few = evenly(room.rows, max(1, budget_of(plan) // (_BUDGET_PARTS * n)))
    state: tuple[Array, Array] = over(room.rows, few, replace, (memory, zeros_among(room.rows, compute, memory)))
    return state


class GradientSums(NamedTuple):
    """What all rows come to."""

    losses: Array  # in the order in which rows are taken, like dhidden
    dhidden: Array
    dbias: Array

    def put(self, losses: Array, dhidden: Array, dbias: Array, row: Any) -> GradientSums:
        """Write what a block comes to, from a row on; `dbias` is the new sum."""
        return GradientSums(
            dynamic_update_slice_in_dim(self.losses, losses, row, 0),
            dynamic_update_slice_in_dim(self.dhidden, dhidden, row, 0),
            dbias,
        )


def _multiply_gradient(
    layer: LayerOperands, hidden: Array, part: Array, width: int, read: Read, write: Write, dweight: Array, dbias: Array
) -> tuple[Array, Array, Array]:
    """Return the gradients by hidden features, weights and bias, the latter two with what is new.

    `read` returns the gradient by the logits of some classes, `write` takes the gradient by their weights.
    """

    def step(start: Any, size: int, state: Any) -> Any:
        dhidden, dweight, dbias = state
        g = read(dweight, start, size)
        dhidden = dhidden + g @ dynamic_slice_in_dim(layer.weight, start, size, 0).astype(g.dtype)
        dweight = write(dweight, start, g.T @ hidden)
        if dbias is not None:
            more = dynamic_slice_in_dim(dbias, start, size, 0) + part * jnp.sum(g, axis=0)
            dbias = dynamic_update_slice_in_dim(dbias, more, start, 0)
        return dhidden, dweight, dbias

    state = (zeros_among(hidden.shape, hidden.dtype, dweight), dweight, dbias)
    dhidden, dweight, dbias = over(layer.weight.shape[0], width, step, state)
    return part * dhidden, dweight, dbias


def _take_held_rows(
    plan: Plan, layer: LayerOperands, room: Room, line: Line, part: Array, state: tuple[Array, GradientSums]
) -> tuple[Array, GradientSums]:
    """Take the rows whose logits wait in the gradient by the weights."""
    dweight, sums = state
    one = line.take(0, room.rows)
    dweight, losses = _logits_to_gradient(plan, layer, room, one, dweight)
    hidden = one.hidden.astype(plan.compute) * part  # the factors of products are scaled, which are small

    def read(dweight: Array, start: Any, size: int) -> Array:
        return room.get(dweight, start, size, 0, room.rows)

    def write(dweight: Array, start: Any, product: Array) -> Array:
        return dynamic_update_slice(dweight, product.reshape(-1), (start * room.stride,))

    dhidden, dweight, dbias = _multiply_gradient(layer, hidden, part, room.width, read, write, dweight, sums.dbias)
    return dweight, sums.put(losses, dhidden, dbias, 0)


def _add_block(
    plan: Plan, layer: LayerOperands, height: int, line: Line, part: Array, row: Any, state: tuple[Array, GradientSums]
) -> tuple[Array, GradientSums]:
    """Take a block of rows from one on, and add its products to those of the others."""
    dweight, sums = state
    one = line.take(row, height)
    losses, g = from_logits("cross_entropy_value_and_grad", plan, layer, one, logits_of(plan, layer, one.hidden))
    hidden = one.hidden.astype(plan.compute) * part

    def read(_: Array, start: Any, size: int) -> Array:
        return dynamic_slice_in_dim(g, start, size, 1)

    def write(dweight: Array, start: Any, product: Array) -> Array:
        more = dynamic_slice_in_dim(dweight, start, product.shape[0], 0) + product
        return dynamic_update_slice_in_dim(dweight, more, start, 0)

    width = _piece_width(plan, height, layer.weight.shape[1])
    dhidden, dweight, dbias = _multiply_gradient(layer, hidden, part, width, read, write, dweight, sums.dbias)
    return dweight, sums.put(losses, dhidden, dbias, row)


def gradients_on_one_device(
    plan: Plan, layer: LayerOperands, samples: Samples, share: Array, part: Array
) -> tuple[Array, Array, Array, Array]:
    """Return the losses of all rows, and gradients times `part` by hidden features, weights and bias."""
    count, (n, features), compute = plan.layout.outer, layer.weight.shape, plan.compute
    waiting = _held_rows(plan, features)
    height = block_rows(plan, count - waiting or count)  # where all rows may wait, but too few count
    line, length = in_line(samples, share, height), count + height
    dbias = None if layer.bias is None else zeros_among(n, compute, layer, samples)
    losses, dhidden = (zeros_among(shape, compute, layer, samples) for shape in (length, (length, features)))
    sums, dweight, first = (
        GradientSums(losses, dhidden, dbias),
        _writable_zeros(n * features, compute, layer, samples),
        0,
    )
    if waiting:
        room, (some, every) = Room(waiting, n, features, _piece_width(plan, waiting, features)), _WORTH
        wait = (line.counting * every >= waiting * some).astype("int32")
        once = functools.partial(_take_held_rows, plan, layer, room, line, part)
        dweight, sums = jax.lax.fori_loop(0, wait, lambda _, state: once(state), (dweight, sums))
        first = wait * waiting
    add = functools.partial(_add_block, plan, layer, height, line, part)
    left = -(-jnp.maximum(line.counting - first, 0) // height)
    start = (dweight.reshape(n, features), sums)
    dweight, sums = jax.lax.fori_loop(0, left, lambda i, state: add(first + i * height, state), start)
    return line.returned(sums.losses), line.returned(sums.dhidden), dweight, sums.dbias
