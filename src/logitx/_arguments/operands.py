"""Rules for operands beside the logits: which arrays and numbers are allowed, and their conversion to the family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from logitx._arguments import cures
from logitx._arguments.ranges import LEAST, MOST
from logitx._arrays.families import family_of
from logitx._arrays.family import FLOATING, FLOATS, Family, dtype_name, is_python_number
from logitx._arrays.folding import fold_axes
from logitx._arrays.stacking import as_array
from logitx._labelled.table import Labelled, is_labelled, without_labels
from logitx._plan import Array, Layout, unknown


def is_integer(name: str) -> bool:
    """True if `name` is the name of an integer dtype."""
    return name.startswith(("int", "uint"))


def adopt(name: str, value: Any, family: Family, x: Array, narrow: Callable[..., Any] | None = None) -> Array:
    """Return an operand as an array of the family and device of `x`; NumPy operands go with any CPU array.

    Before NumPy data goes to JAX without 64 bits, `narrow` looks at it, and may raise or return other data.
    """
    found = family_of(value)
    if found is None or type(value) in (list, tuple):
        value = _as_array(name, value)
        found = family_of(value)
    if found is None and is_labelled(value):  # by position: the logits have no labels to compare
        value = without_labels(value, name)
        found = family_of(value)
    if found is None:
        raise TypeError(f"{name}: {type(value).__name__} is not an array type that logitx knows; {_known_types(value)}")
    if found.name != "numpy":
        refuse_array(name, value, found)
    if found is family and found.name != "numpy":
        if found.device(value) != found.device(x):
            raise TypeError(
                f"{name}: lies on device {found.device(value)}, the logits on {found.device(x)}; move one of them"
            )
        return value
    if found.name != "numpy" and name == "targets" and is_integer(dtype_name(value.dtype)) and found.readable(value):
        value = (
            found.to_numpy(value) if found.to_numpy is not None else _ids_on_host(value)
        )  # ids: nothing to differentiate
    elif found.name != "numpy":
        raise TypeError(
            f"{name}: a {found.name} array cannot go with logits of {family.name}; convert one to the other's library"
        )
    array = _as_numpy(name, value)
    if family.name == "numpy":
        return array
    if not is_python_number(value) and "cpu" not in str(family.device(x) or "cpu").lower():
        raise TypeError(f"{name}: is a NumPy array, the logits lie on device {family.device(x)}; move one of them")
    if not array.dtype.isnative:  # only NumPy has other byte orders
        array = array.astype(array.dtype.newbyteorder("="))
    if narrow is not None and not family.has_float64(x):
        array = narrow(array)
    return family.adopt(array, x)


def adopt_number(name: str, value: Any, family: Family, x: Array) -> Array:
    """Adopt weights or numbers; raise where JAX without 64 bits would make all of them 0, or one infinite."""

    def narrow(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if array.dtype in (np.int64, np.uint64):
            return array.astype(np.float32)  # int32 would wrap around
        if array.dtype == np.float64:
            largest = float(np.max(np.abs(array), where=np.isfinite(array), initial=0.0))
            if largest > MOST or 0.0 < largest < LEAST:
                raise ValueError(
                    f"{name}: {largest} is beyond float32, and JAX has no wider dtype here; scale the numbers, or set"
                    " jax_enable_x64"
                )
        return array

    return adopt(name, value, family, x, narrow)


def _as_array(name: str, value: Any) -> Any:
    """Return what is no array but holds one, or stands for one, as an array of its library."""
    try:
        return as_array(value)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"{name}: {error}; allowed are lists whose parts have one length") from None


def _as_numpy(name: str, value: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; allowed are lists whose parts have one length") from None


def _ids_on_host(value: Array) -> np.ndarray[Any, Any]:
    return np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)


def _known_types(value: Any = None) -> str:
    if type(value).__name__ == "Dataset" and hasattr(value, "data_vars"):
        return "a Dataset holds several arrays; take one, dataset['name'], or stack them with dataset.to_dataarray()"
    return (
        "allowed are NumPy, JAX, PyTorch, TensorFlow and Array API arrays, pandas, polars and xarray objects, lists and"
        " numbers; convert with numpy.asarray"
    )


def first_array(name: str, x: Any) -> tuple[Family, Array]:
    """Return the family of the first array of a call, and the array; lists and numbers become NumPy arrays."""
    family = family_of(x)
    if family is None or type(x) in (list, tuple):
        x = _as_array(name, x)
        family = family_of(x)
    if family is None and is_labelled(x):
        raise Labelled
    if family is None:
        raise TypeError(f"{name}: {type(x).__name__} is not an array type that logitx knows; {_known_types(x)}")
    if family.name == "numpy" and not isinstance(x, np.ndarray):
        x = _as_numpy(name, x)
    refuse_array(name, x, family)
    return family, x


def refuse_array(name: str, x: Array, family: Family) -> None:
    """Raise for an array that no function takes, whatever its shape and dtype."""
    reason = family.refusal(x)
    if reason is not None:
        raise TypeError(f"{name}: {reason}")


def is_plain(value: Any) -> bool:
    """True if `value` is a Python number or list: it takes the library and dtype of the arrays beside it."""
    return isinstance(value, int | float | list | tuple) and not isinstance(value, np.generic)


def operand_dtype(name: str, value: Any) -> str:
    """Return the name of the dtype of an operand that may still be a list."""
    if hasattr(value, "dtype"):
        return dtype_name(value.dtype)
    if is_labelled(value):  # a frame has a dtype a column
        return dtype_name(without_labels(value, name).dtype)
    return dtype_name(first_array(name, value)[1].dtype)


def real(name: str, value: Array, kinds: str) -> str:
    """Check that an operand is real; return the name of its dtype."""
    dtype = dtype_name(value.dtype)
    if not (dtype in FLOATING or dtype == "bool" or is_integer(dtype)):
        raise TypeError(f"{name}: dtype {dtype} is not allowed; allowed are {kinds}")
    return dtype


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """True if an array of `shape` broadcasts to exactly `to`."""
    if len(shape) > len(to):
        return False
    return all(a in (1, b) or _either_unknown(a, b) for a, b in zip(reversed(shape), reversed(to), strict=False))


def _either_unknown(a: int | None, b: int | None) -> bool:
    return unknown(a) or unknown(b)


def same_lengths(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """True if two shapes are equal; a length that is not known equals any length."""
    return shape == other or (
        len(shape) == len(other) and all(a == b or _either_unknown(a, b) for a, b in zip(shape, other, strict=True))
    )


def like_logits(name: str, value: Any, family: Family, x: Array, lay: Layout, dtype: str | None = None) -> Array:
    """Check and fold an operand that broadcasts to the logits (`where`, boolean; `b`, real)."""
    if value is None:
        return None
    value = (adopt_number if name == "b" else adopt)(name, value, family, x)
    if dtype == "bool" and dtype_name(value.dtype) != "bool":
        raise TypeError(f"{name}: dtype {dtype_name(value.dtype)} is not allowed; allowed is bool")
    real(name, value, "real dtypes")
    if tuple(value.shape) != lay.given:
        if not broadcasts(tuple(value.shape), lay.given):
            raise ValueError(
                f"{name}: shape {tuple(value.shape)} is not allowed; allowed are shapes that broadcast to that of the"
                f" logits, {lay.given}"
            )
        if not family.as_given:
            value = family.namespace(x).broadcast_to(value, lay.given)
    return fold_axes(family, value, lay)


def with_factors(x: Any, b: Any) -> Any:
    """Return `x` broadcast to the common shape of `x` and the factors `b`; `x` itself if `b` broadcasts to it."""
    x, b = _as_array("x", x), _as_array("b", b)
    family, other = family_of(x), family_of(b)
    if family is None or other is None:  # labelled arrays match by name; other types are refused later
        return x
    _, array = first_array("x", x)
    refuse_array("b", b, other)
    given, to = (tuple(one.shape) if hasattr(one, "shape") else np.shape(one) for one in (b, array))
    if broadcasts(given, to) or any(unknown(length) for length in given + to):
        return x
    try:
        whole = np.broadcast_shapes(given, to)
    except ValueError:  # `like_logits` raises, with a message that names the shapes
        return x
    return family.namespace(array).broadcast_to(array, whole)


def same_shape(name: str, value: Any, family: Family, x: Array, lay: Layout, of: str) -> Array:
    """Check and fold a floating operand that has exactly the shape of the first array."""
    value = adopt(name, value, family, x)
    real(name, value, ", ".join(FLOATS))
    if not same_lengths(tuple(value.shape), lay.given):
        raise ValueError(
            f"{name}: shape {tuple(value.shape)} is not allowed; allowed is exactly that of {of}, {lay.given}"
        )
    return fold_axes(family, value, lay)


def class_weight(value: Any, family: Family, x: Array, lay: Layout) -> Array:
    """Check the weights of the classes: one each."""
    if value is None:
        return None
    cures.refuse_weight_by_name(value)
    value = adopt_number("class_weight", value, family, x)
    real("class_weight", value, "real dtypes")
    if not same_lengths(tuple(value.shape), (lay.n,)):
        raise ValueError(
            f"class_weight: shape {tuple(value.shape)} is not allowed; allowed is ({lay.n},), one weight a class"
        )
    return value


def sample_weight(value: Any, family: Family, x: Array, lay: Layout) -> Array:
    """Check the weights of the rows: one each, or an array that broadcasts to the shape of the rows."""
    if value is None:
        return None
    value = adopt_number("sample_weight", value, family, x)
    real("sample_weight", value, "real dtypes")
    if tuple(value.shape) == lay.rows:
        return value
    if not broadcasts(tuple(value.shape), lay.rows):
        raise ValueError(
            f"sample_weight: shape {tuple(value.shape)} is not allowed; allowed are shapes that broadcast to"
            f" {lay.rows}, the logits without their class axes"
        )
    if family.as_given:
        return value
    return family.namespace(x).broadcast_to(value, lay.rows)


def along_classes(value: Array, family: Family, lay: Layout) -> Array:
    """Return numbers of the classes, one each, as an array that broadcasts to the logits as given."""
    xp, axes = family.namespace(value), lay.axes
    value = xp.reshape(value, tuple(lay.given[axis] for axis in axes))
    order = tuple(sorted(range(len(axes)), key=lambda i: axes[i]))
    value = xp.permute_dims(value, order) if len(axes) > 1 else value
    return xp.reshape(value, tuple(length if d in axes else 1 for d, length in enumerate(lay.given)))
