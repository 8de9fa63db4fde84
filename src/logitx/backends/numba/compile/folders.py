"""Where compiled kernels are kept: a folder that only the user can write to, on a path that nobody else can change.

What is in the folder will run. So every part of the path is opened from the one above it and checked on its open
descriptor: nothing can be swapped between a check and what was checked. A system without such calls (Windows) gives
each user folders of his own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from numba.misc.appdirs import AppDirs

_CHECKS = hasattr(os, "geteuid") and os.open in os.supports_dir_fd
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = _NO_LINK | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", os.O_RDONLY)  # without read permission too
_READ = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0)  # a pipe is refused, and not waited for
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK

Folder = tuple[int | None, str]  # a descriptor and nothing, or no descriptor and the path with a separator


def places() -> list[Path]:
    """Return where the folder may be, best first. Nothing depends on the working directory, nor on files in it."""
    told = os.environ.get("NUMBA_CACHE_DIR")  # Numba's own setting may come from a file of the working directory
    beside, own = Path(__file__).parents[1] / "__pycache__", AppDirs(appname="numba", appauthor=False).user_cache_dir
    return [path / "logitx" for path in map(Path, [told] if told else [beside, own]) if path.is_absolute()]


def _refuse_if_open_to_others(descriptor: int, kind: int, owners: tuple[int, ...], allowed: int = 0) -> None:
    found = os.fstat(descriptor)
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & allowed
    if stat.S_IFMT(found.st_mode) != kind or found.st_uid not in owners or others:
        raise PermissionError("is open to others")


def _enter(name: str, above: int | None, make: int | None) -> int:
    """Return the descriptor of a folder, which is made with the mode `make` if it is missing."""
    if make is not None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, make, dir_fd=above)
    return os.open(name, _FOLDER, dir_fd=above)


@contextlib.contextmanager
def _opened(place: Path, making: bool) -> Iterator[Folder]:
    """Open a folder; OSError if somebody else could write to it, or put another one in its place."""
    if not _CHECKS:
        if making:
            place.mkdir(parents=True, exist_ok=True)
        yield None, f"{place}{os.sep}"
        return
    me = os.geteuid()
    above = Path(os.path.realpath(place.parent))  # links on the way may lead to a path as safe as one without
    here = _enter(above.anchor, None, None)
    try:
        for name in (*above.parts[1:], place.name):
            _refuse_if_open_to_others(here, stat.S_IFDIR, (0, me), stat.S_ISVTX)  # as /tmp is: what is mine stays there
            mode = 0o700 if name == place.name else 0o755
            try:
                below = _enter(name, here, None)
            except FileNotFoundError:
                if not making:
                    raise
                below = _enter(name, here, mode)
            os.close(here)
            here = below
        _refuse_if_open_to_others(here, stat.S_IFDIR, (me,))
        yield here, ""
    finally:
        os.close(here)


def read(place: Path, name: str) -> bytes:
    """Return what is in a file; OSError if there is none that is the user's own."""
    with (
        _opened(place, False) as (folder, prefix),
        os.fdopen(os.open(prefix + name, _READ, dir_fd=folder), "rb") as file,
    ):
        if _CHECKS:
            _refuse_if_open_to_others(file.fileno(), stat.S_IFREG, (os.geteuid(),))
        return file.read()


def write(place: Path, name: str, data: bytes) -> None:
    """Put a file there, or another one in its place: whole, or not at all."""
    with _opened(place, True) as (folder, prefix):
        draft = f"{prefix}{name}.{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(draft, _WRITE, 0o600, dir_fd=folder), "wb") as file:
                file.write(data)
            os.replace(draft, prefix + name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise
