"""The target of memory maps: every array is a file, and blocks are a few rows."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np

from logitx.testing.cases import Case, NDArray
from logitx.testing.targets.target import Target, numpy_dtype, numpy_make, numpy_problem, numpy_read

_BLOCK = 100  # bytes


def _make(values: NDArray, dtype: str, memory: str) -> NDArray:
    array = numpy_make(values, dtype, memory)
    if not array.ndim or not array.size or not array.dtype.isnative:
        return array
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, array.dtype, "w+", shape=array.shape, order="F" if memory == "F" else "C")
    mapped[...] = array
    mapped.flags.writeable = array.flags.writeable
    return mapped


def _problem(array: Any, elementwise: bool) -> str | None:
    return None if type(array) is np.memmap and elementwise else numpy_problem(array, elementwise)


@contextlib.contextmanager
def _session(x64: bool) -> Iterator[None]:
    from logitx._arrays import memory_maps
    from logitx.backends import memory_maps as backend

    with mock.patch.object(memory_maps, "BLOCK", _BLOCK), mock.patch.object(backend, "LARGE_CALL", 0):
        yield


def _has_rows(case: Case) -> bool:
    return not case.special and case.args[0].values.ndim > 1


FILES: tuple[Target, ...] = (
    Target(
        name="numpy-memmap",
        requires=("numba",),
        backend=None,  # `memory_maps` takes calls whose first axis is rows; the calls that it declines are checked too
        make=_make,
        read=numpy_read,
        dtype=numpy_dtype,
        default_float=lambda x64: "float64",
        problem=_problem,
        is_array=lambda x: isinstance(x, np.ndarray),
        session=_session,
        share=(1, 4),
        fits=_has_rows,
    ),
)  # fmt: skip
