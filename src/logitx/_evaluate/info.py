"""The facts that `python -m logitx info` prints: versions, backends, devices, threads and kernel cache."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from collections.abc import Callable
from typing import Any

import logitx
from logitx import _dispatch
from logitx.backends import BACKENDS

_DEVICES: dict[str, Callable[[Any], list[str]]] = {
    "jax": lambda jax: [str(device) for device in jax.devices()],
    "torch": lambda torch: ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))],
}


def facts() -> dict[str, Any]:
    """Return facts by name, each a line or several."""
    no_kernels = _dispatch.why_no_kernels()
    rows = {row.name: row for row in BACKENDS}
    lines = []
    for backend in logitx.backends():
        requires = rows[backend.name].requires
        version = f" ({_installed_version(requires)})" if requires is not None and backend.available else ""
        lines.append(f"{backend.name}: {'yes' if backend.available else 'no'}, {backend.reason}{version}")
    return {
        "logitx": logitx.__version__,
        "python": f"{platform.python_version()} on {_system()}",
        "numpy": _installed_version("numpy"),
        "backends": lines,
        "devices": [f"{name}: {', '.join(devices)}" for name, devices in _devices().items()] or ["cpu"],
        "threads": _threads() if no_kernels is None else f"none of its own: {no_kernels}",
        "cache": _cache() if no_kernels is None else [],
    }


def _threads() -> int:
    from logitx.backends.numba.threads.policy import CREW

    return CREW.limit


def _cache() -> list[str]:
    """Return each folder of compiled kernels, with how many it holds and their size."""
    from logitx.backends.numba.compile.folders import places

    lines = []
    for folder in (place for place in places() if place.is_dir()):
        files = [file for file in folder.glob("*") if file.is_file()]
        compiled, size = sum(file.suffix == ".nbc" for file in files), sum(file.stat().st_size for file in files)
        lines.append(f"{folder}: {compiled} compiled functions, {size / 1e6:.1f} MB")
    return lines


def _system() -> str:
    """Return the operating system and the processor; `platform.platform` starts a process to ask for more."""
    found = platform.uname()
    return f"{found.system}-{found.release}-{found.machine}"


def _installed_version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name


def _devices() -> dict[str, list[str]]:
    found = {}
    for name, devices in _DEVICES.items():
        try:
            found[name] = devices(importlib.import_module(name))
        except (ImportError, RuntimeError):
            continue  # not installed, or without a device that works
    return found
