"""Targets of JAX beside those of every session: under its transformations, with 64 bits, and on several devices."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from logitx.testing.targets.table import jax_jit
from logitx.testing.targets.target import Target


def _arrays_only(outcome: Any) -> Any:
    return tuple(_arrays_only(one) for one in outcome if one is not None) if isinstance(outcome, tuple) else outcome


def _grad(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Compute the result by the forward pass of `jax.vjp`."""
    import jax

    outcome, _ = jax.vjp(lambda x: _arrays_only(function(x, *args[1:], **options)), args[0])
    return outcome


def _vmap(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Map over a batch of one."""
    import jax

    outcome = jax.vmap(lambda x: _arrays_only(function(x, *args[1:], **options)))(args[0][None])
    return jax.tree.map(lambda one: one[0], outcome)


def _cut(length: int, devices: int) -> int:
    """Return among how many devices an axis is shared; JAX wants every share to be of one size."""
    return max(count for count in range(1, devices + 1) if max(length, 1) % count == 0)


def _sharded(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Jit over logits whose first and last axis are cut where they can be: rows, or classes, or both."""
    import jax

    devices = jax.devices()
    if len(devices) == 1:
        raise RuntimeError("one device; start JAX with XLA_FLAGS=--xla_force_host_platform_device_count=8")
    x = args[0]
    across = _cut(x.shape[-1], len(devices)) if x.ndim else 1
    down = _cut(x.shape[0], len(devices) // across) if x.ndim > 1 else 1
    mesh = jax.sharding.Mesh(np.reshape(devices[: down * across], (down, across)), ("down", "across"))
    names = ("down", *(None for _ in range(x.ndim - 2)), "across")[-x.ndim :] if x.ndim else ()
    spec = jax.sharding.PartitionSpec(*names)
    placed = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
    return jax_jit(function, (placed, *args[1:]), options)


def _shared(array: Any, elementwise: bool) -> str | None:
    import jax

    return None if isinstance(array, jax.Array) else f"type is {type(array).__name__}; expected is a jax.Array"


def transformed(eager: Target) -> tuple[Target, ...]:
    """Return the targets that differ from eager calls of JAX by how a function is called; the last is for 8 devices."""

    @contextlib.contextmanager
    def wide(x64: bool) -> Iterator[None]:
        with eager.session(True):
            yield

    return (
        dataclasses.replace(eager, name="jax-grad", call=_grad, share=(2, 4)),
        dataclasses.replace(eager, name="jax-vmap", call=_vmap, share=(3, 4)),
        dataclasses.replace(eager, name="jax-x64", session=wide, default_float=lambda x64: "float64", share=(1, 4)),
        dataclasses.replace(eager, name="jax-sharded", call=_sharded, problem=_shared, share=(0, 4)),
    )
