"""Rules for operands beside the logits: which arrays and numbers are allowed, and their conversion to the family."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitx._arrays.families import family_of
from logitx._arrays.family import FLOATS, Family, dtype_name, is_python_number
from logitx._arrays.folding import fold_axes
from logitx._labelled.table import Labelled, is_labelled, without_labels
from logitx._plan import Array, Layout, Scalar, unknown


def is_integer(name: str) -> bool:
    """True if `name` is the name of an integer dtype."""
    return name.startswith(("int", "uint"))


def adopt(name: str, value: Any, family: Family, x: Array) -> Array:
    """Return an operand as an array of the family and device of `x`; NumPy operands go with any CPU array."""
    found = family_of(value)
    if found is None and is_labelled(value):  # by position: the logits have no labels to compare
        value = without_labels(value, name)
        found = family_of(value)
    if found is None:
        raise TypeError(f"{name}: {type(value).__name__} is not an array type that logitx knows; {_known_types()}")
    if found is family and found.name != "numpy":
        refuse_array(name, value, family)
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
    array = _as_array(name, value)
    if family.name == "numpy":
        return array
    if not is_python_number(value) and "cpu" not in str(family.device(x) or "cpu").lower():
        raise TypeError(f"{name}: is a NumPy array, the logits lie on device {family.device(x)}; move one of them")
    if not array.dtype.isnative:  # only NumPy has other byte orders
        array = array.astype(array.dtype.newbyteorder("="))
    return family.adopt(array, x)


def _as_array(name: str, value: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; allowed are lists whose parts have one length") from None


def _ids_on_host(value: Array) -> np.ndarray[Any, Any]:
    return np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)


def _known_types() -> str:
    return (
        "allowed are NumPy, JAX, PyTorch, TensorFlow and Array API arrays, pandas, polars and xarray objects, lists and"
        " numbers; convert with numpy.asarray"
    )


def first_array(name: str, x: Any) -> tuple[Family, Array]:
    """Return the family of the first array of a call, and the array; lists and numbers become NumPy arrays."""
    family = family_of(x)
    if family is None and is_labelled(x):
        raise Labelled
    if family is None:
        raise TypeError(f"{name}: {type(x).__name__} is not an array type that logitx knows; {_known_types()}")
    if family.name == "numpy" and not isinstance(x, np.ndarray):
        x = _as_array(name, x)
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
    if not (dtype in FLOATS or dtype == "bool" or is_integer(dtype)):
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
    value = adopt(name, value, family, x)
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
    family = family_of(x)
    if family is None or family_of(b) is None:  # labelled arrays match by name; other types are refused later
        return x
    _, array = first_array("x", x)
    given, to = (tuple(np.shape(one) if is_plain(one) else one.shape) for one in (b, array))
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


def _in_range(name: str, value: Any, allowed: str, low: float, high: float) -> float:
    number = float(value)
    # The options of _POSITIVE exclude 0. `high` is inf where any finite number is allowed.
    if not (low <= number <= high) or math.isinf(number) or (name in _POSITIVE and number == 0):
        raise ValueError(f"{name}: {number} is not allowed; allowed are {allowed}")
    return number


_POSITIVE = ("temperature", "softcap")
_RANGES: dict[str, tuple[str, float, float]] = {
    "temperature": ("finite numbers > 0", 0.0, math.inf),
    "softcap": ("finite numbers > 0, or None", 0.0, math.inf),
    "label_smoothing": ("numbers from 0 to 1", 0.0, 1.0),
    "z_loss": ("finite numbers", -math.inf, math.inf),
    "gamma": ("finite numbers of 0 or more", 0.0, math.inf),
    "alpha": ("numbers from 0 to 1, or None", 0.0, 1.0),
}


def option_number(name: str, value: Any) -> float:
    """Check an option whose value is known only after a lazy array was computed."""
    return _in_range(name, value, *_RANGES[name])


def scalar(name: str, value: Any, neutral: float | None, family: Family, x: Array, lay: Layout) -> Scalar:
    """Check a number that a framework may trace; None where it has no effect.

    The ranges are checked where the value is known. `temperature` and `softcap` may differ from row to row: an array
    that broadcasts to the logits with length 1 along the class axes.
    """
    if value is neutral or (type(value) is float and value == neutral):  # most calls: the option has its default
        return None
    allowed, low, high = _RANGES[name]
    if is_python_number(value) and not isinstance(value, bool):
        value = _in_range(name, value, allowed, low, high)
        return None if value == neutral else value
    if value is None or isinstance(value, bool):
        raise TypeError(f"{name}: {value!r} is not allowed; allowed are {allowed}, or an array of them")
    value = adopt(name, value, family, x)
    if real(name, value, "real dtypes") == "bool":
        raise TypeError(f"{name}: dtype bool is not allowed; allowed are real numbers")
    if family.readable(value):
        # Check the extremes only. A 0-d array becomes a Python number if no derivative by it is asked for.
        if family.to_numpy is not None and value.ndim == 0 and not family.differentiated(value):
            number = _in_range(name, value, allowed, low, high)
            return None if number == neutral else number
        if math.prod(value.shape):
            # Inside `jax.jit` a reduction of a known array is traced; its memory can be read
            xp: Any = np if family.to_numpy is None else family.namespace(value)
            flat = family.host(value)[0] if family.to_numpy is None else family.detach(value)
            for extreme in (xp.min(flat), xp.max(flat)):
                _in_range(name, extreme, allowed, low, high)
    if value.ndim == 0:
        return value
    if name not in _POSITIVE or not broadcasts(tuple(value.shape), lay.kept):
        shapes = "()" if name not in _POSITIVE else f"() and shapes that broadcast to {lay.kept}"
        raise ValueError(f"{name}: shape {tuple(value.shape)} is not allowed; allowed are {shapes}")
    if family.as_given:
        return value
    xp = family.namespace(x)
    return xp.reshape(xp.broadcast_to(value, lay.kept), lay.column)


def class_weight(value: Any, family: Family, x: Array, lay: Layout) -> Array:
    """Check the weights of the classes: one each."""
    if value is None:
        return None
    value = adopt("class_weight", value, family, x)
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
    value = adopt("sample_weight", value, family, x)
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


def out(value: Any, family: Family, x: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Check an output: writable memory of exactly this shape and dtype, disjoint from the input or the same."""
    if value is None:
        return None
    if family.immutable:
        raise TypeError(f"out: arrays of {family.name} are immutable; allowed is None")
    if family_of(value) is not family or (family.name == "numpy" and not isinstance(value, np.ndarray)):
        raise TypeError(f"out: {type(value).__name__} is not allowed; allowed is a {family.name} array like the input")
    if tuple(value.shape) != shape or dtype_name(value.dtype) != dtype:
        raise ValueError(
            f"out: shape {tuple(value.shape)} of {dtype_name(value.dtype)} is not allowed; allowed is exactly {shape}"
            f" of {dtype}"
        )
    if family.device(value) != family.device(x):
        raise ValueError(f"out: lies on device {family.device(value)}; allowed is {family.device(x)}, as the input")
    if family.differentiated(value) or family.differentiated(x):
        raise ValueError("out: cannot be written to while a tensor is differentiated; allowed is None")
    if family.to_numpy is not None and family.readable(value):
        target, source = family.to_numpy(value), family.to_numpy(x)
        if not target.flags.writeable:
            raise ValueError("out: is read-only; allowed is writable memory")
        if not _same_memory(target, source) and _overlap(target, source):
            raise ValueError("out: overlaps the input in part; allowed are the input itself or separate memory")
    return value


def apart(out: Array, where: Array, family: Family) -> None:
    """Check that `out` and `where` share no memory."""
    view = family.to_numpy
    if out is None or where is None or view is None or not (family.readable(out) and family.readable(where)):
        return
    if _overlap(view(out), view(where)):
        raise ValueError("out: shares memory with where; allowed is memory of its own")


def _same_memory(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.__array_interface__["data"][0] == b.__array_interface__["data"][0] and a.strides == b.strides


def _overlap(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]  # any bound on the work is allowed
    except np.exceptions.TooHardError:
        return True
