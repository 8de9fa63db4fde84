"""TARGETS: one row for every kind of array, backend and style of call that the suite runs on.

A row says how an array of that kind is made of exact values and read back exactly, and how a function is called with
it. To prove another backend or array type, write a row of your own and give it to `logitx.testing.check`.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from logitx._dispatch import forced
from logitx.testing.cases import NDArray
from logitx.testing.targets.dask import DASK
from logitx.testing.targets.labelled import LABELLED
from logitx.testing.targets.memory_maps import FILES
from logitx.testing.targets.target import NO_KERNEL, Exact, Target, numpy_dtype, numpy_make, numpy_problem, numpy_read
from logitx.testing.targets.tensorflow import TENSORFLOW

# -- NumPy ------------------------------------------------------------------------------------------------------------


def _numpy(name: str, backend: str, requires: tuple[str, ...] = (), serial_sums: bool = False) -> Target:
    return Target(
        name=name,
        requires=requires,
        backend=backend,
        make=numpy_make,
        read=numpy_read,
        dtype=numpy_dtype,
        default_float=lambda x64: "float64",
        problem=numpy_problem,
        is_array=lambda x: isinstance(x, np.ndarray),
        serial_sums=serial_sums,
        declines=NO_KERNEL,
    )


# -- JAX --------------------------------------------------------------------------------------------------------------


def _jax_make(values: NDArray, dtype: str, memory: str) -> Any:
    import jax.numpy

    return jax.numpy.asarray(numpy_make(values, dtype, "C"))


def _jax_dtype(name: str) -> Any:
    import jax.numpy

    return getattr(jax.numpy, name)


def _jax_problem(array: Any, elementwise: bool) -> str | None:
    import jax

    if not isinstance(array, jax.Array):
        return f"type is {type(array).__name__}; expected is a jax.Array"
    if array.devices() != {jax.devices()[0]}:
        return f"devices are {array.devices()}; expected is the device of the input"
    return None


def _is_jax(x: Any) -> bool:
    import jax

    return isinstance(x, jax.Array)


@contextlib.contextmanager
def _jax_session(x64: bool) -> Iterator[None]:
    import jax

    home = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")  # where it came from
    with home.enable_x64(x64):
        yield


def jax_jit(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Trace every array; Python numbers and words are static."""
    traced = {name: value for name, value in options.items() if _is_jax(value)}
    static = [(name, type(value), value) for name, value in options.items() if name not in traced]
    try:
        jitted = _jitted(function, forced.get(), *static)
    except TypeError:  # an option that cannot be looked up, as a NumPy array
        jitted = _jitted.__wrapped__(function, None, *static)
    return jitted(args, traced)


@functools.lru_cache(maxsize=256)
def _jitted(function: Callable[..., Any], _backend: str | None, *static: tuple[str, type, Any]) -> Any:
    """Return the jitted call with these options, so that JAX compiles it once for arrays of the same shapes."""
    import jax

    options = {name: value for name, _, value in static}
    return jax.jit(lambda args, traced: function(*args, **traced, **options))


def _jax(name: str, call: Callable[..., Any], share: tuple[int, int]) -> Target:
    return Target(
        name=name,
        requires=("jax",),
        backend="jax",
        make=_jax_make,
        read=numpy_read,
        dtype=_jax_dtype,
        default_float=lambda x64: "float64" if x64 else "float32",
        problem=_jax_problem,
        is_array=_is_jax,
        call=call,
        session=_jax_session,
        writable=False,
        share=share,
    )


# -- PyTorch ----------------------------------------------------------------------------------------------------------


def _torch_dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)


def _torch_make(values: NDArray, dtype: str, memory: str) -> Any:
    import torch

    tensor = torch.from_numpy(np.array(values)).to(_torch_dtype(dtype))
    if memory == "F" and tensor.ndim:
        order = tuple(reversed(range(tensor.ndim)))
        tensor = tensor.permute(order).contiguous().permute(order)
    elif memory == "strided" and tensor.ndim:
        tensor = torch.stack((tensor, tensor), dim=-1)[..., 0]
    return tensor


def _torch_read(tensor: Any) -> Exact:
    import torch

    name = str(tensor.dtype).removeprefix("torch.")
    kind = torch.bool if name == "bool" else torch.float64 if tensor.dtype.is_floating_point else torch.int64
    return np.array(tensor.detach().to(kind).numpy()), name


def _torch_problem(tensor: Any, elementwise: bool) -> str | None:
    import torch

    if type(tensor) is not torch.Tensor:
        return f"type is {type(tensor).__name__}; expected is a torch.Tensor"
    return None if tensor.device.type == "cpu" else f"device is {tensor.device}; expected is cpu"


def _is_torch(x: Any) -> bool:
    import torch

    return isinstance(x, torch.Tensor)


def _torch_grad(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Call with every floating argument recorded by autograd."""
    for tensor in (*args, *filter(_is_torch, options.values())):
        tensor.requires_grad_(tensor.is_floating_point())
    return function(*args, **options)


def _torch_vmap(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Map over a batch of one; vmap does not let a None out."""
    import torch

    def present(outcome: Any) -> Any:
        return tuple(present(one) for one in outcome if one is not None) if isinstance(outcome, tuple) else outcome

    outcome = torch.func.vmap(lambda x: present(function(x, *args[1:], **options)))(args[0][None])
    return torch.utils._pytree.tree_map(lambda tensor: tensor[0], outcome)


def _torch_compile(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Compile a graph without a break; what it holds is run as it is."""
    import torch

    torch._dynamo.reset()
    try:
        return torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=False)(*args, **options)
    except torch._dynamo.exc.TorchRuntimeError as error:  # what PyTorch makes of an error raised while it compiles
        raised = re.search(r"got (TypeError|ValueError)\((.*)\)$", str(error), re.MULTILINE)
        if raised is None:
            raise
        kind = TypeError if raised[1] == "TypeError" else ValueError
        raise kind(ast.literal_eval(raised[2])) from error
    except (TypeError, ValueError) as error:  # PyTorch 2.7 adds to it where in the graph it was raised
        error.args = (str(error).partition("\n\nWhile executing ")[0],)
        raise


def _torch(name: str, backend: str | None, requires: tuple[str, ...] = ("torch",), **ways: Any) -> Target:
    return Target(
        name=name,
        requires=requires,
        backend=backend,
        make=_torch_make,
        read=_torch_read,
        dtype=_torch_dtype,
        default_float=lambda x64: "float32",
        problem=_torch_problem,
        is_array=_is_torch,
        declines=NO_KERNEL,
        **ways,
    )


# -- array-api-strict: nothing outside the standard -------------------------------------------------------------------


def _strict_dtype(name: str) -> Any:
    import array_api_strict

    return getattr(array_api_strict, name)


def _strict_make(values: NDArray, dtype: str, memory: str) -> Any:
    import array_api_strict

    return array_api_strict.asarray(numpy_make(values, dtype, "C" if memory == "swapped" else memory))


def _strict_read(array: Any) -> Exact:
    exact, _ = numpy_read(np.from_dlpack(array))
    return exact, str(array.dtype).rpartition(".")[2]


def _strict_problem(array: Any, elementwise: bool) -> str | None:
    import array_api_strict

    if not hasattr(array, "__array_namespace__") or array.__array_namespace__() is not array_api_strict:
        return f"type is {type(array).__name__}; expected is an array of array_api_strict"
    if array.device != array_api_strict.Device("CPU_DEVICE"):
        return f"device is {array.device}; expected is the device of the input"
    return None


@contextlib.contextmanager
def _strict_session(x64: bool) -> Iterator[None]:
    import array_api_strict

    # The version stays at the newest stable one of the standard that array-api-strict knows (its default), and what is
    # optional goes: extensions, and results whose shape depends on data, which compiled and lazy libraries lack.
    with array_api_strict.ArrayAPIStrictFlags(
        boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    ):
        yield


_NO_HALVES = "the Array API standard, and so array-api-strict, has no half precision"

TARGETS: tuple[Target, ...] = (
    _numpy("numpy-numba", "numba", requires=("numba",)),
    _numpy("numpy-generic", "generic", serial_sums=True),
    # Both run the same jitted operations, and compiling them is what takes the time: they share the pairs of options.
    _jax("jax-eager", lambda function, args, options: function(*args, **options), share=(0, 2)),
    _jax("jax-jit", jax_jit, share=(1, 2)),
    _torch("torch-cpu", "numba", requires=("torch", "numba")),
    _torch("torch-generic", "generic"),
    _torch("torch-grad", None, call=_torch_grad, writable=False, share=(2, 4)),
    _torch("torch-vmap", None, call=_torch_vmap, writable=False, share=(1, 4)),
    _torch("torch-compile", None, call=_torch_compile, share=(3, 24)),
    Target(
        name="array-api-strict",
        requires=("array_api_strict",),
        backend="generic",
        make=_strict_make,
        read=_strict_read,
        dtype=_strict_dtype,
        default_float=lambda x64: "float64",
        problem=_strict_problem,
        is_array=lambda x: hasattr(x, "__array_namespace__") and not isinstance(x, np.ndarray),
        session=_strict_session,
        missing={"float16": _NO_HALVES, "bfloat16": _NO_HALVES},
        serial_sums=True,
    ),
    *LABELLED,
    *DASK,
    *FILES,
    *TENSORFLOW,
)
