"""DataFrames and Series of polars: names of columns come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from logitx._labelled.table import ArrayLabels, without_labels
from logitx._plan import Array, Layout


class Columns(ArrayLabels):
    """Names of columns."""

    kinds = (pl.DataFrame, pl.Series)

    def __init__(self, x: Any) -> None:
        self.x, self.bare = x, without_labels(x, "x")

    def names(self) -> tuple[str, ...]:
        """Return nothing: axes of polars have no names."""
        return ()

    def aligned(self, name: str, value: Any, role: str, lay: Layout) -> Array:
        """Refuse other columns; rows have no labels."""
        frames = isinstance(value, pl.DataFrame) and isinstance(self.x, pl.DataFrame)
        frames = frames and role not in ("shares", "last")  # columns of targets, not of `hidden`
        if frames and len(value.columns) == len(self.x.columns) != 1 and value.columns != self.x.columns:
            raise ValueError(
                f"{name}: columns {value.columns} are not those of the logits; allowed are the same in the same order,"
                " select them"
            )
        return without_labels(value, name)

    def classes(self, axis: int) -> list[str] | None:
        """Return the names of the columns."""
        return self.x.columns if axis and isinstance(self.x, pl.DataFrame) else None

    def full(self, result: Array) -> Array:
        """Label a result of the shape of the logits."""
        if isinstance(self.x, pl.DataFrame):
            return pl.DataFrame(np.asarray(result), schema=self.x.columns)
        return pl.Series(self.x.name, result)

    def segments(self, result: Array, lay: Layout) -> Array:
        """Keep the names of columns, unless they are segments."""
        if isinstance(self.x, pl.Series):
            return pl.Series(self.x.name, result)
        return pl.DataFrame(np.asarray(result), schema=None if lay.axes == (1,) else self.x.columns)

    def rows(self, result: Array, lay: Layout, keepdims: bool) -> Array:
        """Return one number a row as a Series, one a column as a frame of one row."""
        if isinstance(self.x, pl.Series):
            return pl.Series(self.x.name, result) if keepdims else result
        if lay.axes == (0,):
            return pl.DataFrame(np.asarray(result).reshape(1, -1), schema=self.x.columns)
        if keepdims:
            return pl.DataFrame(np.asarray(result))
        return pl.Series(result) if np.ndim(result) else result
