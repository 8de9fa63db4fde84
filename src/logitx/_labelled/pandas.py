"""Objects of pandas: index and columns of DataFrames and Series come back, and operands must have the same."""

from __future__ import annotations

from typing import Any

import pandas as pd

from logitx._labelled.pandas_values import values
from logitx._labelled.table import ArrayLabels
from logitx._plan import Array, Layout


class Indexed(ArrayLabels):
    """Index, columns, name and attributes of a DataFrame or Series."""

    kinds = (pd.DataFrame, pd.Series)

    def __init__(self, x: Any) -> None:
        self.x, self.bare = x, values(x)

    def names(self) -> tuple[str, ...]:
        """Return what pandas calls the axes."""
        return ("index", "columns")[: self.x.ndim]

    def aligned(self, name: str, value: Any, role: str, lay: Layout) -> Array:
        """Refuse an index that is not that of the logits; lengths are checked later."""
        labels, owns = list(self.x.axes), list(value.axes)
        if role == "shares":
            owns = owns[:-1]
        if role in ("rows", "shares", "last"):
            labels = [one for axis, one in enumerate(labels) if axis not in lay.axes]
        elif role in ("classes", "features"):
            labels = [labels[axis] for axis in lay.axes] if len(lay.axes) == 1 else []
        for mine, own in zip(reversed(labels), reversed(owns), strict=False):  # as NumPy broadcasts
            if len(mine) == len(own) and not mine.equals(own):
                raise ValueError(
                    f"{name}: its labels are not those of the logits; allowed are the same in the same order, reindex"
                    " it or pass its to_numpy()"
                )
        return values(value)

    def classes(self, axis: int) -> list[Any]:
        """Return the columns, or the index."""
        return list(self.x.axes[axis])

    def full(self, result: Array) -> Array:
        """Label a result of the shape of the logits."""
        return self._made(result, list(self.x.axes))

    def rows(self, result: Array, lay: Layout, keepdims: bool) -> Array:
        """Keep the labels of the rows; a class axis that is kept is numbered anew."""
        labels = [
            pd.RangeIndex(1) if axis in lay.axes else one
            for axis, one in enumerate(self.x.axes)
            if keepdims or axis not in lay.axes
        ]
        return self._made(result, labels) if labels else result

    def segments(self, result: Array, lay: Layout) -> Array:
        """Keep the labels of the other axis; segments are numbered anew."""
        labels = [pd.RangeIndex(result.shape[a]) if a in lay.axes else one for a, one in enumerate(self.x.axes)]
        return self._made(result, labels)

    def _made(self, result: Array, labels: list[Any]) -> Any:
        if len(labels) == 1:
            made = pd.Series(result, index=labels[0], name=self.x.name if self.x.ndim == 1 else None, copy=False)
        else:
            made = pd.DataFrame(result, index=labels[0], columns=labels[1], copy=False)
        made.attrs = dict(self.x.attrs)
        return made


class Listed(ArrayLabels):
    """The type of an Index or of an array of pandas."""

    kinds = (pd.Index, pd.api.extensions.ExtensionArray)

    def __init__(self, x: Any) -> None:
        self.x, self.bare = x, values(x)

    def names(self) -> tuple[Any, ...]:
        """Return nothing: the one axis has no name."""
        return ()

    def aligned(self, name: str, value: Any, role: str, lay: Layout) -> Array:
        """Return the values: these have no labels."""
        return values(value)

    def full(self, result: Array) -> Array:
        """Return an Index or an array of pandas."""
        return pd.Index(result, name=self.x.name) if isinstance(self.x, pd.Index) else pd.array(result)

    def segments(self, result: Array, lay: Layout) -> Array:
        """Return an Index or an array of pandas."""
        return self.full(result)

    def rows(self, result: Array, lay: Layout, keepdims: bool) -> Array:
        """Return the number of the one row; every element is a row without class axes."""
        return self.full(result) if result.ndim else result
