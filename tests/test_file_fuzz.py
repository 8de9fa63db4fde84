"""Mutated valid files of every format: a result or one line, never a traceback, a hang or a gigabyte."""

from __future__ import annotations

import faulthandler
import json
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitx._evaluate import main

resource = pytest.importorskip("resource", reason="memory is measured as Unix has it")

RNG = np.random.default_rng(11)
X = RNG.normal(size=(40, 6)).astype(np.float32)
IDS = RNG.integers(0, 6, 40)
EDGES = [b"-1", b"0", b"1", b"65536", b"4294967296", b"9" * 20, b"1e400", b"nan", b"true", b'"x"', b"[[[", b"{}"]
WORDS = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1]


def write_npy(path: Path, array: Any) -> None:
    np.save(path, array)


def write_columns(path: Path, array: Any) -> None:
    np.save(path, np.asfortranarray(array))


def write_npz(path: Path, array: Any) -> None:
    np.savez(path, array)


def write_compressed(path: Path, array: Any) -> None:
    np.savez_compressed(path, array)


def write_safetensors(path: Path, array: Any) -> None:
    kind = {"float32": "F32", "int64": "I64"}[array.dtype.name]
    entry = {"dtype": kind, "shape": array.shape, "data_offsets": [0, array.nbytes]}
    header = json.dumps({"x": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + array.tobytes())


def write_parquet(path: Path, array: Any) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({f"c{i}": column for i, column in enumerate(array.reshape(40, -1).T)}), path)


def write_lists(path: Path, array: Any) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({"c": list(array)}), path)


def write_csv(path: Path, array: Any) -> None:
    np.savetxt(path, array, delimiter=",", header="a,b,c,d,e,f" if array.ndim == 2 else "a", comments="")


def write_torch(path: Path, array: Any) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save({"x": torch.tensor(array)}, path)


def write_zarr(path: Path, array: Any, **options: Any) -> None:
    zarr = pytest.importorskip("zarr", minversion="3", reason="zarr 3 is not installed")
    options = {"chunks": (16, 6)[: array.ndim]} | options
    zarr.create_array(path, shape=array.shape, dtype=array.dtype, **options)[...] = array


def write_zarr_2(path: Path, array: Any) -> None:
    numcodecs = pytest.importorskip("numcodecs", reason="numcodecs is not installed")
    write_zarr(path, array, zarr_format=2, compressors=numcodecs.Blosc(), filters=[numcodecs.Delta(dtype=array.dtype)])


def write_shards(path: Path, array: Any) -> None:
    write_zarr(path, array, chunks=(8, 6)[: array.ndim], shards=(16, 6)[: array.ndim])


FORMATS: dict[str, tuple[str, Callable[[Path, Any], None]]] = {
    "npy": (".npy", write_npy), "columns": (".npy", write_columns), "npz": (".npz", write_npz),
    "compressed": (".npz", write_compressed), "safetensors": (".safetensors", write_safetensors),
    "parquet": (".parquet", write_parquet), "lists": (".parquet", write_lists), "csv": (".csv", write_csv),
    "torch": (".pt", write_torch), "zarr": (".zarr", write_zarr), "zarr 2": (".zarr", write_zarr_2),
    "shards": (".zarr", write_shards),
}  # fmt: skip


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return data with one to three changes: bytes, numbers in text, words, and pieces cut out, doubled or put in."""
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, len(data) + 1))
        if rng.random() < 0.4:  # where the file is described
            place = place % 200 if rng.random() < 0.5 else max(0, len(data) - place % 200)
        length = int(rng.integers(1, 20))
        kind = rng.integers(0, 7)
        numbers = [*re.finditer(rb"-?\d+", data[:1000])]
        if kind == 0 and numbers:
            found = numbers[rng.integers(0, len(numbers))]
            data = data[: found.start()] + EDGES[rng.integers(0, len(EDGES))] + data[found.end() :]
        elif kind == 1:
            size = int(rng.choice([2, 4, 8]))
            word = WORDS[rng.integers(0, len(WORDS))] % 2 ** (8 * size)
            data = data[:place] + word.to_bytes(size, "little") + data[place + size :]
        elif kind == 2:
            data = data[:place]
        elif kind == 3:
            data = data[:place] + data[place + length :]
        elif kind == 4:
            data = data[:place] + data[place : place + length] * 2 + data[place + length :]
        elif kind == 5:
            data = data[:place] + rng.bytes(length) + data[place:]
        else:
            data = data[:place] + rng.bytes(length) + data[place + length :]
    return data


def mutate(path: Path, rng: np.random.Generator) -> None:
    """Mutate a file, or one of a folder."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    file = files[rng.integers(0, len(files))]
    if path.is_dir() and rng.random() < 0.5:  # chunks are many, metadata are one
        file = next((one for one in files if one.name in (".zarray", "zarr.json")), file)
    file.write_bytes(mutated(file.read_bytes(), rng))


@pytest.fixture
def bounded():
    """Memory is looked at in the end."""
    unit = 1024 if sys.platform != "darwin" else 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    yield
    faulthandler.cancel_dump_traceback_later()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < 1 << 30


@pytest.mark.parametrize("count", [40, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files(name, count, tmp_path, capsys, bounded):
    suffix, write = FORMATS[name]
    whole, file = [tmp_path / f"{one}{suffix}" for one in "xt"], tmp_path / f"mutated{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, array in zip(whole, (X, IDS), strict=True):
            write(path, array)
    codes = set()
    for seed in range(count):
        rng = np.random.default_rng(seed)
        place = int(rng.random() < 0.3)
        shutil.copytree(whole[place], file) if suffix == ".zarr" else shutil.copy(whole[place], file)
        mutate(file, rng)
        given = [str(file if i == place else path) for i, path in enumerate(whole)]
        faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)  # a hang
        try:
            code = main(["evaluate", *given, "--json"])
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        out, line = capsys.readouterr()
        codes.add(code)
        assert (code, line) == (0, "") or (code, out) == (2, ""), (seed, line)
        assert code == 0 or (any(one in line for one in given) and line[:-1].isprintable() and line[-1] == "\n"), (
            seed,
            line,
        )
        shutil.rmtree(file) if suffix == ".zarr" else file.unlink()
    assert 2 in codes
