"""Cases of the accuracy measurement: the sets of inputs, and the quantities with their units."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import exact
from exact import Inputs, NDArray

DTYPES = ("float32", "float64", "float16", "bfloat16")
HALVES = ("float16", "bfloat16")
# below these, exp is subnormal, and 0
EDGES = {"float16": (-9.7, -17.0), "bfloat16": (-87.4, -103.0), "float32": (-87.4, -103.0), "float64": (-708.4, -744.0)}
LONG_ROWS = {"one row of 1e6": 1_000_000, "one row of 1e7": 10_000_000}


def numpy_dtype(name: str) -> Any:
    """Return NumPy's object for a dtype."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def _near_ties(dtype: str, rng: np.random.Generator) -> NDArray:
    steps = rng.integers(0, 9, (64, 1000))
    return np.float64(3.0) * (1 + steps * 2.0 ** -(exact.BITS[dtype] - 1))


def _dominated(dtype: str, rng: np.random.Generator) -> NDArray:
    x = rng.standard_normal((256, 250))
    x[np.arange(256), rng.integers(0, 250, 256)] = np.linspace(12.0, 45.0, 256)
    return x


def _vanishing(dtype: str, rng: np.random.Generator) -> NDArray:
    high, low = EDGES[dtype]
    x = rng.uniform(low, high, (64, 500))
    x[:, 7] = 0.0
    return x


def _huge(dtype: str, rng: np.random.Generator) -> NDArray:
    size = 6e4 if dtype == "float16" else 1e30
    return size * (1 - rng.integers(0, 3, (64, 200)) * 2.0 ** -(exact.BITS[dtype] - 1))


Make = Callable[[str, np.random.Generator], NDArray]
SETS: dict[str, Make] = {
    "random": lambda dtype, rng: 4 * rng.standard_normal((256, 1000)),
    "few classes": lambda dtype, rng: 2 * rng.standard_normal((20_000, 5)),
    "far apart": lambda dtype, rng: rng.uniform(-80, 80, (64, 3000)),
    "offset by 1e4": lambda dtype, rng: 4 * rng.standard_normal((256, 1000)) + 1e4,
    "offset by 1e30": _huge,
    "near-ties": _near_ties,
    "one dominates": _dominated,
    "subnormal": _vanishing,
} | {name: lambda dtype, rng, n=n: 4 * rng.standard_normal((1, n)) for name, n in LONG_ROWS.items()}


def inputs(name: str, dtype: str) -> tuple[Inputs, exact.Rows]:
    """Return the inputs of a set, and their rows reduced."""
    rng, kind = np.random.default_rng(zlib.crc32(name.encode())), numpy_dtype(dtype)
    x = SETS[name](dtype, rng).astype(kind)
    count, n = x.shape
    labels = rng.integers(0, n, count)
    labels[::3] = x[::3].argmax(axis=-1)  # among them certain ones
    shares = rng.random(x.shape) * (rng.random(x.shape) < 0.1)
    shares[:, 0] += 1e-3
    shares = (shares / shares.sum(axis=-1, keepdims=True)).astype(kind)
    rows = exact.reduce_rows(x)
    dy = rng.standard_normal(x.shape).astype(kind)
    made = Inputs(x, labels, shares, x, x, dy)
    p, log_p = (formula(rows, made).astype(np.float64).astype(kind) for formula in (exact.softmax, exact.log_softmax))
    return made._replace(p=p, log_p=log_p), rows


# -- quantities -------------------------------------------------------------------------------------------------------

Size = Callable[[NDArray, Inputs], Any]


def itself(right: NDArray, inputs: Inputs) -> Any:
    """Ulp of the result."""
    return right


def at_least_one(right: NDArray, inputs: Inputs) -> Any:
    """Ulp of max(1, abs(result))."""
    return np.maximum(np.abs(right), 1)


def largest_of_row(right: NDArray, inputs: Inputs) -> Any:
    """Ulp of the largest element of the row."""
    return np.abs(right).max(axis=-1, keepdims=True)


def largest_product(right: NDArray, inputs: Inputs) -> Any:
    """Ulp of the largest p (abs(dp) + sum of abs(p dp)) of the row: for p near 1 the terms cancel."""
    products = np.abs(inputs.p.astype(np.float64) * inputs.dy)
    return (products + inputs.p * products.sum(axis=-1, keepdims=True)).max(axis=-1, keepdims=True)


def largest_term(right: NDArray, inputs: Inputs) -> Any:
    """Ulp of the largest abs(dlog_p) + p abs(sum of dlog_p) of the row."""
    dy = inputs.dy.astype(np.float64)
    return (np.abs(dy) + inputs.p * np.abs(dy.sum(axis=-1, keepdims=True))).max(axis=-1, keepdims=True)


class Quantity(NamedTuple):
    """What is measured, and in which unit."""

    name: str
    formula: exact.Formula
    size: Size
    is_loss: bool = False  # float32 at least

    def unit(self, dtype: str) -> str:
        """Return the dtype whose ulp is the unit: that of our result."""
        return "float32" if self.is_loss and dtype in HALVES else dtype


QUANTITIES = (
    Quantity("softmax", exact.softmax, itself),
    Quantity("log_softmax", exact.log_softmax, itself),
    Quantity("logsumexp", exact.logsumexp, at_least_one),
    Quantity("cross_entropy", exact.cross_entropy, at_least_one, True),
    Quantity("cross_entropy, soft labels", exact.soft_cross_entropy, at_least_one, True),
    Quantity("gradient of cross_entropy", exact.gradient, largest_of_row),
    Quantity("Hessian of cross_entropy", exact.hessian, largest_of_row),
    Quantity("softmax_vjp", exact.softmax_vjp, largest_product),
    Quantity("log_softmax_vjp", exact.log_softmax_vjp, largest_term),
    Quantity("merge_logsumexp", exact.merge_logsumexp, at_least_one),
)
