"""Operands of another kind than the logits: NumPy data in any memory, labelled arrays, class ids of other libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import TARGETS, Target

X = np.array([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]], dtype=np.float32)
OPERANDS = {
    "targets": np.array([2, 1]),
    "class_weight": np.array([1.0, 2.0, 0.5]),
    "sample_weight": np.array([1.0, 3.0]),
    "where": np.array([[True, True, True], [False, True, True]]),
}


def _mapped(a: np.ndarray, folder: Path) -> Any:
    np.save(folder / "operand.npy", a)
    return np.load(folder / "operand.npy", mmap_mode="r")


def _library(name: str, make: Callable[[Any, np.ndarray], Any]) -> Callable[[np.ndarray, Path], Any]:
    def made(a: np.ndarray, folder: Path) -> Any:
        return make(pytest.importorskip(name, reason=f"{name} is not installed"), a)

    return made


KINDS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "list": lambda a, _: a.tolist(),
    "foreign byte order": lambda a, _: a.astype(a.dtype.newbyteorder()),
    "read-only": lambda a, _: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "reversed": lambda a, _: np.flip(np.flip(a).copy()),
    "strided": lambda a, _: np.repeat(a, 2, axis=-1)[..., ::2],
    "memory map": _mapped,
    "masked array": lambda a, _: np.ma.MaskedArray(a, np.zeros(a.shape, dtype=bool)),
    "pandas": _library("pandas", lambda pd, a: pd.Series(a) if a.ndim == 1 else pd.DataFrame(a)),
    "polars": _library("polars", lambda pl, a: pl.Series(a) if a.ndim == 1 else pl.DataFrame(a)),
    "xarray": _library("xarray", lambda xr, a: xr.DataArray(a)),
}


TRACED = ("torch-compile", "torch-vmap", "jax-jit", "tensorflow-graph")  # constants are made as for eager calls
EAGER = [target for target in TARGETS if target.name not in TRACED]


def loss(x: Any, operands: dict[str, Any]) -> Any:
    return lx.cross_entropy(x, operands["targets"], **{k: v for k, v in operands.items() if k != "targets"})


@pytest.mark.parametrize("name", OPERANDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_numpy_data_goes_with_everything(target: Target, kind: str, name: str, tmp_path: Path) -> None:
    if reason := target.absent():
        pytest.skip(reason)
    if target.name == kind:
        pytest.skip("matched by labels, in test_labels.py")
    operands = {**OPERANDS, name: KINDS[kind](OPERANDS[name], tmp_path)}
    with target.session(False):
        found = target.call(lambda x: loss(x, operands), (target.make(X, "float32", "C"),), {})
        np.testing.assert_allclose(target.read(found)[0], loss(X, OPERANDS), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
@pytest.mark.parametrize("function", [lx.softmax, lx.log_softmax, lx.logsumexp])
def test_logits_of_foreign_byte_order(function: Callable[..., Any], dtype: str) -> None:
    x = (X * 2).astype(dtype)
    foreign = x.astype(x.dtype.newbyteorder())
    for axis in (-1, 0, None, (1, 0)):
        found = function(foreign, axis)
        np.testing.assert_array_equal(found, function(x, axis))
        assert found.dtype.isnative
    if function is not lx.logsumexp and dtype.startswith("float"):
        out = np.empty_like(foreign)  # of a foreign byte order too
        assert function(foreign, out=out) is out
        np.testing.assert_array_equal(out, function(x))
        assert not out.dtype.isnative


def test_memory_maps_in_and_out(tmp_path: Path) -> None:
    mapped = _mapped(X, tmp_path)
    p = lx.softmax(mapped)
    assert type(p) is np.ndarray
    out = np.lib.format.open_memmap(tmp_path / "out.npy", mode="w+", dtype=np.float32, shape=X.shape)
    assert lx.softmax(mapped, out=out) is out
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), lx.softmax(X))
    with pytest.raises(ValueError, match="out: is read-only"):
        lx.softmax(X, out=mapped)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_matrices_are_refused_everywhere() -> None:
    matrix = np.matrix(X)
    for call in (
        lambda: lx.softmax(matrix),
        lambda: lx.cross_entropy(X, [0, 1], where=matrix > 0),
        lambda: lx.merge_logsumexp(X, matrix),
        lambda: lx.softmax(np.ma.MaskedArray(matrix)),
    ):
        with pytest.raises(
            TypeError, match="matrix is not an array type that logitx knows; .* convert with numpy.asarray"
        ):
            call()


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_devices_and_libraries_that_do_not_meet() -> None:
    import torch

    x, there = torch.tensor(X), torch.zeros(2, dtype=torch.int64, device="meta")
    with pytest.raises(TypeError, match="targets: lies on device meta, the logits on cpu; move one of them"):
        lx.cross_entropy(x, there)
    with pytest.raises(TypeError, match="targets: is a NumPy array, the logits lie on device meta; move one of them"):
        lx.cross_entropy(x.to("meta"), np.array([0, 1]))
    with pytest.raises(TypeError, match="targets: a torch array cannot go with logits of numpy; convert one"):
        lx.cross_entropy(X, there)  # nobody can look at it
