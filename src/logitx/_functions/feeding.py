"""Blocks of rows of a source that can be sliced; the next block is read during the computation on this one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

from logitx._arguments.operands import refuse_array
from logitx._arrays import memory_maps
from logitx._arrays.ahead import Ahead
from logitx._arrays.families import family_of
from logitx._arrays.family import dtype_name
from logitx._labelled.table import is_labelled
from logitx._plan import layout

# Bytes of the logits of one update. Each update reads its logits more than once, and the second time they should be in
# a cache: measured, 12 GB/s for 4 MiB at a time, 3.3 for 32.
_CACHED = 1 << 22

SourceBlock = tuple[int, Any, Any, Any]  # the first row, logits, targets, sample weights


def source_blocks(
    source: Any, targets: Any, sample_weight: Any, axis: Any, block_bytes: int, progress: bool
) -> Generator[SourceBlock]:  # fmt: skip
    """Yield blocks of rows, with a progress bar if `progress`."""
    length = _checked(source, axis, {"targets": targets, "sample_weight": sample_weight})
    row = max(1, _logit_bytes(source) * int(np.prod(source.shape[1:], dtype=np.int64)))
    size = max(1, block_bytes // row)
    bar = _bar(length) if progress else contextlib.nullcontext()
    pieces = (slice(start, min(start + size, length)) for start in range(0, length, size))
    with bar as shown:
        for first, *block in _read_blocks(pieces, source, targets, sample_weight):
            rows = min(size, length - first)
            step = max(1, _CACHED // row) if isinstance(block[0], np.ndarray) else rows
            if step >= rows:
                yield first, *block
            else:
                for start in range(0, rows, step):
                    yield first + start, *(None if one is None else one[start : start + step] for one in block)
            if shown is not None:
                shown.update(rows)


def _logit_bytes(source: Any) -> int:
    """Return the bytes of one logit; 8 for a data frame, which has a dtype a column."""
    name = dtype_name(source.dtype) if hasattr(source, "dtype") else "float64"
    return 2 if name == "bfloat16" else np.dtype(name).itemsize


def _checked(source: Any, axis: Any, others: dict[str, Any]) -> int:
    """Check the shapes; return the number of rows along the first axis."""
    for name, value in {"source": source, **others}.items():
        family = family_of(value)
        if family is not None:
            refuse_array(name, value, family)
    shape = getattr(source, "shape", None)
    if shape is None or not hasattr(source, "__getitem__"):
        raise TypeError(f"source: {type(source).__name__} is not allowed; allowed is what has a shape and slices")
    shape = tuple(shape)
    axis = axis if not isinstance(axis, str) else source.dims.index(axis)
    if not shape or 0 in layout(shape, axis).axes:
        raise ValueError(f"axis: {axis!r} of shape {shape} is the first; allowed are rows along the first axis")
    for name, value in others.items():
        if value is None:
            continue
        lengths = value.shape if hasattr(value, "shape") else (len(value),) if hasattr(value, "__len__") else ()
        if not lengths:
            raise TypeError(f"{name}: {value!r} is not allowed; allowed is what has one row for each of the source")
        if lengths[0] != shape[0]:
            raise ValueError(f"{name}: {lengths[0]} rows are not allowed; allowed are as many as of logits, {shape[0]}")
    return int(shape[0])


def _read_blocks(pieces: Iterator[slice], *sources: Any) -> Iterator[tuple[Any, ...]]:
    maps = [one for one in sources if memory_maps.is_mapped(one)]
    in_memory = all(one is None or isinstance(one, np.ndarray | list | tuple) for one in sources)
    if maps and in_memory:
        for piece in memory_maps.in_turn(pieces, *sources):
            yield piece.start, *(_array(one, piece) for one in sources)
        return
    if in_memory:
        for piece in pieces:  # no thread is needed
            yield piece.start, *(_array(one, piece) for one in sources)
        return

    def read(piece: slice) -> tuple[Any, ...]:
        for one in maps:
            memory_maps.fetch_pages(one[piece])
        return tuple(_array(one, piece) for one in sources)

    ahead: Ahead | None = None
    try:
        for piece, following in memory_maps.with_next(pieces):
            block = read(piece) if ahead is None else ahead.result()
            ahead = None if following is None else Ahead(read, following)
            yield piece.start, *block
            for one in maps:
                memory_maps.give_back(one[piece])
    finally:
        if ahead is not None:
            ahead.wait()


def _array(source: Any, piece: slice) -> Any:
    if source is None:
        return None
    whole = family_of(source) is not None and hasattr(source, "shape")
    part = source[piece, ...] if whole else source[piece]  # the Array API standard needs an index for every axis
    return part if family_of(part) is not None or is_labelled(part) else np.asarray(part)


def _bar(length: int) -> Any:
    try:
        import tqdm
    except ImportError:
        raise ImportError("progress: a bar needs tqdm, which is not installed; install logitx[cli]") from None
    return tqdm.tqdm(total=length, unit="row", unit_scale=True, file=sys.stderr, dynamic_ncols=True)
