"""The static types tell the truth: what tests/typed_user.py asserts to a type checker holds for the values too."""

from __future__ import annotations

import importlib.util
import inspect
import re
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import OPS

xp = pytest.importorskip("array_api_strict")
da = pytest.importorskip("dask.array")
jnp = pytest.importorskip("jax.numpy")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
torch = pytest.importorskip("torch")
xr = pytest.importorskip("xarray")


def is_of(value: Any, kind: Any) -> bool:
    """True if a value is of a type that a type checker was told."""
    if isinstance(kind, typing.TypeVar):
        kind = type(xp.asarray(0.0))
    origin, within = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return len(value) == len(within) and all(map(is_of, value, within))
    if origin is list:
        return all(is_of(one, within[0]) for one in value)
    if origin in (np.ndarray, np.ma.MaskedArray):
        numbers = typing.get_args(within[1])[0]
        return isinstance(value, origin) and (numbers is Any or issubclass(value.dtype.type, numbers))
    return isinstance(value, type(None) if kind is None else kind)


def holds(value: Any, kind: Any) -> Any:
    """Stand in for `assert_type`. The numbers of a series have no type in a running program."""
    if isinstance(kind, str):
        kind = eval(re.sub(r"Series\[\w+\]", "Series", kind))
    assert is_of(value, kind), f"{value!r} is not {kind}"
    return value


@pytest.fixture(scope="module")
def user():
    spec = importlib.util.spec_from_file_location("typed_user", Path(__file__).with_name("typed_user.py"))
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typing, "assert_type", holds)
        spec.loader.exec_module(module)
    return module


X, Y, BIAS = np.array([[2.0, 1.0], [0.5, 2.5]], np.float32), np.array([0, 1]), np.array([0.0, 1.0], np.float32)
ALIKE = (X, Y, X > 0.7, BIAS)
DIMS = {1: ("row",), 2: ("row", "class")}
CALLS = {
    "array_of_the_standard": [xp.asarray(one) for one in ALIKE],
    "array_api_strict_array": [],
    "torch_tensor": [torch.from_numpy(one) for one in ALIKE],
    "torch_parameter": [torch.nn.Parameter(torch.from_numpy(X)), torch.from_numpy(X), torch.from_numpy(Y)],
    "jax_array": [jnp.asarray(one) for one in ALIKE],
    "xarray_array": [xr.DataArray(one, dims=DIMS[one.ndim]) for one in ALIKE],
    "dask_array": [da.from_array(one) for one in ALIKE],
    "numpy_array": [X, X, Y, np.array([[1, 2], [3, 4]]), X.astype(float), X[0, 0]],
    "masked_array": [np.ma.MaskedArray(X, X > 2.0)],
    "numbers": [],
    "pandas_frame": [pd.DataFrame(X), pd.Series(Y), pd.Series(BIAS)],
    "polars_frame": [pl.DataFrame(X), pl.Series(Y)],
    "variables": [torch.from_numpy(X), torch.from_numpy(Y), True, "none"],
    "the_rest": [X, Y],
}
# Losses of elements have results of Any: their shape depends on the reduction and on that of the logits. log_matmul
# takes no labels
ANY = {"log_matmul", "binary_cross_entropy", "binary_focal_loss", "info_nce"}
ANY |= {f"{name}_value_and_grad" for name in ANY}
# The families in which every other public function stands
WHOLE = ("array_of_the_standard", "torch_tensor", "jax_array", "xarray_array", "dask_array", "numpy_array")


@pytest.mark.parametrize("name", CALLS)
def test_the_types_of_results_are_those_that_checkers_are_told(user, name):
    getattr(user, name)(*CALLS[name])


def test_every_function_of_the_users_file_runs(user):
    functions = inspect.getmembers(user, inspect.isfunction)
    made = {name for name, function in functions if function.__module__ == "typed_user"}
    assert made == {*CALLS, "mistakes"}


@pytest.mark.parametrize("name", WHOLE)
def test_every_public_function_is_asserted(user, name):
    asserted = set(re.findall(r"lx\.(\w+)", inspect.getsource(getattr(user, name))))
    stub = Path(lx.__file__).with_suffix(".pyi").read_text(encoding="utf-8")  # it imports what has no types of its own
    typed = set(re.findall(r"^def (\w+)", stub, re.MULTILINE))
    assert {op.name for op in OPS} & typed - asserted - ANY == set()
