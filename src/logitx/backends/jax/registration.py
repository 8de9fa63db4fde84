"""The Numba kernels as targets of XLA's foreign-function interface: registered when they are first lowered to."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
import threading
from typing import TYPE_CHECKING

import jax

from logitx._unfit import given_up, why_unfit

if TYPE_CHECKING:
    from logitx.backends.xla.handlers import Handler

_REGISTERING = threading.Lock()


@functools.cache
def _register(handler: Handler) -> str:
    from logitx.backends.xla import handlers

    capsule = jax.ffi.pycapsule(ctypes.c_void_p(handlers.address_of_handler(handler)))
    jax.ffi.register_ffi_target(handler.name, capsule, platform="cpu")
    return handler.name


def registered(handler: Handler) -> str:
    """Return the name by which XLA knows a handler."""
    with _REGISTERING:
        return _register(handler)


def why_missing() -> str | None:
    """Return why XLA cannot call the kernels here; None where it can."""
    return why_unfit("numba") or _why_refused()


@functools.cache
def _why_refused() -> str | None:
    if not importlib.util.find_spec("numba"):
        return "numba is not installed"
    if sys.byteorder != "little":
        return "the low bytes of numbers come last"
    if not hasattr(jax, "ffi"):
        return f"jax {jax.__version__} has no foreign-function interface"
    if jax.__version_info__ < (0, 6):
        return f"jax {jax.__version__} misstates the size of its table of functions"
    try:
        from logitx.backends.numba.kernels.signature import Dtypes
        from logitx.backends.xla import handlers

        handler = handlers.Handler("reduce", (True, None), Dtypes("float32", "float32", "float32"))
        handlers.address_of_handler(handler)
    except Exception as error:
        return str(given_up("numba", error))
    try:
        registered(handler)
    except Exception as error:  # XLA compares versions of the interface when registering
        return f"XLA refuses the kernels: {given_up('xla', error)}"
    return None
