"""`python -m logitx evaluate` on labels as people have them: tables, floats, probabilities, ids of 64 bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx._evaluate import main

RNG = np.random.default_rng(17)
X = RNG.normal(size=(50, 6)).astype(np.float32)
IDS = RNG.integers(0, 6, 50)
LOSS = float(lx.cross_entropy(X, IDS))


@pytest.fixture
def evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that saves arrays, evaluates them, and returns what is printed as JSON or the error."""

    def evaluation(*given: Any, options: tuple[str, ...] = ()) -> Any:
        files = []
        for name, one in zip(("x", "t"), given, strict=True):
            if not isinstance(one, str):
                np.save(tmp_path / f"{name}.npy", one)
            files.append(one if isinstance(one, str) else str(tmp_path / f"{name}.npy"))
        code = main(["evaluate", *files, "--json", *options])
        out, error = capsys.readouterr()
        assert code == (2 if error else 0)
        return error or json.loads(out)

    return evaluation


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "uint64", "uint8", ">i8", "bool"])
@pytest.mark.parametrize("shape", [(50,), (50, 1)])
def test_whole_numbers_of_any_dtype_are_class_ids(dtype, shape, evaluated):
    ids = IDS.clip(0, 1) if dtype == "bool" else IDS
    found = evaluated(X, ids.astype(dtype).reshape(shape))
    assert found["targets"] == "class ids"
    assert found["loss"] == pytest.approx(float(lx.cross_entropy(X, ids)), rel=1e-6)


def test_floats_may_be_ignored_ids(evaluated):
    ids = np.where(np.arange(50) < 5, -100.0, IDS)
    assert evaluated(X, ids)["count"] == 45


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.nan, "f4", "nan in row 30 is no class id; allowed are whole numbers"),
        (np.inf, "f4", "inf in row 30 is no class id"),
        (1.5, "f2", "1.5 in row 30 is no class id"),
        (2.0**63, "f8", "9.223372036854775808e+18 in row 30 is no class id"),
        (2**64 - 100, "u8", "18446744073709551516 in row 30 is no class id"),
        (2**63, "u8", "9223372036854775808 in row 30 is no class id"),
        (2**40, "u8", "class id 1099511627776 at position (30,) is out of range"),
        (2**32, "f8", "class id 4294967296 at position (30,) is out of range"),
    ],
)
def test_what_is_no_class_id_is_refused(value, dtype, message, evaluated):
    ids = IDS.astype(dtype)
    ids[30] = value
    error = evaluated(X, ids, options=("--block-bytes", "240"))
    message = message.replace("9.223372036854775808e+18", str(np.float64(2.0**63)))
    assert f"t.npy: {message}" in error


def test_probabilities_are_within_0_and_1(evaluated):
    soft = RNG.dirichlet(np.ones(6), 50)
    found = evaluated(X, soft)
    assert found["targets"] == "probabilities"
    assert found["loss"] == pytest.approx(float(lx.cross_entropy(X, soft)), rel=1e-6)
    assert "ignore_index" not in found["options"]
    one_hot = np.eye(6, dtype=np.int64)[IDS]
    assert evaluated(X, one_hot)["loss"] == pytest.approx(LOSS, rel=1e-6)
    for value in (-0.01, 1.01, 7.0, np.nan, np.inf):
        wrong = soft.copy()
        wrong[33, 2] = value
        assert f"t.npy: {np.float64(value)} in row 33 is no probability" in evaluated(X, wrong)


def test_logits_as_targets_are_refused(evaluated):
    assert "is no probability; allowed are 0 to 1" in evaluated(X, X)


# -- tables -----------------------------------------------------------------------------------------------------------


def table(path: Path, suffix: str, columns: dict[str, Any]) -> str:
    file = path / f"table{suffix}"
    if suffix == ".parquet":
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        import pyarrow.parquet as parquet

        parquet.write_table(pa.table(columns), file)
    else:
        rows = np.stack(list(columns.values()), axis=1)
        np.savetxt(file, rows, delimiter=",", header=",".join(columns), comments="", fmt="%.9g")
    return str(file)


SCORES = {f"score_{i}": X[:, i] for i in range(6)}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_column_of_labels_is_no_class(suffix, tmp_path, evaluated, monkeypatch):
    file = table(tmp_path, suffix, {**SCORES, "label": IDS})
    found = evaluated(file, f"{file}:label")
    assert (found["classes"], found["loss"]) == (6, pytest.approx(LOSS, rel=1e-6))
    assert evaluated(f"{file}:score_*", f"{file}:label")["loss"] == pytest.approx(LOSS, rel=1e-6)
    monkeypatch.chdir(tmp_path)
    assert evaluated(file, f"./table{suffix}:label")["classes"] == 6
    assert "holds the logits" in evaluated(file, file)
    assert "has no column 'no'; there are score_0, score_1" in evaluated(file, f"{file}:no")
    assert "has no column 'no*'" in evaluated(f"{file}:no*", f"{file}:label")


def test_the_index_of_a_data_frame_is_no_class(tmp_path, evaluated):
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    for columns in ([f"c{i}" for i in range(6)], None):
        frame = pd.DataFrame(X, columns=columns)
        for index in (False, True):
            frame.to_csv(tmp_path / "frame.csv", index=index)
            found = evaluated(str(tmp_path / "frame.csv"), IDS)
            assert (found["classes"], found["rows"]) == (6, 50)
            assert found["loss"] == pytest.approx(LOSS, rel=1e-6)
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    frame = pd.DataFrame(X, columns=list("abcdef"), index=np.arange(50)[::-1])
    frame.to_parquet(tmp_path / "frame.parquet")
    assert evaluated(str(tmp_path / "frame.parquet"), IDS)["classes"] == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "has no logits"),
        ("a,b\n1,2\n3,\n", "rows from 0 on"),
        ("1,2\n3,cat\n", "rows from 0 on"),
        ("1,2\n3\n", "rows from 0 on"),
        ("a,a\n1,2\n", "has several columns of one name"),
        ("1,2\n\xff,3\n", "table.csv: "),
    ],
)
def test_damaged_csv(text, message, tmp_path, evaluated):
    (tmp_path / "table.csv").write_bytes(text.encode("latin-1"))
    assert message in evaluated(str(tmp_path / "table.csv"), np.zeros(2, int))


def test_csv_without_names(tmp_path, evaluated):
    np.savetxt(tmp_path / "x.csv", X, delimiter=",")
    np.savetxt(tmp_path / "t.csv", IDS, fmt="%d")
    found = evaluated(str(tmp_path / "x.csv"), str(tmp_path / "t.csv"), options=("--block-bytes", "100"))
    assert found["loss"] == pytest.approx(LOSS, rel=1e-6)


# -- what stands in the way -------------------------------------------------------------------------------------------


def test_no_bar_without_tqdm(evaluated, monkeypatch):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True, raising=False)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert evaluated(X, IDS)["loss"] == pytest.approx(LOSS, rel=1e-6)


def test_the_bar_is_closed_before_an_error(evaluated, monkeypatch):
    tqdm = pytest.importorskip("tqdm", reason="tqdm is not installed")
    events = []
    monkeypatch.setattr(tqdm.tqdm, "close", lambda bar: events.append("closed"))
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True, raising=False)
    write = type(sys.stderr).write
    monkeypatch.setattr(type(sys.stderr), "write", lambda stream, text: events.append(text) or write(stream, text))
    evaluated(X, np.where(np.arange(50) == 40, 6, IDS))
    errors = [i for i, event in enumerate(events) if event.startswith("logitx: error")]
    assert 0 <= events.index("closed") < errors[0]


def test_no_bar_where_there_is_no_terminal(evaluated):
    assert evaluated(X, IDS)["rows"] == 50  # nothing on the error stream, else this is no JSON


def test_version_help_and_command(capsys):
    for option, text in (("--version", f"logitx {lx.__version__}"), ("--help", "evaluate")):
        with pytest.raises(SystemExit, match="0"):
            main([option])
        assert text in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", "--help"])
    shown = capsys.readouterr().out
    assert "evaluate table.parquet table.parquet:label" in shown
    assert "divide the logits by T" in shown
    project = Path(__file__).resolve().parent.parent / "pyproject.toml"
    assert '[project.scripts]\nlogitx = "logitx._evaluate:main"' in project.read_text(encoding="utf-8")


def test_info_names_the_cache(capsys):
    lx.softmax(X)
    assert main(["info", "--json"]) == 0
    for line in json.loads(capsys.readouterr().out)["cache"]:
        folder, _, rest = line.rpartition(": ")
        if folder != "none, every process compiles":
            count, *_, size, unit = rest.split()
            assert Path(folder).is_dir()
            assert 0 < int(count) <= len(list(Path(folder).glob("*.nbc")))  # another process may have added some
            assert (float(size) >= 0, unit) == (True, "MB")


CLOSED = """
import os, sys
os.close(1)
if {what!r} == "full":
    os.set_inheritable(os.open("/dev/full", os.O_WRONLY), True)
elif {what!r} == "pipe":
    ends = os.pipe()
    os.close(ends[0])
    os.dup2(ends[1], 1)  # whose other end is closed
os.execv(sys.executable, [sys.executable, "-m", "logitx", *{arguments!r}])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is closed is closed as Linux has it")
@pytest.mark.parametrize(
    ("what", "arguments"),
    [
        ("closed", ["info"]), ("full", ["info"]), ("pipe", ["info"]), ("full", ["--help"]), ("pipe", ["--version"]),
        ("closed", ["--version"]),
    ],
)  # fmt: skip
def test_closed_output_is_one_line(what, arguments):
    code = CLOSED.format(what=what, arguments=arguments)
    env = {**os.environ, "PYTHONUNBUFFERED": ""}
    ran = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False, env=env)
    *before, last = ran.stderr.splitlines()
    assert ran.returncode == 2
    assert last.startswith("logitx: error: standard output: ")
    assert before == [] or (what == "closed" and arguments != ["info"])  # argparse writes to the other stream then
