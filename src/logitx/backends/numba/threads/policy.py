"""The thread policy: into how many parts a call is cut, how many threads there are, and when they sleep.

Which rows share a block never depends on the parts, so results are the same bits on any number of threads. Workers are
Python threads that run one compiled function without the GIL (`workers.serve_jobs`): it takes parts of whatever call is
open, and returns to sleep when nothing came for a while. Numba's own threads are not used on purpose: its workqueue
layer aborts the process when two threads enter it, GNU OpenMP does in a forked child, and a parallel version of a
kernel takes longer to compile than the kernel.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from typing import Any

import numba
import numpy as np
from numba.core.types import int64

from logitx.backends.numba.compile.policy import compile_kernel, native
from logitx.backends.numba.compile.static import Function
from logitx.backends.numba.threads import workers

SERIAL_BYTES = 1 << 17  # bytes of input below which a second thread gains nothing, even one that is awake
PARTS_PER_THREAD = 4  # a thread that is held up leaves its later parts to the others
PART_BYTES = 1 << 15  # no part is smaller than this
TURNS = 10_000  # of waiting before a worker sleeps: 0.28 ms where it was measured; waking it takes some 40 us


_PYTHON = ctypes.PyDLL(None) if sys.platform != "win32" else ctypes.pythonapi
_PYTHON.PyThread_allocate_lock.restype = ctypes.c_void_p
_PYTHON.PyThread_acquire_lock.argtypes = ctypes.c_void_p, ctypes.c_int


def _allowed() -> int:
    """Return how many threads there may be: as many as Numba is told to use, or else OpenMP, or else all cores.

    Who starts several processes on one machine, as clusters of Dask and batch systems do, limits the threads of each
    through OpenMP; threads of two processes that wait for work on the same cores hold each other up.
    """
    most: int = numba.config.NUMBA_NUM_THREADS
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if "NUMBA_NUM_THREADS" in os.environ or not told.isdecimal():
        return most
    return max(1, min(int(told), most))


class Crew:
    """The workers of this process; a forked child starts with none."""

    def __init__(self) -> None:
        """Start with no worker."""
        self.limit: int = min(_allowed(), workers.MOST + 1)
        self.start_over()

    def start_over(self) -> None:
        """Forget the workers: in a forked child the threads of the parent do not exist."""
        words = np.zeros(workers.CREW_WORDS, np.int64)
        _PYTHON.Py_IncRef(ctypes.py_object(words))  # workers look at the words until the process ends: never freed
        self._view = words.data
        self._view[workers.HELPERS] = self.limit - 1
        for word, address in _system_functions().items():
            self._view[word] = address
        self.address = int(words.ctypes.data)
        self._started = 0
        self._lock = threading.Lock()

    def set_limit(self, n: int) -> None:
        """Use at most n threads, the calling one included."""
        self.limit = min(n, workers.MOST + 1)
        self._view[workers.HELPERS] = self.limit - 1

    def muster(self) -> None:
        """Start the workers that are missing; they sleep until a kernel wakes them."""
        if self._started < self.limit - 1:
            self._start()

    def _start(self) -> None:
        with self._lock:
            self._view[workers.ASSEMBLE] = _address_to_assemble()
            while self._started < self.limit - 1:
                lock = _PYTHON.PyThread_allocate_lock()
                _PYTHON.PyThread_acquire_lock(lock, 1)
                self._view[workers.WORKER_LOCK + workers.WORKER * self._started] = lock
                self._view[workers.AVOIDS + workers.WORKER * self._started] = -1
                arguments = (_compiled_serve(), self._view, self.address, self._started)
                threading.Thread(target=_work, args=arguments, name="logitx", daemon=True).start()
                self._started += 1
                self._view[workers.STARTED] = self._started


def _work(serve: Function, words: memoryview, address: int, index: int) -> None:
    words[workers.THREAD + workers.WORKER * index] = threading.get_native_id()
    serve(address, index, TURNS)


@functools.cache
def _compiled_serve() -> Function:
    return compile_kernel(workers.serve_jobs, (int64, int64, int64))


@functools.cache
def _address_to_assemble() -> int:
    return native(workers.run_with_workers, (int64,) * 4)


def _address_of(function: Any) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


@functools.cache
def _system_functions() -> dict[int, int]:
    """Return the addresses of what the workers call of Python and of the operating system, by word."""
    functions = {workers.ACQUIRE: _PYTHON.PyThread_acquire_lock, workers.RELEASE: _PYTHON.PyThread_release_lock}
    if sys.platform == "win32":
        functions[workers.YIELD] = ctypes.windll.kernel32.SwitchToThread
    else:
        library = ctypes.CDLL(None)
        functions[workers.YIELD] = library.sched_yield
        if sys.platform == "linux":
            functions[workers.WHERE] = library.sched_getcpu
            functions[workers.ALLOWED], functions[workers.ALLOW] = library.sched_getaffinity, library.sched_setaffinity
    return {word: _address_of(function) for word, function in functions.items()}


CREW = Crew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CREW.start_over)


def set_num_threads(n: int) -> None:
    """Use at most n threads, the calling one included."""
    CREW.set_limit(n)


def parts_for(nbytes: int) -> int:
    """Return into how many parts a call on so many bytes is cut; 1 where it stays on the calling thread."""
    if nbytes < SERIAL_BYTES or CREW.limit < 2:
        return 1
    CREW.muster()
    return max(2, min(CREW.limit * PARTS_PER_THREAD, nbytes // PART_BYTES))
