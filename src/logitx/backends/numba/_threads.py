"""The thread policy: when a call is cut into parts, how many, and who runs them.

A kernel runs without the GIL and takes (part, parts) as its last arguments; which rows share a block never depends on
the parts, so results are the same bits on any number of threads. Parts are run by the calling thread and by a few
Python threads that wait on a queue. Numba's own threads are not used on purpose: its workqueue layer aborts the process
when two threads enter it, GNU OpenMP does in a forked child, and a parallel version of a kernel takes longer to compile
than the kernel. Waking a waiting thread costs some 50 us instead, so calls below `SERIAL` bytes run where they are.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numba

SERIAL = 1 << 20  # bytes of input, computed in some 100 us, below which a second thread gains nothing
PARTS_PER_THREAD = 4  # a thread that is held up leaves its later parts to the others
PART_BYTES = 1 << 19  # no part is smaller than this


class _Job:
    """One call, cut into parts that threads draw."""

    def __init__(self, kernel: Callable[..., Any], arguments: tuple[Any, ...], parts: int) -> None:
        self.kernel, self.arguments, self.parts = kernel, arguments, parts
        self.next, self.finished = itertools.count(), itertools.count(1)  # `next` on a count is atomic
        self.failure: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def work(self) -> None:
        """Run parts until none is left; whoever finishes the last one says so."""
        for part in self.next:
            if part >= self.parts:
                return
            try:
                self.kernel(*self.arguments, part, self.parts)
            except BaseException as failure:  # raised again by the caller
                self.failure = failure
            if next(self.finished) == self.parts:
                self.done.release()


class _Pool:
    """Threads of this process that wait for jobs; a forked child starts with none."""

    def __init__(self) -> None:
        self.limit: int = numba.config.NUMBA_NUM_THREADS
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Start over in a forked child, where the threads of the parent do not exist."""
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        self.started = 0
        self.lock = threading.Lock()

    def call(self, job: _Job, helpers: int) -> None:
        """Offer a job to helpers and work on it until it is done."""
        if self.started < helpers:
            with self.lock:
                while self.started < helpers:
                    threading.Thread(target=self._serve, args=(self.jobs,), name="logitx", daemon=True).start()
                    self.started += 1
        for _ in range(helpers):
            self.jobs.put(job)
        job.work()
        job.done.acquire()
        if job.failure is not None:
            raise job.failure

    @staticmethod
    def _serve(jobs: SimpleQueue[_Job]) -> None:
        while True:
            jobs.get().work()


_POOL = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.forget)


def set_num_threads(n: int) -> None:
    """Use at most n threads, the calling one included."""
    _POOL.limit = n


def parts_for(nbytes: int) -> int:
    """Return into how many parts a call on so many bytes is cut; 1 where it stays on the calling thread."""
    if nbytes < SERIAL or _POOL.limit < 2:
        return 1
    return max(2, min(_POOL.limit * PARTS_PER_THREAD, nbytes // PART_BYTES))


def run(kernel: Callable[..., Any], arguments: tuple[Any, ...], parts: int) -> None:
    """Run every part of a call."""
    if parts == 1:
        kernel(*arguments, 0, 1)
    else:
        _POOL.call(_Job(kernel, arguments, parts), min(_POOL.limit, parts) - 1)
