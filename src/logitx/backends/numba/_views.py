"""From the user's arrays to what kernels take, and back: views of shape (outer, n, inner), copies where need be."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx._arrays import FAMILIES, FLOATS, dtype_name
from logitx._typing import Array, Plan

NdArray = np.ndarray[Any, Any]

# What holds a dtype in memory for a kernel; Numba knows neither half type.
_HELD = {"float16": np.dtype(np.uint16), "bfloat16": np.dtype(np.int16)}
_SHOWN = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(np.uint16)}
_DTYPES = {name: np.dtype(name) for name in ("float32", "float64", "bool", "int64")}
HELD = {**_DTYPES, **_HELD}

NO_ROWS = {name: np.empty(0, dtype) for name, dtype in HELD.items()}  # what is absent has size 0
NO_ENTRIES = {name: np.empty((0, 0, 0), dtype) for name, dtype in HELD.items()}
NUMBER = {"float32": np.float32, "float64": np.float64}


def stored(dtype: str, compute: str) -> str:
    """Return the dtype in which kernels read an array of `dtype`: its own if floating, else the compute dtype."""
    return dtype if dtype in FLOATS else compute


def entries(plan: Plan, x: Array, dtype: str, held: str) -> NdArray:
    """Return a view of an array of the shape of the logits; a copy if its numbers must change to be `held`."""
    array: NdArray = FAMILIES[plan.family].to_numpy(x)  # type: ignore[misc]
    if dtype != held:
        with np.errstate(all="ignore"):
            array = widened(array, dtype).astype(HELD[held], copy=False)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if held in _HELD:
        array = array.view(_HELD[held])
    layout = plan.layout
    shape = (layout.outer, layout.n, layout.inner)
    return array if array.shape == shape else array.reshape(shape)


def widened(array: NdArray, dtype: str) -> NdArray:
    """Return numbers that NumPy can convert: the bits of bfloat16 become float32."""
    if dtype == "bfloat16" and array.dtype == np.uint16:
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array


def numbers(plan: Plan, x: Array, kind: str) -> NdArray:
    """Return a small array, of weights or class ids, as one of `kind` with one axis."""
    array: NdArray = FAMILIES[plan.family].to_numpy(x)  # type: ignore[misc]
    if array.dtype == HELD[kind]:
        return array if array.ndim == 1 else array.reshape(-1)
    with np.errstate(all="ignore"):
        array = widened(array, dtype_name(x.dtype))
        return np.ascontiguousarray(array, dtype=HELD[kind]).reshape(-1)


def per_row(plan: Plan, value: Any, kind: str) -> NdArray:
    """Return temperature or softcap as kernels take them: no number, one for all rows, or one a row."""
    if value is None:
        return NO_ROWS[kind]
    if isinstance(value, float):
        return np.full(1, value, HELD[kind])
    return numbers(plan, value, kind)


def output(plan: Plan, out: Array, held: str) -> NdArray | None:
    """Return a view through which a kernel writes to the user's array; None where only a copy has the shape."""
    array: NdArray = FAMILIES[plan.family].to_numpy(out)  # type: ignore[misc]
    if not array.dtype.isnative:
        return None
    if held in _HELD:
        array = array.view(_HELD[held])
    layout = plan.layout
    view = array.reshape((layout.outer, layout.n, layout.inner))
    return view if np.may_share_memory(view, array) or view.size == 0 else None


def blank(plan: Plan, held: str) -> NdArray:
    """Return fresh memory of the shape of the logits, as kernels see it."""
    layout, alignment = plan.layout, FAMILIES[plan.family].alignment
    shape = (layout.outer, layout.n, layout.inner)
    if not alignment:
        return np.empty(shape, HELD[held])
    size = layout.outer * layout.n * layout.inner * HELD[held].itemsize
    memory = np.empty(size + alignment, np.uint8)
    start = -memory.ctypes.data % alignment
    return memory[start : start + size].view(HELD[held]).reshape(shape)


def rounded(array: NdArray, dtype: str) -> NdArray:
    """Return an array of the compute dtype in the form that kernels write a dtype in."""
    if dtype != "bfloat16":
        return array.astype(dtype, copy=False).view(HELD[dtype])
    bits = array.astype(np.float32, copy=False).view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet = (bits >> 16) | 0x40
    return np.where(np.isnan(array), quiet, nearest).astype(np.uint16).view(np.int16)


def given_back(plan: Plan, array: NdArray, dtype: str, shape: tuple[int, ...]) -> Array:
    """Return what a kernel wrote as an array of the user's family."""
    if dtype in _SHOWN:
        array = array.view(_SHOWN[dtype])
    return FAMILIES[plan.family].from_numpy(array.reshape(shape), dtype)  # type: ignore[misc]
