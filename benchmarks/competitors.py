"""The libraries that are timed, one row each."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peers
from cells import DTYPES, LINEAR, OPS, TORCH_OPS, Cell, Inputs


@dataclass(frozen=True)
class Competitor:
    """A library: the packages it needs, and the cells it can run. `prepare` does the work that is not timed."""

    name: str
    requires: tuple[str, ...]
    prepare: Callable[[Cell, Inputs], Callable[[], Any]]
    ops: tuple[str, ...] = OPS + LINEAR
    dtypes: tuple[str, ...] = tuple(DTYPES)
    into: bool = False  # has `out=`: cells with `out=` are timed too
    arrays: str = "numpy"  # runs the cells of these arrays
    some: bool = False  # runs only the shapes that are timed in all dtypes

    def enters(self, cell: Cell) -> bool:
        """True if it can do what this cell times, with the packages that are installed."""
        able = cell.op in self.ops and cell.dtype in self.dtypes and cell.arrays == self.arrays
        return (
            able
            and (cell.shape.all_dtypes or not self.some)
            and all(importlib.util.find_spec(name) is not None for name in self.requires)
        )


OURS = "logitx"
COMPETITORS = (
    Competitor(OURS, ("logitx",), peers.logitx_numpy, into=True),
    Competitor(OURS, ("logitx", "torch"), peers.logitx_torch, ops=TORCH_OPS, arrays="torch"),
    Competitor(OURS, ("logitx", "jax"), peers.logitx_jax, ops=OPS, arrays="jax"),
    Competitor("SciPy", ("scipy",), peers.scipy, ops=OPS[:3], dtypes=("float32", "float64")),
    Competitor("PyTorch", ("torch",), peers.torch),
    Competitor("PyTorch, chunked", ("torch",), peers.torch_chunked, ops=LINEAR),
    Competitor("JAX", ("jax", "optax"), peers.jax, dtypes=("float32", "float16", "bfloat16")),
    Competitor("JAX", ("jax", "optax"), peers.jax, ops=OPS, arrays="jax"),
    Competitor("PyTorch", ("torch",), peers.torch_eager, ops=TORCH_OPS, arrays="torch"),
    Competitor("torch.compile", ("torch",), peers.torch_compiled, ops=TORCH_OPS, arrays="torch", some=True),
    Competitor("ONNX Runtime", ("onnxruntime", "onnx"), peers.onnxruntime, ops=OPS[:3], dtypes=("float32", "float64")),
)
