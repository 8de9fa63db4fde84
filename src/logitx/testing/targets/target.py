"""`Target`, a row of TARGETS, and the functions of NumPy's target, which other targets reuse."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from logitx.testing.cases import Case, NDArray

Exact = tuple[NDArray, str]  # values in float64, int64 or bool, and the name of the dtype


@dataclass(frozen=True, eq=False)
class Target:
    """One kind of array, and how functions are called with it.

    Attributes
    ----------
    name : str
        As in the ids of the tests.
    requires : tuple of str
        Modules that must be importable.
    backend : str or None
        The backend forced by ``logitx.use_backend``; None leaves the choice to the library.
    make : callable
        ``make(values, dtype, memory)``: an array of these exact values, of the dtype of that name.
    read : callable
        ``read(array)``: the exact values, and the name of the dtype.
    dtype : callable
        ``dtype(name)``: the library's own object for the dtype of that name.
    default_float : callable
        ``default_float(x64)``: name of the dtype that integers become.
    problem : callable
        ``problem(array, elementwise)``: None, or why a call must not return this array.
    call : callable
        ``call(function, args, options)``: the result. Options that are arrays are those with ``is_array``.
    is_array : callable
        ``is_array(value)``: True if an option is an array of this kind.
    session : callable
        ``session(x64)``: a context in which arrays are made and functions are called; `x64` says that the case holds
        a float64.
    declines : tuple of str
        Reasons that the backend may give for declining a case; the case then runs by the automatic choice.
    missing : mapping of str to str
        Columns of the table of cells that do not exist here, each with the reason.
    writable : bool
        Arrays can be written: ``out=`` is tested.
    share : tuple of int
        ``(k, m)``: of the cases with pairs of options, those numbered k modulo m are run. Less than all is for targets
        that run the same compiled code and deal its cases out among themselves; all run every special value.
    fits : callable
        ``fits(case)``: whether the arrays of a case exist in this kind; others are not run.
    serial_sums : bool
        The namespace may add terms one by one, as NumPy does along all axes but the last: the error of a sum grows
        with its length, and so does what is allowed from 16 classes on.
    """

    name: str
    requires: tuple[str, ...]
    backend: str | None
    make: Callable[[NDArray, str, str], Any]
    read: Callable[[Any], Exact]
    dtype: Callable[[str], Any]
    default_float: Callable[[bool], str]
    problem: Callable[[Any, bool], str | None]
    is_array: Callable[[Any], bool]
    call: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any] = lambda function, args, options: (
        function(*args, **options)
    )
    session: Callable[[bool], AbstractContextManager[Any]] = lambda x64: contextlib.nullcontext()
    declines: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    writable: bool = True
    share: tuple[int, int] = (0, 1)
    fits: Callable[[Case], bool] = lambda case: True
    serial_sums: bool = False

    def absent(self, dtype: str | None = None) -> str | None:
        """Return why this target, or a column of it, cannot run here; None where it can."""
        for module in self.requires:
            if importlib.util.find_spec(module.partition(".")[0]) is None:
                return f"{module} is not installed"
        if dtype == "bfloat16" and "bfloat16" not in self.missing and importlib.util.find_spec("ml_dtypes") is None:
            return "ml_dtypes, by which NumPy has bfloat16, is not installed"
        return self.missing.get(dtype) if dtype is not None else None


NO_KERNEL = ("there is no kernel",)  # what `numba` says of functions that run by the formulas


# -- NumPy ------------------------------------------------------------------------------------------------------------


def numpy_dtype(name: str) -> Any:
    """Return NumPy's object for a dtype."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def numpy_make(values: NDArray, dtype: str, memory: str) -> NDArray:
    """Return an array of these exact values."""
    array = np.array(values, dtype=numpy_dtype(dtype), order="F" if memory == "F" else "C")
    if memory == "strided" and array.ndim:
        wide = np.empty((*array.shape[:-1], 2 * array.shape[-1]), dtype=array.dtype)
        wide[..., ::2] = array
        array = wide[..., ::2]
    elif memory == "reversed" and array.ndim:
        array = np.flip(np.flip(array).copy())
    elif memory == "readonly":
        array.flags.writeable = False
    elif memory == "swapped":
        array = array.astype(array.dtype.newbyteorder())
    return array


def numpy_read(array: Any) -> Exact:
    """Return exact values and the name of the dtype."""
    array = np.asarray(array)
    if array.dtype.kind == "b":
        return array.copy(), "bool"
    exact = array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)
    return exact, array.dtype.name


def numpy_problem(array: Any, elementwise: bool) -> str | None:
    """Return None, or why a call on NumPy arrays must not return this."""
    if type(array) is np.ndarray and (elementwise or array.ndim):
        return None if array.dtype.isnative else f"byte order of {array.dtype} is foreign"
    if isinstance(array, np.generic):  # of 0 dimensions; with `out=`, the output itself
        return None
    return f"type is {type(array).__name__}; expected is an ndarray, or a NumPy scalar for a 0-d reduction"
