"""Masked arrays of NumPy: the mask becomes `where`, and the result is masked alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx._arrays.family import FLOATING, dtype_name
from logitx._labelled.table import ArrayLabels, without_labels
from logitx._plan import Array, Layout

# Neutral value for masked entries of the first array, for functions without `where`.
_NOTHING = {"softmax_vjp": 0.0, "log_softmax_vjp": -np.inf, "cross_entropy_grad_hess": -np.inf}


class Masked(ArrayLabels):
    """The mask of an array; None if it has no mask."""

    kinds = (np.ma.MaskedArray,)

    def __init__(self, x: Any) -> None:
        self.bare: Any = np.ma.getdata(x)
        self.mask = None if x.mask is np.ma.nomask else np.ma.getmaskarray(x)

    def names(self) -> tuple[Any, ...]:
        """Return nothing: axes have no names."""
        return ()

    def aligned(self, name: str, value: Any, role: str, lay: Layout) -> Array:
        """Refuse operands with masked entries; a cotangent may be masked where the first array is."""
        if name in ("dp", "dlog_p") and self.mask is not None and np.shape(value) == self.bare.shape:
            value = np.ma.MaskedArray(np.ma.getdata(value), np.ma.getmaskarray(value) & ~self.mask)
        return without_labels(value, name)

    def without(self, op: str, first: str, given: dict[str, Any]) -> dict[str, Any]:
        """Pass the mask as `where`, or fill masked entries with the neutral value of `_NOTHING`."""
        if op == "merge_logsumexp":
            return self._merged(first, given)
        given = super().without(op, first, given)
        if self.mask is None:
            return given
        if op in _NOTHING:
            kept = self.bare if dtype_name(self.bare.dtype) in FLOATING else self.bare.astype(np.float64)
            given[first] = np.where(self.mask, kept.dtype.type(_NOTHING[op]), kept)
        elif "where" in given:
            given["where"] = self._combined(given["where"])
        return given

    def _combined(self, where: Any) -> Any:
        if where is None:
            return ~self.mask  # type: ignore[operator]
        try:
            also = np.asarray(where)
            both = also & ~self.mask  # type: ignore[operator]
        except (TypeError, ValueError):
            return where  # the check raises the error
        return both if also.dtype == bool and both.shape == self.bare.shape else where

    def _merged(self, first: str, given: dict[str, Any]) -> dict[str, Any]:
        """Fill `a` and `b`; mask the result where either is masked, as NumPy does in arithmetic."""
        filled = given | {name: np.ma.filled(given[name], 0) for name in ("a", "b")}
        self.mask = np.ma.getmaskarray(given["a"]) | np.ma.getmaskarray(given["b"])
        self.bare = np.broadcast_to(filled[first], self.mask.shape)
        return filled

    def full(self, result: Array) -> Array:
        """Mask a result of the shape of the logits."""
        return np.ma.MaskedArray(result, np.ma.nomask if self.mask is None else self.mask.copy())

    def segments(self, result: Array, lay: Layout) -> Array:
        """Return a masked array without a mask: a segment whose entries are all masked is as one without entries."""
        return np.ma.MaskedArray(result)

    def rows(self, result: Array, lay: Layout, keepdims: bool) -> Array:
        """Mask the rows whose entries are all masked."""
        mask = None if self.mask is None else self.mask.all(axis=lay.axes, keepdims=keepdims)
        if np.ndim(result):
            return np.ma.MaskedArray(result, np.ma.nomask if mask is None else mask)
        return np.ma.masked if mask is not None and mask.all() else result
