"""Memory that two arrays share, or two elements of one array."""

from __future__ import annotations

import numpy as np

from logitx._arrays.matmul import NdArray


def same_memory(a: NdArray, b: NdArray) -> bool:
    """True if two arrays begin at one place, with the same strides."""
    return a.__array_interface__["data"][0] == b.__array_interface__["data"][0] and a.strides == b.strides


def overlap(a: NdArray, b: NdArray) -> bool:
    """True if two arrays share memory, or if it would take long to find out."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]  # any bound on the work is allowed
    except np.exceptions.TooHardError:
        return True


def overlaps_itself(a: NdArray) -> bool:
    """True if elements of an array share memory, as those of `numpy.broadcast_to` do."""
    if a.flags.forc or a.size == 0:
        return False
    axes = sorted((abs(stride), length) for stride, length in zip(a.strides, a.shape, strict=True) if length > 1)
    end = a.itemsize  # of the elements along the axes so far
    for stride, length in axes:
        if stride < end:
            break
        end += stride * (length - 1)
    else:
        return False  # each axis steps over what the ones before it reach
    places = np.zeros(1, np.int64)
    for stride, length in axes:
        places = np.add.outer(places, np.arange(length) * stride).reshape(-1)
    return bool(np.min(np.diff(np.sort(places)), initial=a.itemsize) < a.itemsize)
