"""DataArrays of xarray: dimensions have names, and operands are matched by them. Dask-backed ones stay lazy."""

from __future__ import annotations

from typing import Any

import xarray

from logitx._labelled.table import BROADCAST, ArrayLabels
from logitx._plan import Array, Layout


class Dimensions(ArrayLabels):
    """Dimensions, coordinates, name and attributes of a DataArray."""

    kinds = (xarray.DataArray,)

    def __init__(self, x: Any) -> None:
        self.x, self.bare = x, x.data

    def names(self) -> tuple[Any, ...]:
        """Return the dimensions."""
        return tuple(self.x.dims)

    def aligned(self, name: str, value: Any, role: str, lay: Layout) -> Array:
        """Order the dimensions as the logits have them; those that are missing get length 1."""
        order, allowed = self._order(value, role, lay)
        unknown = [dim for dim in value.dims if dim not in allowed]
        if unknown or (role == "last" and order[-1] not in value.dims):
            raise ValueError(f"{name}: dimensions {tuple(value.dims)} are not allowed; allowed are those of {allowed}")
        for dim in value.dims:
            mine, own = self.x.indexes.get(dim), value.indexes.get(dim)
            if mine is not None and own is not None and not mine.equals(own):
                raise ValueError(
                    f"{name}: labels along {dim!r} are not those of the logits; allowed are the same in the same order,"
                    " align them with xarray.align"
                )
        if not value.ndim:
            return value.data
        data = value.transpose(*(dim for dim in order if dim in value.dims)).data
        if role == "classes":
            return data.reshape(-1)
        if name not in BROADCAST:
            return data
        return data[tuple(slice(None) if dim in value.dims else None for dim in order)]

    def _order(self, value: Any, role: str, lay: Layout) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the dimensions in the required order, and the dimensions that are allowed."""
        dims = self.x.dims
        classes = tuple(dims[axis] for axis in lay.axes)
        others = tuple(dim for dim in dims if dim not in classes)
        if role == "rows" and set(value.dims) == set(
            dims
        ):  # one-hot, for example: the check of shapes raises the error
            return dims, dims
        if role in ("features", "shares", "last"):  # one dimension of a linear layer is not of `hidden`
            mine = classes if role == "features" else others
            foreign = tuple(dim for dim in value.dims if dim not in mine)
            order = {"features": foreign[:1] + mine, "shares": mine + foreign[:1], "last": foreign + mine}[role]
            return order, order
        order = {"entries": dims, "column": dims, "rows": others, "classes": classes}[role]
        return order, others if role == "column" else order

    def turned(self, weight: Any) -> Any:
        """Move the dimension of the features last."""
        return weight.transpose(..., self.x.dims[-1], missing_dims="ignore") if self.x.dims else weight

    def classes(self, axis: int) -> list[Any] | None:
        """Return the coordinates along the dimension."""
        index = self.x.indexes.get(self.x.dims[axis])
        return None if index is None else list(index)

    def full(self, result: Array) -> Array:
        """Label a result of the shape of the logits."""
        return self.x.copy(deep=False, data=result)

    def segments(self, result: Array, lay: Layout) -> Array:
        """Keep the dimensions, and the coordinates that do not run along the segments."""
        classes = {self.x.dims[axis] for axis in lay.axes}
        gone = [name for name, coord in self.x.coords.items() if classes.intersection(coord.dims)]
        coords = self.x.drop_vars(gone).coords
        return xarray.DataArray(result, coords=coords, dims=self.x.dims, name=self.x.name, attrs=self.x.attrs)

    def rows(self, result: Array, lay: Layout, keepdims: bool) -> Array:
        """Keep the coordinates that do not run along the classes."""
        classes = {self.x.dims[axis] for axis in lay.axes}
        dims = [dim for dim in self.x.dims if keepdims or dim not in classes]
        gone = [name for name, coord in self.x.coords.items() if classes.intersection(coord.dims)]
        coords = self.x.drop_vars(gone).coords
        return xarray.DataArray(result, coords=coords, dims=dims, name=self.x.name, attrs=self.x.attrs)

    def total(self, result: Array) -> Array:
        """Keep the coordinates without a dimension."""
        gone = [name for name, coord in self.x.coords.items() if coord.dims]
        coords = self.x.drop_vars(gone).coords
        return xarray.DataArray(result, coords=coords, dims=(), name=self.x.name, attrs=self.x.attrs)
