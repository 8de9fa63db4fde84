"""Tables of comma-separated numbers, with or without a line of names; rows are read in order."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from logitx._evaluate.names import columns

_LONGEST_LINE = 1 << 24  # characters


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines that are not blank."""
    with path.open(encoding="utf-8-sig") as file:
        while line := file.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:  # else one line could fill the memory
                raise ValueError(f"has a line of more than {_LONGEST_LINE} characters")
            if line.strip():
                yield line


class _Table:
    """The rows of a table as an array that is sliced from its beginning to its end."""

    def __init__(self, path: Path, places: list[int], named: bool, count: int) -> None:
        self._path, self._places, self._named = path, places, named
        self.shape = (count,) if len(places) == 1 else (count, len(places))
        self.dtype = np.dtype(np.float64)
        self._lines: Iterator[str] = iter(())
        self._position = count

    def __getitem__(self, piece: slice) -> Any:
        start, stop, _ = piece.indices(self.shape[0])
        if start < self._position:
            self._lines, self._position = _lines(self._path), -int(self._named)
        lines = itertools.islice(self._lines, start - self._position, stop - self._position)
        self._position = stop
        if start == stop:
            return np.empty((0, *self.shape[1:]))
        try:
            rows = np.loadtxt(lines, delimiter=",", comments=None, quotechar='"', usecols=self._places, ndmin=2)
        except ValueError as error:
            raise ValueError(f"rows from {start} on: {error}") from None
        if len(rows) != stop - start:
            raise ValueError(f"rows from {start} on: there are fewer than before")
        return rows.reshape(stop - start, *self.shape[1:])


def _has_names(cells: list[str]) -> bool:
    """True if the cells of the first line are names; a table of pandas may have the names 0, 1, ..."""
    numbered = [str(place) for place in range(len(cells))]
    if len(cells) > 1 and (cells == numbered or cells == ["", *numbered[:-1]]):
        return True
    return any(one and not _is_number(one) for one in cells)


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return False


@contextlib.contextmanager
def csv_table(path: Path, name: str, without: str = "") -> Iterator[Any]:
    """Open columns of a table."""
    lines = _lines(path)
    first = next(lines, "")
    cells = [one.strip() for one in next(csv.reader([first]), [])]
    if not cells:
        raise ValueError("is empty")
    named = _has_names(cells)
    names = cells if named else [str(place) for place in range(len(cells))]
    place = dict(zip(names, range(len(names)), strict=True))
    places = [place[one] for one in columns(names, name, without)]
    yield _Table(path, places, named, sum(1 for _ in lines) + (not named))
