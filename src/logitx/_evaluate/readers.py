"""Readers of array files, one row a suffix. An opened array has a shape and a dtype; slicing reads from the file."""

from __future__ import annotations

import contextlib
import importlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

# The module of this folder and its function for each suffix; a module is imported when a file needs it.
SUFFIXES: dict[str, tuple[str, str]] = {
    ".npy": ("numpy_files", "npy"),
    ".npz": ("numpy_files", "npz"),
    ".safetensors": ("safetensors_files", "safetensors"),
    ".zarr": ("zarr_files", "zarr_array"),
    ".parquet": ("parquet_files", "parquet"),
}


def _reader(suffix: str) -> Callable[[Path, str], AbstractContextManager[Any]]:
    module, function = SUFFIXES[suffix]
    found: Callable[[Path, str], AbstractContextManager[Any]]
    found = getattr(importlib.import_module(f"logitx._evaluate.{module}"), function)
    return found


@contextlib.contextmanager
def open_array(given: str) -> Iterator[Any]:
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
            source = stack.enter_context(_reader(path.suffix)(path, name))
        except ImportError as error:
            raise ImportError(f"{path}: {error.name} is not installed; install logitx[cli]") from None
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            text = str(error.args[0]) if error.args else type(error).__name__
            raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None
        yield source
