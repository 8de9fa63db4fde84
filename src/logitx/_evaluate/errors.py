"""Errors of files: one line that begins with the name of the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

_LONGEST = 2000  # characters of a reason


class FileError(Exception):
    """A file cannot be read, or what it holds is not allowed."""


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Turn an error of reading into a FileError that begins with the name of the file.

    Every kind of error is taken: on damaged files the readers of NumPy, zipfile, zarr and pyarrow raise nearly all.
    """
    try:
        yield
    except FileError:
        raise
    except ImportError as error:
        raise FileError(f"{path}: {error.name or error} is not installed; install logitx[cli]") from error
    except RecursionError as error:
        raise FileError(f"{path}: is nested too deeply") from error
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or str(error) or type(error).__name__}") from error
    except Exception as error:
        text = str(error.args[0]) if error.args else type(error).__name__
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."  # names within a file may be of any length
        raise FileError(f"{path}: {text}") from error


def one_line(text: str) -> str:
    """Return a text as one line, with control characters and bytes that are no text escaped."""
    line = " ".join(text.split())
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)
