"""Array families: one row each. Recognize, find the namespace, view as NumPy without a copy, hand back.

A family is recognized by the concrete type of an array, once; afterwards it is one dictionary look-up. Frameworks are
looked up in ``sys.modules`` and never imported in order to ask: nobody holds a torch tensor without torch loaded.
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


def on_host(x: Array) -> NdArray:
    """Bring the values of an array to NumPy, wherever they are."""
    if hasattr(x, "get"):  # CuPy, which copies from a device only by name
        x = x.get()
    return np.asarray(x) if hasattr(x, "__array__") else np.from_dlpack(x)


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """What the library must know of one kind of array."""

    name: str
    recognizes: Callable[[type], bool]
    namespace: Callable[[Array], Any]
    adopt: Callable[[np.ndarray[Any, Any], Array], Array]  # NumPy data -> this family, where that other array lives
    default_float: Callable[[Array], str]
    readable: Callable[[Array], bool]  # its values can be looked at now, at no cost: concrete and on the CPU
    refusal: Callable[[Array], str | None] = lambda _: None  # what an array is that none may be, and what may
    immutable: bool = False
    as_given: bool = False  # a backend sees its arrays as the user gave them: nothing is folded, nothing broadcast
    meshes: bool = False  # its arrays may lie on a mesh of devices, of which axes have names
    device: Callable[[Array], Any] = lambda _: None  # comparable; None where the framework moves data by itself
    detach: Callable[[Array], Array] = lambda x: x  # the same values, constant to automatic differentiation
    differentiated: Callable[[Array], bool] = lambda _: False  # a derivative by it may be asked for; where readable
    to_numpy: Callable[[Array], np.ndarray[Any, Any]] | None = None  # a view, never a copy
    from_numpy: Callable[[np.ndarray[Any, Any], str], Array] | None = None  # the way back, with the dtype's name
    alignment: int = 0  # bytes: what `from_numpy` need not copy begins at a multiple; 0 where any memory will do
    host: Callable[..., tuple[NdArray, ...]] = lambda *arrays: tuple(map(on_host, arrays))  # their values, waited for
    written: Callable[[Array], None] = lambda _: None  # to be told that an array was written to, past its framework
    scalar: Callable[[Array], Array] = lambda x: x  # a 0-d result as the family returns it from a reduction
    # The module with `differentiated`, `memory`, `tensor` and `example` for arrays of a class, if calls are settled
    settles: Callable[[type], Any] = lambda _: None
    # out = a @ b, or with the last argument out += a @ b, of NumPy matrices, as fast as the family can
    multiply: Callable[[NdArray, NdArray, NdArray, bool], None] | None = None


@functools.lru_cache(maxsize=256, typed=True)  # typed: dtypes of two libraries may compare equal, or warn
def dtype_name(dtype: Any) -> str:
    """Return the one name by which every library's object for a dtype is known here: "float32", "int8", "bool"."""
    name = getattr(dtype, "name", None)
    if isinstance(name, str):  # np.dtype and what follows it
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
            import ml_dtypes  # NumPy has no bfloat16 of its own; whoever holds such an array has this

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


def constant(value: Any) -> TypeGuard[bool | int | float]:
    """Tell whether `value` is a plain Python number: known now, the same for every backend."""
    return type(value) is float or isinstance(value, int | float)


# -- NumPy ------------------------------------------------------------------------------------------------------------


# -- PyTorch ----------------------------------------------------------------------------------------------------------


# -- JAX --------------------------------------------------------------------------------------------------------------


# -- TensorFlow -------------------------------------------------------------------------------------------------------


# -- Dask -------------------------------------------------------------------------------------------------------------


# -- anything else with the Array API ---------------------------------------------------------------------------------


# -- one class axis, and back -----------------------------------------------------------------------------------------
