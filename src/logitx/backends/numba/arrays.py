"""From the user's arrays to what kernels take, and back: views of shape (outer, n, inner), copies where need be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import FLOATS, dtype_name
from logitx._plan import Array, Plan
from logitx.backends.formulas.class_ids import outside
from logitx.backends.numba.memory.arguments import FAILED, UNFIT

NumpyArray = np.ndarray[Any, Any]

# NumPy's dtype for memory of each dtype; where bfloat16 is not an extension's, its bits are integers
HELD = {name: np.dtype(name) for name in ("float16", "float32", "float64", "bool", "int64")}
HELD["bfloat16"] = np.dtype(np.uint16)
CLASS_AXIS = 1  # the axis of the classes in what is given to a kernel here


def stored(dtype: str, compute: str) -> str:
    """Return the dtype in which kernels read an array of `dtype`: its own if floating, else the compute dtype."""
    return dtype if dtype in FLOATS else compute


def view_3d(plan: Plan, x: Array, dtype: str, held: str) -> NumpyArray:
    """Return an array of the shape of the logits as (outer, n, inner), copied if its numbers must change."""
    array: NumpyArray = FAMILIES[plan.family].to_numpy(x)  # type: ignore[misc]
    if dtype != held:
        with np.errstate(all="ignore"):
            array = decode_bfloat16(array, dtype).astype(HELD[held], copy=False)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    layout = plan.layout
    return array.reshape((layout.outer, layout.n, layout.inner))  # a view whose shape no other thread can change


def broadcast_view_3d(plan: Plan, x: Array, held: str) -> NumpyArray:
    """Return an operand of the shape of the logits as `view_3d`; what was broadcast is converted before, not after."""
    array: NumpyArray = FAMILIES[plan.family].to_numpy(x)  # type: ignore[misc]
    once = tuple(
        slice(0, 1) if step == 0 and length else slice(None)
        for step, length in zip(array.strides, array.shape, strict=True)
    )
    with np.errstate(all="ignore"):
        small = decode_bfloat16(array[once], dtype_name(x.dtype)).astype(HELD[held], copy=False)
    layout = plan.layout
    return np.broadcast_to(small, array.shape).reshape((layout.outer, layout.n, layout.inner))


def decode_bfloat16(array: NumpyArray, dtype: str) -> NumpyArray:
    """Return numbers that NumPy can convert: the bits of bfloat16 become float32."""
    if dtype == "bfloat16" and array.dtype == np.uint16:
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array


def contiguous(plan: Plan, x: Array, kind: str) -> NumpyArray:
    """Return a small array, of weights or class ids, as a contiguous one of `kind` with one axis."""
    array: NumpyArray = FAMILIES[plan.family].to_numpy(x)  # type: ignore[misc]
    if array.dtype == HELD[kind] and array.flags.c_contiguous:
        return array.reshape(-1)
    with np.errstate(all="ignore"):
        array = decode_bfloat16(array, dtype_name(x.dtype))
        return np.ascontiguousarray(array, dtype=HELD[kind]).reshape(-1)


def label_ids(plan: Plan, targets: Array) -> NumpyArray:
    """Return class ids as contiguous int64; those of uint64 that do not fit become an id out of range."""
    ids = contiguous(plan, targets, "int64")
    return ids if dtype_name(targets.dtype) != "uint64" else np.where(ids < 0, outside(plan), ids)


def static_flag(wanted: bool) -> bool | None:
    """Return what a kernel takes for something that it is compiled with or without."""
    return True if wanted else None


def checked_code(code: int) -> int:
    """Pass on what a kernel returned, unless it could not do its work."""
    if code == FAILED:
        raise MemoryError("the scratch memory of a kernel could not be allocated")
    if code == UNFIT:  # nothing has been written
        raise ValueError(
            "x: its shape or memory was changed by another thread during the call; allowed is to wait for it"
        )
    return code


def scaling_array(plan: Plan, value: Any, kind: str) -> NumpyArray | None:
    """Return temperature or softcap as kernels take them: None, one number for all rows, or one a row."""
    if value is None:
        return None
    if isinstance(value, float):
        return np.full(1, value, HELD[kind])
    return contiguous(plan, value, kind)


def output_view(plan: Plan, out: Array, held: str) -> NumpyArray | None:
    """Return a view through which a kernel writes to the user's array; None where only a copy has the shape."""
    array: NumpyArray = FAMILIES[plan.family].to_numpy(out)  # type: ignore[misc]
    if not array.dtype.isnative:
        return None
    layout = plan.layout
    view = array.reshape((layout.outer, layout.n, layout.inner))
    return view if np.may_share_memory(view, array) or view.size == 0 else None


def has_slabs_together(view: NumpyArray) -> bool:
    """Return True if the entries of each (n, inner) lie together, as the kernels of woven rows take them."""
    return view.size == 0 or view.strides[1:] == (view.shape[2] * view.itemsize, view.itemsize)


def with_slabs_together(view: NumpyArray) -> NumpyArray:
    """Return an array that `has_slabs_together`: the same one, or a copy."""
    return view if has_slabs_together(view) else np.ascontiguousarray(view)


def empty_3d(plan: Plan, dtype: str) -> NumpyArray:
    """Return fresh memory of the shape of the logits, as kernels see it."""
    layout = plan.layout
    return fresh(plan, (layout.outer, layout.n, layout.inner), dtype)


def fresh(plan: Plan, shape: tuple[int, ...], dtype: str) -> NumpyArray:
    """Return fresh memory that the user's family can take over."""
    alignment = FAMILIES[plan.family].alignment
    if not alignment:
        return np.empty(shape, HELD[dtype])
    size = math.prod(shape) * HELD[dtype].itemsize
    memory = np.empty(size + alignment, np.uint8)
    start = -memory.ctypes.data % alignment
    return memory[start : start + size].view(HELD[dtype]).reshape(shape)


def rounded_to_dtype(array: NumpyArray, dtype: str) -> NumpyArray:
    """Return an array of the compute dtype rounded to another, in memory as a kernel writes it."""
    if dtype != "bfloat16":
        return array.astype(dtype, copy=False)
    bits = array.astype(np.float32, copy=False).view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet = (bits >> 16) | 0x40
    return np.where(np.isnan(array), quiet, nearest).astype(np.uint16)


def given_back(plan: Plan, array: NumpyArray, dtype: str, shape: tuple[int, ...]) -> Array:
    """Return what a kernel wrote as an array of the user's family."""
    return FAMILIES[plan.family].from_numpy(array.reshape(shape), dtype)  # type: ignore[misc]
