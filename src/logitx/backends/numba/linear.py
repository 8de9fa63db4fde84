"""Cross-entropy of a linear layer: matrix products by the BLAS of the array's library, kernels for what is between.

Rows are taken in blocks, and where these would be too low the classes in tiles (see `tiles`). The logits of a tile are
written to a buffer that all tiles share. A first pass over the tiles of a block merges (maximum, sum) pairs; a second
one turns the logits of each tile into its gradient in place and multiplies it on. Only the tile that came last still
has its logits then: the second pass begins with it, and computes the others once more. Not so for rows whose logits
are held: those of each tile are in the memory where its part of the gradient by the weights will be written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import dtype_name
from logitx._options import LinearLayer, LossOptions
from logitx._plan import Array, Plan
from logitx.backends.formulas.linear_blocks import RowBlock, pieces, row_blocks
from logitx.backends.formulas.pairs import RowOperands, RowSums, Shared, gradient_facts, losses_of, merge_row_sums
from logitx.backends.numba.arrays import HELD, NumpyArray, checked_code, fresh, given_back, rounded_to_dtype, stored
from logitx.backends.numba.kernels.linear_tile import TileArrays, TileNumbers, differentiate_tile, reduce_tile
from logitx.backends.numba.kernels.signature import Dtypes, compiled_kernel
from logitx.backends.numba.linear_operands import LinearOperands, read_operands, rows_of, weight_panels
from logitx.backends.numba.threads.policy import CREW, parts_for


class LinearCall:
    """One call: its operands, its cut, and the buffer that all tiles share."""

    def __init__(self, plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions) -> None:
        self.plan = plan
        self.layer: LinearOperands = read_operands(plan, layer, targets, options)
        self.dtypes = [dtype_name(one.dtype) for one in (layer.hidden, layer.weight, targets)]
        self.multiply: Any = FAMILIES[plan.family].multiply
        whole = self.layer.whole if plan.reduction == "mean" else 1.0
        self.shared = Shared(self.layer.even, self.layer.z_loss, whole)

    def cut(self, room: NumpyArray | None = None) -> list[RowBlock]:
        """Cut the rows that count. Their logits may wait in `room`, which has some numbers for each class."""
        found = row_blocks(self.plan, len(self.layer.rows), 0 if room is None else room.shape[1])
        sizes = [(one.rows.stop - one.rows.start) * one.classes[0].stop for one in found]
        self.room = room
        self.buffer = np.empty(max(sizes, default=0), HELD[self.plan.compute])
        return found

    def rows(self, piece: slice) -> RowOperands:
        """Return what belongs to the rows of a block; the kernels will find the logits of their labels."""
        layer, heat = self.layer, self.layer.temperature
        classes = layer.classes[piece]
        weight = classes * layer.keep if self.plan.hard else np.zeros(classes.shape)
        temperature = 1.0 if heat is None else heat if heat.size == 1 else heat[piece]
        return RowOperands(np.zeros(classes.shape), weight, classes, layer.sample[piece], temperature)

    def _place(self, room: NumpyArray | None, height: int, classes: slice) -> NumpyArray:
        """Return memory for a tile: that of its classes in `room`, or the buffer."""
        memory = self.buffer if room is None else room[classes].reshape(-1)
        width = classes.stop - classes.start
        return memory[: height * width].reshape(height, width)

    def _logits(self, hidden: NumpyArray, classes: slice, tile: NumpyArray) -> None:
        """Write the logits of a tile, without the bias."""
        for part, weight in weight_panels(self.plan, self.layer, classes, self.dtypes[1]):
            self.multiply(hidden, weight.T, tile[:, part], False)

    def _run(self, kernel: Any, tile: NumpyArray, piece: slice, classes: slice, *more: Any) -> None:
        """Run a kernel on a tile."""
        layer = self.layer
        labels = None if layer.labels is None else layer.labels[piece]
        heat, cap = (one if one is None or one.size == 1 else one[piece] for one in (layer.temperature, layer.softcap))
        arrays = TileArrays(
            tile=tile, bias=layer.bias, labels=labels, numbers=layer.rows[piece], targets=layer.targets,
            class_weight=layer.class_weight, temperature=heat, softcap=cap,
        )  # fmt: skip
        parts = min(len(tile), parts_for(tile.nbytes))
        numbers = TileNumbers(classes.start, layer.even, layer.keep)
        checked_code(kernel(arrays, numbers, *more, True, parts, CREW.address))

    def _kernel(self, which: Any) -> Any:
        compute = self.plan.compute
        targets = compute if self.plan.hard else stored(self.dtypes[2], compute)
        return compiled_kernel(which, (True,), Dtypes(compute, compute, other=targets))

    def reduce(self, hidden: NumpyArray, block: RowBlock) -> tuple[RowSums, RowOperands]:
        """Reduce the rows of a block; the logits of the last tile, or of all if they are held, stay where they are."""
        rows, known = self.rows(block.rows), None
        for classes in block.classes:
            tile = self._place(self.room if block.held else None, len(hidden), classes)
            self._logits(hidden, classes, tile)
            found = np.zeros((len(hidden), 4))
            self._run(self._kernel(reduce_tile), tile, block.rows, classes, found, rows.logits)
            sums = RowSums(*found.T)
            known = sums if known is None else merge_row_sums(np, known, sums, rows.temperature)
        return known, rows  # type: ignore[return-value]

    def differentiate(
        self, hidden: NumpyArray, block: RowBlock, facts: NumpyArray, dhidden: NumpyArray, add: Any
    ) -> None:
        """Write the gradient by the hidden features of a block, and hand `add` the gradient by each tile's logits."""
        last = block.classes[-1]
        for classes in reversed(block.classes):
            tile = self._place(None, len(hidden), classes)
            if block.held:
                tile[...] = self._place(self.room, len(hidden), classes)
            elif classes is not last:
                self._logits(hidden, classes, tile)
            self._run(self._kernel(differentiate_tile), tile, block.rows, classes, facts)
            for part, weight in weight_panels(self.plan, self.layer, classes, self.dtypes[1]):
                self.multiply(tile[:, part], weight, dhidden, classes is not last or part.start > 0)
            add(tile, hidden, classes)


class ByClass:
    """The gradients by weight and bias as they add up over the blocks, in the dtype computed in."""

    def __init__(self, call: LinearCall) -> None:
        plan, weight, count = call.plan, call.layer.weight, len(call.layer.rows)
        self.call, self.dtype = call, plan.gradients[1]
        # Where every row is in one block, what is to be rounded can be rounded at once and needs no array of its own
        self.at_once = self.dtype != plan.compute and len(row_blocks(plan, count, 0)) == 1
        self.weight = fresh(plan, weight.shape, self.dtype if self.at_once or not count else plan.compute)
        self.room = None if self.at_once else self.weight  # where logits may wait
        if not count:
            self.weight.fill(0)
        self.bias = None if call.layer.bias is None else np.zeros(plan.layout.n)
        self.more = False

    def add(self, gradient: NumpyArray, hidden: NumpyArray, classes: slice) -> None:
        """Add what the gradient by the logits of a tile amounts to."""
        if self.bias is not None:
            self.bias[classes] += np.matmul(np.ones(len(gradient), gradient.dtype), gradient)
        weight = self.weight[classes]
        if not self.at_once:
            self.call.multiply(gradient.T, hidden, weight, self.more)
            return
        for part in pieces(len(weight), max(1, (1 << 20) // max(1, weight.shape[1]))):
            room = np.empty(weight[part].shape, gradient.dtype)
            self.call.multiply(gradient[:, part].T, hidden, room, False)
            weight[part] = rounded_to_dtype(room, self.dtype)

    def rounded(self) -> NumpyArray:
        """Return the gradient by the weights in the dtype that it is to have."""
        if self.weight.dtype == HELD[self.dtype]:
            return self.weight
        result = fresh(self.call.plan, self.weight.shape, self.dtype)
        for part in pieces(len(result), max(1, (1 << 20) // max(1, result.shape[1]))):
            result[part] = rounded_to_dtype(self.weight[part], self.dtype)
        return result


def _reduced_losses(plan: Plan, layer: LinearOperands, losses: NumpyArray) -> Array:
    """Return the losses of all rows, or their sum or mean."""
    if plan.reduction == "none":
        every = np.zeros(len(layer.hidden))
        every[layer.rows] = losses
        return given_back(plan, every.astype(plan.loss), plan.loss, plan.layout.rows)
    total = np.sum(losses)
    if plan.reduction == "mean":
        undefined = np.nan if plan.empty == "nan" else 0.0
        total = total / layer.whole if layer.whole != 0.0 else undefined
    return given_back(plan, np.asarray(total, plan.loss), plan.loss, ())


def linear_cross_entropy(plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions) -> Array:
    """The cross-entropy of hidden @ weight.T + bias."""
    with np.errstate(all="ignore"):
        call = LinearCall(plan, layer, targets, options)
        losses = np.zeros(len(call.layer.rows))
        for block in call.cut():
            sums, rows = call.reduce(rows_of(plan, call.layer, block.rows, call.dtypes[0]), block)
            losses[block.rows] = losses_of(np, plan, call.shared, sums, rows)
        return _reduced_losses(plan, call.layer, losses)


def linear_cross_entropy_value_and_grad(
    plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions
) -> tuple[Array, Array, Array, Array]:
    """The loss, and with g its gradient by the logits: g @ weight, g.T @ hidden and the sum of g over the rows."""
    with np.errstate(all="ignore"):
        call = LinearCall(plan, layer, targets, options)
        held, kind = call.layer, plan.gradients[0]
        losses, by_class = np.zeros(len(held.rows)), ByClass(call)
        direct = kind == plan.compute and len(held.rows) == len(held.hidden)
        dhidden = fresh(plan, held.hidden.shape, kind)
        if not direct:
            dhidden.fill(0)
        for block in call.cut(by_class.room):
            piece = block.rows
            hidden = rows_of(plan, held, piece, call.dtypes[0])
            sums, rows = call.reduce(hidden, block)
            losses[piece] = losses_of(np, plan, call.shared, sums, rows)
            written = dhidden[piece] if direct else np.empty(hidden.shape, HELD[plan.compute])
            facts = np.stack(gradient_facts(np, call.shared, sums, rows), axis=1)
            call.differentiate(hidden, block, facts, written, by_class.add)
            by_class.more = True
            if not direct:
                dhidden[held.rows[piece]] = rounded_to_dtype(written, kind)
        dbias = None
        if by_class.bias is not None:
            rounded = rounded_to_dtype(by_class.bias.astype(plan.compute), plan.gradients[2])
            dbias = given_back(plan, rounded, plan.gradients[2], by_class.bias.shape)
        return (
            _reduced_losses(plan, held, losses),
            given_back(plan, dhidden, kind, tuple(layer.hidden.shape)),
            given_back(plan, by_class.rounded(), by_class.dtype, held.weight.shape),
            dbias,
        )
