"""Files made to harm: no code of theirs runs, nothing outside their values is read, every refusal is one line."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitx._evaluate import main

RNG = np.random.default_rng(23)
X = RNG.normal(size=(60, 8)).astype(np.float32)
IDS = RNG.integers(0, 8, 60)


@pytest.fixture
def labels(tmp_path: Path) -> str:
    np.save(tmp_path / "ids.npy", IDS)
    return str(tmp_path / "ids.npy")


# -- Zarr: the codecs that its metadata names -------------------------------------------------------------------------


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def zarr_store(path: Path, form: int, **changes: Any) -> Path:
    """Write a store of one chunk, raw; `changes` are made to its metadata."""
    path.mkdir()
    chunk = path / ("0.0" if form == 2 else "c/0/0")
    chunk.parent.mkdir(parents=True, exist_ok=True)
    chunk.write_bytes(X.tobytes())
    if form == 2:
        found = {
            "zarr_format": 2, "shape": [60, 8], "chunks": [60, 8], "dtype": "<f4", "compressor": None, "filters": None,
            "fill_value": 0, "order": "C",
        }  # fmt: skip
    else:
        found = {
            "zarr_format": 3, "node_type": "array", "shape": [60, 8], "data_type": "float32", "fill_value": 0,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [60, 8]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        }  # fmt: skip
    (path / (".zarray" if form == 2 else "zarr.json")).write_text(json.dumps(found | changes))
    return path


BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
PICKLE = {"name": "numcodecs.pickle", "configuration": {}}


def shards(inner: list[Any], index: list[Any]) -> list[Any]:
    return [
        {"name": "sharding_indexed", "configuration": {"chunk_shape": [60, 8], "codecs": inner, "index_codecs": index}}
    ]


@pytest.mark.parametrize(
    ("form", "changes", "reason"),
    [
        (2, {"compressor": {"id": "pickle"}}, "codec pickle is not allowed"),
        (2, {"filters": [{"id": "delta", "dtype": "<f4"}, {"id": "pickle"}]}, "codec pickle is not allowed"),
        (2, {"dtype": "|O", "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}]}, "dtype |O is not allowed"),
        (2, {"dtype": [["a", "<f4"]]}, "dtype [['a', '<f4']] is not allowed"),
        (2, {"filters": [{"id": "delta", "dtype": "|O"}]}, "dtype |O is not allowed"),
        (2, {"compressor": {"id": ["zlib"]}}, "codec ['zlib'] is not allowed"),
        (2, {"shape": [60, -8]}, "shape [60, -8] is not allowed"),
        (2, {"chunks": [60, 0]}, "chunks (60, 0) do not fit"),
        (2, {"chunks": [10**12, 8]}, "a chunk takes"),
        (3, {"codecs": [PICKLE, BYTES]}, "codec numcodecs.pickle is not allowed"),
        (3, {"codecs": ["numcodecs.pickle"]}, "codec numcodecs.pickle is not allowed"),
        (3, {"codecs": [BYTES, {"name": "numcodecs.zlib", "configuration": {"id": "pickle"}}]}, "codec numcodecs.zlib"),
        (3, {"codecs": shards([BYTES, PICKLE], [BYTES])}, "codec numcodecs.pickle is not allowed"),
        (3, {"codecs": shards([BYTES], [BYTES, PICKLE])}, "codec numcodecs.pickle is not allowed"),
        (3, {"codecs": shards(shards([BYTES, PICKLE], [BYTES]), [BYTES])}, "codec numcodecs.pickle is not allowed"),
        (3, {"codecs": None}, "codecs None is not allowed"),
        (3, {"data_type": "variable_length_bytes"}, "data_type variable_length_bytes is not allowed"),
        (3, {"data_type": {"name": "structured"}}, "data_type {'name': 'structured'} is not allowed"),
        (3, {"chunk_grid": {"name": "other"}}, "chunk_grid {'name': 'other'} is not allowed"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("nested", [False, True], ids=["array", "nested"])
def test_zarr_runs_no_code(form, changes, reason, nested, tmp_path, labels, refused, monkeypatch):
    pytest.importorskip("zarr", reason="zarr is not installed")
    pickles = pytest.importorskip("numcodecs.pickles", reason="numcodecs is not installed")
    monkeypatch.setattr(pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)  # as older versions have it
    store, name = tmp_path / "x.zarr", ""
    if nested:
        (store / "group").mkdir(parents=True)
        (store / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
        name = ":group/x"
    folder = zarr_store(store / "group" / "x" if nested else store, form, **changes)
    for chunk in (folder / "0.0", folder / "c" / "0" / "0"):
        if chunk.exists():
            chunk.write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    assert reason in refused(f"{store}{name}", labels)
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr")
def test_zarr_reads_what_is_harmless(tmp_path, labels, capsys):
    zarr = pytest.importorskip("zarr", minversion="3", reason="zarr 3 is not installed")
    numcodecs = pytest.importorskip("numcodecs", reason="numcodecs is not installed")
    codecs = pytest.importorskip("zarr.codecs.numcodecs", reason="this zarr has no codecs of numcodecs")
    kinds = {
        "raw": {"compressors": None}, "default": {}, "shards": {"shards": (30, 8), "chunks": (10, 4)},
        "gzip": {"compressors": zarr.codecs.GzipCodec()}, "blosc": {"compressors": zarr.codecs.BloscCodec()},
        "order": {"filters": zarr.codecs.TransposeCodec(order=(1, 0))},
        "delta": {"filters": codecs.Delta(dtype="float32"), "compressors": codecs.BZ2(level=1)},
        "old": {"zarr_format": 2, "filters": [numcodecs.Delta(dtype="<f4")], "compressors": numcodecs.LZMA()},
        "old blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc()},
    }  # fmt: skip
    losses = set()
    for name, options in kinds.items():
        options = {"shape": X.shape, "dtype": X.dtype, "chunks": (7, 5)} | options
        zarr.create_array(tmp_path / f"{name}.zarr", **options)[...] = X
        assert main(["evaluate", str(tmp_path / f"{name}.zarr"), labels, "--json"]) == 0, name
        losses.add(json.loads(capsys.readouterr().out)["loss"])
    assert len(losses) <= 2  # of float32 differences added up again, and of the others
    assert max(losses) - min(losses) < 1e-6


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
def test_a_pipe_among_the_chunks_is_not_waited_for(tmp_path, labels, refused):
    pytest.importorskip("zarr", reason="zarr is not installed")
    store = zarr_store(tmp_path / "x.zarr", 2)
    (store / "0.0").unlink()
    os.mkfifo(store / "0.0")
    assert "0.0 in it is no ordinary file" in refused(store, labels)
    (store / "0.0").unlink()
    (store / "0.0").symlink_to("/dev/zero")
    assert "0.0 in it is no ordinary file" in refused(store, labels)


def test_parquet_runs_no_code(tmp_path, labels, refused):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as parquet

    code = pickle.dumps(Touch(tmp_path / "ran"))
    kind = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": code}
    schema = pa.schema([pa.field("x", pa.list_(pa.float32(), 8), metadata=kind), pa.field("y", pa.binary())])
    columns = [pa.FixedSizeListArray.from_arrays(X.ravel(), 8), pa.array([code] * 60)]
    parquet.write_table(pa.table(columns, schema=schema), tmp_path / "x.parquet")
    assert "allowed are numbers" in refused(tmp_path / "x.parquet", labels)
    assert main(["evaluate", f"{tmp_path / 'x.parquet'}:x", labels, "--no-progress"]) in (0, 2)
    assert not (tmp_path / "ran").exists()


# -- safetensors: the places that its header names --------------------------------------------------------------------


def safetensors_file(path: Path, header: Any, values: bytes = X.tobytes()) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + values)
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {"x": {"dtype": "F32", "shape": [60, 8], "data_offsets": [0, 1920]} | changes}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (entry(data_offsets=[-8, 1912]), "data_offsets [-8, 1912] do not fit"),
        (entry(data_offsets=[1920, 0], shape=[60, -8]), "shape [60, -8] is not allowed"),
        (entry(data_offsets=[0, 1919]), "data_offsets [0, 1919] do not fit"),
        (entry(data_offsets=[8, 1928]), "is cut off"),
        (entry(data_offsets=[2**64, 2**64 + 1920]), "is cut off"),
        (entry(data_offsets=[0.0, 1920.0]), "data_offsets [0.0, 1920.0] do not fit"),
        (entry(data_offsets=[0]), "data_offsets [0] do not fit"),
        (entry(data_offsets=None), "data_offsets None do not fit"),
        (entry(shape=[2**63, 2**63], data_offsets=[0, 0]), "do not fit"),
        (entry(shape=[True, 480]), "shape [True, 480] is not allowed"),
        (entry(shape="60"), "shape 60 is not allowed"),
        (entry(dtype="F8"), "dtype F8 is not allowed"),
        (entry(dtype=["F32"]), "dtype ['F32'] is not allowed"),
        ({"x": 1}, "an array has dtype, shape and data_offsets"),
        ({"x": {}}, "an array has dtype, shape and data_offsets"),
        ([1], "it is no object of JSON"),
        ({}, "has 0 arrays"),
        ({"x" * 10**6: 1, "y": 1}, "x..."),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"x": ' + b"9" * 10_000 + b"}", "x.safetensors: "),
        (b"\xff\xfe{}", "x.safetensors: "),
        ({f"x\x1b[31m\n{i}": 1 for i in range(1000)}, "x.safetensors: has 1000 arrays"),
    ],
)
def test_safetensors_are_read_within_their_values(header, reason, tmp_path, labels, refused):
    assert reason in refused(safetensors_file(tmp_path / "x.safetensors", header), labels)


def test_a_long_header_is_not_parsed(tmp_path, labels, refused):
    file = safetensors_file(tmp_path / "x.safetensors", b"[" + b"0," * (1 << 23) + b"0]")
    assert "has a header of 16777219 bytes" in refused(file, labels)
