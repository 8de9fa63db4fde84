"""Cases: the arrays and options of one call, independent of any array library.

A case holds NumPy arrays that carry the *exact* values (float64, int64 or bool) next to the name of the dtype that a
target must give them, so that one case serves every array type and the oracle sees what the function sees.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

NDArray = np.ndarray[Any, Any]

FLOATS = ("float16", "bfloat16", "float32", "float64")
DTYPES = (*FLOATS, "integer", "bool")  # the columns of the table of cells; "integer" holds several dtypes
INTEGERS = ("int8", "uint8", "int32", "int64")

# Each size is there for a reason: 1 has no second class, 2 and 3 are shorter than a vector register, 7 and 17 leave a
# remainder in every vector loop, 1000 is no power of two, 4097 is one more than a block.
SIZES = (1, 2, 3, 7, 17, 1000, 4097)
FACTORED = {1: (1, 1), 2: (1, 2), 3: (3, 1), 7: (2, 3), 17: (3, 5), 1000: (25, 40), 4097: (17, 241)}

# How the class axes lie in the array; `shaped` says what each means.
AXES = ("last", "vector", "first", "middle", "negative", "adjacent", "unordered", "none", "scalar")

# Memory layouts of the logits, for array types that have them.
MEMORY = ("C", "F", "strided", "reversed", "readonly")


@dataclass(frozen=True, eq=False)
class Data:
    """An array to be: exact values, the name of its dtype, and the layout of its memory."""

    values: NDArray
    dtype: str
    memory: str = "C"


@dataclass(frozen=True, eq=False)
class Case:
    """One call of one function.

    Attributes
    ----------
    name : str
        Unique among the cases of a function; a failure is reported under it.
    dtype : str
        The column of the table of cells: a float dtype, "integer" or "bool".
    args : tuple of Data
        The positional arguments.
    options : mapping of str to object
        The keyword arguments: `Data` for arrays, everything else as it is. ``dtype`` is the name of a dtype.
    out : str
        "none", "new" (an array of its own) or "self" (the first argument); for array types that can be written.
    rows : tuple of str
        Names for the rows of a special-value case, in C order of the rows.
    """

    name: str
    dtype: str
    args: tuple[Data, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    out: str = "none"
    rows: tuple[str, ...] = ()

    @property
    def special(self) -> bool:
        """True for a case made by hand for its values, False for a row of a grid."""
        return not self.name.startswith("pair ")

    @property
    def computed(self) -> tuple[Data, ...]:
        """The arguments whose dtypes decide the computing dtype: the logits, or the factors of a linear layer."""
        return self.args[:1] if len(self.args) < 3 else self.args[:2] + self.args[3:]


def rounded(values: Any, dtype: str) -> NDArray:
    """Round to a dtype and return the exact values of the result in float64, int64 or bool."""
    array = np.asarray(values)
    if dtype == "bool":
        return array.astype(bool)
    if dtype not in FLOATS:
        return array.astype(np.int64)
    array = array.astype(np.float64)
    with np.errstate(over="ignore"):
        if dtype == "bfloat16":
            return _to_bfloat16(array)
        return array.astype(dtype).astype(np.float64)


def _to_bfloat16(array: NDArray) -> NDArray:
    # The upper half of a float32, rounded to nearest even, in integers: NumPy itself has no bfloat16.
    bits = array.astype(np.float32).reshape(-1).view(np.uint32).astype(np.uint64)
    up = ((bits >> np.uint64(16)) & np.uint64(1)) + np.uint64(0x7FFF)
    cut = ((bits + up) & np.uint64(0xFFFF0000)).astype(np.uint32).view(np.float32).astype(np.float64)
    return np.where(np.isfinite(array), cut.reshape(array.shape), array)


def data(values: Any, dtype: str, memory: str = "C") -> Data:
    """Make `Data` of values that are rounded to the dtype first."""
    return Data(rounded(values, dtype), dtype, memory)


def generator(name: str) -> np.random.Generator:
    """Return the random numbers of a case: the same on every run, machine and worker."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def shaped(axes: str, n: int) -> tuple[tuple[int, ...], Any]:
    """Return the shape of logits and the ``axis`` argument of one way to lay out the classes.

    The number of classes is `n`, or near it where two class axes make it.
    """
    rows = 5 if n <= 3 else 4 if n <= 17 else 2
    few = 2 if n <= 17 else 1
    one, two = FACTORED[n]
    table: dict[str, tuple[tuple[int, ...], Any]] = {
        "last": ((rows, n), -1),
        "vector": ((n,), 0),
        "first": ((n, rows), 0),
        "middle": ((few, n, 3), 1),
        "negative": ((few, n, 3), -2),
        "adjacent": ((few, one, two, 2), (1, 2)),
        "unordered": ((two, 3, one), (2, 0)),
        "none": ((one, two), None),
        "scalar": ((), -1),
    }
    return table[axes]


def class_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return the class axes, all at least 0, in the order given."""
    if axis is None:
        return tuple(range(ndim))
    if ndim == 0:
        return ()
    return tuple(normalize_axis_tuple(axis, ndim))


def to_rows(array: NDArray, axis: Any) -> NDArray:
    """Return an array as a matrix: one row of logits a row, the classes in C order of the axes given."""
    axes = class_axes(axis, array.ndim)
    others = [a for a in range(array.ndim) if a not in axes]
    length = int(np.prod([array.shape[a] for a in axes], dtype=np.int64))
    count = int(np.prod([array.shape[a] for a in others], dtype=np.int64))
    return array.transpose([*others, *axes]).reshape(count, length)


def from_rows(rows: NDArray, shape: tuple[int, ...], axis: Any) -> NDArray:
    """Undo `to_rows` for an array of the given shape."""
    axes = class_axes(axis, len(shape))
    order = [*(a for a in range(len(shape)) if a not in axes), *axes]
    return rows.reshape([shape[a] for a in order]).transpose(np.argsort(order))


def row_shape(shape: tuple[int, ...], axis: Any, keepdims: bool = False) -> tuple[int, ...]:
    """Return the shape of one number a row."""
    axes = class_axes(axis, len(shape))
    if keepdims:
        return tuple(1 if a in axes else length for a, length in enumerate(shape))
    return tuple(length for a, length in enumerate(shape) if a not in axes)


def concrete_dtype(dtype: str, number: int) -> str:
    """Return a dtype for a column of the table of cells: the integer dtypes take turns."""
    return INTEGERS[number % len(INTEGERS)] if dtype == "integer" else dtype


def logits(kind: str, shape: tuple[int, ...], axis: Any, dtype: str, rng: np.random.Generator) -> NDArray:
    """Return random logits of one kind.

    Parameters
    ----------
    kind : str
        "plain"; "offset", all near 10,000; "dominant", one class far above the rest; "ninf", with -inf here and there
        and one row of nothing else; "poison", the first row with a NaN, the last with +inf.
    shape : tuple of int
        Shape of the result.
    axis : object
        The class axes.
    dtype : str
        Name of the dtype that the values are rounded to.
    rng : numpy.random.Generator
        Source of the numbers.
    """
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype not in FLOATS:
        values = rng.integers(0 if dtype == "uint8" else -5, 6, size=shape)
        far = rng.random(shape) < 0.2  # differences that leave the range of an 8-bit integer
        return rounded(np.where(far, 100 if dtype == "uint8" else values * 20, values), dtype)
    rows = to_rows(3.0 * rng.standard_normal(shape), axis)
    count, n = rows.shape
    if kind == "offset":
        rows = rows + 1e4
    elif kind == "dominant":
        rows[np.arange(count), rng.integers(0, n, size=count)] += 40.0
    elif kind == "ninf":
        rows[rng.random(rows.shape) < 0.3] = -np.inf
        rows[-1] = -np.inf
    elif kind == "poison":
        rows[0, n // 2] = np.nan
        rows[-1, n // 3] = np.inf
        rows[0, 0] = -np.inf if n > 2 else rows[0, 0]
    return rounded(from_rows(rows, shape, axis), dtype)


def mask(kind: str, shape: tuple[int, ...], axis: Any, rng: np.random.Generator) -> Data | None:
    """Return a ``where`` of one kind.

    Parameters
    ----------
    kind : str
        "none"; "full", of the shape of logits, the last row all masked; "by_class", the same for every row; "by_row",
        whole rows.
    shape : tuple of int
        Shape of logits.
    axis : object
        The class axes.
    rng : numpy.random.Generator
        Source of the numbers.
    """
    axes = class_axes(axis, len(shape))
    if kind == "none":
        return None
    if kind == "by_class":
        keep = np.asarray(rng.random([length if a in axes else 1 for a, length in enumerate(shape)]) < 0.7)
        if not keep.any():
            keep[(0,) * keep.ndim] = True
        while keep.ndim and keep.shape[0] == 1 and 0 not in axes:  # broadcasting adds leading axes by itself
            keep = keep[0]
            axes = tuple(a - 1 for a in axes)
        return Data(keep, "bool")
    if kind == "by_row":
        keep = np.ones(row_shape(shape, axis, keepdims=True), dtype=bool)
        keep.reshape(-1)[-1:] = keep.size == 1
        return Data(keep, "bool")
    rows = to_rows(rng.random(shape) < 0.7, axis).copy()
    rows[:, 0] = True
    if rows.shape[0] > 1:
        rows[-1] = False
    return Data(np.array(from_rows(rows, shape, axis), order="C"), "bool")
