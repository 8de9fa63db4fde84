"""Memory maps: files that may be larger than memory, their pages fetched ahead and given back block by block.

A process that computes on a memory map holds every page that it has touched, until the system reclaims it. The
functions here tell the system which pages come next and which are no longer needed; they never change any values.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from logitx._arrays.ahead import Ahead

BLOCK = 1 << 25  # bytes of a block; two blocks are in memory
_POPULATE_READ, _WILLNEED, _DONTNEED = 22, 3, 4  # of Linux, the first since 5.14


def is_mapped(x: Any) -> bool:
    """True if an array is a contiguous part of a file, and not a copy-on-write map, which holds its own changes."""
    if type(x) is not np.memmap or x.mode not in ("r", "r+", "w+") or not x.flags.c_contiguous:
        return False  # mode None: a result computed from a memory map has its type, but is ordinary memory
    held = np.frombuffer(x._mmap, np.uint8)  # type: ignore[attr-defined]
    start = x.ctypes.data - held.ctypes.data
    return 0 <= start <= start + x.nbytes <= held.nbytes


@functools.cache
def _madvise() -> Any:
    """Return madvise of the C library, which ctypes calls without the GIL; None except on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None), "madvise", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


def _advise_pages(x: Any, *advices: int) -> None:
    """Call madvise on the pages of a part of a file, with the first of `advices` that the system accepts."""
    madvise = _madvise()
    if madvise is None or not x.nbytes:
        return
    start = x.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    for advice in advices:
        if madvise(start, x.ctypes.data + x.nbytes - start, advice) == 0:
            return


def fetch_pages(x: Any) -> None:
    """Read the pages of a part of a file."""
    _advise_pages(x, _POPULATE_READ, _WILLNEED)


def _fetch_all(parts: list[Any]) -> None:
    for x in parts:
        fetch_pages(x)


def give_back(x: Any) -> None:
    """Release the pages of a part of a file; data written to them stays in the file."""
    _advise_pages(x, _DONTNEED)


def in_turn(pieces: Iterable[slice], *maps: Any) -> Iterator[slice]:
    """Yield pieces along the first axis; of memory maps, read the next piece ahead and release each after use."""
    files = [x for x in maps if is_mapped(x)]
    ahead: Ahead | None = None
    try:
        for piece, following in with_next(pieces):
            if ahead is not None:
                ahead.result()
            ahead = None if following is None else Ahead(_fetch_all, [x[following] for x in files])
            try:
                yield piece
            finally:
                for x in files:
                    give_back(x[piece])
    finally:
        if ahead is not None:
            ahead.wait()


def with_next(pieces: Iterable[slice]) -> Iterator[tuple[slice, slice | None]]:
    """Yield each piece with the one after it; None after the last."""
    waiting: slice | None = None
    for piece in pieces:
        if waiting is not None:
            yield waiting, piece
        waiting = piece
    if waiting is not None:
        yield waiting, None
