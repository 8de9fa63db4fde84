"""Make a folder with a 64-bit Arm Python from packages of Debian, and what the suite needs: for `nox -s tests_arm`.

    python tests/arm_root.py build/arm

Packages are unpacked, not installed: no rights are needed. Wheels come from the package index that pip is set to.
"""

from __future__ import annotations

import lzma
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

MIRROR, RELEASE, PYTHON = "http://deb.debian.org/debian", "bookworm", "3.11"
PACKAGES = (f"python{PYTHON}", "libstdc++6")
WHEELS = ("numpy", "numba", "pytest", "mpmath", "pytest-xdist", "hypothesis", "ml_dtypes", "array-api-compat")
PLATFORMS = (*(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)), "manylinux2014_aarch64")


def fetched(path: str) -> bytes:
    """Return a file of the mirror."""
    with urllib.request.urlopen(f"{MIRROR}/{path}", timeout=60) as answer:
        found: bytes = answer.read()
    return found


def index() -> dict[str, dict[str, str]]:
    """Return the fields of every package."""
    text = lzma.decompress(fetched(f"dists/{RELEASE}/main/binary-arm64/Packages.xz")).decode()
    fields = (dict(re.findall(r"^(\S+): (.*)$", one, re.MULTILINE)) for one in text.split("\n\n"))
    return {one["Package"]: one for one in fields if "Package" in one}


def with_dependencies(names: tuple[str, ...], known: dict[str, dict[str, str]]) -> list[str]:
    """Return packages and all that they depend on; of alternatives the first."""
    found, left = [], list(names)
    while left:
        one = left.pop()
        if one in found or one not in known:
            continue
        found.append(one)
        for field in ("Depends", "Pre-Depends"):
            dependencies = filter(None, known[one].get(field, "").split(", "))
            left.extend(re.split(r"[ :|]", dependency)[0] for dependency in dependencies)
    return found


def main() -> None:
    """Make the folder, unless it is there."""
    root = Path(sys.argv[1]).resolve()
    if not (root / "done").exists():
        known = index()
        for name in with_dependencies(PACKAGES, known):
            package = root.with_suffix(".deb")
            package.parent.mkdir(parents=True, exist_ok=True)
            package.write_bytes(fetched(known[name]["Filename"]))
            subprocess.run(["dpkg-deb", "-x", package, root], check=True)
            package.unlink()
        subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "-q", "--only-binary=:all:", "--target", root / "site",
                "--python-version", PYTHON, *(f"--platform={one}" for one in PLATFORMS), *WHEELS,
            ],
            check=True,
        )  # fmt: skip
        (root / "done").touch()


if __name__ == "__main__":
    main()
