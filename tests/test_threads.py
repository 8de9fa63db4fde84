"""Many threads on every backend, threads of others beside ours, forks and spawns of users, a compilation cut short."""

from __future__ import annotations

import importlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitx as lx

PACKAGE = Path(lx.__file__).parent
NEEDS = {"numba": "numba", "generic": "numpy", "jax": "jax", "torch": "torch"}


def run(code: str, **environment: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout


def arrays(backend: str, x: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
    if backend == "jax":
        import jax.numpy

        return jax.numpy.asarray(x), jax.numpy.asarray(labels)
    if backend == "torch":
        import torch

        return torch.from_numpy(x).requires_grad_(), torch.from_numpy(labels)
    return x, labels


@pytest.mark.parametrize("backend", NEEDS)
def test_sixteen_threads_on_every_backend(backend):
    pytest.importorskip(NEEDS[backend])
    x = np.random.default_rng(0).standard_normal((200, 1000)).astype(np.float32)
    logits, labels = arrays(backend, x, np.arange(200))

    def results() -> list[np.ndarray]:
        with lx.use_backend(backend):
            loss, gradient = lx.cross_entropy_value_and_grad(logits, labels)
            found = [lx.softmax(logits), lx.logsumexp(logits, 0), lx.cross_entropy(logits, labels), loss, gradient]
        return [np.asarray(one.detach() if backend == "torch" else one) for one in found]

    def check(_: int) -> None:
        for one, other in zip(results(), right, strict=True):
            np.testing.assert_array_equal(one, other)

    right = results()
    np.testing.assert_allclose(right[0].sum(-1), 1, rtol=1e-5)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(check, range(32)))


LAYERS = """
import threading
from concurrent.futures import ThreadPoolExecutor
import numba, numpy as np
import logitx as lx

x = np.random.default_rng(0).standard_normal((500, 1000)).astype(np.float32)
right = lx.softmax(x)

def ours(_):
    for _ in range(20):
        assert np.array_equal(lx.softmax(x), right)

with ThreadPoolExecutor(16) as pool:
    list(pool.map(ours, range(16)))
try:
    print(numba.threading_layer())
except ValueError:
    print("not used")

@numba.njit(parallel=True)
def theirs(a):
    total = 0.0
    for i in numba.prange(len(a)):
        total += a[i]
    return total

done = False
def run_theirs():
    while not done:
        assert theirs(np.ones(1000)) == 1000.0

thread = threading.Thread(target=run_theirs)
theirs(np.ones(10))
thread.start()
with ThreadPoolExecutor(8) as pool:
    list(pool.map(ours, range(8)))
done = True
thread.join()
print(numba.threading_layer())
"""


def has_layer(name: str) -> bool:
    module = {"omp": "omppool", "workqueue": "workqueue", "tbb": "tbbpool"}[name]
    try:
        importlib.import_module(f"numba.np.ufunc.{module}")
    except ImportError:
        return False
    return True


@pytest.mark.parametrize(
    "layer", ["workqueue", *(pytest.param(name, marks=pytest.mark.slow) for name in ("omp", "tbb"))]
)
def test_no_threading_layer_of_numba_is_used_or_disturbed(layer):
    if not has_layer(layer):
        pytest.skip(f"this Numba has no layer {layer}")
    assert run(LAYERS, NUMBA_THREADING_LAYER=layer).split("\n")[:2] == ["not used", layer]


# -- processes --------------------------------------------------------------------------------------------------------

POOL = """
import multiprocessing, sys, warnings
import numpy as np
import logitx as lx
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
x = np.random.default_rng(0).standard_normal((400, 2000)).astype(np.float32)
labels = np.arange(400)

def work(seed):
    return lx.cross_entropy(x, labels), lx.softmax(x)[seed]

right = work(0)
with multiprocessing.get_context("fork").Pool(4) as pool:
    for seed, (loss, row) in enumerate(pool.map(work, range(24))):
        assert loss == right[0]
        assert np.array_equal(row, lx.softmax(x)[seed])
assert "jax" not in sys.modules
"""
LOADER = """
import sys, warnings
import torch
import logitx as lx
warnings.simplefilter("ignore", DeprecationWarning)
torch.manual_seed(0)
x = torch.randn(64, 3000)

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return len(x)

    def __getitem__(self, i):
        leaf = x[i].clone().requires_grad_()
        loss = lx.cross_entropy(leaf, torch.tensor(i))
        loss.backward()
        return lx.softmax(x)[i], loss.detach(), leaf.grad

right = lx.softmax(x)
losses = lx.cross_entropy(x, torch.arange(64), reduction="none")
loader = torch.utils.data.DataLoader(Rows(), batch_size=8, num_workers=2, multiprocessing_context="fork")
for _ in range(2):
    p, loss, gradient = (torch.cat(parts) for parts in zip(*loader))
    assert torch.equal(p, right)
    assert torch.equal(loss, losses)
    one_hot = torch.eye(3000)[:64]
    torch.testing.assert_close(gradient, p - one_hot, rtol=1e-5, atol=1e-7)
assert "jax" not in sys.modules
"""
SPAWN = """
import multiprocessing
import numpy as np

def work(seed):
    import jax, logitx as lx
    x = jax.numpy.asarray(np.random.default_rng(seed).standard_normal((50, 300)), "float32")
    return np.asarray(lx.softmax(x)), np.asarray(jax.jit(lx.logsumexp)(x))

if __name__ == "__main__":
    right = [work(seed) for seed in range(4)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for found, expected in zip(pool.map(work, range(4)), right):
            for one, other in zip(found, expected):
                np.testing.assert_array_equal(one, other)
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
def test_a_pool_of_forked_workers_after_use():
    run(POOL)


@needs_fork
def test_workers_of_a_data_loader_of_pytorch():
    pytest.importorskip("torch")
    run(LOADER)


@pytest.mark.slow
def test_spawned_workers_with_jax(tmp_path):
    pytest.importorskip("jax")
    script = tmp_path / "spawning.py"
    script.write_text(SPAWN, encoding="utf-8")
    subprocess.run([sys.executable, script], check=True, timeout=300)


# -- caches -----------------------------------------------------------------------------------------------------------

COMPILE = """
import numpy as np, logitx as lx
x = np.linspace(-5, 5, 60, dtype=np.float64).reshape(3, 20)
print("ready", flush=True)
np.testing.assert_allclose(lx.softmax(x).sum(-1), 1)
np.testing.assert_allclose(lx.logsumexp(x), np.log(np.exp(x).sum(-1)))
"""


def interrupt(cache: Path, seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COMPILE], env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)


def check_whole(cache: Path) -> int:
    """Every file that has its final name is complete; return how many there are."""
    files = list(cache.rglob("*.nbc"))
    for path in files:
        assert pickle.loads(path.read_bytes()[32:])  # what stands there is the digest
    return len(files)


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for one process")
@pytest.mark.parametrize(
    "seconds",
    [(1.0,), pytest.param((0.2, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0), marks=pytest.mark.slow)],
    ids=["once", "often"],
)
def test_ctrl_c_while_compiling_leaves_no_half_of_a_file(tmp_path, seconds):
    for one in seconds:
        interrupt(tmp_path, one)
        check_whole(tmp_path)
    run(COMPILE, NUMBA_CACHE_DIR=str(tmp_path))
    assert check_whole(tmp_path) > 0


UNPRIVILEGED = """
import ctypes, os, sys
if os.getuid() == 0:  # let root obey permissions, as everybody else has to
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-c", {code!r}])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="root is bound by permissions through Linux's capabilities")
def test_a_read_only_home_and_installation(tmp_path):
    site, home = tmp_path / "site", tmp_path / "home"
    shutil.copytree(PACKAGE, site / "logitx", ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    paths = [home, *site.rglob("*"), site]
    before = set(tmp_path.rglob("*"))
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        code = f"import logitx; assert logitx.__file__.startswith({str(site)!r})\n{COMPILE}"
        places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": str(site)}
        environment = {**places, "NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
        run(UNPRIVILEGED.format(code=code), **environment)
        assert set(tmp_path.rglob("*")) == before
    finally:
        for path in paths:
            path.chmod(0o755)


@pytest.mark.parametrize(
    ("told", "limit"),
    [
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "1,4"}, 1),
        ({"OMP_NUM_THREADS": "many"}, 2),
        ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}, 2),
    ],
)
def test_threads_are_as_many_as_the_process_was_told(told, limit):
    """Workers of a cluster share their machine: each is told by OpenMP's variable."""
    pytest.importorskip("numba")
    if (os.cpu_count() or 1) < 2:
        pytest.skip("this machine has one core")
    code = "from logitx.backends.numba.threads.policy import CREW; print(min(CREW.limit, 2))"
    assert int(run(code, **told)) == limit
