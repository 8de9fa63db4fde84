"""Rows that are read when they are sliced, in steps: what a step read beyond a slice is kept for the next slice."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from logitx._arrays.memory_maps import give_back
from logitx._evaluate.raw import check_place, mapped

_STEP_BYTES, _COLUMNS = 1 << 26, 256  # of an array in Fortran order, of which that many columns are copied at once


class SteppedRows:
    """An array whose rows `read(start, stop)` returns; it is sliced from its first row to its last."""

    def __init__(
        self, read: Callable[[int, int], Any], shape: tuple[int, ...], dtype: np.dtype[Any], step: int
    ) -> None:
        self._read, self._step = read, step
        self.shape, self.dtype = shape, dtype
        self._begins, self._kept = 0, np.empty((0, *shape[1:]), dtype)

    def __getitem__(self, piece: slice) -> Any:
        start, stop, _ = piece.indices(self.shape[0])
        if not self._begins <= start <= self._begins + len(self._kept):
            self._begins, self._kept = start, self._kept[:0]
        there = self._begins + len(self._kept)
        found = self._kept[start - self._begins : stop - self._begins]
        if stop > there:
            rows = self._read(there, min(-(-stop // self._step) * self._step, self.shape[0]))
            found = np.concatenate([found, rows[: stop - there]]) if len(found) else rows[: stop - there]
            self._begins, self._kept = there, rows
        return found


def placed(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], start: int, by_columns: bool) -> Any:
    """Return an array whose values begin at `start` of a file, in C order or by columns."""
    if not by_columns:
        return mapped(path, dtype, shape, start)
    check_place(path, dtype, shape, start)
    return _rows_of_columns(path, dtype, shape, start)


def _rows_of_columns(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], start: int) -> SteppedRows:
    """Return rows of an array in Fortran order: a step is copied from a map of the file, some columns at a time.

    Rows touch pages of every column, and pages of a map stay in the memory of the process until they are given back.
    """
    columns = math.prod(shape[1:])

    def read(first: int, last: int) -> Any:
        mapped_columns = np.memmap(path, dtype, "r", start, (columns, shape[0]))
        found = np.empty((last - first, columns), dtype)
        for i in range(0, columns, _COLUMNS):
            some = mapped_columns[i : i + _COLUMNS]
            found[:, i : i + _COLUMNS] = some[:, first:last].T
            give_back(some)
        turned = found.reshape(last - first, *shape[:0:-1]).transpose(0, *range(len(shape) - 1, 0, -1))
        return np.ascontiguousarray(turned)

    return SteppedRows(read, shape, dtype, max(1, _STEP_BYTES // max(1, columns * dtype.itemsize)))
