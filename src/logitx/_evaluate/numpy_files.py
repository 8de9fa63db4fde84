"""Files of NumPy, mapped into memory where they are not compressed. Nothing is unpickled."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from logitx._evaluate.names import chosen


@contextlib.contextmanager
def npy(path: Path, name: str) -> Iterator[Any]:
    """Open an array."""
    if name:
        raise ValueError(f"{path}: has one array, without a name")
    yield np.load(path, mmap_mode="r", allow_pickle=False)


@contextlib.contextmanager
def npz(path: Path, name: str) -> Iterator[Any]:
    """Open an array of an archive; a compressed one is read as a whole."""
    with zipfile.ZipFile(path) as archive:
        names = {one.removesuffix(".npy"): one for one in archive.namelist()}
        entry = archive.getinfo(names[chosen(path, list(names), name)])
        with archive.open(entry) as member:
            header = _header(member)
            begins = member.tell()
        if entry.compress_type == zipfile.ZIP_STORED:
            yield _mapped(path, entry, begins, *header)
            return
        with archive.open(entry) as member:
            yield np.lib.format.read_array(member, allow_pickle=False)


def _header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(member)
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are not unpickled")
    return shape, by_columns, dtype


def _mapped(
    path: Path, entry: zipfile.ZipInfo, begins: int, shape: tuple[int, ...], by_columns: bool, dtype: np.dtype[Any]
) -> Any:
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)  # of the local header: lengths of name and extra field, then these
        lengths = np.frombuffer(file.read(4), "<u2")
    start = entry.header_offset + 30 + int(lengths.sum()) + begins
    if not np.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape, "F" if by_columns else "C")
