"""Functions that report on backends and set them: backends, which, use_backend, set_num_threads, warmup."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import numpy as np

from logitx import _dispatch
from logitx._arguments import plans
from logitx._arrays.family import FLOATS, namespace_dtype
from logitx._dispatch import BackendInfo, Choice
from logitx._functions import (
    binary,
    cross_entropy,
    cut_rows,
    divergences,
    focal,
    linear,
    log_space,
    row_numbers,
    segments,
    softmax,
)
from logitx._functions.keywords import refuse_others
from logitx._labelled.table import parameters
from logitx._operations import OPERATIONS, check

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    op: next(
        getattr(module, op)
        for module in (
            softmax,
            cut_rows,
            cross_entropy,
            linear,
            row_numbers,
            divergences,
            binary,
            focal,
            log_space,
            segments,
        )
        if hasattr(module, op)
    )
    for op in OPERATIONS
}


def _operation(name: str) -> Callable[..., Any]:
    """Return the public function of an operation."""
    if not isinstance(name, str) or name not in _FUNCTIONS:
        raise ValueError(f"op: {name!r} is not allowed; allowed are {', '.join(map(repr, _FUNCTIONS))}")
    return _FUNCTIONS[name]


def backends() -> tuple[BackendInfo, ...]:
    """List the backends in the order in which they are tried.

    Returns
    -------
    tuple of BackendInfo
        Named tuples ``(name, available, reason, families)``: whether the backend can be used here, what it is or what
        it lacks, and the kinds of arrays it takes. The tuple is printed as one line for each backend.

    Examples
    --------
    >>> import logitx as lx
    >>> [info.name for info in lx.backends()]
    ['memory_maps', 'numba', 'jax', 'torch', 'tensorflow', 'dask', 'generic']
    """
    return _dispatch.backends()


def which(op: str, /, *args: Any, **options: Any) -> Choice:
    """Return the backend that a call would run on, and why.

    Parameters
    ----------
    op : str
        The name of a function, such as "softmax".
    *args, **options
        What the function would be called with; it is checked, but not run.

    Returns
    -------
    Choice
        Named tuple ``(backend, reason, declined)``; `declined` holds a pair ``(backend, reason)`` for every other
        backend. ``backend`` is empty where `use_backend` is in force with one that cannot serve the call. The tuple is
        printed as the backend with its reason, then one line for each other backend.

    Raises
    ------
    ValueError
        For a function that does not exist, and as the function itself.
    TypeError
        As the function itself.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> lx.which("softmax", np.zeros((2, 3)), axis=0).backend
    'numba'
    """
    function = _operation(op)
    refuse_others(function, options)
    bound = inspect.signature(function).bind(*args, **options)
    bound.apply_defaults()
    _, *names = parameters(OPERATIONS[op].check)  # the arguments of the public function, in another order
    plan, operands, *_ = check(op, *(bound.arguments[name] for name in names if name in bound.arguments))
    return _dispatch.which(plan, operands)


class use_backend:
    """Run on the named backend from here on, or within a ``with`` statement.

    The setting holds for the current thread and context (a context variable). A call that the backend cannot serve
    raises ValueError with the reason and the alternatives; nothing falls back silently.

    Parameters
    ----------
    name : {"memory_maps", "numba", "jax", "torch", "tensorflow", "dask", "generic"} or None
        None for the automatic choice.

    Raises
    ------
    ValueError
        For a name that is not allowed, and for a backend whose library is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> with lx.use_backend("generic"):
    ...     print(lx.which("softmax", np.zeros(3)).backend)
    generic
    """

    def __init__(self, name: str | None) -> None:
        self._name, self._before, self._over = name, _dispatch.force(name), False

    def __repr__(self) -> str:
        return f"use_backend({self._name!r})"

    def __enter__(self) -> use_backend:
        """Keep the backend in force; after an exit, put it in force again."""
        if self._over:
            self._before, self._over = _dispatch.force(self._name), False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the backend that was in force before."""
        _dispatch.force(self._before)
        self._over = True


def set_num_threads(n: int) -> None:
    """Limit the number of threads that the kernels on the CPU use.

    Results do not depend on it.

    Parameters
    ----------
    n : int
        1 or more, the calling thread included. The default is ``NUMBA_NUM_THREADS`` if that is set;
        else the least of ``OMP_NUM_THREADS``, the processors of the affinity mask, and the CPU quota
        of the container.

    Raises
    ------
    TypeError
        If `n` is not an int.
    ValueError
        For a number that is not allowed.

    Examples
    --------
    >>> import logitx as lx
    >>> lx.set_num_threads(1)
    """
    _dispatch.set_num_threads(plans.positive("n", n))


def warmup(ops: str | Iterable[str] | None = None, /, *, dtypes: Iterable[str] = ("float32",)) -> None:
    """Compile ahead what NumPy arrays and PyTorch tensors on the CPU will run, so that no first call has to wait.

    Where PyTorch is imported, this also registers the operators that a program saved by ``torch.export`` calls.

    Parameters
    ----------
    ops : str or iterable of str, optional
        Names of functions; all of them by default.
    dtypes : iterable of str, default ("float32",)
        Names of floating-point dtypes of logits.

    Raises
    ------
    ValueError
        For a function or dtype that does not exist.

    Examples
    --------
    >>> import logitx as lx
    >>> lx.warmup("softmax")
    """
    names = list(_FUNCTIONS) if ops is None else [ops] if isinstance(ops, str) else list(ops)
    functions = [_operation(name) for name in names]
    _dispatch.load_present()
    for dtype in dtypes:
        if dtype not in FLOATS:
            raise ValueError(f"dtypes: {dtype!r} is not allowed; allowed are {', '.join(FLOATS)}")
        # A row at a time, a matrix large enough for all threads, and a class axis that is not the last
        for shape, axis in (((2, 3), -1), ((256, 512), -1), ((256, 512), 0)):
            x = np.zeros(shape, dtype=namespace_dtype(np, dtype))
            ids = np.zeros(shape[0] if axis else shape[1], dtype=np.int64)
            for function in functions:
                _run_once(function, x, ids, axis)


def _run_once(function: Callable[..., Any], x: Any, ids: Any, axis: int) -> None:
    parameters = inspect.signature(function).parameters
    if function is log_space.log_matmul:
        function(x, x.T)
        return
    if "weight" in parameters:
        function(x, x, np.zeros(len(x), dtype=np.int64))
    elif "segment_ids" in parameters:
        function(*[x] * (1 + ("targets" in parameters)), axis, segment_ids=np.zeros(x.shape[axis], dtype=np.int64))
    elif "targets" in parameters and "axis" not in parameters:
        function(x, np.zeros(x.shape, dtype=np.int64))
    elif "targets" in parameters:
        function(x, ids, axis)
    elif len([p for p in parameters.values() if p.kind is p.POSITIONAL_ONLY]) == 2:
        function(x, x, *((axis,) if "axis" in parameters else ()))
    else:
        function(x, *((axis,) if "axis" in parameters else ()))
