"""The thread policy: into how many parts a call is cut, how many threads there are, and when they sleep.

Which rows share a block never depends on the parts, so results are the same bits on any number of threads. Workers run
one compiled function (`workers.serve_jobs`): it takes parts of whatever call is open, and returns to sleep when nothing
came for a while. They are threads of the operating system that never run Python: what a server makes of Python's own
(gevent and eventlet run them on the thread of their caller) does not concern them, nor does the end of the main thread.
Numba's own threads are not used on purpose: its workqueue layer aborts the process when two threads enter it, GNU
OpenMP does in a forked child, and a parallel version of a kernel takes longer to compile than the kernel.
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

from logitx._undisturbed import undisturbed
from logitx.backends.numba.compile.policy import native
from logitx.backends.numba.threads import workers
from logitx.backends.numba.threads.quota import quota

SERIAL_BYTES = 1 << 17  # bytes of input below which a second thread gains nothing, even one that is awake
PARTS_PER_THREAD = 4  # a thread that is held up leaves its later parts to the others
PART_BYTES = 1 << 15  # no part is smaller than this

_PYTHON = ctypes.PyDLL(None) if sys.platform != "win32" else ctypes.pythonapi
_PYTHON.PyThread_allocate_lock.restype = ctypes.c_void_p
_PYTHON.PyThread_free_lock.argtypes = (ctypes.c_void_p,)
_PYTHON.PyThread_acquire_lock.argtypes = ctypes.c_void_p, ctypes.c_int
_PYTHON.PyThread_start_new_thread.argtypes = ctypes.c_void_p, ctypes.c_void_p
_PYTHON.PyThread_start_new_thread.restype = ctypes.c_ulong
_NO_THREAD = ctypes.c_ulong(-1).value


def _allowed() -> int:
    """Return how many threads there may be: as many as Numba is told to use, or else OpenMP, or else all that may run.

    Who starts several processes on one machine, as clusters of Dask and batch systems do, limits the threads of each
    through OpenMP; threads of two processes that wait for work on the same cores hold each other up. Numba counts the
    processors of the affinity mask; the quota of a container is counted here.
    """
    most: int = numba.config.NUMBA_NUM_THREADS
    if "NUMBA_NUM_THREADS" in os.environ:
        return most
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, min(most, quota() or most, int(told) if told.isdecimal() else most))


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
        self._started, self._refused = 0, False
        self._lock = threading.Lock()

    def set_limit(self, n: int) -> None:
        """Use at most n threads, the calling one included."""
        self.limit, self._refused = min(n, workers.MOST + 1), False
        self._view[workers.HELPERS] = self.limit - 1

    def muster(self) -> bool:
        """Start the workers that are missing, which sleep until a kernel wakes them; True if there may be parts."""
        if self._started < self.limit - 1 and not self._refused:
            self._start()
        ready: bool = self._view[workers.ASSEMBLE] != 0
        return ready

    def _start(self) -> None:
        """Start workers, unless that is under way: in another thread, or in the one that `__del__` interrupts."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            with undisturbed():
                self._view[workers.ASSEMBLE] = _address_to_assemble()
                while self._started < self.limit - 1 and not self._refused:
                    self._refused = not self._start_one(workers.ASLEEP + workers.WORKER * self._started)
        finally:
            self._lock.release()

    def _start_one(self, own: int) -> bool:
        """Start the worker whose words begin at `own`; False if the system has no thread for it."""
        lock = _PYTHON.PyThread_allocate_lock()
        _PYTHON.PyThread_acquire_lock(lock, 1)
        values = {workers.WORKER_LOCK: lock, workers.AVOIDS: -1, workers.CREW_ADDRESS: self.address}
        for word, value in (values | {workers.INDEX: self._started}).items():
            self._view[own + word - workers.ASLEEP] = value
        if _PYTHON.PyThread_start_new_thread(_address_to_serve(), self.address + 8 * own) == _NO_THREAD:
            _PYTHON.PyThread_free_lock(lock)
            return False
        self._started += 1
        self._view[workers.STARTED] = self._started
        return True


@functools.cache
def _address_to_serve() -> int:
    return native(workers.serve_jobs, (int64,))


@functools.cache
def _address_to_assemble() -> int:
    return native(workers.run_with_workers, (int64,) * 4)


def _address_of(function: Any) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


@functools.cache
def _system_functions() -> dict[int, int]:
    """Return the addresses of what the workers call of Python and of the operating system, by word.

    Workers do without what a system lacks: they do not yield, or stay where the system puts them.
    """
    if sys.platform == "win32":
        library, give_way = ctypes.windll.kernel32, "SwitchToThread"
    else:
        library, give_way = ctypes.CDLL(None), "sched_yield"
    found: dict[int, Any] = {
        workers.ACQUIRE: _PYTHON.PyThread_acquire_lock,
        workers.RELEASE: _PYTHON.PyThread_release_lock,
        workers.YIELD: getattr(library, give_way, None),
    }
    if sys.platform == "linux":
        placing = {name: getattr(library, name, None) for name in _PLACING.values()}
        if None not in placing.values():
            found |= {word: placing[name] for word, name in _PLACING.items()}
            found[workers.WHO] = _PYTHON.PyThread_get_thread_native_id
    return {word: _address_of(function) for word, function in found.items() if function is not None}


# What keeps a worker off the processor of its caller: all of it, or none
_PLACING = {
    workers.WHERE: "sched_getcpu",
    workers.ALLOWED: "sched_getaffinity",
    workers.ALLOW: "sched_setaffinity",
}


CREW = Crew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CREW.start_over)


def set_num_threads(n: int) -> None:
    """Use at most n threads, the calling one included."""
    CREW.set_limit(n)


def parts_for(nbytes: int) -> int:
    """Return into how many parts a call on so many bytes is cut; 1 where it stays on the calling thread."""
    if nbytes < SERIAL_BYTES or CREW.limit < 2 or not CREW.muster():
        return 1
    return max(2, min(CREW.limit * PARTS_PER_THREAD, nbytes // PART_BYTES))
