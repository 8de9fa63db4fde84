"""Backends that do not work with the versions that are installed: each is given up once, with one warning.

The kernels stand on private parts of Numba, of XLA and of PyTorch (`backends.private_parts`). A release may take one
away. Then an import fails, or the first compilation, and no argument of the user has anything to do with it.
"""

from __future__ import annotations

import warnings

from logitx.backends.private_parts import PRIVATE_PARTS

_REASONS: dict[str, str] = {}  # by backend


class Unfit(Exception):
    """A backend does not work here. It has been given up, and the call is to be made without it."""


def why_unfit(backend: str) -> str | None:
    """Return why a backend was given up; None if it was not."""
    return _REASONS.get(backend)


def given_up(backend: str, error: Exception) -> Unfit:
    """Give a backend up for what it raised, with one warning; return the error to raise from that one.

    What says nothing about versions is raised again: there was no memory, or no room on the stack.
    """
    if isinstance(error, Unfit):
        return error
    if isinstance(error, MemoryError | RecursionError):
        raise error
    if backend not in _REASONS:
        used = PRIVATE_PARTS.get(backend)
        libraries, seen = (used.libraries, used.seen) if used else ((backend,), "")
        what = str(error).strip().partition("\n")[0]
        _REASONS[backend] = f"does not work with {_versions(libraries)}: {type(error).__name__}: {what}"
        known = f" It was seen to work with {seen}." if seen else ""
        warnings.warn(
            f"logitx: the backend {backend} {_REASONS[backend]}. Other backends run, more slowly.{known}",
            RuntimeWarning,
            stacklevel=3,
        )
    return Unfit(_REASONS[backend])


def _versions(libraries: tuple[str, ...]) -> str:
    import importlib.metadata  # half of the time of `import logitx`, for what hardly ever happens

    found = []
    for name in libraries:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(name)
    return ", ".join(found)
