"""Lists of arrays, stacked by the library of the arrays, and objects that say which JAX array they stand for."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from logitx._arrays.families import family_of
from logitx._arrays.family import Family
from logitx._plan import Array

_NUMBERS = (int, float, bool, np.ndarray)


def as_array(x: Any) -> Any:
    """Return a list that holds arrays of a library as one array of it, stacked; all else as it is.

    NumPy would take the values of such arrays one by one, and fail or forget where derivatives are recorded.
    What has `__jax_array__`, as parameters of Flax, is the JAX array that it gives.
    """
    if type(x) in (list, tuple):
        like = _array_within(x)
        return x if like is None else _stacked(x, family_of(like), like)  # type: ignore[arg-type]
    if "jax" in sys.modules and hasattr(type(x), "__jax_array__") and family_of(x) is None:
        return x.__jax_array__()
    return x


def _array_within(x: Any) -> Array:
    """Return the first array in a nested list that is not NumPy's; None if there is none."""
    for one in x:
        if type(one) in _NUMBERS:
            continue
        if type(one) in (list, tuple):
            found = _array_within(one)
        else:
            one = as_array(one)
            family = family_of(one)
            found = None if family is None or family.name == "numpy" else one
        if found is not None:
            return found
    return None


def _stacked(x: Any, family: Family, like: Array) -> Array:
    if type(x) in (list, tuple):
        xp = family.namespace(like)
        return xp.stack([_stacked(one, family, like) for one in x])
    x = as_array(x)
    found = family_of(x)
    if found is not None and found.name == "numpy":
        array = family.adopt(np.asarray(x), like)
        return array if isinstance(x, np.generic | np.ndarray) else family.namespace(like).astype(array, like.dtype)
    return x
