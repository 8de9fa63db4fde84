"""Files of safetensors, mapped into memory: a length, a header of JSON, and the raw values."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from logitx._arrays.family import namespace_dtype
from logitx._evaluate.names import chosen

_DTYPE_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool",
}  # fmt: skip
_LONGEST = 100_000_000  # bytes of a header, as the format has it


@contextlib.contextmanager
def safetensors(path: Path, name: str) -> Iterator[Any]:
    """Open an array."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LONGEST, path.stat().st_size - 8):
            raise ValueError(f"{path}: is not a file of safetensors, or is cut off")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    entry = header[chosen(path, list(header), name)]
    if entry["dtype"] not in _DTYPE_NAMES:
        raise ValueError(f"{path}: dtype {entry['dtype']} is not allowed; allowed are {', '.join(_DTYPE_NAMES)}")
    dtype, shape = namespace_dtype(np, _DTYPE_NAMES[entry["dtype"]]).newbyteorder("<"), tuple(entry["shape"])
    first, last = entry["data_offsets"]
    if last - first != math.prod(shape) * dtype.itemsize or 8 + length + last > path.stat().st_size:
        raise ValueError(f"{path}: is cut off, or its header is wrong")
    yield np.memmap(path, dtype, "r", 8 + length + first, shape) if last > first else np.empty(shape, dtype)
