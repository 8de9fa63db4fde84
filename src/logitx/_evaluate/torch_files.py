"""Files of `torch.save`, mapped into memory. Nothing is unpickled."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from logitx._arrays.family import namespace_dtype
from logitx._evaluate.names import chosen
from logitx._evaluate.numpy_files import member_start
from logitx._evaluate.raw import LONGEST_HEADER, check_shape, shorten
from logitx._evaluate.rows import placed
from logitx._evaluate.torch_tensors import STORAGES, Tensor, tensors


@contextlib.contextmanager
def torch_tensor(path: Path, name: str) -> Iterator[Any]:
    """Open a tensor, or one of a dictionary or list of tensors."""
    with zipfile.ZipFile(path) as archive:
        lists = [one for one in archive.namelist() if one.count("/") == 1 and one.endswith("/data.pkl")]
        if len(lists) != 1:
            raise ValueError("is no file of torch.save")
        if archive.getinfo(lists[0]).file_size > LONGEST_HEADER:
            raise ValueError(f"has a list of tensors of more than {LONGEST_HEADER} bytes")
        found = tensors(archive.read(lists[0]))
        tensor = found[chosen(path, sorted(found), name)]
        folder = lists[0].removesuffix("data.pkl")
        order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in archive.namelist() else b"little"
        dtype, member = _storage(tensor, archive, folder)
    shape, by_columns = _layout(tensor)
    start = tensor.offset * dtype.itemsize if type(tensor.offset) is int else -1
    if not 0 <= start <= start + math.prod(shape) * dtype.itemsize <= member.file_size:
        raise ValueError(f"shape {shorten(shape)} does not fit the {member.file_size} bytes of its storage")
    dtype = dtype.newbyteorder(">" if order == b"big" else "<")
    yield placed(path, dtype, shape, member_start(path, member) + start, by_columns)


def _storage(tensor: Tensor, archive: zipfile.ZipFile, folder: str) -> tuple[np.dtype[Any], zipfile.ZipInfo]:
    """Return the dtype of a tensor, and the member of the archive that holds its numbers."""
    storage = tensor.storage
    if not isinstance(storage, tuple) or len(storage) < 3 or str(storage[1]) not in STORAGES:
        raise ValueError(f"storage {shorten(storage)} is not allowed; allowed are {', '.join(STORAGES)}")
    member = archive.getinfo(f"{folder}data/{storage[2]}")
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise ValueError("is compressed or encrypted, which torch.save does not do")
    return namespace_dtype(np, STORAGES[str(storage[1])]), member


def _layout(tensor: Tensor) -> tuple[tuple[int, ...], bool]:
    """Return the shape, and whether the numbers lie column by column."""
    shape = check_shape(tensor.shape)
    along = [
        [math.prod(shape[axis + 1 :]) for axis in range(len(shape))],
        [math.prod(shape[:axis]) for axis in range(len(shape))],
    ]
    strides = list(tensor.strides) if isinstance(tensor.strides, tuple) else []
    for by_columns, right in zip((False, True), along, strict=True):
        if len(strides) == len(shape) and all(
            length < 2 or one == other for length, one, other in zip(shape, strides, right, strict=True)
        ):
            return shape, by_columns
    raise ValueError(f"strides {shorten(tensor.strides)} of shape {shorten(shape)} are not read; save x.contiguous()")
