"""Targets of TensorFlow: eager tensors, under a tape, and in graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from logitx.testing.cases import NDArray
from logitx.testing.targets.target import NO_KERNEL, Exact, Target, numpy_make


def _make(values: NDArray, dtype: str, memory: str) -> Any:
    import tensorflow as tf

    return tf.convert_to_tensor(numpy_make(values, dtype, "C" if memory == "swapped" else memory))


def _read(tensor: Any) -> Exact:
    name = tensor.dtype.name
    array = tensor.numpy()
    return np.array(array.astype(bool if name == "bool" else np.float64 if "float" in name else np.int64)), name


def _dtype(name: str) -> Any:
    import tensorflow as tf

    return tf.dtypes.as_dtype(name)


def _is_tensor(x: Any) -> bool:
    import tensorflow as tf

    return isinstance(x, tf.Tensor)


def _problem(tensor: Any, elementwise: bool) -> str | None:
    if not _is_tensor(tensor):
        return f"type is {type(tensor).__name__}; expected is a tensorflow.Tensor"
    return None if "CPU:" in tensor.device else f"device is {tensor.device}; expected is the CPU"


def _taped(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Call under a tape that watches the logits."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(args[0])
        return function(*args, **options)


def _graph(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Trace every array; other options are static."""
    import tensorflow as tf

    traced = {name: value for name, value in options.items() if _is_tensor(value)}
    static = {name: value for name, value in options.items() if name not in traced}

    def signature(x: Any) -> Any:
        return tf.TensorSpec(x.shape, x.dtype)

    graph = tf.function(lambda args, traced: function(*args, **traced, **static), autograph=False)
    return graph.get_concrete_function(
        tuple(map(signature, args)), {name: signature(value) for name, value in traced.items()}
    )(args, traced)


def _row(name: str, backend: str | None, **ways: Any) -> Target:
    return Target(
        name=name,
        requires=("tensorflow",),
        backend=backend,
        make=_make,
        read=_read,
        dtype=_dtype,
        default_float=lambda x64: "float32",
        problem=_problem,
        is_array=_is_tensor,
        writable=False,
        serial_sums=True,
        declines=NO_KERNEL,
        **ways,
    )


TENSORFLOW = (
    _row("tensorflow-eager", "numba"),
    _row("tensorflow-tape", None, call=_taped, share=(1, 4)),
    _row("tensorflow-generic", "generic", share=(2, 4)),
    _row("tensorflow-graph", None, call=_graph, share=(3, 8)),
)
