"""The table of array families, and the functions that its rows name."""

from __future__ import annotations

import functools
import importlib
import sys
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from logitx._arrays.family import FLOATING, Family, dtype_name, namespace_dtype, on_host
from logitx._arrays.matmul import NdArray, multiply_numpy, multiply_torch
from logitx._plan import Array


def _is_numpy(cls: type) -> bool:
    # Subclasses may carry a mask, a unit or labels, which we would drop; a memory map carries nothing.
    return cls in (np.ndarray, np.memmap, list, tuple) or issubclass(cls, np.generic | int | float | complex)


def _numpy_back(a: np.ndarray[Any, Any], name: str) -> Array:
    return a.view(namespace_dtype(np, name)) if name == "bfloat16" and a.dtype == np.uint16 else a


def _is_torch(cls: type) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(cls, torch.Tensor)


def _tensors() -> Any:
    import logitx._arrays.torch as tensors

    return tensors


def _torch_settles(cls: type) -> Any:
    return _tensors() if cls is sys.modules["torch"].Tensor else None


def _torch_namespace(_: Array) -> Any:
    import array_api_compat.torch as xp

    return xp


def _torch_adopt(a: np.ndarray[Any, Any], like: Array) -> Array:
    import torch

    # from_numpy knows no negative strides, and warns of read-only memory
    if not a.flags.writeable or not a.flags.c_contiguous:
        a = np.array(a, order="C")
    if a.dtype.name == "bfloat16":
        return torch.from_numpy(a.view(np.uint16)).view(torch.bfloat16).to(like.device)
    return torch.from_numpy(a).to(like.device)


@functools.cache
def torch_state() -> Any:
    """Return the module of that name: an import statement in a function takes 0.6 us of each call."""
    return importlib.import_module("logitx._arrays.torch_state")


def _torch_readable(x: Array) -> bool:
    import torch

    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    state = torch_state()
    return type(x) in (torch.Tensor, torch.nn.Parameter) and not (state.is_wrapper(x) or state.is_legacy_batched(x))


def _torch_differentiated(x: Array) -> bool:
    import torch

    return bool(x.requires_grad and torch.is_grad_enabled()) or torch_state().forward._current_level >= 0


def _torch_view(x: Array) -> np.ndarray[Any, Any]:
    x = x.detach() if x.requires_grad else x
    if x.dtype is sys.modules["torch"].bfloat16:  # NumPy has none: its bits
        x = x.view(sys.modules["torch"].uint16)
    array: np.ndarray[Any, Any] = x.numpy()
    if array.flags.owndata and array.size:  # NumPy's own memory, with any numbers, in place of a storage of 0 bytes
        raise ValueError("a tensor has elements and a storage of 0 bytes; allowed are tensors whose storage holds them")
    return array


def _torch_back(a: np.ndarray[Any, Any], name: str) -> Array:
    torch = sys.modules["torch"]
    tensor = torch.from_numpy(np.asarray(a))
    return tensor.view(torch.bfloat16) if name == "bfloat16" else tensor


def _torch_host(*tensors: Array) -> tuple[NdArray, ...]:
    torch = sys.modules["torch"]
    with torch_state().without_transforms():  # within torch.func `detach` would return a tensor without memory
        known = [tensor.detach().cpu() for tensor in tensors]
        return tuple((one.float() if one.dtype is torch.bfloat16 else one).numpy() for one in known)


def _is_jax(cls: type) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and (issubclass(cls, jax.Array) or issubclass(cls, jax.core.Tracer))


def _jax_namespace(_: Array) -> Any:
    import jax.numpy

    return jax.numpy


def _jax_default_float(_: Array) -> str:
    import jax.numpy

    return str(jax.numpy.result_type(float).name)


def _jax_readable(x: Array) -> bool:
    import jax

    return (
        not isinstance(x, jax.core.Tracer)
        and x.is_fully_addressable
        and all(device.platform == "cpu" for device in x.devices())
    )


def jax_x64(on: bool) -> AbstractContextManager[Any]:
    """Return a context in which JAX has, or has not, dtypes of 64 bits."""
    import jax

    home = jax if hasattr(jax, "enable_x64") else jax.experimental  # where it came from
    return home.enable_x64(on)  # type: ignore[no-any-return]


def _is_tensorflow(cls: type) -> bool:
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and issubclass(cls, getattr(tensorflow, "Tensor", ()))


def _tensorflow() -> Any:
    import logitx._arrays.tensorflow as xp

    return xp


def _is_dask(cls: type) -> bool:
    dask = sys.modules.get("dask.array")
    return dask is not None and issubclass(cls, dask.Array)


def _dask_adopt(a: np.ndarray[Any, Any], _: Array) -> Array:
    import dask.array

    return dask.array.asarray(a)


def _dask_host(*arrays: Array) -> tuple[NdArray, ...]:
    import dask

    return tuple(map(on_host, dask.compute(*arrays)))


def _is_array_api(cls: type) -> bool:
    return hasattr(cls, "__array_namespace__") and not issubclass(cls, np.ndarray)


def _standard_namespace(x: Array) -> Any:
    import array_api_compat

    return array_api_compat.array_namespace(x)


def _standard_readable(x: Array) -> bool:
    import array_api_compat

    return "cpu" in str(array_api_compat.device(x)).lower() and not array_api_compat.is_lazy_array(x)


def _standard_default_float(x: Array) -> str:
    info = _standard_namespace(x).__array_namespace_info__()
    return dtype_name(info.default_dtypes()["real floating"])


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="numpy",
            recognizes=_is_numpy,
            namespace=lambda _: np,
            adopt=lambda a, _: a,
            default_float=lambda _: "float64",
            floats=FLOATING,
            readable=lambda _: True,
            to_numpy=lambda x: x,
            from_numpy=_numpy_back,
            scalar=lambda x: x[()],
            multiply=multiply_numpy,
        ),
        Family(
            name="torch",
            recognizes=_is_torch,
            namespace=_torch_namespace,
            adopt=_torch_adopt,
            default_float=lambda _: dtype_name(sys.modules["torch"].get_default_dtype()),
            readable=_torch_readable,
            refusal=lambda x: _tensors().refusal(x),
            written=lambda x: _tensors().written(x),
            device=lambda x: x.device,
            has_float64=lambda x: x.device.type in ("cpu", "cuda"),
            detach=lambda x: x.detach(),
            differentiated=_torch_differentiated,
            to_numpy=_torch_view,
            from_numpy=_torch_back,
            settles=_torch_settles,
            multiply=multiply_torch,
            host=_torch_host,
        ),
        Family(
            name="jax",
            recognizes=_is_jax,
            namespace=_jax_namespace,
            adopt=lambda a, like: _jax_namespace(like).asarray(a),
            default_float=_jax_default_float,
            readable=_jax_readable,
            has_float64=lambda x: _jax_default_float(x) == "float64",
            has_subnormals=False,
            immutable=True,
            meshes=True,
            detach=lambda x: sys.modules["jax"].lax.stop_gradient(x),
        ),
        Family(
            name="tensorflow",
            recognizes=_is_tensorflow,
            namespace=lambda _: _tensorflow(),
            adopt=lambda a, _: _tensorflow().asarray(a),
            default_float=lambda _: "float32",
            readable=lambda x: _tensorflow().readable(x),
            host=lambda *arrays: tuple(np.asarray(one.numpy()) for one in arrays),  # `__array__` of one bfloat16 fails
            has_subnormals=False,
            immutable=True,
            detach=lambda x: _tensorflow().stop_gradient(x),
            differentiated=lambda x: _tensorflow().recorded(x),
            to_numpy=lambda x: _tensorflow().view_memory(x),
            from_numpy=lambda a, name: _tensorflow().shared(a, name),
            alignment=64,
            multiply=multiply_numpy,
        ),
        Family(
            name="dask",
            recognizes=_is_dask,
            namespace=_standard_namespace,
            adopt=_dask_adopt,
            default_float=lambda _: "float64",
            readable=lambda _: False,  # lazy: values are computed on request
            immutable=True,
            host=_dask_host,
            as_given=True,  # folding chunked axes would rechunk the array
        ),
        Family(
            name="array_api",
            recognizes=_is_array_api,
            namespace=_standard_namespace,
            adopt=lambda a, like: _standard_namespace(like).asarray(a, device=like.device),
            default_float=_standard_default_float,
            readable=_standard_readable,
            device=lambda x: x.device,
        ),
    )
}


_BY_TYPE: dict[type, Family] = {}
_MOST_TYPES = 256  # a program may make classes without end; the table keeps them alive


def family_of(x: Any) -> Family | None:
    """Return the family of an array, a Python number or a (nested) list; None for other types."""
    cls = type(x)
    family = _BY_TYPE.get(cls)
    if family is None:
        family = next((row for row in FAMILIES.values() if row.recognizes(cls)), None)
        if family is not None:
            if len(_BY_TYPE) >= _MOST_TYPES:
                _BY_TYPE.clear()
            _BY_TYPE[cls] = family
    return family
