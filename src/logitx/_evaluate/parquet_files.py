"""Tables of Parquet: a matrix is columns of numbers, or one column of lists of numbers; rows are read in order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from logitx._evaluate.names import columns
from logitx._evaluate.parquet_pages import check_pages
from logitx._evaluate.raw import check_part

_BATCH = 1 << 24  # bytes of the rows that are decoded at once


class TableRows:
    """The rows of a table as an array that is sliced from its beginning to its end."""

    def __init__(self, file: Any, columns: list[str]) -> None:
        self._file, self._columns, self._rows = file, columns, 1
        self._start_over()
        first = self._take(1) if self._count() else np.empty((0, len(columns))[: len(columns)])
        check_part("a row", first.nbytes, 1)
        self.shape, self.dtype = (self._count(), *first.shape[1:]), first.dtype
        self._nothing, self._rows = first[:0], max(1, min(_BATCH // max(1, first.nbytes), 1 << 14))
        self._start_over()

    def _count(self) -> int:
        return int(self._file.metadata.num_rows)

    def _start_over(self) -> None:
        self._batches = self._file.iter_batches(columns=self._columns, batch_size=self._rows)
        self._waiting: list[Any] = []
        self._position = 0

    def __getitem__(self, piece: slice) -> Any:
        start, stop, _ = piece.indices(self._count())
        if start < self._position:
            self._start_over()
        self._take(start - self._position)
        return self._take(stop - start)

    def _take(self, count: int) -> Any:
        """Return the next rows."""
        if count == 0:
            return self._nothing
        held = sum(map(len, self._waiting))
        while held < count:
            batch = next(self._batches, None)
            if batch is None:
                raise ValueError("has fewer rows than it states")
            self._waiting.append(_matrix(batch))
            held += len(self._waiting[-1])
        rows = np.concatenate(self._waiting)
        self._waiting = [rows[count:]]
        self._position += count
        return rows[:count]


def _matrix(batch: Any) -> Any:
    columns = [_column_values(column, name) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)


def _column_values(column: Any, name: str) -> Any:
    import pyarrow as pa

    if column.null_count:
        raise ValueError(f"column {name!r} has nulls; allowed are none")
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        flat = column.flatten()
        if len(column) and len(flat) % len(column):
            raise ValueError(f"column {name!r} has lists of different lengths; allowed are equal ones")
        lengths = np.unique(np.diff(column.offsets.to_numpy())) if not pa.types.is_fixed_size_list(kind) else [0]
        if len(lengths) > 1:
            raise ValueError(f"column {name!r} has lists of different lengths; allowed are equal ones")
        return _column_values(flat, name).reshape(len(column), -1)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise ValueError(f"column {name!r} is of {kind}; allowed are numbers and lists of numbers")
    return column.to_numpy(zero_copy_only=False)


@contextlib.contextmanager
def parquet(path: Path, name: str, without: str = "") -> Iterator[Any]:
    """Open columns of a table."""
    import pyarrow.parquet

    # With `pre_buffer`, all columns of a group of rows are read at once; without, pages, of most often 1 MiB a column.
    with pyarrow.parquet.ParquetFile(
        path, pre_buffer=False, buffer_size=1 << 16, page_checksum_verification=True
    ) as file:
        names = columns(file.schema_arrow.names, name, without)
        with path.open("rb") as pages:
            check_pages(pages, file.metadata, names)
        yield TableRows(file, names)
