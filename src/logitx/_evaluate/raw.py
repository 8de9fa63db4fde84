"""Raw numbers in a file: what is allowed of their dtype, shape and place, and their memory map."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

LONGEST_HEADER = 1 << 24  # bytes of JSON or of a pickle that describe arrays; parsed, they take some 20 times that
LARGEST_PART = 1 << 30  # bytes of what must be in memory as a whole: a row, or a chunk


def check_shape(shape: Any) -> tuple[int, ...]:
    """Return the shape that a file states, if it is one."""
    if not isinstance(shape, list | tuple) or any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"shape {shorten(shape)} is not allowed; allowed are lengths of 0 or more")
    return tuple(shape)


def check_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype of numbers."""
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are not unpickled")
    if dtype.kind not in "biuf" and dtype.name != "bfloat16":
        raise ValueError(f"dtype {shorten(dtype)} is not allowed; allowed are integers and floating numbers")
    return dtype


def check_part(what: str, count: int, itemsize: int) -> None:
    """Refuse what must be in memory as a whole and is too large."""
    if count * itemsize > LARGEST_PART:
        raise ValueError(f"{what} takes {count * itemsize} bytes; allowed are {LARGEST_PART}, or a file that is mapped"
                         " (.npy, .safetensors)")  # fmt: skip


def shorten(value: Any) -> str:
    """Return what a file holds as a text for an error."""
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], start: int) -> Any:
    """Map numbers of a file into memory, if they are within it."""
    check_place(path, dtype, shape, start)
    return np.memmap(path, dtype, "r", start, shape) if math.prod(shape) else np.empty(shape, dtype)


def check_place(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], start: int) -> None:
    """Refuse values that are not within a file."""
    stop, length = start + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if not 0 <= start <= stop <= length:
        raise ValueError(f"is cut off, or its header is wrong: bytes {start} to {stop} of {length} are its values")
