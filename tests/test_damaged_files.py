"""Files that are damaged, absurd or no files: one line with the name and exit code 2, in bounded memory."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitx._evaluate import raw
from logitx._evaluate.readers import open_array

RNG = np.random.default_rng(7)
X = RNG.normal(size=(60, 8)).astype(np.float32)
IDS = RNG.integers(0, 8, 60)


@pytest.fixture
def labels(tmp_path: Path) -> str:
    np.save(tmp_path / "ids.npy", IDS)
    return str(tmp_path / "ids.npy")


# -- .npy and .npz -------------------------------------------------------------------------------------------------


def npy_bytes(header: str, values: bytes = X.tobytes()) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin-1") + values


def described(shape: Any = (60, 8), descr: Any = "<f4", order: bool = False) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape!r}}}\n"


HEADERS = {
    "cut off": (described((61, 8)), "is cut off"),
    "columns cut off": (described((61, 8), order=True), "is cut off"),
    "absurd": (described((2**40, 2**40)), "is cut off"),
    "wraps to 0": (described((2**32, 2**32)), "is cut off"),
    "negative": (described((-60, 8)), "shape (-60, 8) is not allowed"),
    "both negative": (described((-60, -8)), "shape (-60, -8) is not allowed"),
    "bool": (described((True, 8)), "shape (True, 8) is not allowed"),
    "objects": (described(descr="|O"), "Python objects, which are not unpickled"),
    "nested objects": (described(descr=[("a", "|O")]), "Python objects, which are not unpickled"),
    "texts": (described((60,), "<U8"), "dtype <U8 is not allowed"),
    "complex": (described((60, 4), "<c8"), "dtype complex64 is not allowed"),
    "times": (described((60, 4), "<M8[s]"), "dtype datetime64[s] is not allowed"),
    "records": (described((60,), [("a", "<f4", (8,))]), "is not allowed; allowed are integers"),
    "no dict": ("[1, 2]\n", "x.np"),
    "deep": ("(" * 9000 + ")" * 9000, "x.np"),
    "code": ("__import__('os').abort()\n", "x.np"),
    "escape": ("{'\\d\x1b[31m': 1}\n", "x.np"),
    "not ASCII": ("{'\xe9': \xe9}\n", "x.np"),
    "empty": (described((0, 8)), "shape (0, 8) has no logits"),
    "no classes": (described((10**18, 0)), "has no logits"),
    "0-d": (described(()), "shape () is not allowed; logits are rows x classes"),
}


@pytest.mark.parametrize("packed", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["npy", "npz", "compressed"])
@pytest.mark.parametrize("case", HEADERS)
def test_headers_of_numpy(case, packed, tmp_path, labels, refused):
    header, reason = HEADERS[case]
    data = npy_bytes(header)
    file = tmp_path / ("x.npy" if packed is None else "x.npz")
    if packed is None:
        file.write_bytes(data)
    else:
        with zipfile.ZipFile(file, "w", packed) as archive:
            archive.writestr("x.npy", data)
        if reason == "is cut off" or "has no logits" in reason or "logits are rows" in reason:
            reason = "does not fit"
    assert reason in refused(file, labels)
    if packed is None:
        assert "npy" in refused(labels, file)


def changed(file: Path, place: int, value: bytes) -> None:
    data = bytearray(file.read_bytes())
    data[place : place + len(value)] = value
    file.write_bytes(data)


def test_damaged_members_of_zip(tmp_path, labels, refused):
    np.savez_compressed(tmp_path / "x.npz", X)
    for place in (60, 1500, -100, -30):  # in the values, and in the directory
        file = tmp_path / "y.npz"
        file.write_bytes((tmp_path / "x.npz").read_bytes())
        changed(file, place % file.stat().st_size, b"\xff" * 8)
        assert "y.npz: " in refused(file, labels)
    for kind in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "x.npz", "w", kind) as archive:
            archive.writestr("x.npy", npy_bytes(described()))
        assert "allowed is that of savez_compressed" in refused(tmp_path / "x.npz", labels)


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_encrypted_zip(kind, tmp_path, labels, refused):
    file = tmp_path / "x.npz"
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr("x.npy", npy_bytes(described()))
    data = bytearray(file.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    file.write_bytes(data)
    assert "x.npz: is encrypted" in refused(file, labels)


def test_members_that_are_not_where_the_directory_says(tmp_path, labels, refused):
    file = tmp_path / "x.npz"
    np.savez(file, X)
    data = bytearray(file.read_bytes())
    place = data.index(b"PK\x01\x02") + 42
    for offset in (10**9, 100):
        data[place : place + 4] = struct.pack("<I", offset)
        file.write_bytes(data)
        assert "x.npz: " in refused(file, labels)


# -- .pt -----------------------------------------------------------------------------------------------------------


def torch_file(path: Path, pickled: bytes, values: bytes = X.tobytes()) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/data/0", values)
    return path


def tensor_pickle(shape: Any = (60, 8), strides: Any = (8, 1), offset: Any = 0, storage: str = "FloatStorage") -> bytes:
    def put(value: Any) -> bytes:
        return pickle.dumps(value, protocol=2)[2:-1]

    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + put("storage") + f"ctorch\n{storage}\n".encode() + put("0")
        + put("cpu") + put(480) + b"tQ" + put(offset) + put(shape) + put(strides) + b"\x89)tR."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (tensor_pickle(shape=(61, 8)), "shape (61, 8) does not fit the 1920 bytes"),
        (tensor_pickle(offset=-1), "does not fit the 1920 bytes"),
        (tensor_pickle(offset=1), "does not fit the 1920 bytes"),
        (tensor_pickle(offset=2**70), "does not fit the 1920 bytes"),
        (tensor_pickle(offset="0"), "does not fit the 1920 bytes"),
        (tensor_pickle(shape=(-60, -8)), "shape (-60, -8) is not allowed"),
        (tensor_pickle(shape=60), "shape 60 is not allowed"),
        (tensor_pickle(strides=(0, 1)), "strides (0, 1) of shape (60, 8) are not read"),
        (tensor_pickle(strides=(-8, 1)), "strides (-8, 1) of shape (60, 8) are not read"),
        (tensor_pickle(strides=None), "strides None of shape (60, 8) are not read"),
        (tensor_pickle(storage="DoubleStorage"), "does not fit the 1920 bytes"),
        (tensor_pickle(storage="ComplexFloatStorage"), "is not allowed; allowed are torch DoubleStorage"),
        (b"\x80\x02cos\nabort\n)R.", "has 0 arrays"),
        (b"\x80\x02cos\nabort\n)R}b.", "has 0 arrays"),
        (b"\x80\x02(ios\nabort\n.", "holds objects that are not read here (instruction INST)"),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "has 0 arrays"),  # a dictionary that holds itself
        (b"\x80\x02]q\x00" + b"h\x00h\x00\x86q\x00" * 1000 + b".", "has 0 arrays"),  # 2**1000 places
        (b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".", "has 0 arrays"),
        (b"\x80\x02t.", "its list of tensors is damaged"),
        (b"\x80\x02h\x07.", "its list of tensors is damaged"),
        (b"\x80\x02R.", "its list of tensors is damaged"),
        (b"\x80\x02K\x01K\x02a.", "its list of tensors is damaged"),
        (b"\x80\x02", "x.pt: "),
        (b"\xff", "x.pt: "),
        (b"", "x.pt: "),
    ],
)  # fmt: skip
def test_torch_files_run_no_code(pickled, reason, tmp_path, labels, refused):
    assert reason in refused(torch_file(tmp_path / "x.pt", pickled), labels)


def test_other_files_of_torch(tmp_path, labels, refused):
    for name in ("x.pt", "x.pth"):
        (tmp_path / name).write_bytes(pickle.dumps(X))
        assert f"{name}: File is not a zip file" in refused(tmp_path / name, labels)
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/other", b"")
    assert "is no file of torch.save" in refused(tmp_path / "x.pt", labels)
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", tensor_pickle())
        archive.writestr("x/data/0", X.tobytes())
    assert "is compressed or encrypted" in refused(tmp_path / "x.pt", labels)


# -- Zarr and Parquet ------------------------------------------------------------------------------------------------


def test_damaged_zarr(tmp_path, labels, refused):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    path = tmp_path / "x.zarr"
    array = zarr.open(str(path), mode="w", shape=X.shape, dtype=X.dtype, chunks=(60, 8))
    array[...] = X
    (metadata,) = (path / name for name in (".zarray", "zarr.json") if (path / name).exists())
    (chunk,) = (one for one in path.rglob("*0") if one.is_file())
    whole = chunk.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"\xff" * len(whole)):
        chunk.write_bytes(damaged)
        assert "x.zarr: " in refused(path, labels)
    text = metadata.read_bytes()
    for damaged in (b"", text[:-20], b"[1]", b"\xff", b"[" * 10**5, b"9" * 10**4, text.replace(b"zstd", b"z\x1b")):
        metadata.write_bytes(damaged)
        assert "x.zarr: " in refused(path, labels)
    metadata.unlink()
    assert "x.zarr: has 0 arrays" in refused(path, labels)


@pytest.mark.parametrize("kind", ["2", "3", "shards"])
def test_cut_chunks_of_blosc_give_no_other_memory(kind, tmp_path, labels, refused):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    numcodecs = pytest.importorskip("numcodecs", reason="numcodecs is not installed")
    path, options = tmp_path / "x.zarr", {"shape": X.shape, "dtype": X.dtype, "chunks": (60, 8)}
    if kind == "2":
        old = {"zarr_format": 2} if zarr.__version__ >= "3" else {}
        array = zarr.open(str(path), mode="w", compressor=numcodecs.Blosc(), **options, **old)
    else:
        pytest.importorskip("zarr", minversion="3", reason="zarr 3 is not installed")
        shards = {"shards": (60, 8)} if kind == "shards" else {}
        array = zarr.create_array(path, compressors=zarr.codecs.BloscCodec(), **options, **shards)
    array[...] = X
    (chunk,) = (one for one in path.rglob("*0") if one.is_file())
    data = chunk.read_bytes()
    if kind == "shards":  # the first chunk states one byte more than the index gives it
        packed = int.from_bytes(data[12:16], "little")
        chunk.write_bytes(data[:12] + (packed + 1).to_bytes(4, "little") + data[16:])
    else:
        chunk.write_bytes(data[:-1])
    assert "x.zarr: has a damaged chunk" in refused(path, labels)


def test_damaged_parquet(tmp_path, labels, refused):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as parquet

    file = tmp_path / "x.parquet"
    for columns, reason in [
        ({"a": ["b"] * 60}, "column 'a' is of string"),
        ({"a": [1.0, None] * 30, "b": [1.0] * 60}, "column 'a' has nulls"),
        ({"a": [[1.0], [1.0, 2.0]] * 30}, "column 'a' has lists of different lengths"),
        ({"a": pa.array([], pa.float32()), "b": pa.array([], pa.float32())}, "has no logits"),
        ({"\x1b[31m\n": ["b"] * 60}, r"column '\x1b[31m\n' is of string"),
    ]:
        parquet.write_table(pa.table(columns), file)
        assert reason in refused(file, labels)
    parquet.write_table(pa.table({f"c{i}": X[:, i] for i in range(8)}), file, write_page_checksum=True)
    whole = file.read_bytes()
    for damaged in (b"", whole[:-9], whole[50:], whole[:200] + b"\xff" * 20 + whole[220:]):
        file.write_bytes(damaged)
        assert "x.parquet: " in refused(file, labels)


# -- what is no file, and names --------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
def test_a_page_that_states_more_than_its_column(tmp_path, labels, refused):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as parquet

    file, table = tmp_path / "x.parquet", pa.table({f"c{i}": X[:, i] for i in range(8)})
    for options in ({}, {"use_dictionary": False}, {"compression": "none", "data_page_version": "2.0"}):
        parquet.write_table(table, file, write_statistics=True, **options)
        chunk = parquet.ParquetFile(file).metadata.row_group(0).column(2)
        start = min(at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at)
        data = bytearray(file.read_bytes())
        size = start + 3  # of what the page unpacks to, in seven bits a byte, after three bytes of other fields
        assert data[size - 1] == 0x15
        data[size : size + 2] = [0xFF, 0x7F]
        file.write_bytes(data)
        line = refused(file, labels)
        assert "x.parquet: a page of column 'c2' states " in line
        assert "what all its pages have" in line


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".zarr", ".parquet", ".csv", ".pt"])
def test_what_is_no_file_is_not_opened(suffix, tmp_path, labels, refused):
    path = tmp_path / f"x{suffix}"
    os.mkfifo(path)  # it would be waited for without end
    assert f"x{suffix}: is no " in refused(path, labels)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert f"x{suffix}: is no " in refused(path, labels)
    path.unlink()
    path.touch() if suffix == ".zarr" else path.mkdir()
    assert f"x{suffix}: is no " in refused(path, labels)


def test_names_are_escaped(tmp_path, labels, refused):
    for name in ("a\nb.npy", "a\x1b[31mb.npy", "a\u202eb.npy", os.fsdecode(b"a\xffb.npy")):
        assert "b.npy: " in refused(tmp_path / name, labels)
        (tmp_path / name).touch()
        assert "b.npy: " in refused(tmp_path / name, labels)
    assert "suffix '.n\\x1b' is not known" in refused(tmp_path / "x.n\x1b", labels)
    assert "File name too long" in refused(tmp_path / ("x" * 300 + ".npy"), labels)


def test_labels_that_do_not_fit(tmp_path, refused):
    np.save(tmp_path / "x.npy", X)
    for shape in ((), (59,), (60, 2), (60, 8, 1), (1, 60), (0,)):
        np.save(tmp_path / "t.npy", np.zeros(shape, int))
        assert f"t.npy: shape {shape} does not fit " in refused(tmp_path / "x.npy", tmp_path / "t.npy")


# -- memory ----------------------------------------------------------------------------------------------------------

LARGE = (1 << 20, 16)  # 64 MiB
PART = 16 << 20  # bytes, a quarter of it


def sliced(file: Path) -> None:
    with open_array(file, "") as source:
        for start in range(0, source.shape[0], 1 << 14):
            source[start : start + (1 << 14)].sum()


def test_compressed_members_are_not_unpacked_as_a_whole(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", np.zeros(LARGE, np.float32))
    tracemalloc.start()
    try:
        sliced(tmp_path / "x.npz")
        assert tracemalloc.get_traced_memory()[1] < PART
    finally:
        tracemalloc.stop()


def test_groups_of_rows_are_not_read_as_a_whole(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as parquet

    values = RNG.normal(size=LARGE).astype(np.float32)
    columns = {f"c{i}": values[:, i] for i in range(LARGE[1])}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=LARGE[0], use_dictionary=False)
    before, pool = pa.default_memory_pool(), pa.system_memory_pool()
    pa.set_memory_pool(pool)
    try:
        sliced(tmp_path / "x.parquet")
        assert pool.max_memory() < 3 * PART
    finally:
        pa.set_memory_pool(before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages of files are counted as Linux has it")
def test_columns_of_a_file_do_not_stay_in_memory(tmp_path):
    def pages() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) << 10

    np.save(tmp_path / "x.npy", np.zeros(LARGE, np.float32, order="F"))
    with open_array(tmp_path / "x.npy", "") as source:
        before = pages()
        for start in range(0, LARGE[0], 1 << 14):
            source[start : start + (1 << 14)].sum()
        assert pages() - before < PART


def test_columns_are_the_rows_that_they_make(tmp_path):
    for shape in ((50, 7), (50, 3, 5), (9, 1, 2, 3)):
        values = RNG.normal(size=shape)
        np.save(tmp_path / "x.npy", np.asfortranarray(values))
        with open_array(tmp_path / "x.npy", "") as source:
            parts = [source[start : start + 4] for start in range(0, shape[0], 4)]
            np.testing.assert_array_equal(np.concatenate(parts), values)
            np.testing.assert_array_equal(source[2:5], values[2:5])  # also backwards


def test_chunks_are_read_once(tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr", minversion="3", reason="zarr 3 is not installed")
    values = RNG.normal(size=(100, 8))
    array = zarr.create_array(tmp_path / "x.zarr", shape=values.shape, dtype=values.dtype, chunks=(30, 5))
    array[...] = values
    read, get = [], zarr.storage.LocalStore.get

    async def counted(store: Any, key: str, *arguments: Any, **options: Any) -> Any:
        read.append(key)
        return await get(store, key, *arguments, **options)

    with open_array(tmp_path / "x.zarr", "") as source:
        monkeypatch.setattr(zarr.storage.LocalStore, "get", counted)
        parts = [source[start : start + 7] for start in range(0, 100, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), values)
    assert len(read) == len(set(read)) == 8


def test_a_row_that_memory_should_not_hold(tmp_path, labels, refused, monkeypatch):
    monkeypatch.setattr(raw, "LARGEST_PART", 1 << 20)
    for order in "CF":
        np.savez_compressed(tmp_path / "x.npz", np.zeros((2, (1 << 18) + 1), np.float32, order=order))
        assert "bytes; allowed are 1048576, or a file that is mapped" in refused(tmp_path / "x.npz", labels)
