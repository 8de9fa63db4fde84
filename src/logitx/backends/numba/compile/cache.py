"""Machine code on disk: keyed by all sources of the kernels, private to the user, never a reason to fail."""

from __future__ import annotations

import functools
import hashlib
import pickle
import sys
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from logitx.backends.numba.compile import folders
from logitx.backends.numba.compile.static import Function

_DIGEST = hashlib.sha256().digest_size


class KernelCache:
    """The cache of one function, with the methods that Numba calls.

    There is one file for each key: a digest, then what was pickled. Numba's own files have no digest, and are unpickled
    and given to LLVM as they are: of 200 that were damaged 12 ended the process, and one computed a wrong softmax.
    """

    def __init__(self, function: Function) -> None:
        """Take the function that is compiled."""
        self._function = function

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the machine code for a signature, or None."""
        target_context.refresh()
        key = self._key(sig, target_context.codegen())
        for place in folders.places():
            try:
                data = memoryview(folders.read(place, self._name(key)))
                if data[:_DIGEST] == _digest(key, data[_DIGEST:]):
                    return CompileResult._rebuild(target_context, *pickle.loads(data[_DIGEST:]))
            except Exception:  # what cannot be read, or is from another world, is only a miss
                continue
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the machine code for a signature."""
        if data.library.has_dynamic_globals:
            return
        key = self._key(sig, data.codegen)
        try:
            pickled = dumps(data._reduce())
        except Exception:  # costs speed, not the call; as a full disk does
            return
        for place in folders.places():
            try:
                folders.write(place, self._name(key), _digest(key, pickled) + pickled)
                break
            except OSError:
                continue

    def _key(self, sig: Any, codegen: Any) -> bytes:
        """Return all that machine code depends on, the processor included."""
        function = self._function
        code, cells = function.__code__, dumps(tuple(cell.cell_contents for cell in function.__closure__ or ()))
        named = function.__module__, function.__qualname__, code.co_firstlineno, _hash_of(code.co_filename), cells
        python = sys.version, getattr(sys, "abiflags", "")
        return repr((named, sig, codegen.magic_tuple(), python, sources())).encode()

    def _name(self, key: bytes) -> str:
        return f"{self._function.__name__}.{_digest(key).hex()[:16]}.nbc"


def _digest(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


@functools.cache
def _hash_of(file: str) -> bytes:
    return _digest(Path(file).read_bytes()) if Path(file).is_file() else b""


@functools.cache
def sources() -> str:
    """Hash what the machine code depends on besides the function, its types and the processor."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    backends = Path(__file__).parents[2]
    for path in sorted(one for folder in ("numba", "xla") for one in (backends / folder).rglob("*.py")):
        digest.update(path.relative_to(backends).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
