"""Threads and processes: many callers at once, forked children, one cache for all."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import logitx as lx

CALL = """
import numpy as np
import logitx as lx
x = np.linspace(-5, 5, 6000, dtype=np.float32).reshape(3, 2000)
np.testing.assert_allclose({call}, rtol=1e-5)
"""
CALLS = (
    "lx.softmax(x).sum(-1), 1",
    "lx.log_softmax(x[:, :9]).max(), np.log(np.exp(x[0, :9] - x[0, 8]).sum()) * -1",
    "lx.logsumexp(x.astype(np.float64)), np.log(np.exp(x.astype(np.float64)).sum(-1))",
    "lx.cross_entropy(x, np.array([1, 2, 3])), -lx.log_softmax(x)[[0, 1, 2], [1, 2, 3]].mean()",
)


def start(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )


def end(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


# Two kernels show what four do; compiling all of them in two processes each takes half a minute
@pytest.mark.parametrize(
    "calls", [(CALLS[0], CALLS[2]), pytest.param(CALLS, marks=pytest.mark.slow)], ids=["two", "all"]
)
def test_processes_that_compile_into_one_empty_cache(tmp_path, calls):
    running = [start(CALL.format(call=call), NUMBA_CACHE_DIR=str(tmp_path)) for call in calls * 2]
    for process in running:
        end(process)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert written
    for call in calls:
        end(start(CALL.format(call=call), NUMBA_CACHE_DIR=str(tmp_path)))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == written  # nobody compiled again


def test_a_damaged_cache_is_a_missing_one(tmp_path):
    code = CALL.format(call=CALLS[0])
    end(start(code, NUMBA_CACHE_DIR=str(tmp_path)))
    for path in tmp_path.rglob("*.nbc"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    end(start(code, NUMBA_CACHE_DIR=str(tmp_path)))


def test_no_directory_for_a_cache(tmp_path):
    nowhere = tmp_path / "a file"
    nowhere.touch()
    end(start(CALL.format(call=CALLS[0]), NUMBA_CACHE_DIR=str(nowhere / "below")))


def test_many_threads_at_once():
    x = np.random.default_rng(0).standard_normal((300, 1000)).astype(np.float32)
    labels = np.arange(300)
    right = lx.softmax(x), lx.cross_entropy_value_and_grad(x, labels)

    def call(_: int) -> None:
        np.testing.assert_array_equal(lx.softmax(x), right[0])
        loss, gradient = lx.cross_entropy_value_and_grad(x, labels)
        assert loss == right[1][0]
        np.testing.assert_array_equal(gradient, right[1][1])

    before = os.cpu_count() or 1
    lx.set_num_threads(4)
    try:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(call, range(200)))
    finally:
        lx.set_num_threads(before)


FORK = """
import os, warnings
import numpy as np
import logitx as lx
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
lx.set_num_threads(3)
x = np.random.default_rng(0).standard_normal((500, 2000)).astype(np.float32)
right = lx.softmax(x)
for _ in range(4):
    child = os.fork()
    if child == 0:
        for _ in range(20):
            if not np.array_equal(lx.softmax(x), right):
                os._exit(1)
        os._exit(0)
    for _ in range(20):
        assert np.array_equal(lx.softmax(x), right)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_children_have_threads_of_their_own():
    end(start(FORK))


WHERE = """
import os, threading, time
import numpy as np
import logitx as lx
from logitx.backends.numba.threads.policy import CREW
from logitx.backends.numba.threads.workers import THREAD, WORKER
allowed = sorted(os.sched_getaffinity(0))[:{processors}]
os.sched_setaffinity(0, allowed)
lx.set_num_threads(4)
x = np.linspace(-5, 5, 1 << 20, dtype=np.float32).reshape(1024, 1024)
right = lx.softmax(x)
for _ in range(20):
    time.sleep(0.002)  # long enough for the workers to fall asleep
    np.testing.assert_array_equal(lx.softmax(x), right)
assert os.sched_getaffinity(0) == set(allowed)
workers = [CREW._view[THREAD + WORKER * index] for index in range(CREW._started)]
assert len(workers) == 3
for worker in workers:
    assert os.sched_getaffinity(worker) <= set(allowed), worker
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux are workers kept off the processor of their caller")
@pytest.mark.parametrize("processors", [1, 2])
def test_workers_stay_where_their_caller_may_run(processors):
    end(start(WHERE.format(processors=processors)))


def test_processes_at_the_same_time_do_not_wait_for_each_other():
    code = "import numpy as np, logitx as lx\nx = np.ones((400, 1000), np.float32)\nfor _ in range(300): lx.softmax(x)"
    for process in [start(code) for _ in range(4)]:
        end(process)


MEMORY = """
import gc
import numpy as np
import logitx as lx
from logitx.testing.examples import Inputs, flat
from logitx.testing.ops import uses
ROWS, CLASSES, FEW = 2048, 4096, 8
drawn = Inputs.draw(FEW, CLASSES)
drawn = [one.astype(np.float32) if one.dtype.kind == "f" else one for one in drawn]

def inputs(times):
    "Rows that repeat: nothing is ever as large as the logits but the arrays themselves."
    return Inputs(*(np.concatenate([one] * times) if one.shape[:1] == (FEW,) else one for one in drawn))

def of_process(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))

def call(use, given):
    args, options = use.example.call(given)
    return tuple(flat(getattr(lx, use.op.name)(*args, **options)))

chosen = [use for use in uses("memory") if "axis" not in use.example.call(Inputs.draw(2, 2))[1]]
few, many = inputs(1), inputs(ROWS // FEW)
for use in chosen:
    call(use, few), call(use, inputs(40))  # compiled, and with its memory of threads
for use in chosen:
    gc.collect()
    given, _ = use.example.call(many)  # what is made for a call is no part of it
    before = of_process("VmRSS:")
    open("/proc/self/clear_refs", "w").write("5")  # the peak from here on
    results = tuple(flat(getattr(lx, use.op.name)(*given, **use.example.call(many)[1])))
    found = of_process("VmHWM:") - before - sum(one.nbytes for one in results)
    print(use.id, found, sep=": ")
    del results, given
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of the memory of a process is reset as Linux has it")
def test_no_call_takes_memory_of_the_size_of_the_logits():
    """Beside its results: 32 MiB is what logits take here."""
    report = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    taken = {name: int(size) for name, size in (line.rsplit(": ", 1) for line in report.splitlines())}
    assert taken
    assert {name: size for name, size in taken.items() if size > 16 << 20} == {}


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system keeps no modes of folders")
def test_the_cache_is_private(tmp_path):
    code = f"import os; os.umask(0)\n{CALL.format(call=CALLS[2])}"
    end(start(code, NUMBA_CACHE_DIR=str(tmp_path)))
    folders = {path.parent for path in tmp_path.rglob("*.nbc")}
    assert {(path.name, path.stat().st_mode & 0o777) for path in folders} == {("logitx", 0o700)}
    for folder in folders:
        folder.chmod(0o777)  # now anybody could have put something there
        for path in folder.iterdir():
            path.write_bytes(b"not even a pickle")
    before = {path: path.read_bytes() for folder in folders for path in folder.iterdir()}
    end(start(code, NUMBA_CACHE_DIR=str(tmp_path)))
    assert {path: path.read_bytes() for folder in folders for path in folder.iterdir()} == before


BLAS = """
import sys
import numpy as np, numba
import logitx as lx
lx.softmax(np.zeros(3))
assert not any(name.startswith("scipy.linalg") for name in sys.modules), "SciPy was imported"
x = np.arange(12.0).reshape(3, 4)
for function in (lambda a: a @ a.T, lambda a: np.corrcoef(a), lambda a: np.linalg.svd(a)[1]):
    np.testing.assert_allclose(numba.njit(function)(x), function(x), atol=1e-12)
"""


def test_a_first_call_imports_no_scipy_and_functions_of_the_user_do():
    pytest.importorskip("numba", reason="numba is not installed")
    pytest.importorskip("scipy", reason="scipy is not installed")
    end(start(BLAS))


def test_without_scipy_numba_says_that_there_is_no_blas():
    pytest.importorskip("numba", reason="numba is not installed")
    hidden = "import importlib.util, sys; sys.modules['scipy'] = None; find = importlib.util.find_spec\n"
    hidden += "importlib.util.find_spec = lambda name, *others: None if name == 'scipy' else find(name, *others)\n"
    call = "import logitx as lx, numpy as np; lx.softmax(np.zeros(3)); import numba.np.arraymath as a\n"
    end(start(hidden + call + "assert a._HAVE_BLAS is False and a.ensure_blas.__module__ == 'numba.np.linalg'"))
