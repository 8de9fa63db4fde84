"""Readers of array files, one row a suffix. An opened array has a shape and a dtype; slicing reads from the file."""

from __future__ import annotations

import contextlib
import importlib
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from logitx._evaluate.errors import FileError, naming

# The module of this folder and its function for each suffix; a module is imported when a file needs it.
SUFFIXES: dict[str, tuple[str, str]] = {
    ".npy": ("numpy_files", "npy"),
    ".npz": ("numpy_files", "npz"),
    ".safetensors": ("safetensors_files", "safetensors"),
    ".zarr": ("zarr_files", "zarr_array"),
    ".parquet": ("parquet_files", "parquet"),
    ".csv": ("csv_files", "csv_table"),
    ".pt": ("torch_files", "torch_tensor"),
    ".pth": ("torch_files", "torch_tensor"),
}
_FOLDERS, _TABLES = (".zarr",), (".parquet", ".csv")


def _reader(suffix: str) -> Callable[..., AbstractContextManager[Any]]:
    module, function = SUFFIXES[suffix]
    found: Callable[..., AbstractContextManager[Any]]
    found = getattr(importlib.import_module(f"logitx._evaluate.{module}"), function)
    return found


def split(given: str) -> tuple[Path, str]:
    """Return path and name of an array that is given as FILE or FILE:NAME."""
    path, name = Path(given), ""
    if ":" in given and not path.exists():
        before, _, name = given.rpartition(":")
        path = Path(before)
    return path, name


@contextlib.contextmanager
def open_array(path: Path, name: str, without: str = "") -> Iterator[Any]:
    """Open a file, or the array `name` within one. Every error of reading is a FileError.

    Of a table without a name, the columns are those of the array, except `without`.
    """
    if path.suffix not in SUFFIXES:
        raise FileError(f"{path}: suffix {path.suffix!r} is not known; known are {', '.join(SUFFIXES)}")
    with contextlib.ExitStack() as stack:
        with naming(path):
            _check_kind(path)
            reader = _reader(path.suffix)
            source = stack.enter_context(reader(path, name, without) if path.suffix in _TABLES else reader(path, name))
        yield source if isinstance(source, np.ndarray) else _NamedRows(source, path)


def _check_kind(path: Path) -> None:
    """Refuse pipes, devices and the like before they are opened: reading might never end."""
    if not path.exists():
        raise ValueError("does not exist")
    mode = path.stat().st_mode
    if path.suffix in _FOLDERS:
        if not stat.S_ISDIR(mode):
            raise ValueError("is no folder")
    elif not stat.S_ISREG(mode):
        raise ValueError("is no ordinary file")


class _NamedRows:
    """An array that is read when it is sliced, whose errors begin with the name of the file."""

    def __init__(self, source: Any, path: Path) -> None:
        self._source, self._path = source, path
        self.shape, self.dtype = source.shape, source.dtype

    def __getitem__(self, piece: slice) -> Any:
        with naming(self._path):
            return np.asarray(self._source[piece])
