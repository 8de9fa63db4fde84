"""Targets of JAX beside those of every session: under its transformations, and with 64 bits."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from logitx.testing.target import Target


def _arrays_only(outcome: Any) -> Any:
    return tuple(_arrays_only(one) for one in outcome if one is not None) if isinstance(outcome, tuple) else outcome


def _grad(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Compute what a reverse pass computes on its way forward."""
    import jax

    outcome, _ = jax.vjp(lambda x: _arrays_only(function(x, *args[1:], **options)), args[0])
    return outcome


def _vmap(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Map over a batch of one."""
    import jax

    outcome = jax.vmap(lambda x: _arrays_only(function(x, *args[1:], **options)))(args[0][None])
    return jax.tree.map(lambda one: one[0], outcome)


def transformed(eager: Target) -> tuple[Target, ...]:
    """Return the targets that differ from eager calls of JAX by how a function is called."""

    @contextlib.contextmanager
    def wide(x64: bool) -> Iterator[None]:
        with eager.session(True):
            yield

    return (
        dataclasses.replace(eager, name="jax-grad", call=_grad, share=(2, 4)),
        dataclasses.replace(eager, name="jax-vmap", call=_vmap, share=(3, 4)),
        dataclasses.replace(eager, name="jax-x64", session=wide, default_float=lambda x64: "float64", share=(1, 4)),
    )
