"""Names of arrays within a file."""

from __future__ import annotations

import fnmatch
from pathlib import Path

_LISTED = 20


def chosen(path: Path, names: list[str], name: str) -> str:
    """Return `name` if the file has such an array; without a name, that of its only array."""
    if name in names:
        return name
    if name:
        raise ValueError(f"has no array {name!r}; there are {_listed(names)}")
    if len(names) != 1:
        raise ValueError(f"has {len(names)} arrays, name one as {path}:NAME; there are {_listed(names)}")
    return names[0]


def columns(names: list[str], name: str, without: str) -> list[str]:
    """Return the columns that `name` gives: one, those that fit a pattern with a star, or without a name all but some.

    Left out are the column `without`, and the index that pandas saves with a table: it is no class.
    """
    found = [name] if name in names else [one for one in names if "*" in name and fnmatch.fnmatchcase(one, name)]
    if not name:
        found = [one for one in names if one and not one.startswith("__index_level_")]
    found = [one for one in found if one != without]
    if not found:
        raise ValueError(f"has no column {name!r}; there are {_listed(names)}")
    if len({*found}) < len(found) or names.count(name) > 1:
        raise ValueError(f"has several columns of one name; there are {_listed(names)}")
    return found


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) or "none") + more
