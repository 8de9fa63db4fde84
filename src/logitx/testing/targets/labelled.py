"""Targets with labels: results must have the index or the dimension names of the arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from logitx.testing.cases import Case, NDArray, class_axes, row_shape
from logitx.testing.targets.target import Exact, Target, numpy_dtype, numpy_make, numpy_read

_FIRST_LABEL = 5  # labels are not positions


def _native(values: NDArray, dtype: str, memory: str) -> NDArray:
    return numpy_make(values, dtype, "C" if memory == "swapped" else memory)


def _read(array: Any) -> Exact:
    return numpy_read(np.asarray(array))


def _is_largest(case: Case) -> bool:
    """True if no other argument is larger than the first, which has the labels."""
    first, *others = (one.values.shape for one in case.args)
    if case.name == "every pair" or "symmetric" in case.options:  # broadcast against each other; embeddings
        return False
    if case.name.endswith("ids=few"):  # of a shape of their own
        return False
    if len(others) > 1:  # the factors of a linear layer, which need not fit each other so
        return True
    return all(
        len(shape) < len(first)
        or (len(shape) == len(first) and all(own in (1, most) for own, most in zip(shape, first, strict=True)))
        for shape in others
    )


# -- pandas -----------------------------------------------------------------------------------------------------------


def _index(length: int) -> Any:
    import pandas as pd

    return pd.RangeIndex(_FIRST_LABEL, _FIRST_LABEL + length)


def _pandas_make(values: NDArray, dtype: str, memory: str) -> Any:
    import pandas as pd

    array = _native(values, dtype, memory)
    if array.ndim == 1:
        return pd.Series(array, index=_index(len(array)))
    if array.ndim == 2:
        return pd.DataFrame(array, index=_index(array.shape[0]), columns=_index(array.shape[1]))
    return array


def _pandas_problem(array: Any, elementwise: bool) -> str | None:
    import pandas as pd

    if not elementwise and isinstance(array, np.generic):
        return None
    if not isinstance(array, pd.DataFrame | pd.Series):
        return f"type is {type(array).__name__}; expected is a DataFrame or Series"
    lost = [axis for axis in array.axes if len(axis) != 1 and not axis.equals(_index(len(axis)))]
    return f"labels are {lost}; expected are those of the input" if lost else None


def _is_pandas(x: Any) -> bool:
    import pandas as pd

    return isinstance(x, pd.DataFrame | pd.Series)


# -- xarray -----------------------------------------------------------------------------------------------------------


def _named(array: NDArray, dims: list[str]) -> Any:
    """Return an array with these names, its dimensions in reverse: operands are matched by name."""
    import xarray as xr

    coords = {dim: _index(length) for dim, length in zip(dims, array.shape, strict=True)}
    return xr.DataArray(array, dims=dims, coords=coords).transpose(*reversed(dims))


def _name_of(axis: Any, dims: list[str]) -> Any:
    if isinstance(axis, tuple):
        return tuple(_name_of(one, dims) for one in axis)
    return dims[axis] if type(axis) is int and -len(dims) <= axis < len(dims) else axis


def _xarray_call(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Name the dimensions of the logits and of operands with their shape or one number a row; pass axes by name."""
    if len(args) > 2:
        return _xarray_layer(function, args, dict(options))
    x, options = args[0], dict(options)
    dims = [f"d{axis}" for axis in range(x.ndim)]
    axis = options.get("axis", -1)
    try:
        classes = class_axes(axis, x.ndim)
        rows, others = row_shape(x.shape, axis), [dim for a, dim in enumerate(dims) if a not in classes]
    except (TypeError, ValueError):  # an axis that is to be refused
        return function(_named(x, dims).transpose(*dims), *args[1:], **options)

    def named(one: Any, by_row: bool = True) -> Any:
        if isinstance(one, np.ndarray) and one.ndim:
            if one.shape == x.shape:
                return _named(one, dims)
            if one.shape == rows and by_row:
                return _named(one, others)
        return one

    if "axis" in options:
        options["axis"] = _name_of(axis, dims)
    for name in {"where", "b", "log_b", "sample_weight"} & set(options):
        options[name] = named(options[name], name == "sample_weight")
    return function(_named(x, dims).transpose(*dims), *(named(one) for one in args[1:]), **options)


def _xarray_layer(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Name the rows, features and classes in the arguments of a linear layer whose shapes fit."""
    hidden, weight, targets, *bias = args
    if hidden.ndim == 0 or weight.ndim != 2 or weight.shape[1] != hidden.shape[-1]:  # to be refused
        return function(*args, **options)
    lengths = dict(zip((*(f"d{axis}" for axis in range(hidden.ndim - 1)), "feature"), hidden.shape, strict=True))
    rows, lengths = list(lengths)[:-1], lengths | {"class": weight.shape[0]}

    def named(one: Any, *dims: str) -> Any:
        fits = isinstance(one, np.ndarray) and one.ndim and one.shape == tuple(lengths[dim] for dim in dims)
        return _named(one, list(dims)) if fits else one

    for name, dims in (("sample_weight", rows), ("class_weight", ["class"])):
        if name in options:
            options[name] = named(options[name], *dims)
    targets = named(targets, *rows) if targets.ndim == len(rows) else named(targets, *rows, "class")
    first = _named(hidden, [*rows, "feature"]).transpose(*rows, "feature")
    return function(first, named(weight, "class", "feature"), targets, *(named(b, "class") for b in bias), **options)


def _xarray_problem(array: Any, elementwise: bool) -> str | None:
    import xarray as xr

    if not isinstance(array, xr.DataArray):
        return f"type is {type(array).__name__}; expected is a DataArray"
    lost = [dim for dim in array.dims if array.sizes[dim] != 1 and not array[dim].equals(_named_like(array, dim))]
    return f"labels along {lost} are lost; expected are those of the input" if lost else None


def _named_like(array: Any, dim: Any) -> Any:
    return _named(np.asarray(_index(array.sizes[dim])), [dim])


_COMMON: dict[str, Any] = {
    "backend": None,
    "read": _read,
    "dtype": numpy_dtype,
    "default_float": lambda x64: "float64",
    "writable": False,
}

LABELLED = (
    Target(
        name="pandas",
        requires=("pandas",),
        make=_pandas_make,
        problem=_pandas_problem,
        is_array=_is_pandas,
        missing={"bfloat16": "pandas has no bfloat16"},
        share=(0, 4),
        # A frame without columns has no dtype
        fits=lambda case: case.args[0].values.ndim in (1, 2) and case.args[0].values.size > 0 and _is_largest(case),
        **_COMMON,
    ),
    Target(
        name="xarray",
        requires=("xarray",),
        make=_native,
        problem=_xarray_problem,
        is_array=lambda x: isinstance(x, np.ndarray),
        call=_xarray_call,
        share=(1, 4),
        fits=_is_largest,
        **_COMMON,
    ),
)
