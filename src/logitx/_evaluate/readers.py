"""Files of arrays: one row each; what is opened has a shape, a dtype and slices, and is read when it is sliced."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any


def _numpy(path: Path, name: str) -> AbstractContextManager[Any]:
    from logitx._evaluate.numpy_files import npy

    return npy(path, name)


def _archive(path: Path, name: str) -> AbstractContextManager[Any]:
    from logitx._evaluate.numpy_files import npz

    return npz(path, name)


def _safetensors(path: Path, name: str) -> AbstractContextManager[Any]:
    from logitx._evaluate.safetensors_files import safetensors

    return safetensors(path, name)


def _zarr(path: Path, name: str) -> AbstractContextManager[Any]:
    from logitx._evaluate.zarr_files import zarr_array

    return zarr_array(path, name)


def _parquet(path: Path, name: str) -> AbstractContextManager[Any]:
    from logitx._evaluate.parquet_files import parquet

    return parquet(path, name)


SUFFIXES: dict[str, Callable[[Path, str], AbstractContextManager[Any]]] = {
    ".npy": _numpy,
    ".npz": _archive,
    ".safetensors": _safetensors,
    ".zarr": _zarr,
    ".parquet": _parquet,
}


@contextlib.contextmanager
def opened(given: str) -> Iterator[Any]:
    """Open a file, or an array within one: FILE or FILE:NAME."""
    path, name = Path(given), ""
    if not path.exists() and ":" in given:
        before, _, name = given.rpartition(":")
        path = Path(before)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{given}: suffix {path.suffix!r} is not known; known are {', '.join(SUFFIXES)}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: does not exist")
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(SUFFIXES[path.suffix](path, name))
        except ImportError as error:
            raise ImportError(f"{path}: {error.name} is not installed; install logitx[cli]") from None
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            text = str(error.args[0]) if error.args else type(error).__name__
            raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None
        yield source


def chosen(path: Path, names: list[str], name: str) -> str:
    """Return the name of the array in a file that is asked for, or the only one."""
    if name in names:
        return name
    listed = ", ".join(names) or "none"
    if name:
        raise ValueError(f"{path}: has no array {name!r}; there are {listed}")
    if len(names) != 1:
        raise ValueError(f"{path}: has {len(names)} arrays, name one as {path}:NAME; there are {listed}")
    return names[0]
