# pyright: strict
"""What a user's type checker knows of every public function, on every kind of array. tests/test_types.py runs it."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeVar, assert_type

import array_api_strict as xp
import dask.array as da
import jax
import numpy as np
import pandas as pd
import polars as pl
import torch
import xarray as xr
from numpy.typing import NDArray

import logitx as lx

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]
Floats = NDArray[np.floating]
Whole = NDArray[np.int64]


class ArrayOfTheStandard(Protocol):
    """An array of any library with the Array API standard, as its users annotate it."""

    @property
    def shape(self) -> tuple[int | None, ...]: ...
    def __array_namespace__(self, *, api_version: str | None = None) -> Any: ...


X = TypeVar("X", bound=ArrayOfTheStandard)


def array_of_the_standard(x: X, y: X, keep: X, bias: X) -> None:
    assert_type(lx.softmax(x, axis=0), X)
    assert_type(lx.softmax(x, where=keep, temperature=2.0, dtype="float32"), X)
    assert_type(lx.log_softmax(x), X)
    assert_type(lx.sigmoid(x), X)
    assert_type(lx.log_sigmoid(x), X)
    assert_type(lx.softmax_vjp(x, x), X)
    assert_type(lx.log_softmax_vjp(x, x), X)
    assert_type(lx.logsumexp(x, axis=0), X)
    assert_type(lx.logsumexp(x, None, keepdims=True), X)
    assert_type(lx.logsumexp(x, return_sign=True), tuple[X, X])
    assert_type(lx.logmeanexp(x), X)
    assert_type(lx.merge_logsumexp(x, x), X)
    assert_type(lx.merge_logsumexp(0.0, x), X)
    assert_type(lx.logaddexp(x, 0.0), X)
    assert_type(lx.log_matmul(x, x), X)
    assert_type(lx.logcumsumexp(x), X)
    assert_type(lx.segment_softmax(x, segment_ids=[0, 1], num_segments=2), X)
    assert_type(lx.segment_log_softmax(x, segment_ids=[0, 1], num_segments=2), X)
    assert_type(lx.segment_logsumexp(x, segment_ids=[0, 1], num_segments=2), X)
    assert_type(lx.segment_cross_entropy(x, x, segment_ids=[0, 1], num_segments=2), X)
    assert_type(lx.cross_entropy(x, y), X)
    assert_type(lx.focal_loss(x, y), X)
    assert_type(lx.cross_entropy(x, y, reduction="none", label_smoothing=0.1), X)
    loss, parts = lx.cross_entropy(x, y, return_parts=True)
    assert_type((loss, parts.z_loss, parts.log_normalizer), tuple[X, X, X])
    assert_type(lx.cross_entropy_value_and_grad(x, y), tuple[X, X])
    assert_type(lx.focal_loss_value_and_grad(x, y), tuple[X, X])
    assert_type(lx.cross_entropy_value_and_grad(x, y, return_parts=True)[2].log_normalizer, X)
    assert_type(lx.cross_entropy_grad_hess(x, y), tuple[X, X])
    assert_type(lx.binary_cross_entropy_grad_hess(x, x), tuple[X, X])
    assert_type(lx.linear_cross_entropy(x, x, y, reduction="none"), X)
    loss, gradients = lx.linear_cross_entropy_value_and_grad(x, x, y)
    assert_type((loss, gradients), tuple[X, tuple[X, X, None]])
    _, gradients_with_bias = lx.linear_cross_entropy_value_and_grad(x, x, y, bias)
    assert_type(gradients_with_bias, tuple[X, X, X])


def torch_tensor(x: torch.Tensor, y: torch.Tensor, keep: torch.Tensor, bias: torch.Tensor) -> None:
    assert_type(lx.softmax(x, axis=(0, 1)), torch.Tensor)
    assert_type(lx.softmax(x, where=keep, temperature=2.0, dtype="float32"), torch.Tensor)
    assert_type(lx.log_softmax(x), torch.Tensor)
    assert_type(lx.sigmoid(x), torch.Tensor)
    assert_type(lx.log_sigmoid(x), torch.Tensor)
    assert_type(lx.softmax_vjp(x, x), torch.Tensor)
    assert_type(lx.log_softmax_vjp(x, x), torch.Tensor)
    assert_type(lx.logsumexp(x, axis=(0, 1)), torch.Tensor)
    assert_type(lx.logsumexp(x, None, keepdims=True), torch.Tensor)
    assert_type(lx.logsumexp(x, return_sign=True), tuple[torch.Tensor, torch.Tensor])
    assert_type(lx.logmeanexp(x), torch.Tensor)
    assert_type(lx.merge_logsumexp(x, x), torch.Tensor)
    assert_type(lx.merge_logsumexp(0.0, x), torch.Tensor)
    assert_type(lx.logaddexp(x, 0.0), torch.Tensor)
    assert_type(lx.log_matmul(x, x), torch.Tensor)
    assert_type(lx.logcumsumexp(x), torch.Tensor)
    assert_type(lx.segment_softmax(x, segment_ids=[0, 1], num_segments=2), torch.Tensor)
    assert_type(lx.segment_log_softmax(x, segment_ids=[0, 1], num_segments=2), torch.Tensor)
    assert_type(lx.segment_logsumexp(x, segment_ids=[0, 1], num_segments=2), torch.Tensor)
    assert_type(lx.segment_cross_entropy(x, x, segment_ids=[0, 1], num_segments=2), torch.Tensor)
    assert_type(lx.cross_entropy(x, y), torch.Tensor)
    assert_type(lx.focal_loss(x, y), torch.Tensor)
    assert_type(lx.cross_entropy(x, y, reduction="none", label_smoothing=0.1), torch.Tensor)
    loss, parts = lx.cross_entropy(x, y, return_parts=True)
    assert_type((loss, parts.z_loss, parts.log_normalizer), tuple[torch.Tensor, torch.Tensor, torch.Tensor])
    assert_type(lx.cross_entropy_value_and_grad(x, y), tuple[torch.Tensor, torch.Tensor])
    assert_type(lx.focal_loss_value_and_grad(x, y), tuple[torch.Tensor, torch.Tensor])
    assert_type(lx.cross_entropy_value_and_grad(x, y, return_parts=True)[2].log_normalizer, torch.Tensor)
    assert_type(lx.cross_entropy_grad_hess(x, y), tuple[torch.Tensor, torch.Tensor])
    assert_type(lx.binary_cross_entropy_grad_hess(x, x), tuple[torch.Tensor, torch.Tensor])
    assert_type(lx.linear_cross_entropy(x, x, y, reduction="none"), torch.Tensor)
    loss, gradients = lx.linear_cross_entropy_value_and_grad(x, x, y)
    assert_type((loss, gradients), tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor, None]])
    _, gradients_with_bias = lx.linear_cross_entropy_value_and_grad(x, x, y, bias)
    assert_type(gradients_with_bias, tuple[torch.Tensor, torch.Tensor, torch.Tensor])


def jax_array(x: jax.Array, y: jax.Array, keep: jax.Array, bias: jax.Array) -> None:
    assert_type(lx.softmax(x, axis=None), jax.Array)
    assert_type(lx.softmax(x, where=keep, temperature=2.0, dtype="float32"), jax.Array)
    assert_type(lx.log_softmax(x), jax.Array)
    assert_type(lx.sigmoid(x), jax.Array)
    assert_type(lx.log_sigmoid(x), jax.Array)
    assert_type(lx.softmax_vjp(x, x), jax.Array)
    assert_type(lx.log_softmax_vjp(x, x), jax.Array)
    assert_type(lx.logsumexp(x, axis=None), jax.Array)
    assert_type(lx.logsumexp(x, None, keepdims=True), jax.Array)
    assert_type(lx.logsumexp(x, return_sign=True), tuple[jax.Array, jax.Array])
    assert_type(lx.logmeanexp(x), jax.Array)
    assert_type(lx.merge_logsumexp(x, x), jax.Array)
    assert_type(lx.merge_logsumexp(0.0, x), jax.Array)
    assert_type(lx.logaddexp(x, 0.0), jax.Array)
    assert_type(lx.log_matmul(x, x), jax.Array)
    assert_type(lx.logcumsumexp(x), jax.Array)
    assert_type(lx.segment_softmax(x, segment_ids=[0, 1], num_segments=2), jax.Array)
    assert_type(lx.segment_log_softmax(x, segment_ids=[0, 1], num_segments=2), jax.Array)
    assert_type(lx.segment_logsumexp(x, segment_ids=[0, 1], num_segments=2), jax.Array)
    assert_type(lx.segment_cross_entropy(x, x, segment_ids=[0, 1], num_segments=2), jax.Array)
    assert_type(lx.cross_entropy(x, y), jax.Array)
    assert_type(lx.focal_loss(x, y), jax.Array)
    assert_type(lx.cross_entropy(x, y, reduction="none", label_smoothing=0.1), jax.Array)
    loss, parts = lx.cross_entropy(x, y, return_parts=True)
    assert_type((loss, parts.z_loss, parts.log_normalizer), tuple[jax.Array, jax.Array, jax.Array])
    assert_type(lx.cross_entropy_value_and_grad(x, y), tuple[jax.Array, jax.Array])
    assert_type(lx.focal_loss_value_and_grad(x, y), tuple[jax.Array, jax.Array])
    assert_type(lx.cross_entropy_value_and_grad(x, y, return_parts=True)[2].log_normalizer, jax.Array)
    assert_type(lx.cross_entropy_grad_hess(x, y), tuple[jax.Array, jax.Array])
    assert_type(lx.binary_cross_entropy_grad_hess(x, x), tuple[jax.Array, jax.Array])
    assert_type(lx.linear_cross_entropy(x, x, y, reduction="none"), jax.Array)
    loss, gradients = lx.linear_cross_entropy_value_and_grad(x, x, y)
    assert_type((loss, gradients), tuple[jax.Array, tuple[jax.Array, jax.Array, None]])
    _, gradients_with_bias = lx.linear_cross_entropy_value_and_grad(x, x, y, bias)
    assert_type(gradients_with_bias, tuple[jax.Array, jax.Array, jax.Array])


def xarray_array(x: xr.DataArray, y: xr.DataArray, keep: xr.DataArray, bias: xr.DataArray) -> None:
    assert_type(lx.softmax(x, axis="class"), xr.DataArray)
    assert_type(lx.softmax(x, where=keep, temperature=2.0, dtype="float32"), xr.DataArray)
    assert_type(lx.log_softmax(x), xr.DataArray)
    assert_type(lx.sigmoid(x), xr.DataArray)
    assert_type(lx.log_sigmoid(x), xr.DataArray)
    assert_type(lx.softmax_vjp(x, x), xr.DataArray)
    assert_type(lx.log_softmax_vjp(x, x), xr.DataArray)
    assert_type(lx.logsumexp(x, axis="class"), xr.DataArray)
    assert_type(lx.logsumexp(x, None, keepdims=True), xr.DataArray)
    assert_type(lx.logsumexp(x, return_sign=True), tuple[xr.DataArray, xr.DataArray])
    assert_type(lx.logmeanexp(x), xr.DataArray)
    assert_type(lx.merge_logsumexp(x, x), xr.DataArray)
    assert_type(lx.merge_logsumexp(0.0, x), xr.DataArray)
    assert_type(lx.logaddexp(x, 0.0), xr.DataArray)
    assert_type(lx.logcumsumexp(x), xr.DataArray)
    assert_type(lx.segment_softmax(x, segment_ids=[0, 1], num_segments=2), xr.DataArray)
    assert_type(lx.segment_log_softmax(x, segment_ids=[0, 1], num_segments=2), xr.DataArray)
    assert_type(lx.segment_logsumexp(x, segment_ids=[0, 1], num_segments=2), xr.DataArray)
    assert_type(lx.segment_cross_entropy(x, x, segment_ids=[0, 1], num_segments=2), xr.DataArray)
    assert_type(lx.cross_entropy(x, y), xr.DataArray)
    assert_type(lx.focal_loss(x, y), xr.DataArray)
    assert_type(lx.cross_entropy(x, y, reduction="none", label_smoothing=0.1), xr.DataArray)
    loss, parts = lx.cross_entropy(x, y, return_parts=True)
    assert_type((loss, parts.z_loss, parts.log_normalizer), tuple[xr.DataArray, xr.DataArray, xr.DataArray])
    assert_type(lx.cross_entropy_value_and_grad(x, y), tuple[xr.DataArray, xr.DataArray])
    assert_type(lx.focal_loss_value_and_grad(x, y), tuple[xr.DataArray, xr.DataArray])
    assert_type(lx.cross_entropy_value_and_grad(x, y, return_parts=True)[2].log_normalizer, xr.DataArray)
    assert_type(lx.cross_entropy_grad_hess(x, y), tuple[xr.DataArray, xr.DataArray])
    assert_type(lx.binary_cross_entropy_grad_hess(x, x), tuple[xr.DataArray, xr.DataArray])
    assert_type(lx.linear_cross_entropy(x, x, y, reduction="none"), xr.DataArray)
    loss, gradients = lx.linear_cross_entropy_value_and_grad(x, x, y)
    assert_type((loss, gradients), tuple[xr.DataArray, tuple[xr.DataArray, xr.DataArray, None]])
    _, gradients_with_bias = lx.linear_cross_entropy_value_and_grad(x, x, y, bias)
    assert_type(gradients_with_bias, tuple[xr.DataArray, xr.DataArray, xr.DataArray])


def dask_array(x: da.Array, y: da.Array, keep: da.Array, bias: da.Array) -> None:
    assert_type(lx.softmax(x, axis=-1), da.Array)
    assert_type(lx.softmax(x, where=keep, temperature=2.0, dtype="float32"), da.Array)
    assert_type(lx.log_softmax(x), da.Array)
    assert_type(lx.sigmoid(x), da.Array)
    assert_type(lx.log_sigmoid(x), da.Array)
    assert_type(lx.softmax_vjp(x, x), da.Array)
    assert_type(lx.log_softmax_vjp(x, x), da.Array)
    assert_type(lx.logsumexp(x, axis=-1), da.Array)
    assert_type(lx.logsumexp(x, None, keepdims=True), da.Array)
    assert_type(lx.logsumexp(x, return_sign=True), tuple[da.Array, da.Array])
    assert_type(lx.logmeanexp(x), da.Array)
    assert_type(lx.merge_logsumexp(x, x), da.Array)
    assert_type(lx.merge_logsumexp(0.0, x), da.Array)
    assert_type(lx.logaddexp(x, 0.0), da.Array)
    assert_type(lx.log_matmul(x, x), da.Array)
    assert_type(lx.logcumsumexp(x), da.Array)
    assert_type(lx.segment_softmax(x, segment_ids=[0, 1], num_segments=2), da.Array)
    assert_type(lx.segment_log_softmax(x, segment_ids=[0, 1], num_segments=2), da.Array)
    assert_type(lx.segment_logsumexp(x, segment_ids=[0, 1], num_segments=2), da.Array)
    assert_type(lx.segment_cross_entropy(x, x, segment_ids=[0, 1], num_segments=2), da.Array)
    assert_type(lx.cross_entropy(x, y), da.Array)
    assert_type(lx.focal_loss(x, y), da.Array)
    assert_type(lx.cross_entropy(x, y, reduction="none", label_smoothing=0.1), da.Array)
    loss, parts = lx.cross_entropy(x, y, return_parts=True)
    assert_type((loss, parts.z_loss, parts.log_normalizer), tuple[da.Array, da.Array, da.Array])
    assert_type(lx.cross_entropy_value_and_grad(x, y), tuple[da.Array, da.Array])
    assert_type(lx.focal_loss_value_and_grad(x, y), tuple[da.Array, da.Array])
    assert_type(lx.cross_entropy_value_and_grad(x, y, return_parts=True)[2].log_normalizer, da.Array)
    assert_type(lx.cross_entropy_grad_hess(x, y), tuple[da.Array, da.Array])
    assert_type(lx.binary_cross_entropy_grad_hess(x, x), tuple[da.Array, da.Array])
    assert_type(lx.linear_cross_entropy(x, x, y, reduction="none"), da.Array)
    loss, gradients = lx.linear_cross_entropy_value_and_grad(x, x, y)
    assert_type((loss, gradients), tuple[da.Array, tuple[da.Array, da.Array, None]])
    _, gradients_with_bias = lx.linear_cross_entropy_value_and_grad(x, x, y, bias)
    assert_type(gradients_with_bias, tuple[da.Array, da.Array, da.Array])


def array_api_strict_array() -> None:
    x = xp.asarray([[1.0, 2.0]])
    for result in (lx.softmax(x), lx.logsumexp(x), lx.cross_entropy(x, xp.asarray([0]))):
        x = result  # of the same type, which has no public name


def torch_parameter(x: torch.nn.Parameter, t: torch.Tensor, y: torch.Tensor) -> None:
    assert_type(lx.softmax(x), torch.Tensor)
    assert_type(lx.linear_cross_entropy_value_and_grad(t, x, y)[1], tuple[torch.Tensor, torch.Tensor, None])


def numpy_array(x: Singles, unknown: NDArray[Any], y: Whole, whole: Whole, d: Doubles, s: np.float32) -> None:
    assert_type(lx.softmax(x), Singles)
    assert_type(lx.log_softmax(np.zeros((2, 3))), np.ndarray[tuple[int, int], np.dtype[np.float64]])
    assert_type(lx.sigmoid(x), Singles)
    assert_type(lx.log_sigmoid(np.zeros((2, 3))), np.ndarray[tuple[int, int], np.dtype[np.float64]])
    assert_type(lx.softmax(unknown), NDArray[Any])
    assert_type(lx.softmax(whole), Doubles)
    assert_type(lx.softmax(s), np.float32)
    assert_type(lx.softmax(x, dtype="float64"), Floats)
    assert_type(lx.softmax_vjp(x, x), Singles)
    assert_type(lx.log_softmax_vjp(x, x), Singles)
    assert_type(lx.logsumexp(x), Singles)
    assert_type(lx.logsumexp(unknown), NDArray[Any])
    assert_type(lx.logsumexp(x, None), np.floating)
    assert_type(lx.logsumexp(unknown, axis=None), np.floating)
    assert_type(lx.logsumexp(d, axis=None), np.float64)
    assert_type(lx.logsumexp(x, keepdims=True), Singles)
    assert_type(lx.logsumexp(x, b=x, return_sign=True), tuple[Singles, Singles])
    assert_type(lx.logmeanexp(x), Singles)
    assert_type(lx.merge_logsumexp(x, x), Singles)
    assert_type(lx.merge_logsumexp(0.0, x), Singles)
    assert_type(lx.logaddexp(x, 0.0), Singles)
    assert_type(lx.log_matmul(x, x), Singles)
    assert_type(lx.logcumsumexp(x), Singles)
    assert_type(lx.segment_softmax(x, segment_ids=[0, 1], num_segments=2), Singles)
    assert_type(lx.segment_log_softmax(x, segment_ids=[0, 1], num_segments=2), Singles)
    assert_type(lx.segment_logsumexp(x, segment_ids=[0, 1], num_segments=2), Singles)
    assert_type(lx.segment_cross_entropy(x, x, segment_ids=[0, 1], num_segments=2), np.floating)
    assert_type(lx.cross_entropy(x, y), np.floating)
    assert_type(lx.focal_loss(x, y), np.floating)
    assert_type(lx.cross_entropy(unknown, y), np.floating)
    assert_type(lx.cross_entropy(d, y), np.float64)
    assert_type(lx.cross_entropy(d, y, dtype="float32"), np.floating)
    assert_type(lx.cross_entropy(x, [0, 1], reduction="none"), Singles)
    assert_type(lx.cross_entropy(whole, [0, 1], reduction="none"), Doubles)
    assert_type(lx.cross_entropy(x, y, reduction="none", dtype="float64"), Floats)
    loss, parts = lx.cross_entropy(x, y, return_parts=True)
    assert_type((loss, parts.z_loss, parts.log_normalizer), tuple[np.floating, np.floating, Floats])
    assert_type(lx.cross_entropy_value_and_grad(x, y), tuple[np.floating, Singles])
    assert_type(lx.focal_loss_value_and_grad(x, y), tuple[np.floating, Singles])
    assert_type(lx.cross_entropy_value_and_grad(d, y), tuple[np.float64, Doubles])
    assert_type(lx.cross_entropy_value_and_grad(unknown, y), tuple[np.floating, NDArray[Any]])
    assert_type(lx.cross_entropy_value_and_grad(x, y, reduction="none"), tuple[Singles, Singles])
    assert_type(lx.cross_entropy_grad_hess(x, y), tuple[Singles, Singles])
    assert_type(lx.binary_cross_entropy_grad_hess(x, x), tuple[Singles, Singles])
    assert_type(lx.linear_cross_entropy(x, x, y), np.floating)
    assert_type(lx.linear_cross_entropy(x, x, y, reduction="none"), Singles)
    assert_type(lx.linear_cross_entropy_value_and_grad(x, x, y)[1], tuple[Singles, Floats, None])
    assert_type(lx.linear_cross_entropy_value_and_grad(x, x, y, [0.0, 0.0])[1], tuple[Singles, Floats, Floats])


def masked_array(x: np.ma.MaskedArray[tuple[int, int], np.dtype[np.float32]]) -> None:
    assert_type(lx.softmax(x), np.ma.MaskedArray[tuple[int, int], np.dtype[np.float32]])


def numbers() -> None:
    assert_type(lx.softmax(1.0), np.floating)
    assert_type(lx.softmax([1.0, 2.0]), Doubles)
    assert_type(lx.log_softmax([[1, 2], (3, 4)], dtype="float32"), Floats)
    assert_type(lx.softmax_vjp([0.5, 0.5], [1.0, 0.0]), Doubles)
    assert_type(lx.logsumexp([1.0, 2.0]), np.float64)
    assert_type(lx.logsumexp([[1.0, 2.0]]), Doubles)
    assert_type(lx.logsumexp([1.0, 2.0], keepdims=True), Doubles)
    assert_type(lx.logsumexp([[1, 2]], return_sign=True), tuple[Doubles, Doubles])
    assert_type(lx.logsumexp([1.0, 2.0], dtype="float32"), np.floating)
    assert_type(lx.logmeanexp([1.0, 2.0]), np.float64)
    assert_type(lx.merge_logsumexp(1.0, 2.0), np.floating)
    assert_type(lx.logaddexp([1.0, 2.0], 0.0), Doubles)
    assert_type(lx.cross_entropy([2.0, 1.0], 0), np.float64)
    assert_type(lx.cross_entropy([[2.0, 1.0]], [0]), np.float64)
    assert_type(lx.cross_entropy([[2.0, 1.0]], [0], reduction="none"), Doubles)
    assert_type(lx.cross_entropy_value_and_grad([[2.0, 1.0]], [0]), tuple[np.float64, Doubles])
    assert_type(lx.cross_entropy_grad_hess([[2.0, 1.0]], [0]), tuple[Doubles, Doubles])


def pandas_frame(x: pd.DataFrame, y: pd.Series[int], s: pd.Series[float]) -> None:
    assert_type(lx.softmax(x, axis="columns"), pd.DataFrame)
    assert_type(lx.log_softmax(s), "pd.Series[float]")
    assert_type(lx.softmax_vjp(x, x), pd.DataFrame)
    assert_type(lx.logsumexp(x), "pd.Series[Any]")
    assert_type(lx.logsumexp(x, keepdims=True), pd.DataFrame)
    assert_type(lx.logsumexp(x, axis=None), np.floating)
    assert_type(lx.logsumexp(s), np.floating)
    assert_type(lx.logsumexp(x, return_sign=True), "tuple[pd.Series[Any], pd.Series[Any]]")
    assert_type(lx.logmeanexp(x), "pd.Series[Any]")
    assert_type(lx.cross_entropy(x, y), np.floating)
    assert_type(lx.cross_entropy(x, y, reduction="none"), "pd.Series[Any]")
    assert_type(lx.cross_entropy(x, y, return_parts=True)[1].log_normalizer, "pd.Series[Any]")
    assert_type(lx.cross_entropy_value_and_grad(x, y), tuple[np.floating, pd.DataFrame])
    assert_type(lx.cross_entropy_grad_hess(x, y), tuple[pd.DataFrame, pd.DataFrame])
    assert_type(lx.linear_cross_entropy(x, x, y), np.floating)
    _, gradients = lx.linear_cross_entropy_value_and_grad(x, x, y, s)
    assert_type(gradients, "tuple[pd.DataFrame, pd.DataFrame, pd.Series[float]]")


def polars_frame(x: pl.DataFrame, y: pl.Series) -> None:
    assert_type(lx.softmax(x), pl.DataFrame)
    assert_type(lx.log_softmax(y), pl.Series)
    assert_type(lx.logsumexp(x), pl.Series)
    assert_type(lx.logsumexp(y), np.floating)
    assert_type(lx.logmeanexp(x), pl.Series)
    assert_type(lx.cross_entropy(x, y), np.floating)
    assert_type(lx.cross_entropy(x, y, reduction="none"), pl.Series)
    assert_type(lx.cross_entropy_value_and_grad(x, y, reduction="none"), tuple[pl.Series, pl.DataFrame])
    assert_type(lx.linear_cross_entropy(x, x, y), np.floating)


def variables(t: torch.Tensor, y: torch.Tensor, flag: bool, how: Literal["none", "sum", "mean"]) -> None:
    assert_type(lx.cross_entropy(t, y, reduction=how), torch.Tensor)
    assert_type(lx.logsumexp(t, 0, keepdims=flag), torch.Tensor)


def mistakes(x: Singles, t: torch.Tensor) -> None:
    # fmt: off
    lx.softmax(x, dim=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    lx.softmax("x")  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert lx.softmax(t).argmx  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    lx.which("sofmax", x)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    lx.set_num_threads("2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    lx.use_backend("nunba")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # fmt: on


def the_rest(x: Singles, y: Whole) -> None:
    total = lx.CrossEntropy(axis=-1, top_k=1).update(x, y)
    assert_type(total, lx.CrossEntropy)
    result = total.merge(lx.CrossEntropy(top_k=1).feed(x, y)).result()
    assert_type(result.loss, float)
    assert_type(result.count, int)
    assert_type(result.top_k_accuracy, float | None)
    assert_type(lx.which("softmax", x).backend, str)
    assert_type([(info.name, info.available) for info in lx.backends()], list[tuple[str, bool]])
    with lx.use_backend("generic"), lx.use_backend(None):
        lx.warmup("softmax", dtypes=["float32"])
