"""Array families: one row each. Recognize, find the namespace, view as NumPy without a copy, hand back.

A family is recognized by the concrete type of an array, once; afterwards it is one dictionary look-up. Frameworks are
looked up in ``sys.modules`` and never imported in order to ask: nobody holds a torch tensor without torch loaded.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from logitx._arrays.products import NdArray, multiply_numpy, multiply_torch
from logitx._typing import Array, Layout

FLOATS = ("float16", "bfloat16", "float32", "float64")


def on_host(x: Array) -> NdArray:
    """Bring the values of an array to NumPy, wherever they are."""
    if hasattr(x, "get"):  # CuPy, which copies from a device only by name
        x = x.get()
    return np.asarray(x) if hasattr(x, "__array__") else np.from_dlpack(x)


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """What the library must know of one kind of array."""

    name: str
    recognizes: Callable[[type], bool]
    namespace: Callable[[Array], Any]
    adopt: Callable[[np.ndarray[Any, Any], Array], Array]  # NumPy data -> this family, where that other array lives
    default_float: Callable[[Array], str]
    readable: Callable[[Array], bool]  # its values can be looked at now, at no cost: concrete and on the CPU
    refusal: Callable[[Array], str | None] = lambda _: None  # what an array is that none may be, and what may
    immutable: bool = False
    as_given: bool = False  # a backend sees its arrays as the user gave them: nothing is folded, nothing broadcast
    meshes: bool = False  # its arrays may lie on a mesh of devices, of which axes have names
    device: Callable[[Array], Any] = lambda _: None  # comparable; None where the framework moves data by itself
    detach: Callable[[Array], Array] = lambda x: x  # the same values, constant to automatic differentiation
    differentiated: Callable[[Array], bool] = lambda _: False  # a derivative by it may be asked for; where readable
    to_numpy: Callable[[Array], np.ndarray[Any, Any]] | None = None  # a view, never a copy
    from_numpy: Callable[[np.ndarray[Any, Any], str], Array] | None = None  # the way back, with the dtype's name
    alignment: int = 0  # bytes: what `from_numpy` need not copy begins at a multiple; 0 where any memory will do
    host: Callable[..., tuple[NdArray, ...]] = lambda *arrays: tuple(map(on_host, arrays))  # their values, waited for
    written: Callable[[Array], None] = lambda _: None  # to be told that an array was written to, past its framework
    scalar: Callable[[Array], Array] = lambda x: x  # a 0-d result as the family returns it from a reduction
    # The module with `differentiated`, `memory`, `tensor` and `example` for arrays of a class, if calls are settled
    settles: Callable[[type], Any] = lambda _: None
    # out = a @ b, or with the last argument out += a @ b, of NumPy matrices, as fast as the family can
    multiply: Callable[[NdArray, NdArray, NdArray, bool], None] | None = None


@functools.lru_cache(maxsize=256, typed=True)  # typed: dtypes of two libraries may compare equal, or warn
def dtype_name(dtype: Any) -> str:
    """Return the one name by which every library's object for a dtype is known here: "float32", "int8", "bool"."""
    name = getattr(dtype, "name", None)
    if isinstance(name, str):  # np.dtype and what follows it
        return name
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, type):  # np.float32, jnp.bfloat16, float
        return np.dtype(dtype).name
    return str(dtype).rpartition(".")[2]  # torch.float32, array_api_strict.float32


def namespace_dtype(xp: Any, name: str) -> Any:
    """Return the dtype object of a namespace by its name."""
    if xp is np:
        if name == "bfloat16":
            import ml_dtypes  # NumPy has no bfloat16 of its own; whoever holds such an array has this

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(name)
    if name == "int64" and "jax" in sys.modules and xp is sys.modules.get("jax.numpy"):
        return sys.modules["jax"].dtypes.canonicalize_dtype("int64")  # int32 unless x64 is on, without a warning
    dtype = getattr(xp, name, None)
    if dtype is None and getattr(xp, "float32", None) is np.float32:  # Dask: its dtypes are those of NumPy
        return namespace_dtype(np, name)
    if dtype is None:
        raise TypeError(f"dtype: {name} is not allowed; {xp.__name__} does not have it")
    return dtype


def constant(value: Any) -> TypeGuard[bool | int | float]:
    """Tell whether `value` is a plain Python number: known now, the same for every backend."""
    return type(value) is float or isinstance(value, int | float)


# -- NumPy ------------------------------------------------------------------------------------------------------------


def _is_numpy(cls: type) -> bool:
    # Subclasses may carry what we would drop (a mask, a unit, labels); a memory map carries nothing.
    return cls in (np.ndarray, np.memmap, list, tuple) or issubclass(cls, np.generic | int | float | complex)


def _numpy_back(a: np.ndarray[Any, Any], name: str) -> Array:
    return a.view(namespace_dtype(np, name)) if name == "bfloat16" and a.dtype == np.uint16 else a


# -- PyTorch ----------------------------------------------------------------------------------------------------------


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


def _torch_readable(x: Array) -> bool:
    import torch

    return (
        x.device.type == "cpu"
        and type(x) in (torch.Tensor, torch.nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and not torch._C._functorch.is_legacy_batchedtensor(x)
    )


def _torch_differentiated(x: Array) -> bool:
    import torch

    return bool(x.requires_grad and torch.is_grad_enabled()) or torch.autograd.forward_ad._current_level >= 0


def _torch_view(x: Array) -> np.ndarray[Any, Any]:
    x = x.detach() if x.requires_grad else x
    if x.dtype is sys.modules["torch"].bfloat16:  # NumPy has none: its bits
        x = x.view(sys.modules["torch"].uint16)
    array: np.ndarray[Any, Any] = x.numpy()
    return array


def _torch_back(a: np.ndarray[Any, Any], name: str) -> Array:
    torch = sys.modules["torch"]
    tensor = torch.from_numpy(np.asarray(a))
    return tensor.view(torch.bfloat16) if name == "bfloat16" else tensor


def _torch_host(*tensors: Array) -> tuple[NdArray, ...]:
    return tuple(tensor.detach().cpu().numpy() for tensor in tensors)


# -- JAX --------------------------------------------------------------------------------------------------------------


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


# -- TensorFlow -------------------------------------------------------------------------------------------------------


def _is_tensorflow(cls: type) -> bool:
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and issubclass(cls, getattr(tensorflow, "Tensor", ()))


def _tensorflow() -> Any:
    import logitx._arrays.tensorflow as xp

    return xp


# -- Dask -------------------------------------------------------------------------------------------------------------


def _is_dask(cls: type) -> bool:
    dask = sys.modules.get("dask.array")
    return dask is not None and issubclass(cls, dask.Array)


def _dask_adopt(a: np.ndarray[Any, Any], _: Array) -> Array:
    import dask.array

    return dask.array.asarray(a)


def _dask_host(*arrays: Array) -> tuple[NdArray, ...]:
    import dask

    return tuple(map(on_host, dask.compute(*arrays)))


# -- anything else with the Array API ---------------------------------------------------------------------------------


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
            immutable=True,
            detach=lambda x: _tensorflow().stop_gradient(x),
            differentiated=lambda x: _tensorflow().recorded(x),
            to_numpy=lambda x: _tensorflow().view(x),
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
            readable=lambda _: False,  # lazy: nothing is computed before it is asked for
            immutable=True,
            host=_dask_host,
            as_given=True,  # to fold chunked axes would be to cut all chunks anew
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


def family_of(x: Any) -> Family | None:
    """Return the family of an array, a Python number or a (nested) list; None for what the library does not know."""
    cls = type(x)
    family = _BY_TYPE.get(cls)
    if family is None:
        family = next((row for row in FAMILIES.values() if row.recognizes(cls)), None)
        if family is not None:
            _BY_TYPE[cls] = family
    return family


# -- one class axis, and back -----------------------------------------------------------------------------------------


def fold(family: Family, x: Array, layout: Layout) -> Array:
    """Move and fold the class axes of an array of the given shape into one."""
    if not layout.folds or family.as_given:
        return x
    xp = family.namespace(x)
    if layout.permutation is not None:
        x = xp.permute_dims(x, layout.permutation)
    return xp.reshape(x, layout.shape)


def unfold(family: Family, x: Array, layout: Layout) -> Array:
    """Undo `fold`."""
    if not layout.folds or family.as_given:
        return x
    xp = family.namespace(x)
    x = xp.reshape(x, layout.permuted)
    return x if layout.inverse is None else xp.permute_dims(x, layout.inverse)


def fold_as_view(family: Family, x: Array, layout: Layout) -> Array | None:
    """Fold an output so that writing to it writes to `x`; None where only a copy has the shape."""
    if not layout.folds:
        return x
    if family.to_numpy is None or not family.readable(x):
        return None
    folded = fold(family, x, layout)
    same_memory = np.may_share_memory(family.to_numpy(folded), family.to_numpy(x))
    return folded if same_memory else None
