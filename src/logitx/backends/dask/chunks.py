"""Cut operands like the chunks of the logits, and build lazy arrays from functions of blocks.

Graphs are built by `blockwise` and `tree` only: they hold no data but the user's, and grow linearly with the chunks.
The logits keep their chunks; other operands are rechunked to them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep

import logitx
from logitx._arrays.families import FAMILIES, family_of, jax_x64
from logitx._arrays.family import namespace_dtype
from logitx._plan import Array, Plan
from logitx.backends.formulas.class_ids import row_weights
from logitx.backends.formulas.linear_blocks import pieces

Index = tuple[int, ...]
_ENTRIES = ("where", "b", "temperature", "softcap", "cotangent")
FEW, MANY = 4, 32  # blocks that a task of a tree merges: FEW if they hold rows (which are sent), MANY if one number


class Work(NamedTuple):
    """Data that all tasks of a call share; it is sent to the workers."""

    plan: Plan
    names: tuple[str, ...]  # of the blocks that a task gets
    numbers: tuple[tuple[str, float], ...]  # operands that are known now

    def given(self, blocks: tuple[Any, ...]) -> dict[str, Any]:
        """Return operands by name; None where absent."""
        named = dict.fromkeys(("targets", "class_weight", "sample_weight", "label_smoothing", "z_loss", *_ENTRIES))
        return named | dict(self.numbers) | dict(zip(self.names, map(alone, blocks), strict=True))


def alone(block: Any) -> Any:
    """Return the block of an axis of one chunk, which comes in a list where the axis is summed over."""
    while type(block) is list:
        (block,) = block
    return block


class Operand(NamedTuple):
    """A lazy array and the axes of the logits that its own lie along."""

    name: str
    array: Array  # or an `ArraySliceDep`: the place of each chunk, without a task
    along: Index


class Lines:
    """The chunks of the logits, and operands cut in the same way."""

    def __init__(self, plan: Plan, x: Array, name: str, **operands: Any) -> None:
        """Cut the operands like the logits, whose chunks are kept."""
        self.plan, self.x, self.axes = plan, x, plan.layout.axes
        self.entries: Index = tuple(range(x.ndim))
        self.rows: Index = tuple(axis for axis in self.entries if axis not in self.axes)
        if plan.layout.n is None:
            raise ValueError(
                f"{name}: shape {plan.layout.given} has lengths along axis {self.axes} that are not known; allowed are"
                " known numbers of classes, call its compute_chunk_sizes()"
            )
        self.numbers = tuple((key, value) for key, value in operands.items() if isinstance(value, float))
        self.operands = [
            self._operand(key, value) for key, value in operands.items() if isinstance(value, da.Array)
        ]  # fmt: skip
        self.whole = all(len(x.chunks[axis]) == 1 for axis in self.axes)  # no row is cut

    def _operand(self, name: str, value: Array) -> Operand:
        if name == "class_weight":
            lengths = tuple(self.x.shape[axis] for axis in self.axes)
            value = value.reshape(lengths) if len(lengths) != 1 else value
            index = self.axes if lengths else ()
        elif name in _ENTRIES or (name == "targets" and not self.plan.hard):
            index = self.entries[len(self.entries) - value.ndim :]
        elif value.ndim == 0:
            index = ()
        else:
            index = self.rows[len(self.rows) - value.ndim :]
        return Operand(name, self._cut(name, value, index), index)

    def _cut(self, name: str, value: Array, index: Index) -> Array:
        """Return an operand in the chunks of the logits."""
        cuts = []
        for own, length, axis in zip(value.chunks, value.shape, index, strict=True):
            mine = self.x.chunks[axis]
            if length == 1:
                cuts.append((1,))
            elif np.isnan(own + mine).any():
                if len(own) != len(mine):
                    raise ValueError(
                        f"{name}: {len(own)} chunks along dimension {axis} of the logits do not go with their"
                        f" {len(mine)} of unknown sizes; allowed are as many, or call compute_chunk_sizes() first"
                    )
                cuts.append(own)
            else:
                cuts.append(mine)
        return value if tuple(cuts) == value.chunks or np.isnan(sum(cuts, ())).any() else value.rechunk(tuple(cuts))

    def where_rows_begin(self) -> list[Operand]:
        """Return the place of the rows of every chunk, for error messages; empty if chunk sizes are unknown."""
        return _beginnings("row", self.rows, self.x.chunks)

    def where_classes_begin(self) -> list[Operand]:
        """Return the place of the classes of every chunk."""
        return _beginnings("class", self.axes, self.x.chunks)

    def map(self, function: Callable[..., Any], out: Index, dtype: str, more: Iterable[Operand] = ()) -> Array:
        """Call a function of (work, logits, *operands) on all blocks; an axis missing in `out` must have one chunk."""
        used = [*self.operands, *more]
        work = Work(self.plan, ("x", *(one.name for one in used)), self.numbers)
        return map_blocks(function, work, [Operand("x", self.x, self.entries), *used], out, self.x, dtype)

    def parts(self, function: Callable[..., Any], more: Iterable[Operand] = ()) -> Array:
        """Call a function on all blocks; `merged` merges its results over the chunks of the classes."""
        return self.map(function, self.entries, "float64", more)

    def merged(
        self, parts: Array, merge: Callable[[list[Any]], Any], finish: Any = None, dtype: str = "float64"
    ) -> Array:
        """Merge parts over the chunks of the classes, as a tree; then call `finish` on the merged part."""
        return tree(parts, self.axes, merge, finish=finish, dtype=namespace_dtype(np, dtype))

    def share(self) -> Operand:
        """Return the denominator of the mean. It does not depend on the logits, so that no block of them waits."""
        given = {one.name: _of_numpy(one.array) for one in self.operands}
        targets, weight, where = given["targets"], given.get("class_weight"), given.get("where")
        if self.plan.hard:
            work = Work(self.plan, ("targets", *(("class_weight",) if weight is not None else ())), ())
            beside = (
                () if weight is None else (Operand("", weight.rechunk(-1), tuple(-1 - axis for axis in self.axes)),)
            )
            used = [Operand("", targets, self.rows), *beside]
            classes = map_blocks(_class_weights, work, used, self.rows, targets, "float64")
        elif weight is None:
            first = tuple(0 if axis in self.axes else slice(None) for axis in self.entries)
            classes = da.ones_like(targets[first], dtype="float64")
        else:
            order = sorted(range(len(self.axes)), key=lambda i: self.axes[i])
            place = tuple(slice(None) if axis in self.axes else None for axis in self.entries)
            weighted = weight.astype("float64").transpose(order)[place] * targets
            classes = da.where(targets == 0, 0.0, weighted).sum(axis=self.axes)
        if "sample_weight" in given:
            classes = classes * given["sample_weight"]
        if where is not None:
            where = where[(None,) * (len(self.entries) - where.ndim)]
            classes = da.where(da.any(where, axis=self.axes), classes, 0.0)
        return Operand("whole", classes.sum(split_every=MANY), ())

    def kept(self, rows: Array) -> Array:
        """Return an array over rows with class axes of length 1 (keepdims)."""
        expand = functools.partial(_expanded, self.axes)
        meta = meta_from_array(rows._meta, ndim=len(self.entries))
        return da.blockwise(expand, self.entries, rows, self.rows, new_axes=dict.fromkeys(self.axes, 1), meta=meta)


def _class_weights(work: Work, *blocks: Any) -> Any:
    given = work.given(blocks)
    targets = given["targets"]
    xp = FAMILIES[family_of(targets).name].namespace(targets)  # type: ignore[union-attr]
    classes, ignored = row_weights(work.plan, xp, targets, given["class_weight"], ())
    return xp.where(ignored, 0.0, classes)


def _of_numpy(x: Array) -> Array:
    """Return blocks of JAX, which may have no float64, as NumPy's; other blocks as they are."""
    if not FAMILIES["jax"].recognizes(type(x._meta)):
        return x
    return x.map_blocks(np.asarray, dtype=x.dtype, meta=np.empty((0,) * x.ndim, x.dtype))


def _beginnings(name: str, axes: Index, chunks: Any) -> list[Operand]:
    if any(np.isnan(chunks[axis]).any() for axis in axes):
        return []
    return [Operand(f"{name} {axis}", ArraySliceDep((chunks[axis],)), (axis,)) for axis in axes]


def first_of(places: tuple[slice, ...]) -> int:
    """Return the number of the first row or class of a chunk."""
    return int(places[0].start)


def _expanded(axes: Index, block: Any) -> Any:
    shape = list(block.shape)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return block.reshape(tuple(shape))


def map_blocks(
    function: Callable[..., Any], work: Work, operands: list[Operand], out: Index, like: Array, dtype: str
) -> Array:
    """Call a function of (work, *operands) on all blocks."""
    flat = [part for _, array, index in operands for part in (array, index)]
    meta = _meta(like, len(out), namespace_dtype(np, dtype))
    task = functools.partial(_run_block, function, work)
    return da.blockwise(task, out, *flat, align_arrays=False, meta=meta, token=function.__name__.strip("_"))


def _run_block(function: Callable[..., Any], work: Work, *blocks: Any) -> Any:
    """Run a block without the backend that `use_backend` chose: that choice is for the lazy arrays."""
    with logitx.use_backend(None), _float64_of_jax():
        return function(work, *blocks)


def _float64_of_jax() -> AbstractContextManager[Any]:
    """Return a context in which blocks of JAX, too, have the float64 that sums over rows need."""
    return jax_x64(True) if "jax" in sys.modules else contextlib.nullcontext()


def _meta(like: Array, ndim: int, dtype: Any) -> Any:
    """Return an empty block like those of `like`."""
    with _float64_of_jax():
        return meta_from_array(like._meta, ndim=ndim, dtype=dtype)


def pick(blocks: Array, which: int, index: Index, out: Index, dtype: str) -> Array:
    """Return one of several results of the same blocks; an axis missing in `out` has one chunk."""
    meta = _meta(blocks, len(out), namespace_dtype(np, dtype))
    return da.blockwise(functools.partial(_item, which), out, blocks, index, align_arrays=False, meta=meta)


def _item(which: int, block: Any) -> Any:
    return alone(block)[which]


# -- trees ------------------------------------------------------------------------------------------------------------


def tree(
    blocks: Array, axes: Index, merge: Callable[[list[Any]], Any], at_once: int = FEW, finish: Any = None,
    dtype: Any = None,
) -> Array:  # fmt: skip
    """Merge blocks over axes, a few at a time; the last merge of all may be followed by another step.

    Not `da.reduction`: it adds a task for each block before the first merge and one after the last, and each task costs
    a message to the scheduler and back.
    """
    if not axes:
        return blocks
    name = f"merged-{tokenize(blocks.name, axes, merge, at_once, finish)}"
    tasks: dict[tuple[Any, ...], Any] = {}
    kept = tuple(axis for axis in range(blocks.ndim) if axis not in axes)
    for place in itertools.product(*(range(blocks.numblocks[axis]) for axis in kept)):
        known = dict(zip(kept, place, strict=True))
        spans = [(known[axis],) if axis in known else range(n) for axis, n in enumerate(blocks.numblocks)]
        keys, level = [(blocks.name, *index) for index in itertools.product(*spans)], 0
        while len(keys) > at_once:
            groups = [keys[piece] for piece in pieces(len(keys), at_once)]
            keys, level = [(f"part-{level}-{name}", *place, i) for i in range(len(groups))], level + 1
            tasks |= {key: (_merge_group, merge, None, group) for key, group in zip(keys, groups, strict=True)}
        tasks[(name, *place)] = (_merge_group, merge, finish, keys)
    meta = _meta(blocks, len(kept), blocks.dtype if dtype is None else dtype)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[blocks])
    return da.Array(graph, name, tuple(blocks.chunks[axis] for axis in kept), meta=meta)


def _merge_group(merge: Callable[[list[Any]], Any], finish: Any, blocks: list[Any]) -> Any:
    with logitx.use_backend(None), _float64_of_jax():
        found = merge(blocks) if len(blocks) > 1 else blocks[0]
        return found if finish is None else finish(found)


def add_blocks(blocks: list[Any]) -> Any:
    """Add blocks up."""
    return functools.reduce(operator.add, blocks)
