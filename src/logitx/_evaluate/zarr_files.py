"""Arrays of Zarr, whose chunks are read when they are sliced, each once."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from logitx._evaluate.names import chosen
from logitx._evaluate.raw import LARGEST_PART, check_dtype
from logitx._evaluate.rows import SteppedRows
from logitx._evaluate.zarr_metadata import FORMAT_2, FORMAT_3, check_array, read_metadata

_KEPT = 1 << 28  # bytes of the rows of a chunk that are kept for the next slice


def _rows(array: Any) -> SteppedRows:
    """Return rows that are read a chunk at a time, so that none is unpacked twice."""
    shape, dtype = tuple(array.shape), check_dtype(array.dtype)
    chunk = array.chunks[0] if shape else 1
    step = chunk if math.prod(shape[1:]) * chunk * dtype.itemsize <= _KEPT else 1
    return SteppedRows(lambda start, stop: np.asarray(array[start:stop]), shape, dtype, step)


def _arrays(path: Path) -> dict[str, Path]:
    """Return the folders of all arrays in a store by name; refuse what is neither a folder nor a file.

    zarr opens every file of a chunk that it finds: a pipe among them would be waited for without end.
    """
    found, folders = {}, [path]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif not entry.is_file():
                    raise ValueError(f"{Path(entry.path).relative_to(path)} in it is no ordinary file")
                elif entry.name == FORMAT_2 or (
                    entry.name == FORMAT_3 and read_metadata(Path(entry.path)).get("node_type") == "array"
                ):
                    name = folder.relative_to(path).as_posix()
                    found["" if name == "." else name] = folder
    return found


@contextlib.contextmanager
def _blosc_within_chunks() -> Iterator[None]:
    """Refuse chunks that state another length than they have: Blosc is not told it, and reads what is behind them."""
    from numcodecs import blosc

    decompress = blosc.decompress

    def checked(source: Any, *dest: Any) -> Any:
        data = np.frombuffer(source, np.uint8)
        unpacked, _, packed = np.frombuffer(data[4:16].tobytes(), "<u4") if len(data) >= 16 else (0, 0, 0)
        if packed != len(data) or unpacked > LARGEST_PART:
            raise ValueError("has a damaged chunk")
        return decompress(source, *dest)

    blosc.decompress = checked
    try:
        yield
    finally:
        blosc.decompress = decompress


@contextlib.contextmanager
def zarr_array(path: Path, name: str) -> Iterator[Any]:
    """Open an array, or one of a group."""
    arrays = _arrays(path)
    if "" in arrays:
        if name:
            raise ValueError("is one array, without a name")
        folder = path
    else:
        folder = arrays[chosen(path, sorted(arrays), name)]
    check_array(folder)

    import zarr

    # A path as a text may be an address to zarr. Version 2 takes its own kind of store, version 3 a path.
    store = zarr.DirectoryStore(str(folder)) if hasattr(zarr, "DirectoryStore") else folder
    with _blosc_within_chunks():
        yield _rows(zarr.open_array(store, mode="r"))
