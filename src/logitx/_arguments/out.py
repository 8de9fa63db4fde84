"""Rules for `out`: which memory a result may be written to."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx._arguments.operands import refuse_array
from logitx._arrays.families import family_of
from logitx._arrays.family import Family, dtype_name
from logitx._arrays.overlap import overlap, overlaps_itself, same_memory
from logitx._plan import Array


def out(value: Any, family: Family, x: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Check an output: writable memory of exactly this shape and dtype, disjoint from the input or the same."""
    if value is None:
        return None
    if family.immutable:
        raise TypeError(f"out: arrays of {family.name} are immutable; allowed is None")
    if family_of(value) is not family or (family.name == "numpy" and not isinstance(value, np.ndarray)):
        raise TypeError(f"out: {type(value).__name__} is not allowed; allowed is a {family.name} array like the input")
    refuse_array("out", value, family)
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
        if overlaps_itself(target):
            raise ValueError("out: its elements share memory; allowed is memory of its own for each")
        if not same_memory(target, source) and overlap(target, source):
            raise ValueError("out: overlaps the input in part; allowed are the input itself or separate memory")
    return value


def apart(out: Array, others: dict[str, Any], family: Family) -> None:
    """Check that `out` shares no memory with other operands: a kernel would read what it has just written."""
    view = family.to_numpy
    if out is None or view is None or not family.readable(out):
        return
    for name, value in others.items():
        if hasattr(value, "shape") and family.readable(value) and overlap(view(out), view(family.detach(value))):
            raise ValueError(f"out: shares memory with {name}; allowed is memory of its own")
