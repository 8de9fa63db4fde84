"""Numba's functions on arrays without SciPy, which they import only to see whether it has BLAS: 0.1 to 0.2 s.

Functions of the user that call BLAS import it when they are compiled.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys


def load_array_functions() -> None:
    """Import `numba.np.arraymath`; whether there is BLAS, the place of SciPy says."""
    if {"numba.np.arraymath", "scipy.linalg"} & sys.modules.keys():
        return
    linalg = importlib.import_module("numba.np.linalg")
    ensure_blas = getattr(linalg, "ensure_blas", None)
    if ensure_blas is None:  # another version: it costs time, no more
        return
    linalg.ensure_blas = _find_blas  # type: ignore[attr-defined]
    try:
        arraymath = importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = ensure_blas  # type: ignore[attr-defined]
    arraymath.ensure_blas = ensure_blas  # type: ignore[attr-defined]


def _find_blas() -> None:
    """Do as `ensure_blas` does: raise ImportError where there is none."""
    if importlib.util.find_spec("scipy") is None:
        raise ImportError("scipy is not installed")
