"""Labelled and masked arrays: labels are removed before the plan is made and put back on results. One row a type.

Names become axes, a mask becomes `where`, and the bare array is one of `_arrays.families.FAMILIES`. Labels are never
dropped silently: operands that carry labels must carry those of the logits.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from logitx._arrays.family import FLOATING, dtype_name
from logitx._plan import Array, Call, Layout, layout

# Which part of the shape of the logits an argument has. Targets are entries where they are probabilities.
ROLES = {
    "where": "entries",
    "b": "entries",
    "pos_weight": "entries",
    "log_b": "entries",
    "dp": "entries",
    "dlog_p": "entries",
    "targets": "rows",
    "ids": "rows",
    "sample_weight": "rows",
    "class_weight": "classes",
    "segment_ids": "classes",
    "temperature": "column",
    "softcap": "column",
}
BROADCAST = ("where", "b", "log_b", "pos_weight", "sample_weight", "temperature", "softcap", "a")  # may lack dimensions
FIRST = ("x", "logits", "p_logits", "p", "log_p", "a", "b")  # the first array of a call, as checks name it


class Labelled(Exception):  # a signal, not an error: the caller of the check catches it
    """Raised if the first array of a call has labels: the call is checked again by `take_apart`."""


class ArrayLabels(ABC):
    """The labels (index, columns, coordinates, mask) of one array."""

    bare: Array  # the numbers, as an array of a family
    kinds: tuple[type, ...]  # types that carry such labels
    factors: tuple[ArrayLabels | None, ArrayLabels | None] = (None, None)  # labels of weight and bias of a linear layer

    @abstractmethod
    def names(self) -> tuple[Any, ...]:
        """Return the names of the dimensions that `axis` accepts; empty if dimensions have no names."""

    @abstractmethod
    def aligned(self, name: str, value: Any, role: str, lay: Layout) -> Array:
        """Return the numbers of an operand that has labels too, in the order of the logits; refuse other labels."""

    def turned(self, weight: Any) -> Any:
        """Return the weights of a linear layer with the features last; `self` are the labels of `hidden`."""
        return weight

    @abstractmethod
    def full(self, result: Array) -> Array:
        """Label a result of the shape of the logits."""

    @abstractmethod
    def rows(self, result: Array, lay: Layout, keepdims: bool) -> Array:
        """Label a result with one number a row."""

    @abstractmethod
    def segments(self, result: Array, lay: Layout) -> Array:
        """Label a result with one number a segment along the class axis; segments are numbered from 0."""

    def total(self, result: Array) -> Array:
        """Label a single number, reduced over all rows."""
        return result

    def classes(self, axis: int) -> Sequence[Any] | None:
        """Return the labels along an axis, None where it has none: targets may be names of classes among them."""
        return None

    def without(self, op: str, first: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a check without labels; `first` is the name of the argument that `self` labels."""
        given = {**given, first: self.bare}
        if "axis" in given:
            given["axis"] = positions(given["axis"], self.names())
        lay = layout(tuple(self.bare.shape), given.get("axis", ()))
        for name, value in given.items():
            if name == "offsets":  # of segments, which have no labels
                given[name] = without_labels(value, name)
            elif isinstance(value, self.kinds):
                soft = name == "targets" and dtype_name(without_labels(value, name).dtype) in FLOATING
                given[name] = self.aligned(name, value, "entries" if soft else ROLES.get(name, "entries"), lay)
        if "targets" in given and len(lay.axes) == 1:
            given["targets"] = class_ids(given["targets"], self.classes(lay.axes[0]))
        return given


def class_ids(targets: Any, classes: Sequence[Any] | None) -> Any:
    """Return the places of names of classes among the labels of the logits; targets that are no names as they are."""
    values = without_labels(targets, "targets")
    leaf = values
    while isinstance(leaf, list | tuple) and leaf:
        leaf = leaf[0]
    names = np.asarray(values) if isinstance(leaf, str) else values
    if classes is None or not isinstance(names, np.ndarray) or names.dtype.kind not in "OSTU":
        return targets
    places = {name: place for place, name in enumerate(classes)}
    if len(places) < len(classes):
        raise ValueError("targets: names of classes are not allowed where two classes have one name; allowed are ids")
    flat = names.ravel().tolist()
    ids = np.array([places.get(name, -1) for name in flat], np.int64)
    if (ids < 0).any():
        first = int(ids.argmin())
        index = tuple(map(int, np.unravel_index(first, names.shape)))
        shown = ", ".join(map(repr, classes[:10])) + ", ..." * (len(classes) > 10)
        raise ValueError(f"targets: {flat[first]!r} at position {index} is not a class; allowed are {shown}")
    return ids.reshape(names.shape)


class _LabelledType(NamedTuple):
    """A labelled array type: the library that defines it, and how to remove its labels."""

    library: str
    recognizes: Callable[[Any, type], bool]  # arguments: the loaded library, and the type
    labels: str  # the module of this folder and the class of its labels; imported on first use
    bare: Callable[[Any], Any]  # the values of an operand whose logits have no labels


def _unmasked(x: Any) -> Any:
    if np.ma.is_masked(x):
        raise ValueError("has masked entries; allowed are none, fill them first")
    return np.ma.getdata(x)


def _pandas_values(x: Any) -> Any:
    from logitx._labelled.pandas_values import values

    return values(x)


def _is_listed(pandas: Any, cls: type) -> bool:
    return issubclass(cls, (pandas.Index, pandas.api.extensions.ExtensionArray))


def _without_nulls(x: Any) -> Any:
    nulls = x.null_count()
    if nulls if isinstance(nulls, int) else sum(nulls.row(0)):
        raise ValueError("has nulls; allowed are none, fill them first")
    return x.to_numpy()


def _held_tensor(x: Any) -> Any:
    return sys.modules["tensorflow"].convert_to_tensor(x)


def _holds_a_tensor(library: Any, cls: type) -> bool:
    if issubclass(cls, getattr(library, "Tensor", ())):
        return False  # a tensor itself has no labels
    return issubclass(cls, getattr(library, "Variable", ())) or hasattr(cls, "__tf_tensor__")  # of TensorFlow; of Keras


def _exactly(*names: str) -> Callable[[Any, type], bool]:
    """Recognize exactly these types: a subclass may carry more than is put back on results."""
    return lambda library, cls: cls.__name__ in names and cls is getattr(library, cls.__name__, None)


LABELLED_TYPES = (
    _LabelledType("numpy.ma", _exactly("MaskedArray"), "masked.Masked", _unmasked),
    _LabelledType("pandas", _exactly("DataFrame", "Series"), "pandas.Indexed", _pandas_values),
    _LabelledType("pandas", _is_listed, "pandas.Listed", _pandas_values),
    _LabelledType("polars", _exactly("DataFrame", "Series"), "polars.Columns", _without_nulls),
    _LabelledType("xarray", _exactly("DataArray"), "xarray.Dimensions", lambda x: x.data),
    _LabelledType("tensorflow", _holds_a_tensor, "variables.Held", _held_tensor),
)


def _labelled_type(cls: type) -> _LabelledType | None:
    for row in LABELLED_TYPES:
        library = sys.modules.get(row.library)  # never imported for the test
        if library is not None and row.recognizes(library, cls):
            return row
    return None


def is_labelled(value: Any) -> bool:
    """True if `value` is of one of LABELLED_TYPES."""
    return _labelled_type(type(value)) is not None


@functools.cache
def _labels_class(place: str) -> Callable[[Any], ArrayLabels]:
    module, _, name = place.partition(".")
    made: Callable[[Any], ArrayLabels] = getattr(importlib.import_module(f"logitx._labelled.{module}"), name)
    return made


def labels_of(value: Any) -> ArrayLabels:
    """Return the labels of a labelled array."""
    return _labels_class(_labelled_type(type(value)).labels)(value)  # type: ignore[union-attr]


def without_labels(value: Any, name: str = "") -> Any:
    """Return the numbers of a labelled array; anything else as it is."""
    row = _labelled_type(type(value))
    if row is None:
        return value
    try:
        return row.bare(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def positions(axis: Any, names: tuple[Any, ...]) -> Any:
    """Return an axis by number where it was given by name."""
    if isinstance(axis, tuple):
        return tuple(_position(one, names) for one in axis)
    return _position(axis, names)


def _position(axis: Any, names: tuple[Any, ...]) -> Any:
    if not isinstance(axis, str) or not names:
        return axis
    if axis not in names:
        raise ValueError(f"axis: {axis!r} is not a dimension; allowed are {', '.join(map(repr, names))} and integers")
    return names.index(axis)


@functools.cache
def parameters(check: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the arguments of a check."""
    return tuple(inspect.signature(check).parameters)


def take_apart(check: Callable[..., Call], *arguments: Any) -> Call:
    """Check a call whose first array has labels: remove them, and return them with the call."""
    given = dict(zip(parameters(check), arguments, strict=False))  # the last ones may have defaults
    first = next(name for name in given if name in FIRST and is_labelled(given[name]))
    if given.get("out") is not None:
        kind = type(given[first]).__name__
        raise TypeError(f"out: nothing is written to a {kind}; allowed is None, or call with the array within")
    labels = labels_of(given[first])
    try:
        call = check(*labels.without(given["op"], first, given).values())
    except Labelled:
        raise TypeError(
            f"{first}: its labels and those of another argument are of two kinds; allowed are labels of one kind, pass"
            " the bare array of the other"
        ) from None
    if tuple(labels.bare.shape) != call.plan.layout.given:  # only `merge_logsumexp` broadcasts its first array
        shapes = f"{tuple(labels.bare.shape)} and {call.plan.layout.given}"
        raise ValueError(f"{first}: shapes {shapes} do not have the same labels; allowed is the larger one with labels")
    return call._replace(labels=labels)


def take_rows_apart(check: Callable[..., Call], *arguments: Any) -> Call:
    """Check a call whose result has one number a row, and the labels of the rows."""
    call = take_apart(check, *arguments)
    ids, rows = call.operands[1], call.plan.layout.rows
    if len(ids.shape) != len(rows):
        raise ValueError(
            f"ids: shape {tuple(ids.shape)} is not allowed with labels; allowed is {rows}, or a call with the array"
        )
    return call
