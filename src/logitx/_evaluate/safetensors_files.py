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
from logitx._evaluate.raw import LONGEST_HEADER, check_shape, mapped, shorten

_DTYPE_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool",
}  # fmt: skip


@contextlib.contextmanager
def safetensors(path: Path, name: str) -> Iterator[Any]:
    """Open an array."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= path.stat().st_size - 8:
            raise ValueError("is not a file of safetensors, or is cut off")
        if length > LONGEST_HEADER:
            raise ValueError(f"has a header of {length} bytes; allowed are {LONGEST_HEADER}")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is wrong: it is no object of JSON")  # noqa: TRY004  of a file, not an argument
    header.pop("__metadata__", None)
    chosen_name = chosen(path, list(header), name)
    dtype, shape, first = _place(header[chosen_name])
    yield mapped(path, dtype, shape, 8 + length + first)


def _place(entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return dtype, shape and first byte of an array, counted from the end of the header."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
        raise ValueError("its header is wrong: an array has dtype, shape and data_offsets")
    if entry["dtype"] not in [*_DTYPE_NAMES]:
        raise ValueError(f"dtype {shorten(entry['dtype'])} is not allowed; allowed are {', '.join(_DTYPE_NAMES)}")
    dtype, shape = namespace_dtype(np, _DTYPE_NAMES[entry["dtype"]]).newbyteorder("<"), check_shape(entry["shape"])
    offsets = entry["data_offsets"]
    right = isinstance(offsets, list) and len(offsets) == 2 and all(type(one) is int and one >= 0 for one in offsets)
    if not right or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"its header is wrong: data_offsets {shorten(offsets)} do not fit shape {shorten(shape)}")
    return dtype, shape, offsets[0]
