"""`python -m logitx`: every format, and errors that say what to do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx._evaluate import main

RNG = np.random.default_rng(10)
X = RNG.normal(size=(300, 20)).astype(np.float32)
IDS = RNG.integers(0, 20, 300)


def save_npy(path: Any, name: str, array: Any) -> str:
    np.save(path / f"{name}.npy", array)
    return str(path / f"{name}.npy")


def save_npz(path: Any, name: str, array: Any) -> str:
    np.savez(path / f"{name}.npz", first=np.zeros(3), wanted=array)
    return str(path / f"{name}.npz:wanted")


def save_compressed(path: Any, name: str, array: Any) -> str:
    np.savez_compressed(path / f"{name}.npz", array)
    return str(path / f"{name}.npz")


def save_safetensors(path: Any, name: str, array: Any) -> str:
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    numpy.save_file({"first": np.zeros(3), "wanted": array}, path / f"{name}.safetensors")
    return str(path / f"{name}.safetensors:wanted")


def save_zarr(path: Any, name: str, array: Any) -> str:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    stored = zarr.open(
        str(path / f"{name}.zarr"), mode="w", shape=array.shape, dtype=array.dtype, chunks=(70,) * array.ndim
    )
    stored[...] = array
    return str(path / f"{name}.zarr")


def save_parquet(path: Any, name: str, array: Any) -> str:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as parquet

    columns = array.reshape(300, -1).T
    table = pa.table({f"c{i}": column for i, column in enumerate(columns)})
    parquet.write_table(table, path / f"{name}.parquet", row_group_size=90)
    return str(path / f"{name}.parquet")


def save_lists(path: Any, name: str, array: Any) -> str:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as parquet

    column = pa.FixedSizeListArray.from_arrays(array.ravel(), 20) if array.ndim == 2 else pa.array(array)
    parquet.write_table(pa.table({"wanted": column, "other": pa.array(np.zeros(300))}), path / f"{name}.parquet")
    return str(path / f"{name}.parquet:wanted")


def save_columns(path: Any, name: str, array: Any) -> str:
    np.save(path / f"{name}.npy", np.asfortranarray(array))
    return str(path / f"{name}.npy")


def save_csv(path: Any, name: str, array: Any) -> str:
    names = ",".join(f"c{i}" for i in range(array.reshape(300, -1).shape[1]))
    np.savetxt(path / f"{name}.csv", array, delimiter=",", header=names, comments="", fmt="%.9g")
    return str(path / f"{name}.csv")


def save_torch(path: Any, name: str, array: Any) -> str:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save({"first": torch.zeros(3), "wanted": torch.tensor(array)}, path / f"{name}.pt")
    return str(path / f"{name}.pt:wanted")


SAVES = [
    save_npy, save_columns, save_npz, save_compressed, save_safetensors, save_zarr, save_parquet, save_lists, save_csv,
    save_torch,
]  # fmt: skip


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
def test_every_format(save, tmp_path, capsys):
    files = [save(tmp_path, "x", X), save(tmp_path, "t", IDS)]
    assert main(["evaluate", *files, "--json", "--no-progress", "--block-bytes", "2000"]) == 0
    found = json.loads(capsys.readouterr().out)
    right = lx.CrossEntropy(top_k=5).update(X, IDS).result()
    named = dict(zip(["loss", "perplexity", "accuracy", "top_5_accuracy"], [*right[:3], right[4]], strict=True))
    for name, value in named.items():
        assert found.pop(name) == pytest.approx(value, rel=1e-7)
    options = {"axis": -1, "ignore_index": -100, "label_smoothing": 0.0, "temperature": 1.0, "softcap": None}
    assert found == {
        "count": 300, "rows": 300, "classes": 20, "unit": "nats", "targets": "class ids",
        "logits": files[0], "labels": files[1], "options": options,
    }  # fmt: skip


def test_options_and_the_bar(tmp_path, capsys, monkeypatch):
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True, raising=False)
    files = [save_npy(tmp_path, "x", X), save_npy(tmp_path, "t", IDS)]
    options = [
        "--top-k",
        "2",
        "--label-smoothing",
        "0.1",
        "--temperature",
        "2",
        "--softcap",
        "5",
        "--ignore-index",
        "3",
    ]
    assert main(["evaluate", *files, *options]) == 0
    captured = capsys.readouterr()
    assert "300/300" in captured.err
    right = lx.CrossEntropy(top_k=2, label_smoothing=0.1, temperature=2.0, softcap=5.0, ignore_index=3).update(X, IDS)
    shown = dict(re.split("  +", line, maxsplit=1) for line in captured.out.splitlines())
    assert list(shown) == ["loss", "perplexity", "accuracy", "top 2 accuracy", "count", "classes", "targets"]
    assert shown["loss"].endswith(" nats, the mean of the rows that count")
    assert [shown["count"], shown["classes"], shown["targets"]] == [
        f"{(IDS != 3).sum()} of 300 rows", "20", "class ids",
    ]  # fmt: skip
    assert float(captured.out.split()[1]) == pytest.approx(right.result().loss, rel=1e-5)


def test_halves_of_safetensors(tmp_path, capsys):
    pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    bits = (X.view(np.uint32) >> 16).astype("<u2")
    header = json.dumps({"x": {"dtype": "BF16", "shape": [300, 20], "data_offsets": [0, bits.nbytes]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())
    assert main(["evaluate", str(path), save_npy(tmp_path, "t", IDS), "--json", "--no-progress"]) == 0
    kept = (bits.astype(np.uint32) << 16).view(np.float32)
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(lx.cross_entropy(kept, IDS), rel=1e-6)


def test_errors_are_one_line_and_exit_code_2(tmp_path, capsys):
    x, t = save_npy(tmp_path, "x", X), save_npy(tmp_path, "t", IDS)
    several = save_npz(tmp_path, "several", X).removesuffix(":wanted")
    objects = save_npy(tmp_path, "objects", np.array([{}], dtype=object))
    np.savez(tmp_path / "objects.npz", np.array([{}], dtype=object))
    for name in ("cut.npz", "cut.safetensors", "cut.npy", "cut.parquet"):
        (tmp_path / name).write_bytes(b"nothing")
    bad = save_npy(tmp_path, "bad", np.full(300, 20))
    for files, message in [
        ([str(tmp_path / "no.npy"), t], "no.npy: does not exist"),
        ([str(tmp_path / "x.txt"), t], "suffix '.txt' is not known; known are .npy, .npz"),
        ([several, t], "has 2 arrays, name one as"),
        ([f"{several}:other", t], "has no array 'other'; there are first, wanted"),
        ([objects, t], "Python objects"),
        ([str(tmp_path / "objects.npz"), t], "Python objects, which are not unpickled"),
        ([str(tmp_path / "cut.npz"), t], "cut.npz: "),
        ([str(tmp_path / "cut.safetensors"), t], "cut off"),
        ([str(tmp_path / "cut.npy"), t], "cut.npy: "),
        (
            [x, save_npy(tmp_path, "short", IDS[:-1])],
            "short.npy: shape (299,) does not fit ",
        ),
        ([x, bad], "bad.npy: class id 20 at position (0,) is out of range"),
        ([t, x], "t.npy: shape (300,) is not allowed; logits are rows x classes; are the files swapped?"),
        ([x, t, "--axis", "0"], "x.npy: axis 0 of shape (300, 20) is the first"),
        ([x, t, "--axis", "7"], "axis: 7 is out of range"),
        ([x, x], "x.npy: holds the logits"),
        ([x, t, "--top-k", "0"], "top_k: 0 is not allowed"),
    ]:
        assert main(["evaluate", *files, "--no-progress"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("logitx: error: ")
        assert captured.err.count("\n") == 1
        assert message in captured.err


def test_the_module_runs():
    ran = subprocess.run([sys.executable, "-m", "logitx", "info", "--json"], capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    assert found["logitx"] == lx.__version__
    assert len(found["backends"]) == len(lx.backends())
    assert {"python", "numpy", "devices", "threads", "cache"} <= set(found)
    ran = subprocess.run([sys.executable, "-m", "logitx", "evaluate", "x"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2


@pytest.mark.parametrize(("top", "loss"), [(np.nan, None), (-np.inf, "Infinity"), (9.0, 0.00012)])
def test_json_tells_infinity_from_nan(tmp_path, capsys, top, loss):
    logits = np.array([[top, 0.0]], np.float32)
    files = [save_npy(tmp_path, "x", logits), save_npy(tmp_path, "t", np.zeros(1, np.int64))]
    assert main(["evaluate", *files, "--json", "--no-progress"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["loss"] == (pytest.approx(loss, rel=0.1) if isinstance(loss, float) else loss)
    assert found["perplexity"] == (pytest.approx(1.0, rel=0.1) if isinstance(loss, float) else loss)
