"""The types that `__init__.pyi` is written in; only type checkers read this file.

A kind of array is told by its members, so that no framework is imported. Where two overloads take the same array,
mypy answers `Any` for an `NDArray[Any]` unless both parameters are type variables: hence the bounds.
"""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

DType: TypeAlias = str | type[Any] | np.dtype[Any]

class Untyped:
    """Nothing is of this type, so that only what is `Any` fits it: without it pyright takes another row's result."""

class HasShape(Protocol):
    """What every array, scalar and frame has."""

    @property
    def shape(self) -> Any: ...

_Same_co = TypeVar("_Same_co", covariant=True)
_Row_co = TypeVar("_Row_co", covariant=True)

class Frame(Protocol[_Same_co, _Row_co]):
    """A frame of pandas or polars, and its series. Arrays of xarray have every member, but not this `shape`."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def columns(self) -> Any: ...
    def head(self, n: int = ..., /) -> _Same_co: ...
    def __getitem__(self, key: str, /) -> _Row_co: ...

class Series(Protocol):
    """A series of pandas or polars. In xarray `diff` needs a dimension."""

    def diff(self) -> Any: ...
    def to_frame(self) -> Any: ...

class Tensor(Protocol[_Same_co]):
    """A tensor of PyTorch, or a parameter of a module, whose results are plain tensors."""

    def size(self) -> Any: ...
    def detach(self) -> _Same_co: ...

Number: TypeAlias = float | np.integer | np.bool
Flat: TypeAlias = Sequence[float | np.generic]
Nested: TypeAlias = (
    Sequence[Flat] | Sequence[Sequence[Flat]] | Sequence[Sequence[Sequence[Flat]]] | Sequence[NDArray[Any]]
)
Whole: TypeAlias = NDArray[np.integer | np.bool]
Array: TypeAlias = HasShape | float | Sequence[Any]
Scalar: TypeAlias = float | HasShape

A = TypeVar("A", bound=HasShape)  # an array of any other kind
D = TypeVar("D")  # a frame
R = TypeVar("R")  # its series; what detaching a tensor gives
W = TypeVar("W", bound=HasShape)  # the weights of a layer whose input is a frame
B = TypeVar("B", bound=HasShape)  # the bias of such a layer
S = TypeVar("S", bound=tuple[Any, ...])  # the shape of a NumPy array
F = TypeVar("F", bound=np.floating)  # the numbers in it
N = TypeVar("N", bound=np.float16 | np.float32 | np.longdouble)  # these where they are not float64
Floats = TypeVar("Floats", bound=NDArray[np.floating])
Doubles = TypeVar("Doubles", bound=NDArray[np.float64])
Listed = TypeVar("Listed", bound=Whole | Flat | Nested)  # becomes float64
Plain = TypeVar("Plain", bound=NDArray[Any] | Flat | Nested)
OneRow = TypeVar("OneRow", bound=Number | Flat)
OneSeries = TypeVar("OneSeries", bound=Series)
Single = TypeVar("Single", bound=NDArray[np.float16 | np.float32 | np.longdouble] | Frame[Any, Any])
Double = TypeVar("Double", bound=NDArray[np.float64] | Whole | Flat | Nested)
Numpy = TypeVar("Numpy", bound=NDArray[Any] | Number | Flat | Nested | Frame[Any, Any] | Series)

_Loss_co = TypeVar("_Loss_co", covariant=True)

class LossParts(NamedTuple, Generic[_Loss_co, _Row_co]):
    """What `return_parts=True` adds to a cross-entropy."""

    z_loss: _Loss_co
    log_normalizer: _Row_co
