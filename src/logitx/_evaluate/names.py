"""Names of arrays within a file."""

from __future__ import annotations

from pathlib import Path


def chosen(path: Path, names: list[str], name: str) -> str:
    """Return `name` if the file has such an array; without a name, that of its only array."""
    if name in names:
        return name
    listed = ", ".join(names) or "none"
    if name:
        raise ValueError(f"{path}: has no array {name!r}; there are {listed}")
    if len(names) != 1:
        raise ValueError(f"{path}: has {len(names)} arrays, name one as {path}:NAME; there are {listed}")
    return names[0]
