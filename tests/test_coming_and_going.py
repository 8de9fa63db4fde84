"""Threads that come and go: green ones, none at all, late ones, handlers of signals, forks and Ctrl-C in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx._arrays.ahead import Ahead
from logitx._undisturbed import undisturbed

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers of a process")
LARGE = """
import os, signal, sys, threading
import numpy.testing, numpy as np, logitx as lx  # a handler of a signal cannot wait for an import of NumPy's
lx.set_num_threads(3)
x = np.linspace(-5, 5, 1 << 19, dtype=np.float32).reshape(512, 1024)
right = np.exp(x.astype(float)) / np.exp(x.astype(float)).sum(-1, keepdims=True)
def check():
    np.testing.assert_allclose(lx.softmax(x), right, rtol=1e-5)
"""


def run(code: str, timeout: float = 200, **environment: str) -> str:
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env={**os.environ, **environment}, capture_output=True,
        text=True, timeout=timeout, check=False,
    )  # fmt: skip
    if "No module named 'gevent'" in found.stderr or "No module named 'eventlet'" in found.stderr:
        pytest.skip("it is not installed")
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize(
    "patch",
    ["from gevent import monkey; monkey.patch_all()", "import eventlet; eventlet.monkey_patch()"],
    ids=["gevent", "eventlet"],
)
def test_green_threads(patch, tmp_path):
    """A worker that runs on the thread of its caller never gives it back."""
    np.save(tmp_path / "logits.npy", np.zeros((600, 1000), np.float32))
    feed = f"""
logits = np.load({str(tmp_path / "logits.npy")!r}, mmap_mode="r")
assert lx.CrossEntropy().feed(logits, np.zeros(600, int), block_bytes=1 << 18).result().count == 600
"""
    run(f"{patch}\n{LARGE}check()\ncheck()\n{feed}")


@pytest.mark.parametrize(
    "refuse",
    [
        "threading.stack_size(1 << 47)",  # more than there are addresses
        'def refuse(*_): raise RuntimeError("can\'t start new thread")\nthreading.Thread.start = refuse',
    ],
    ids=["of the system", "of Python"],
)
def test_where_no_thread_can_be_started(refuse, tmp_path):
    """A limit of a container, no memory for a stack: those that there are do the work."""
    if sys.maxsize < 1 << 32:
        pytest.skip("an address of this system is shorter")
    np.save(tmp_path / "logits.npy", np.zeros((600, 1000), np.float32))
    code = f"""{LARGE}
{refuse}
check()
check()
logits = np.load({str(tmp_path / "logits.npy")!r}, mmap_mode="r")
assert lx.CrossEntropy().feed(logits, np.zeros(600, int), block_bytes=1 << 18).result().count == 600
class Sliced:
    shape, dtype = logits.shape, logits.dtype
    def __getitem__(self, piece):
        return np.array(logits[piece])
assert lx.CrossEntropy().feed(Sliced(), np.zeros(600, int), block_bytes=1 << 18).result().count == 600
"""
    run(code)


def test_threads_are_tried_again_after_set_num_threads():
    code = f"""{LARGE}
from logitx.backends.numba.threads.policy import CREW
size = threading.stack_size(1 << 47)
check()
assert CREW._started == 0
threading.stack_size(size)
check()
assert CREW._started == 0
lx.set_num_threads(3)
check()
assert CREW._started == 2
"""
    run(code)


def test_a_thread_that_outlives_the_main_one(tmp_path):
    """A logger, a server that drains: its first call imports the backend, and starts the workers."""
    np.save(tmp_path / "logits.npy", np.zeros((600, 1000), np.float32))
    code = f"""{LARGE}
def late():
    threading.main_thread().join()
    try:
        check()
        logits = np.load({str(tmp_path / "logits.npy")!r}, mmap_mode="r")
        feed = lx.CrossEntropy().feed(logits, np.zeros(600, int), block_bytes=1 << 18)
        assert feed.result().count == 600
        from logitx._arrays import memory_maps
        assert sum(len(logits[piece]) for piece in memory_maps.in_turn([slice(0, 300), slice(300, 600)], logits)) == 600
        print("done", flush=True)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
threading.Thread(target=late).start()
"""
    assert run(code).strip() == "done"


# -- what interrupts --------------------------------------------------------------------------------------------------

HANDLER = """
called = 0
def handle(*_):
    global called
    called += 1
    check()
    signal.setitimer(signal.ITIMER_REAL, 0.03)  # not before it is done
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.01)
"""


@needs_timers
def test_a_handler_of_a_signal_that_computes():
    """While the backend is imported, a kernel is compiled, and the workers start: it had to wait for itself."""
    code = f"""{LARGE}{HANDLER}
for _ in range(20):
    check()
    lx.logsumexp(x, 0)
    lx.set_num_threads(1 + _ % 5)
signal.setitimer(signal.ITIMER_REAL, 0)
assert called
"""
    run(code)


def test_what_python_deletes_computes_while_workers_start():
    code = f"""{LARGE}
from logitx.backends.numba.threads.policy import CREW
class Deleted:
    def __del__(self):
        check()
        print("computed")
start = CREW._start_one
def start_one(own):
    Deleted()
    return start(own)
CREW._start_one = start_one
check()
"""
    assert run(code).split() == ["computed"] * 2


class Interrupted(Exception):
    pass


def test_signals_wait_for_the_end():
    seen: list[Any] = []

    def handle(*event: Any) -> None:
        seen.append(event)
        raise Interrupted

    def work() -> None:
        with undisturbed(), undisturbed():
            signal.raise_signal(signal.SIGINT)
            seen.append("the end")

    before = signal.signal(signal.SIGINT, handle)
    try:
        with pytest.raises(Interrupted):
            work()
        assert seen[0] == "the end"
        assert len(seen) == 2
        assert signal.getsignal(signal.SIGINT) is handle
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@needs_timers
@pytest.mark.parametrize(
    "seconds",
    [(0.15, 0.6, 1.5), pytest.param(np.linspace(0.01, 4.0, 60), marks=pytest.mark.slow)],
    ids=["few", "many"],
)
def test_after_ctrl_c_in_a_first_call_the_next_one_works(seconds, tmp_path):
    """In a third of tries Numba was left half imported, and every later call of the process failed."""
    code = f"""{LARGE}
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
try:
    check()
    lx.logsumexp(x[:, :9])
except KeyboardInterrupt:
    print("interrupted")
signal.setitimer(signal.ITIMER_REAL, 0)
check()
lx.logsumexp(x[:, :9])
"""
    for index, one in enumerate(seconds):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / str(index))}
        found = subprocess.run(
            [sys.executable, "-c", code, str(one)], env=environment, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, (one, found.stderr)


@needs_fork
@pytest.mark.parametrize("seconds", [0.1, 1.5])
def test_a_fork_while_another_thread_imports_or_compiles(seconds, tmp_path):
    """The lock of what is compiled was held, in the child, by a thread that is not there."""
    code = f"""
import os, signal, threading, time
import numpy as np, logitx as lx
x = np.ones((30, 10), np.float32)
thread = threading.Thread(target=lambda: [lx.softmax(x.astype(name)) for name in ("f4", "f8")])
thread.start()
time.sleep({seconds})
child = os.fork()
if child == 0:
    signal.alarm(100)
    os._exit(lx.logsumexp(x).shape != (30,))
assert os.waitpid(child, 0)[1] == 0
thread.join()
lx.softmax(x)
"""
    run(code, NUMBA_CACHE_DIR=str(tmp_path))


# -- settings of others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers_flush", [False, True])
def test_all_threads_treat_subnormal_numbers_as_the_caller_does(workers_flush):
    """Workers had the mode that they were started with: results depended on which thread computed a row."""
    pytest.importorskip("torch")
    code = f"""
import numpy as np, logitx as lx, torch
x = np.zeros((65536, 257), np.float32)
x[:, 1:] = -100.0  # probabilities of 3.7e-44
lx.set_num_threads(3)
torch.set_flush_denormal({workers_flush})
lx.softmax(x)
torch.set_flush_denormal({not workers_flush})
seen = {{int((lx.softmax(x).view(np.int32)[:, 1] == 0).sum()) for _ in range(10)}}
torch.set_flush_denormal(False)
assert seen == {{0 if {workers_flush} else 65536}}, seen
"""
    run(code)


def test_where_numba_is_told_not_to_compile():
    """For coverage or a debugger: that is about functions which Python can run as well."""
    run(f"{LARGE}check()\nimport numba\nassert numba.njit(check) is check", NUMBA_DISABLE_JIT="1")


# -- ahead ------------------------------------------------------------------------------------------------------------


def test_work_ahead_gives_its_result_or_its_error(monkeypatch):
    def work(number: int) -> Any:
        if number < 0:
            raise Interrupted
        return number, threading.current_thread().name

    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    assert Ahead(work, 3).result() == (3, "logitx-ahead")
    with pytest.raises(Interrupted):
        Ahead(work, -1).result()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Ahead(work, 3).result() == (3, threading.current_thread().name)
    with pytest.raises(Interrupted):
        Ahead(work, -1).result()


# -- one accumulator --------------------------------------------------------------------------------------------------


def test_one_accumulator_fed_by_eight_threads(tmp_path: Path) -> None:
    """Every sum is read, added to and written: a thread that comes between loses rows."""
    x, labels = np.zeros((3, 4), np.float32), np.zeros(3, int)
    total, other, times = lx.CrossEntropy(), lx.CrossEntropy().update(x, labels), 400

    def add() -> None:
        for index in range(times):
            if index % 10:
                total.update(x, labels)
            else:
                total.merge(other)
            assert total.result().count % 3 == 0

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=add) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    found = total.result()
    assert found.count == 3 * times * 8
    assert found.loss == pytest.approx(np.log(4), rel=1e-7)
