"""Files of NumPy, mapped into memory where they are not compressed. Nothing is unpickled."""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from logitx._evaluate.names import chosen
from logitx._evaluate.raw import check_dtype, check_part, check_shape
from logitx._evaluate.rows import placed

_LONGEST_START = 1 << 16  # bytes of a file that may hold the header; NumPy itself takes one of some 10000


@contextlib.contextmanager
def npy(path: Path, name: str) -> Iterator[Any]:
    """Open an array."""
    if name:
        raise ValueError("has one array, without a name")
    with path.open("rb") as file:
        shape, by_columns, dtype, begins = _header(file)
    yield placed(path, dtype, shape, begins, by_columns)


@contextlib.contextmanager
def npz(path: Path, name: str) -> Iterator[Any]:
    """Open an array of an archive."""
    with zipfile.ZipFile(path) as archive:
        names = {one.removesuffix(".npy"): one for one in archive.namelist()}
        entry = archive.getinfo(names[chosen(path, list(names), name)])
        if entry.flag_bits & 1:
            raise ValueError("is encrypted")
        with archive.open(entry) as member:
            shape, by_columns, dtype, begins = _header(member)
        if math.prod(shape) * dtype.itemsize != entry.file_size - begins:
            raise ValueError(
                f"shape {shape} of {dtype} does not fit the {entry.file_size - begins} bytes of its values"
            )
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # unpacked with no bound on memory
            raise ValueError(f"compression {entry.compress_type} is not allowed; allowed is that of savez_compressed")
        if entry.compress_type == zipfile.ZIP_STORED:
            start = member_start(path, entry) + begins
            yield placed(path, dtype, shape, start, by_columns)
        elif by_columns:
            check_part("a compressed array in Fortran order", math.prod(shape), dtype.itemsize)
            with archive.open(entry) as member:
                member.read(begins)
                yield np.frombuffer(member.read(), dtype).reshape(shape, order="F")
        else:
            yield _UnpackedRows(archive, entry, begins, shape, dtype)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether it is in Fortran order, dtype, and the place where the values begin."""
    start = io.BytesIO(file.read(_LONGEST_START))
    version = np.lib.format.read_magic(start)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"version {version} of the format is not known")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(start)
    return check_shape(shape), by_columns and len(shape) > 1, check_dtype(dtype), start.tell()


def member_start(path: Path, entry: zipfile.ZipInfo) -> int:
    """Return the place in the file where the bytes of a stored member begin."""
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)  # of the local header: lengths of name and extra field, then these
        lengths = np.frombuffer(file.read(4), "<u2")
    return entry.header_offset + 30 + int(lengths.sum())


class _UnpackedRows:
    """The rows of a compressed member, unpacked as they are sliced from the first to the last."""

    def __init__(
        self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, begins: int, shape: tuple[int, ...], dtype: Any
    ) -> None:
        self._archive, self._entry, self._begins = archive, entry, begins
        self.shape, self.dtype = shape, dtype
        self._row = math.prod(shape[1:]) * dtype.itemsize
        check_part("a row", self._row, 1)
        self._member: Any = None
        self._position = 0

    def __getitem__(self, piece: slice) -> Any:
        start, stop, _ = piece.indices(self.shape[0])
        if self._member is None or start < self._position:
            self._member, self._position = self._archive.open(self._entry), 0
            self._skip(self._begins)
        self._skip((start - self._position) * self._row)
        values = self._member.read((stop - start) * self._row)
        self._position = stop
        return np.frombuffer(values, self.dtype).reshape(stop - start, *self.shape[1:])

    def _skip(self, count: int) -> None:
        while count > 0:
            count -= len(self._member.read(min(count, 1 << 20))) or count  # a member cut short is seen by the reader
