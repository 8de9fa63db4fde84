"""The libraries whose accuracy is measured, and the call of each for a quantity. NumPy arrays in, a NumPy array out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from exact import Inputs, NDArray

Call = Callable[[Inputs], Any]  # of arrays of the library


class Contender(NamedTuple):
    """A library, or one of our backends."""

    name: str
    make: Callable[[NDArray], Any]
    read: Callable[[Any], NDArray]
    calls: dict[str, Call]
    session: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    lacks: tuple[str, ...] = ()  # dtypes

    def __call__(self, quantity: str, inputs: Inputs) -> NDArray:
        """Return the quantity."""
        with self.session(), np.errstate(all="ignore"):
            return self.read(self.calls[quantity](Inputs(*map(self.make, inputs))))


def ours() -> dict[str, Call]:
    """Return our functions."""
    import logitx as lx

    return {
        "softmax": lambda i: lx.softmax(i.x),
        "log_softmax": lambda i: lx.log_softmax(i.x),
        "logsumexp": lambda i: lx.logsumexp(i.x),
        "cross_entropy": lambda i: lx.cross_entropy(i.x, i.labels, reduction="none"),
        "cross_entropy, soft labels": lambda i: lx.cross_entropy(i.x, i.shares, reduction="none"),
        "gradient of cross_entropy": lambda i: lx.cross_entropy_value_and_grad(i.x, i.labels, reduction="sum")[1],
        "Hessian of cross_entropy": lambda i: lx.cross_entropy_grad_hess(i.x, i.labels)[1],
        "softmax_vjp": lambda i: lx.softmax_vjp(i.p, i.dy),
        "log_softmax_vjp": lambda i: lx.log_softmax_vjp(i.log_p, i.dy),
        "merge_logsumexp": lambda i: lx.merge_logsumexp(i.x, i.dy),
    }


def numpy_arrays(backend: str) -> Contender:
    import logitx as lx

    return Contender(backend, lambda array: array, np.asarray, ours(), lambda: lx.use_backend(backend))


def _scipy() -> Contender:
    from scipy import special

    def minus_one_at_labels(i: Inputs) -> Any:
        result = special.softmax(i.x, axis=-1)
        result[np.arange(len(i.labels)), i.labels] -= 1
        return result

    def losses(i: Inputs) -> Any:
        return -special.log_softmax(i.x, axis=-1)[np.arange(len(i.labels)), i.labels]

    calls: dict[str, Call] = {
        "softmax": lambda i: special.softmax(i.x, axis=-1),
        "log_softmax": lambda i: special.log_softmax(i.x, axis=-1),
        "logsumexp": lambda i: special.logsumexp(i.x, axis=-1),
        "cross_entropy": losses,
        "gradient of cross_entropy": minus_one_at_labels,
        "merge_logsumexp": lambda i: np.logaddexp(i.x, i.dy),
    }
    return Contender("SciPy", lambda array: array, np.asarray, calls, lacks=("bfloat16",))


# -- PyTorch ----------------------------------------------------------------------------------------------------------


def tensor(array: NDArray) -> Any:
    """Return a tensor of an array, bfloat16 included."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _from_tensor(result: Any) -> NDArray:
    import torch

    result = result.detach()
    return np.asarray(result.to(torch.float64) if result.dtype in (torch.bfloat16, torch.float16) else result)


def _torch_ours() -> Contender:
    import logitx as lx

    def leaf(i: Inputs) -> Inputs:
        return i._replace(x=i.x.requires_grad_())

    def gradient(i: Inputs) -> Any:
        x = leaf(i).x
        lx.cross_entropy(x, i.labels, reduction="sum").backward()
        return x.grad

    calls = {name: lambda i, call=call: call(leaf(i)) for name, call in ours().items() if "vjp" not in name}
    for elsewhere in ("Hessian of cross_entropy", "merge_logsumexp"):  # the torch backend declines them
        del calls[elsewhere]
    return Contender("torch", tensor, _from_tensor, calls | {"gradient of cross_entropy": gradient})


def _torch() -> Contender:
    import torch

    functional, aten = torch.nn.functional, torch.ops.aten

    def loss(x: Any, targets: Any, reduction: str = "none") -> Any:
        return functional.cross_entropy(x, targets, reduction=reduction)

    def gradient(i: Inputs) -> Any:
        x = i.x.requires_grad_()
        loss(x, i.labels, "sum").backward()
        return x.grad

    def hessian(i: Inputs) -> Any:
        p = torch.softmax(i.x, -1)
        return p * (1 - p)

    calls: dict[str, Call] = {
        "softmax": lambda i: torch.softmax(i.x, -1),
        "log_softmax": lambda i: torch.log_softmax(i.x, -1),
        "logsumexp": lambda i: torch.logsumexp(i.x, -1),
        "cross_entropy": lambda i: loss(i.x, i.labels),
        "cross_entropy, soft labels": lambda i: loss(i.x, i.shares),
        "gradient of cross_entropy": gradient,
        "Hessian of cross_entropy": hessian,
        "softmax_vjp": lambda i: aten._softmax_backward_data(i.dy, i.p, -1, i.p.dtype),
        "log_softmax_vjp": lambda i: aten._log_softmax_backward_data(i.dy, i.log_p, -1, i.log_p.dtype),
        "merge_logsumexp": lambda i: torch.logaddexp(i.x, i.dy),
    }
    return Contender("PyTorch", tensor, _from_tensor, calls)


# -- JAX --------------------------------------------------------------------------------------------------------------


def _jax(name: str, calls: dict[str, Call]) -> Contender:
    import jax

    return Contender(name, jax.numpy.asarray, np.asarray, calls, lambda: jax.enable_x64(True))


def _jax_ours() -> Contender:
    return _jax("jax", ours())


def _jax_theirs() -> Contender:
    import jax
    import optax

    loss, np_ = optax.softmax_cross_entropy_with_integer_labels, jax.numpy

    def hessian(i: Inputs) -> Any:
        p = jax.nn.softmax(i.x)
        return p * (1 - p)

    calls: dict[str, Call] = {
        "softmax": lambda i: jax.nn.softmax(i.x),
        "log_softmax": lambda i: jax.nn.log_softmax(i.x),
        "logsumexp": lambda i: jax.nn.logsumexp(i.x, axis=-1),
        "cross_entropy": lambda i: loss(i.x, i.labels),
        "cross_entropy, soft labels": lambda i: optax.softmax_cross_entropy(i.x, i.shares),
        "gradient of cross_entropy": lambda i: jax.grad(lambda x: loss(x, i.labels).sum())(i.x),
        "Hessian of cross_entropy": hessian,
        "softmax_vjp": lambda i: i.p * (i.dy - np_.sum(i.p * i.dy, -1, keepdims=True)),
        "log_softmax_vjp": lambda i: i.dy - np_.exp(i.log_p) * np_.sum(i.dy, -1, keepdims=True),
        "merge_logsumexp": lambda i: np_.logaddexp(i.x, i.dy),
    }
    return _jax("JAX", {quantity: _jitted(call) for quantity, call in calls.items()})


def _jitted(call: Call) -> Call:
    import jax

    return jax.jit(call)


OURS = ("numba", "jax", "torch", "generic")
PEERS = {"jax": "JAX", "torch": "PyTorch", "generic": "SciPy"}  # the library each backend is compared with


def contenders() -> list[Contender]:
    """Return our backends, and the others."""
    return [
        numpy_arrays("numba"),
        _jax_ours(),
        _torch_ours(),
        numpy_arrays("generic"),
        _scipy(),
        _torch(),
        _jax_theirs(),
    ]
