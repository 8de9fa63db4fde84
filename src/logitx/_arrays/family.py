"""The class `Family`: how to recognize arrays of a library, find their namespace, and convert from and to NumPy.

A family is recognized by the concrete type of an array, once; afterwards it is one dictionary look-up. Frameworks are
looked up in ``sys.modules`` and never imported for the test: a torch tensor exists only where torch is loaded.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from logitx._arrays.matmul import NdArray
from logitx._plan import Array

FLOATS = ("float16", "bfloat16", "float32", "float64")
LONG_DOUBLE = np.dtype(np.longdouble).name  # NumPy's alone; the formulas serve it. On some systems it is float64
FLOATING = FLOATS if LONG_DOUBLE in FLOATS else (*FLOATS, LONG_DOUBLE)
WIDE = FLOATING[3:]  # whose numbers float32 does not hold


def on_host(x: Array) -> NdArray:
    """Return the values of an array on any device as a NumPy array."""
    if hasattr(x, "get"):  # CuPy, which copies from a device only by name
        x = x.get()
    return np.asarray(x) if hasattr(x, "__array__") else np.from_dlpack(x)


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """The functions and properties of one kind of array."""

    name: str
    recognizes: Callable[[type], bool]
    namespace: Callable[[Array], Any]
    adopt: Callable[[np.ndarray[Any, Any], Array], Array]  # NumPy data -> this family, on the device of the other array
    default_float: Callable[[Array], str]
    readable: Callable[[Array], bool]  # values can be read now, at no cost: concrete and on the CPU
    refusal: Callable[[Array], str | None] = lambda _: None  # why this array is refused (message for the user), or None
    has_float64: Callable[[Array], bool] = lambda _: True  # arrays beside this one can have float64
    floats: tuple[str, ...] = FLOATS  # dtypes that are computed with
    has_subnormals: bool = True  # numbers below the least normal one are not taken for 0
    immutable: bool = False
    as_given: bool = False  # backends get the arrays as the user gave them: not folded, not broadcast
    meshes: bool = False  # arrays may be sharded over a mesh of devices with named axes
    device: Callable[[Array], Any] = lambda _: None  # comparable; None if the framework moves data itself
    detach: Callable[[Array], Array] = lambda x: x  # the same values, constant to automatic differentiation
    differentiated: Callable[[Array], bool] = lambda _: False  # a derivative by it may be asked for; called if readable
    to_numpy: Callable[[Array], np.ndarray[Any, Any]] | None = None  # a view, never a copy
    from_numpy: Callable[[np.ndarray[Any, Any], str], Array] | None = None  # the way back, with the dtype's name
    alignment: int = 0  # bytes: `from_numpy` need not copy memory aligned to this; 0: any memory
    host: Callable[..., tuple[NdArray, ...]] = lambda *arrays: tuple(
        map(on_host, arrays)
    )  # their values, computed if lazy
    written: Callable[[Array], None] = lambda _: (
        None
    )  # called after a kernel wrote to an array behind the framework's back
    scalar: Callable[[Array], Array] = lambda x: x  # a 0-d result as the family returns it from a reduction
    # Module with the fast-path hooks (`differentiated`, `memory`, `tensor`, `example`) of a class, or None without one
    settles: Callable[[type], Any] = lambda _: None
    # out = a @ b, or with the last argument True out += a @ b, of NumPy matrices, by the BLAS of the family
    multiply: Callable[[NdArray, NdArray, NdArray, bool], None] | None = None


def known_values(family: Family, x: Array) -> NdArray | None:
    """Return the values of an array of integers if they can be read now, at no cost."""
    if not family.readable(x):
        return None
    try:
        return family.to_numpy(x) if family.to_numpy is not None else family.host(x)[0]
    except RuntimeError:  # of PyTorch, where torch.func transforms a function around the call: read one by one
        pass
    try:
        return np.asarray(x.tolist(), dtype_name(x.dtype))
    except RuntimeError:  # vmap, where there are as many values as calls
        return None


@functools.lru_cache(maxsize=256, typed=True)  # typed: dtypes of two libraries may compare equal, or warn
def dtype_name(dtype: Any) -> str:
    """Return the name of any library's dtype object: "float32", "int8", "bool"."""
    name = getattr(dtype, "name", None)
    if isinstance(name, str):  # np.dtype, and the dtypes of libraries that use NumPy's
        return name
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, type):  # np.float32, jnp.bfloat16, float
        return np.dtype(dtype).name
    return str(dtype).rpartition(".")[2]  # torch.float32, array_api_strict.float32


def namespace_dtype(xp: Any, name: str) -> Any:
    """Return the dtype object of a namespace by its name."""
    if xp is np:
        if name == "bfloat16":
            import ml_dtypes  # NumPy has no bfloat16 of its own; such arrays come from this package

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(name)
    if name == "int64" and "jax" in sys.modules and xp is sys.modules.get("jax.numpy"):
        return sys.modules["jax"].dtypes.canonicalize_dtype("int64")  # int32 unless x64 is on, without a warning
    dtype = getattr(xp, name, None)
    if dtype is None and getattr(xp, "float32", None) is np.float32:  # Dask: its dtypes are those of NumPy
        return namespace_dtype(np, name)
    if dtype is None:
        raise TypeError(f"dtype: {name} is not allowed; {xp.__name__} does not have it")
    return dtype


def is_python_number(value: Any) -> TypeGuard[bool | int | float]:
    """True if `value` is a plain Python number: known now, the same for every backend."""
    return type(value) is float or isinstance(value, int | float)


# -- NumPy ------------------------------------------------------------------------------------------------------------


# -- PyTorch ----------------------------------------------------------------------------------------------------------


# -- JAX --------------------------------------------------------------------------------------------------------------


# -- TensorFlow -------------------------------------------------------------------------------------------------------


# -- Dask -------------------------------------------------------------------------------------------------------------


# -- anything else with the Array API ---------------------------------------------------------------------------------


# -- one class axis, and back -----------------------------------------------------------------------------------------
