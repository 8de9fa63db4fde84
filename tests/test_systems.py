"""What docs/systems.md says of calls of the operating system: each is taken away, and everything is computed."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent

# Threads, a memory map in blocks, the cache of kernels: in a process that lacks something
CALLS = """
import importlib
import numpy as np
import logitx as lx
lx.set_num_threads(2)
x = np.random.default_rng(0).standard_normal((400, 500)).astype(np.float32)
with lx.use_backend("generic"):
    expected = lx.softmax(x)
for _ in range(20):
    np.testing.assert_allclose(lx.softmax(x), expected, rtol=1e-5)
path = FOLDER + "/x"
mapped = np.memmap(path, np.float32, "w+", shape=x.shape)
mapped[:] = x
importlib.import_module("logitx.backends.memory_maps").LARGE_CALL = 0
assert lx.which("logsumexp", mapped).backend == "memory_maps"
np.testing.assert_allclose(lx.logsumexp(mapped), lx.logsumexp(x), rtol=1e-6)
print(lx.which("softmax", x).backend)
"""
# `ctypes` finds no function of this name in the C library
NO_FUNCTION = """
import ctypes
class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name in {names!r}:
            raise AttributeError(name)
        return super().__getattr__(name)
ctypes.CDLL = Library
"""
NO_ATTRIBUTE = """
import os, numpy, numba, numba.core.codegen
for name in {names!r}:
    if hasattr(os, name):
        delattr(os, name)
"""
LACKS = {
    "yield": NO_FUNCTION.format(names=("sched_yield",)),
    "affinity": NO_FUNCTION.format(names=("sched_getcpu",)),
    "affinity to set": NO_FUNCTION.format(names=("sched_setaffinity",)),
    "advice": NO_FUNCTION.format(names=("madvise",)),
    "forks": NO_ATTRIBUTE.format(names=("register_at_fork",)),
    "owners": NO_ATTRIBUTE.format(names=("geteuid", "getuid")),
    "flags of open": NO_ATTRIBUTE.format(names=("O_PATH", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK")),
    "descriptors of folders": "import os\nos.supports_dir_fd.clear()\n",
}


def run(code: str, folder: Path) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache")}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


OF_THE_CACHE = ("owners", "flags of open", "descriptors of folders")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Return one folder for the processes that need not fill a cache of their own."""
    return tmp_path_factory.mktemp("shared")


@pytest.mark.parametrize("what", LACKS)
def test_a_system_that_lacks_something(what, tmp_path, shared):
    pytest.importorskip("numba", reason="numba is not installed")
    folder = tmp_path if what in OF_THE_CACHE else shared
    assert run(LACKS[what] + f"FOLDER = {str(folder)!r}\n" + CALLS, folder) == "numba"
    assert list((folder / "cache").rglob("*.nbc")), "kernels are kept there too"


def test_pip_asks_for_numba_only_where_it_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (numba,) = (one for one in map(Requirement, project["dependencies"]) if one.name == "numba")
    here = {"sys_platform": "linux", "implementation_name": "cpython"}
    assert all(numba.marker.evaluate(here | {"sys_platform": one}) for one in ("linux", "darwin", "win32"))
    for other in ({"sys_platform": "emscripten"}, {"sys_platform": "wasi"}, {"implementation_name": "pypy"}):
        assert not numba.marker.evaluate(here | other)
