"""What has to be done as a whole: the first import of a backend, each compilation, the start of workers.

An exception of a signal handler, as of Ctrl-C, leaves Numba half imported or its tables half filled: in a third of
tries no later call worked. A fork in the middle leaves a child whose locks are held by a thread that is not there.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

_LOCK = threading.RLock()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Keep signal handlers and forks of other threads waiting."""
    _watch_forks()
    with _LOCK, _signals_held():
        yield


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Run the handlers of signals that come meanwhile at the end; they run in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {int(number): signal.getsignal(number) for number in signal.valid_signals()}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    held: dict[int, Any] = {}  # one of each, as the system keeps signals that wait
    try:
        with contextlib.ExitStack() as restored:
            for number, handler in handlers.items():
                restored.callback(signal.signal, number, handler)
                signal.signal(number, held.__setitem__)
            yield
    finally:
        for number, frame in held.items():
            handlers[number](number, frame)


_taken: list[Any] = []  # locks that a fork has taken, for as long as it takes


def _take_locks() -> None:
    numba = sys.modules.get("numba.core.compiler_lock")  # which a function of the user may be compiled under
    for lock in (_LOCK, getattr(numba, "global_compiler_lock", None)):
        if lock is not None:
            lock.acquire()
            _taken.append(lock)


def _give_locks_back() -> None:
    while _taken:
        _taken.pop().release()


@functools.cache
def _watch_forks() -> None:
    """Make forks take the locks: before that of logging, which what is imported may need while a fork waits."""
    importlib.import_module("logging")  # the locks that are registered last are taken first
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_take_locks, after_in_parent=_give_locks_back, after_in_child=_give_locks_back)
