"""Products of NumPy matrices, by the BLAS of the library that the arrays came from."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

NdArray = np.ndarray[Any, Any]

_ADDEND = 1 << 20  # most elements of a temporary product that is added to `out`


def multiply_numpy(a: NdArray, b: NdArray, out: NdArray, more: bool) -> None:
    """Write ``a @ b`` to `out`, or with `more` add it."""
    if not more:
        np.matmul(a, b, out=out)
        return
    height = max(1, min(len(out), _ADDEND // max(1, out.shape[1])))
    room = np.empty((height, out.shape[1]), out.dtype)
    for start in range(0, len(out), height):
        rows = out[start : start + height]
        np.add(rows, np.matmul(a[start : start + height], b, out=room[: len(rows)]), out=rows)


def multiply_torch(a: NdArray, b: NdArray, out: NdArray, more: bool) -> None:
    """Write ``a @ b`` to `out`, or with `more` add it, on PyTorch's threads."""
    torch = sys.modules["torch"]
    with torch.no_grad():
        torch.from_numpy(out).addmm_(torch.from_numpy(a), torch.from_numpy(b), beta=1 if more else 0)
