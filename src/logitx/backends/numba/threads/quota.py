"""The CPU quota of the control group that this process is in: how containers are limited on Linux.

A process with a quota of two processors still sees all of the machine. With a thread on each, the quota is used up
early in every period of 100 ms, and all threads stand still for the rest of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

# Where groups are, by controller, and the files of a group; version 2 has no controllers
_KINDS = {
    "": (("", "unified"), ("cpu.max",)),
    "cpu": (("cpu", "cpu,cpuacct"), ("cpu.cfs_quota_us", "cpu.cfs_period_us")),
}


def quota(root: str = "/") -> int | None:
    """Return how many processors the quota amounts to, rounded up; None without a quota, and on other systems.

    The limit of every group above applies as well. `root` is where `proc` and `sys` are.
    """
    shares = [share for files in _quota_files(root) for share in [_share(files)] if share is not None]
    return max(1, math.ceil(min(shares))) if shares else None


def _quota_files(root: str) -> Iterator[list[str]]:
    """Yield the files of each control group of this process, and of those above it."""
    for line in _words(f"{root}/proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        below = [] if ".." in path else path.strip("/").split("/")
        for kind in {"", "cpu"}.intersection(controllers.split(",")) if colon else ():
            mounts, names = _KINDS[kind]
            # In a container the path may be that of the host, and the group be at the mount: every folder is tried
            for group in {"/".join(below[:depth]) for depth in range(len(below) + 1)}:
                for mount in mounts:
                    yield [f"{root}/sys/fs/cgroup/{mount}/{group}/{name}" for name in names]


def _words(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return []


def _share(files: list[str]) -> float | None:
    """Return the microseconds of a period over its length; None for "max", -1 and what is no number."""
    words = [word for file in files for word in _words(file)]
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])
