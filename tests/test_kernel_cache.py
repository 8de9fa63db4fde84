"""The kernels on disk: what is damaged, or could have been put there by somebody else, is a missing file."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numba.core import registry

from logitx.backends.numba.compile import folders
from logitx.backends.numba.compile.cache import KernelCache
from logitx.backends.numba.compile.policy import compile_kernel
from logitx.backends.numba.kernels.signature import Dtypes, signature_of
from logitx.backends.numba.kernels.softmax import normalize

needs_modes = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system keeps no modes of folders")
SIGNATURE = signature_of(normalize, (None, None, None), Dtypes("float32", "float32", "float32"))
CALL = """
import numpy as np, logitx as lx
x = np.linspace(-5, 5, 60, dtype=np.float32).reshape(3, 20)
right = np.exp(x.astype(float))
np.testing.assert_allclose(lx.softmax(x), right / right.sum(-1, keepdims=True), rtol=1e-6)
"""


def call(*, cwd: Path | None = None, code: str = CALL, **environment: str) -> None:
    told = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    found = subprocess.run(
        [sys.executable, "-c", code], env=told, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert found.returncode == 0, found.stderr


def load() -> object:
    return KernelCache(normalize).load_overload(SIGNATURE, registry.cpu_target.target_context)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of kernels with one file."""
    place = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_CACHE_DIR", str(place))
        compile_kernel(normalize, SIGNATURE)
    return place


@pytest.fixture
def kept(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the kernel, in a folder of its own."""
    shutil.copytree(compiled, tmp_path / "kept")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    (file,) = (tmp_path / "kept" / "logitx").iterdir()
    assert load() is not None
    return file


def damaged(whole: bytes, times: int) -> Iterator[bytes]:
    """Yield files as failing disks, copies that were cut short and editors leave them."""
    draw = random.Random(0)
    yield b""
    yield whole + b"\0"
    yield whole[32:]
    for _ in range(times):
        data, place, size = bytearray(whole), draw.randrange(len(whole)), draw.randrange(1, 5000)
        how = draw.randrange(4)
        if how == 0:
            data[place] ^= 1 << draw.randrange(8)
        elif how == 1:
            data[place : place + size] = bytes(len(data[place : place + size]))
        elif how == 2:
            del data[place:]
        else:
            data[place:place] = draw.randbytes(size)
        if bytes(data) != whole:
            yield bytes(data)


def test_five_hundred_damaged_files_are_missing_ones(kept):
    """Nothing of them is unpickled or given to LLVM: a changed bit of machine code is a wrong softmax, or a crash."""
    whole, tried = kept.read_bytes(), 0
    for data in damaged(whole, 520):
        kept.write_bytes(data)
        assert load() is None
        tried += 1
    assert tried > 500
    kept.write_bytes(whole)
    assert load() is not None


def test_a_file_of_another_kernel_is_a_missing_one(kept):
    other = signature_of(normalize, (None, None, None), Dtypes("float64", "float64", "float64"))
    compile_kernel(normalize, other)
    (file,) = set(kept.parent.iterdir()) - {kept}
    shutil.copy(file, kept)
    assert load() is None


def test_a_damaged_file_is_replaced(kept):
    """Each was loaded again at each start: machine code that returns at once leaves what is in memory as a result."""
    whole = kept.read_bytes()
    place = whole.index(b"\x7fELF") if b"\x7fELF" in whole else len(whole) // 2
    kept.write_bytes(whole[:place] + bytes(1000) + whole[place + 1000 :])
    call(NUMBA_CACHE_DIR=str(kept.parents[1]))
    assert load() is not None
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]  # no draft is left


# -- who may have written there ---------------------------------------------------------------------------------------


def link_of_file(file: Path) -> None:
    file.rename(file.parents[1] / "elsewhere")
    file.symlink_to(file.parents[1] / "elsewhere")


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def give_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, -1)


@needs_modes
@pytest.mark.parametrize(
    "open_up",
    [link_of_file, pipe, give_away, lambda file: file.chmod(0o666), lambda file: file.chmod(0o620)],
    ids=["link", "pipe", "of another", "others write", "a group writes"],
)
def test_a_file_that_others_could_write_is_a_missing_one(kept: Path, open_up: Callable[[Path], None]) -> None:
    open_up(kept)
    assert load() is None
    compile_kernel(normalize, SIGNATURE)
    assert load() is not None


@needs_modes
@pytest.mark.parametrize(
    "open_up",
    [
        lambda file: link_of_file(file.parent),
        lambda file: file.parent.chmod(0o770),
        lambda file: file.parents[1].chmod(0o777),
        lambda file: file.parents[1].chmod(0o775),
        lambda file: give_away(file.parent),
        lambda file: give_away(file.parents[1]),
    ],
    ids=["link", "a group writes", "above, others write", "above, a group writes", "of another", "above, of another"],
)
def test_a_folder_that_others_could_write_to_is_not_used(kept: Path, open_up: Callable[[Path], None]) -> None:
    open_up(kept)
    before = {path: path.lstat().st_mtime_ns for path in kept.parents[1].rglob("*")}
    assert load() is None
    with pytest.raises(OSError, match="open to others|Not a directory|symbolic links"):
        folders.write(kept.parent, kept.name, b"")
    assert {path: path.lstat().st_mtime_ns for path in kept.parents[1].rglob("*")} == before


@needs_modes
def test_a_folder_of_all_users_keeps_what_is_mine(kept):
    """As /tmp does: others can write there, but neither remove nor rename what is mine."""
    kept.parents[1].chmod(0o1777)
    assert load() is not None


@needs_modes
def test_a_link_above_the_folder_is_followed(kept, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(kept.parents[1])
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "link"))
    assert load() is not None


@needs_modes
def test_a_folder_that_is_swapped_after_it_was_opened(kept, tmp_path):
    """What was checked is what is written to."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o777)
    with folders._opened(kept.parent, False) as (folder, prefix):
        kept.parent.rename(tmp_path / "mine")
        kept.parent.symlink_to(theirs)
        os.close(os.open(f"{prefix}new", folders._WRITE, 0o600, dir_fd=folder))
    assert (tmp_path / "mine" / "new").exists()
    assert list(theirs.iterdir()) == []


# -- the working directory --------------------------------------------------------------------------------------------


def test_a_configuration_of_the_working_directory_does_not_move_the_cache(tmp_path):
    """Numba reads one where PyYAML is installed; a folder that came with a download may hold kernels of a stranger."""
    pytest.importorskip("yaml")
    (tmp_path / "theirs").mkdir()
    (tmp_path / ".numba_config.yaml").write_text(f"cache_dir: {tmp_path / 'theirs'}\n", encoding="utf-8")
    call(cwd=tmp_path, NUMBA_CACHE_DIR="", HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "mine"))
    assert list((tmp_path / "theirs").iterdir()) == []


@pytest.mark.parametrize("variable", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME"])
def test_a_path_within_the_working_directory_is_no_place(variable, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.setenv(variable, "here")
    assert all(place.is_absolute() and tmp_path not in place.parents for place in folders.places())


def test_classes_that_locate_caches_are_not_asked(tmp_path):
    """Numba imports those that its settings name."""
    code = f"import numba\nnumba.config.CACHE_LOCATOR_CLASSES = 'nothing.Here'\n{CALL}"
    call(code=code, NUMBA_CACHE_DIR=str(tmp_path))
    assert [path.suffix for path in (tmp_path / "logitx").iterdir()] == [".nbc"]


def test_the_function_is_the_one_that_was_compiled(kept):
    """The tests above would pass if nothing were ever loaded."""
    x, out = np.zeros((2, 3), np.float32), np.empty((2, 3), np.float32)
    kernel = compile_kernel(normalize, SIGNATURE)
    assert kernel((x, None, None, None, out), (1, np.nan), None, None, None, 1, 0) == -1
    np.testing.assert_allclose(out, 1 / 3)
