"""Arrays of Zarr, whose chunks are read when they are sliced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from logitx._evaluate.names import chosen


@contextlib.contextmanager
def zarr_array(path: Path, name: str) -> Iterator[Any]:
    """Open an array, or one of a group."""
    import zarr

    found = zarr.open(path, mode="r")
    if hasattr(found, "shape"):
        if name:
            raise ValueError(f"{path}: is one array, without a name")
        yield found
        return
    names = [key for key, _ in found.arrays()]
    yield found[chosen(path, names, name)]
