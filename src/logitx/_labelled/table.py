"""Labelled and masked arrays: taken apart before the plan is made, put together again after. One row a family.

Names become axes, a mask becomes `where`, and what is left is an array that the rest of the library knows. Labels are
never dropped in silence: operands that carry labels must carry those of the logits.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from logitx._arrays.family import FLOATS, dtype_name
from logitx._plan import Array, Call, Layout, layout

# Which part of the shape of the logits an argument has. Targets are entries where they are probabilities.
ROLES = {
    "where": "entries",
    "b": "entries",
    "dp": "entries",
    "dlog_p": "entries",
    "targets": "rows",
    "sample_weight": "rows",
    "class_weight": "classes",
    "temperature": "column",
    "softcap": "column",
}
BROADCAST = ("where", "b", "sample_weight", "temperature", "softcap", "a")  # may lack dimensions of the logits
FIRST = ("x", "logits", "p", "log_p", "a", "b")  # the array that decides, by the names of the checks


class Labelled(Exception):  # a signal, not an error: caught by the check that met it
    """The array that decides has labels: it is to be taken apart first."""


class Labels(ABC):
    """What an array holds beside its numbers."""

    bare: Array  # the numbers, as an array of a family
    kinds: tuple[type, ...]  # types that carry such labels
    factors: tuple[Labels | None, Labels | None] = (None, None)  # of weight and bias, where these are of a linear layer

    @abstractmethod
    def names(self) -> tuple[Any, ...]:
        """Return the names of the dimensions, by which `axis` may call them; none where there are none."""

    @abstractmethod
    def aligned(self, name: str, value: Any, role: str, lay: Layout) -> Array:
        """Return the numbers of an operand that has labels too, in the order of the logits; refuse other labels."""

    def turned(self, weight: Any) -> Any:
        """Return the weights of a linear layer with the features on the last axis; these labels are of what goes in."""
        return weight

    @abstractmethod
    def full(self, result: Array) -> Array:
        """Label what has the shape of the logits."""

    @abstractmethod
    def rows(self, result: Array, lay: Layout, keepdims: bool) -> Array:
        """Label what has one number a row."""

    def total(self, result: Array) -> Array:
        """Label one number for everything."""
        return result

    def without(self, op: str, first: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a check without labels; `first` is the one that these labels are of."""
        given = {**given, first: self.bare}
        if "axis" in given:
            given["axis"] = positions(given["axis"], self.names())
        lay = layout(tuple(self.bare.shape), given.get("axis", ()))
        for name, value in given.items():
            if isinstance(value, self.kinds):
                soft = name == "targets" and dtype_name(bare(value, name).dtype) in FLOATS
                given[name] = self.aligned(name, value, "entries" if soft else ROLES.get(name, "entries"), lay)
        return given


class _Row(NamedTuple):
    """A kind of labelled array: where its type is, and what takes it apart."""

    library: str
    recognizes: Callable[[Any, type], bool]  # by the library, which is loaded, and the type
    labels: str  # the module of this folder and the class of its labels; imported on first use
    bare: Callable[[Any], Any]  # the numbers alone, of an operand of logits without labels


def _unmasked(x: Any) -> Any:
    if np.ma.is_masked(x):
        raise ValueError("has masked entries; allowed are none, fill them first")
    return np.ma.getdata(x)


def _without_nulls(x: Any) -> Any:
    nulls = x.null_count()
    if nulls if isinstance(nulls, int) else sum(nulls.row(0)):
        raise ValueError("has nulls; allowed are none, fill them first")
    return x.to_numpy()


def _tensor(x: Any) -> Any:
    return sys.modules["tensorflow"].convert_to_tensor(x)


def _holds_a_tensor(library: Any, cls: type) -> bool:
    if issubclass(cls, getattr(library, "Tensor", ())):
        return False  # it is one
    return issubclass(cls, getattr(library, "Variable", ())) or hasattr(cls, "__tf_tensor__")  # of TensorFlow; of Keras


def _exactly(*names: str) -> Callable[[Any, type], bool]:
    """Recognize these types alone: a subclass may carry more than would be put back."""
    return lambda library, cls: cls.__name__ in names and cls is getattr(library, cls.__name__, None)


ROWS = (
    _Row("numpy.ma", _exactly("MaskedArray"), "masked.Masked", _unmasked),
    _Row("pandas", _exactly("DataFrame", "Series"), "pandas.Indexed", lambda x: x.to_numpy()),
    _Row("polars", _exactly("DataFrame", "Series"), "polars.Columns", _without_nulls),
    _Row("xarray", _exactly("DataArray"), "xarray.Dimensions", lambda x: x.data),
    _Row("tensorflow", _holds_a_tensor, "variables.Held", _tensor),
)


def _row_of(cls: type) -> _Row | None:
    for row in ROWS:
        library = sys.modules.get(row.library)  # never imported in order to ask
        if library is not None and row.recognizes(library, cls):
            return row
    return None


def is_labelled(value: Any) -> bool:
    """Tell whether a value is taken apart here."""
    return _row_of(type(value)) is not None


@functools.cache
def _labels_class(place: str) -> Callable[[Any], Labels]:
    module, _, name = place.partition(".")
    made: Callable[[Any], Labels] = getattr(importlib.import_module(f"logitx._labelled.{module}"), name)
    return made


def labels_of(value: Any) -> Labels:
    """Return the labels of an array that has some."""
    return _labels_class(_row_of(type(value)).labels)(value)  # type: ignore[union-attr]


def bare(value: Any, name: str = "") -> Any:
    """Return the numbers of a labelled array; anything else as it is."""
    row = _row_of(type(value))
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
    """Check a call without its labels; they are put back on its results."""
    given = dict(zip(parameters(check), arguments, strict=True))
    first = next(name for name in given if name in FIRST and is_labelled(given[name]))
    if given.get("out") is not None:
        kind = type(given[first]).__name__
        raise TypeError(f"out: nothing is written to a {kind}; allowed is None, or call with the array within")
    labels = labels_of(given[first])
    call = check(*labels.without(given["op"], first, given).values())
    if tuple(labels.bare.shape) != call.plan.layout.given:  # of `merge_logsumexp`, which broadcasts
        shapes = f"{tuple(labels.bare.shape)} and {call.plan.layout.given}"
        raise ValueError(f"{first}: shapes {shapes} do not have the same labels; allowed is the larger one with labels")
    return call._replace(labels=labels)
