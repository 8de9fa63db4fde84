"""Machine code on disk: keyed by all sources of the kernels, private to the user."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import stat
from pathlib import Path
from typing import Any

from numba.core import caching

from logitx.backends.numba.compile.static import Function


class _Cache(caching.FunctionCache):
    """Numba's cache on disk, keyed by all of our sources, private to the user, never a reason to fail."""

    def __init__(self, function: Function) -> None:
        """Keep files in a folder of our own within the directory that Numba chooses; OSError without one."""
        super().__init__(function)
        directory: str = self._impl.locator.get_cache_path()
        self._cache_path = _private(directory)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        key = (*super()._index_key(sig, codegen), sources())
        # Files of its own for every key. Numba's are numbered: two processes that compile two kernels at once take the
        # same number, and one that reads between the two writes of another gets machine code of older sources.
        name = f"{self._impl.filename_base}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = caching.IndexDataCacheFile(self._cache_path, name, stamp)
        return key

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a file cut short or from another world is only a miss
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # a full disk or a directory that became read-only costs speed, not the call
            self.disable()


def _private(directory: str) -> str:
    """Return a folder that nobody else can write to: what is in it will run, and its index is unpickled by Numba."""
    folder = os.path.join(directory, "logitx")  # noqa: PTH118  as Numba has it
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)  # noqa: PTH102
    found = os.lstat(folder)  # not what a link leads to
    mine = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    if not (stat.S_ISDIR(found.st_mode) and mine):
        raise OSError(f"{folder} is open to others")
    return folder


@functools.cache
def sources() -> str:
    """Hash what the machine code depends on besides the function, its types and the processor."""
    digest = hashlib.sha256(importlib.metadata.version("llvmlite").encode())
    backends = Path(__file__).parents[2]
    for path in sorted(one for folder in ("numba", "xla") for one in (backends / folder).rglob("*.py")):
        digest.update(path.relative_to(backends).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
