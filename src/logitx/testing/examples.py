"""Examples: a few calls of every function on small arrays, for tests of everything but values.

The cases of a function prove its values. Its examples prove the rest: that it has derivatives, that it is traced by
compilers, that it is lazy on Dask, that it takes no memory of the size of the logits. `OPS` holds them, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from logitx.testing.cases import NDArray

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
By = int | str

# What is tested with examples. A row of OPS that lacks one of these says why in `Op.lacks`; "fuzz" is `Op.fuzz`.
ASPECTS = ("derivative", "graph", "lazy", "shards", "memory", "fuzz")


class Inputs(NamedTuple):
    """Arrays to call functions with: floats are float64, ids int64, masks bool."""

    x: NDArray  # (rows, classes): logits
    y: NDArray  # (rows, classes): more of them
    probabilities: NDArray  # (rows, classes): rows sum to 1
    where: NDArray  # (rows, classes): a mask; the labels are unmasked
    labels: NDArray  # (rows,): class ids
    some: NDArray  # (rows,): class ids, the second of which is -100
    class_weight: NDArray  # (classes,)
    sample_weight: NDArray  # (rows,)
    positive: NDArray  # (rows, 1): a positive number a row
    half: NDArray  # (): the number 0.5
    tenth: NDArray  # (): the number 0.1
    three: NDArray  # (): the number 3
    hidden: NDArray  # (rows, features): what a linear layer is given
    weight: NDArray  # (classes, features): its weights
    bias: NDArray  # (classes,)

    @classmethod
    def draw(cls, rows: int, classes: int, features: int = 2) -> Inputs:
        """Draw the arrays, the same ones every time."""
        rng = np.random.default_rng(rows * classes)
        x, y, logits = rng.standard_normal((3, rows, classes)) * 2
        labels = rng.integers(0, classes, rows)
        where = (rng.random((rows, classes)) < 0.8) | (np.arange(classes) == labels[:, None])
        return cls(
            x,
            y / 2,
            np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True),
            where,
            labels,
            np.where(np.arange(rows) == 1, -100, labels),
            rng.random(classes) + 0.5,
            rng.random(rows) + 0.5,
            rng.random((rows, 1)) + 0.5,
            np.array(0.5),
            np.array(0.1),
            np.array(3.0),
            rng.standard_normal((rows, features)),
            rng.standard_normal((classes, features)),
            rng.standard_normal(classes),
        )


def given(*args: Any, **options: Any) -> Arguments:
    """Return the arguments of a call as they are written in it."""
    return args, options


@dataclass(frozen=True, eq=False)
class Example:
    """One call of a function.

    Attributes
    ----------
    name : str
        Its options in words; unique among the examples of a function.
    call : callable
        ``call(inputs)``: the arguments, made by `given`.
    by : tuple of int and str
        Positions and names of the arguments that the result has derivatives by; the first is what JAX and PyTorch
        trace. Empty where `Op.lacks` says why there is no derivative.
    kernel : str
        The kernel that a program of JAX calls for it, as the handlers of XLA name it; "" where XLA runs the formulas.
    settled : bool
        PyTorch's autograd records a call like this one without checking its arguments anew.
    """

    name: str
    call: Callable[[Inputs], Arguments]
    by: tuple[By, ...] = (0,)
    kernel: str = ""
    settled: bool = False


def flat(results: Any) -> Iterator[Any]:
    """Yield the arrays of a result, however nested; a gradient that is None is left out."""
    if isinstance(results, tuple):
        for one in results:
            yield from flat(one)
    elif results is not None:
        yield results


def bind(
    function: Callable[..., Any], arguments: Arguments, by: tuple[By, ...], array: Callable[[NDArray], Any]
) -> tuple[Callable[..., tuple[Any, ...]], tuple[Any, ...]]:
    """Return a function of some arguments of a call, and these arguments.

    Parameters
    ----------
    function : callable
        What is called.
    arguments : tuple
        All arguments of the call, as `given` returns them.
    by : tuple of int and str
        Positions and names of the arguments that vary.
    array : callable
        ``array(values)``: makes an array of a library of a NumPy array.
    """

    def made(value: Any) -> Any:
        return array(value) if isinstance(value, np.ndarray) else value

    args, options = tuple(map(made, arguments[0])), {name: made(value) for name, value in arguments[1].items()}
    everything: dict[Any, Any] = {**dict(enumerate(args)), **options}

    def bound(*values: Any) -> tuple[Any, ...]:
        now = {**everything, **dict(zip(by, values, strict=True))}
        return tuple(flat(function(*(now[i] for i in range(len(args))), **{name: now[name] for name in options})))

    return bound, tuple(everything[one] for one in by)
