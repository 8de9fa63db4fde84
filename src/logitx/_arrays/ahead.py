"""Work that a thread does ahead of time, and that is done when it is needed where no thread can be started."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Ahead:
    """The result of a function that is called on a thread of its own.

    No pool: the module of Python's pools cannot be imported, and none takes work, once the main thread has ended.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call, self._found = (function, arguments), None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="logitx-ahead", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system allows no more threads, or Python ends
            self._thread = None

    def _run(self) -> None:
        function, arguments = self._call
        try:
            self._found = function(*arguments)
        except BaseException as error:  # raised where the result is needed
            self._error = error

    def wait(self) -> None:
        """Wait for the thread to end."""
        if self._thread is not None:
            self._thread.join()

    def result(self) -> Any:
        """Return what the function returned, or raise what it raised."""
        if self._thread is None:
            self._run()
        self.wait()
        if self._error is not None:
            raise self._error
        return self._found
