"""What the metadata of a Zarr array may name: numbers, and codecs that do no more than unpack and check bytes.

A codec is code that the file chooses. `pickle` among them runs whatever the author of the file wrote, and zarr may
decode when an array is opened. So the metadata is read here first, and a list says what is allowed.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from logitx._evaluate.raw import LONGEST_HEADER, check_part, check_shape, shorten

FORMAT_2, FORMAT_3 = ".zarray", "zarr.json"
_NUMBERS = (
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
)  # fmt: skip
_CODECS = (
    "blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd", "astype", "bitround", "delta", "fixedscaleoffset",
    "quantize", "shuffle", "adler32", "crc32", "crc32c", "fletcher32",
)  # fmt: skip
_CODECS_3 = (
    "bytes", "endian", "transpose", "sharding_indexed", "blosc", "crc32c", "gzip", "zstd",
    *(f"numcodecs.{name}" for name in _CODECS),
)  # fmt: skip


def read_metadata(file: Path) -> dict[str, Any]:
    """Return a file of metadata."""
    if file.stat().st_size > LONGEST_HEADER:
        raise ValueError(f"{file.name} has {file.stat().st_size} bytes; allowed are {LONGEST_HEADER}")
    found = json.loads(file.read_bytes().decode("utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} is no object of JSON")  # noqa: TRY004  of a file, not an argument
    return found


def check_array(folder: Path) -> None:
    """Refuse an array whose metadata names anything that is not allowed."""
    for name, check in ((FORMAT_2, _check_2), (FORMAT_3, _check_3)):  # both: zarr chooses where a folder has both
        if (folder / name).exists():
            check(read_metadata(folder / name))


def _check_2(found: dict[str, Any]) -> None:
    dtype = _number(found.get("dtype"))
    for codec in (found.get("compressor"), *(found.get("filters") or ())):
        if codec is not None:
            _check_codec(codec, "id", _CODECS)
    _check_chunks(found.get("shape"), found.get("chunks"), int(dtype[2:]))


def _check_3(found: dict[str, Any]) -> None:
    dtype = found.get("data_type")
    if dtype not in _NUMBERS:
        raise ValueError(f"data_type {shorten(dtype)} is not allowed; allowed are {', '.join(_NUMBERS)}")
    _check_codecs(found.get("codecs"))
    grid = found.get("chunk_grid")
    if not isinstance(grid, dict) or grid.get("name") != "regular" or not isinstance(grid.get("configuration"), dict):
        raise ValueError(f"chunk_grid {shorten(grid)} is not allowed; allowed is a regular one")
    _check_chunks(found.get("shape"), grid["configuration"].get("chunk_shape"), int(re.sub(r"\D", "", dtype)) // 8)


def _number(dtype: Any) -> str:
    """Return a dtype of numbers, as NumPy writes it."""
    if not isinstance(dtype, str) or not re.fullmatch(r"[<>|=]?(i[1248]|u[1248]|f[248])", dtype, re.ASCII):
        raise ValueError(f"dtype {shorten(dtype)} is not allowed; allowed are integers and floating numbers")
    return dtype if dtype[0] in "<>|=" else f"={dtype}"


def _check_codecs(codecs: Any) -> None:
    if not isinstance(codecs, list) or not codecs:
        raise ValueError(f"codecs {shorten(codecs)} is not allowed; allowed is a list")
    for codec in codecs:
        configuration = _check_codec({"name": codec} if isinstance(codec, str) else codec, "name", _CODECS_3)
        for key in ("codecs", "index_codecs"):  # of shards
            if key in configuration:
                _check_codecs(configuration[key])


def _check_codec(codec: Any, key: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Check a codec and the dtypes that it is told; return what it is told."""
    name = codec.get(key) if isinstance(codec, dict) else codec
    if not isinstance(codec, dict) or name not in allowed:
        raise ValueError(f"codec {shorten(name)} is not allowed; allowed are {', '.join(allowed)}")
    told = codec if key == "id" else codec.get("configuration") or {}
    if not isinstance(told, dict) or (key == "name" and "id" in told):  # an id would name another codec
        raise ValueError(f"codec {name} is told {shorten(told)}, which is not allowed")
    for option, value in told.items():
        if option == "astype" or option.endswith("dtype"):
            _number(_short_name(value))
    return told


def _short_name(dtype: Any) -> Any:
    """Return "f4" for "float32"."""
    return f"{dtype[0]}{int(re.sub(r'[a-z]', '', dtype)) // 8}" if dtype in _NUMBERS else dtype


def _check_chunks(shape: Any, chunks: Any, itemsize: int) -> None:
    shape, chunks = check_shape(shape), check_shape(chunks)
    if len(shape) != len(chunks) or 0 in chunks:
        raise ValueError(f"chunks {shorten(chunks)} do not fit shape {shorten(shape)}")
    check_part("a chunk", math.prod(chunks), itemsize)
