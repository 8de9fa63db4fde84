"""The thread policy: into how many parts a call is cut, how many threads there are, and when they sleep.

Which rows share a block never depends on the parts, so results are the same bits on any number of threads. Workers are
Python threads that run one compiled function without the GIL (`_crew.serve`): it takes parts of whatever call is open,
and returns to sleep when nothing came for a while. Numba's own threads are not used on purpose: its workqueue layer
aborts the process when two threads enter it, GNU OpenMP does in a forked child, and a parallel version of a kernel
takes longer to compile than the kernel.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from queue import SimpleQueue
from typing import Any

import numba
import numpy as np
from numba.core.types import int64

from logitx.backends.numba import _crew
from logitx.backends.numba._compile import Function, kernel, native

SERIAL = 1 << 17  # bytes of input below which a second thread gains nothing, even one that is awake
PARTS_PER_THREAD = 4  # a thread that is held up leaves its later parts to the others
PART_BYTES = 1 << 16  # no part is smaller than this
TURNS = (
    10_000  # of waiting before a worker sleeps: 0.28 ms where it was measured, after which waking it costs some 50 us
)


class Crew:
    """The workers of this process; a forked child starts with none."""

    def __init__(self) -> None:
        """Start with no worker."""
        self.limit: int = numba.config.NUMBA_NUM_THREADS
        self.start_over()

    def start_over(self) -> None:
        """Forget the workers: in a forked child the threads of the parent do not exist."""
        self._words = np.zeros(_crew.WORDS, np.int64)
        self._view = self._words.data
        self._view[_crew.HELPERS] = self.limit - 1
        self._view[_crew.YIELD] = _offer_processor()
        self.address = int(self._words.ctypes.data)
        self._sleepers: SimpleQueue[None] = SimpleQueue()  # an item wakes one
        self._started = 0
        self._lock = threading.Lock()

    def set_limit(self, n: int) -> None:
        """Use at most n threads, the calling one included."""
        self.limit = n
        self._view[_crew.HELPERS] = n - 1

    def rouse(self) -> None:
        """Wake the workers that sleep; nobody waits for them."""
        if self._view[_crew.ASSEMBLE] == 0:
            self._view[_crew.ASSEMBLE] = _assemble()
        missing = self.limit - 1 - self._view[_crew.AWAKE]
        if missing > 0:
            if self._started < self.limit - 1:
                self._start()
            for _ in range(missing):
                self._sleepers.put(None)

    def _start(self) -> None:
        with self._lock:
            while self._started < self.limit - 1:
                arguments = (_serve(), self._sleepers, self.address, self._started)
                threading.Thread(target=_work, args=arguments, name="logitx", daemon=True).start()
                self._started += 1


def _work(serve: Function, sleepers: SimpleQueue[None], address: int, index: int) -> None:
    while True:
        sleepers.get()
        serve(address, index, TURNS)


@functools.cache
def _serve() -> Function:
    return kernel(_crew.serve, (int64, int64, int64))


@functools.cache
def _assemble() -> int:
    return native(_crew.assemble, (int64,) * 4)


@functools.cache
def _offer_processor() -> int:
    """Return the address of the system's function that lets other threads run."""
    function: Any
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


CREW = Crew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CREW.start_over)


def set_num_threads(n: int) -> None:
    """Use at most n threads, the calling one included."""
    CREW.set_limit(n)


def parts_for(nbytes: int) -> int:
    """Return into how many parts a call on so many bytes is cut; 1 where it stays on the calling thread."""
    if nbytes < SERIAL or CREW.limit < 2:
        return 1
    CREW.rouse()
    return max(2, min(CREW.limit * PARTS_PER_THREAD, nbytes // PART_BYTES))
