"""Targets of Dask: rows in one block, rows cut at odd places, and every class in a block of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from logitx.testing.cases import Case, NDArray
from logitx.testing.targets.target import Exact, Target, numpy_dtype, numpy_make, numpy_read

Cut = Callable[[tuple[int, ...]], Any]


def _pieces(length: int, *sizes: int) -> tuple[int, ...]:
    """Cut a length into pieces of these sizes, over and over."""
    cuts: list[int] = []
    while sum(cuts) < length:
        cuts.append(min(sizes[len(cuts) % len(sizes)], length - sum(cuts)))
    return tuple(cuts) or (0,)


def _whole(shape: tuple[int, ...]) -> Any:
    return (*(_pieces(length, 2) for length in shape[:-1]), *shape[-1:])


def _odd(shape: tuple[int, ...]) -> Any:
    return tuple(_pieces(length, 3, max(1, length // 2)) for length in shape)


_MOST = 5000  # blocks of an axis: with 70,000 Dask takes minutes and 10 GB to put their tasks in order


def _ones(shape: tuple[int, ...]) -> Any:
    return (*shape[:-1], *(_pieces(length, 1 + length // _MOST) for length in shape[-1:]))


def _make(cut: Cut) -> Callable[[NDArray, str, str], Any]:
    def make(values: NDArray, dtype: str, memory: str) -> Any:
        import dask.array

        array = numpy_make(values, dtype, memory)
        return dask.array.from_array(array, chunks=cut(array.shape))

    return make


def _is_dask(x: Any) -> bool:
    import dask.array

    return isinstance(x, dask.array.Array)


def _problem(array: Any, elementwise: bool) -> str | None:
    if not _is_dask(array):
        return f"type is {type(array).__name__}; expected is a dask.array.Array"
    block = array.compute()
    if type(block) is not np.ndarray and not isinstance(block, np.generic):
        return f"a block is a {type(block).__name__}; expected is an ndarray"
    if (block.shape, block.dtype) != (array.shape, array.dtype):
        return f"blocks have {block.shape} of {block.dtype}; {array.shape} of {array.dtype} was said"
    return None


def _read(array: Any) -> Exact:
    return numpy_read(array.compute())


def _call(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Compute all results at once, as Dask arrays still; errors that only data shows come up here."""
    import dask

    return dask.persist(function(*args, **options))[0]


@contextlib.contextmanager
def _session(x64: bool) -> Iterator[None]:
    import dask

    with dask.config.set(scheduler="synchronous"):
        yield


def _dask(name: str, cut: Cut, share: tuple[int, int], fits: Callable[[Case], bool]) -> Target:
    return Target(
        name=name,
        requires=("dask.array",),
        backend="dask",
        make=_make(cut),
        read=_read,
        dtype=numpy_dtype,
        default_float=lambda x64: "float64",
        problem=_problem,
        is_array=_is_dask,
        call=_call,
        session=_session,
        writable=False,
        share=share,
        fits=fits,
        serial_sums=True,
    )


# Each case is a graph of its own, which takes the time: the three share a part of the pairs of options, and one alone
# runs special values. `dataclasses.replace(target, share=(0, 1), fits=lambda case: True)` runs all of them.
DASK: tuple[Target, ...] = (
    _dask("dask-whole", _whole, (0, 12), lambda case: not case.special),
    _dask("dask-odd", _odd, (1, 12), lambda case: not case.special or case.dtype == "float32"),
    _dask("dask-ones", _ones, (2, 12), lambda case: not case.special),
)
