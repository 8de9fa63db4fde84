"""The registry of backends: one row for each, in the order in which they are tried. Importing it imports none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend: where it is, and for which array families it is tried."""

    name: str
    module: str  # imported on first use
    families: tuple[str, ...]  # rows of `_arrays.FAMILIES`
    requires: str | None  # the top-level package that must be importable
    summary: str
    around: str | None = None  # the backend that it calls, without which it is not there


BACKENDS: tuple[BackendRow, ...] = (
    BackendRow(
        name="memory_maps",
        module="logitx.backends.memory_maps",
        families=("numpy",),
        requires="numba",
        summary="the kernels on memory maps larger than memory, block by block",
        around="numba",
    ),
    BackendRow(
        name="numba",
        module="logitx.backends.numba",
        families=("numpy", "torch", "tensorflow"),
        requires="numba",
        summary="fused Numba kernels on the CPU",
    ),
    BackendRow(
        name="jax",
        module="logitx.backends.jax",
        families=("jax",),
        requires="jax",
        summary="jitted JAX with custom derivatives, on CPUs around the kernels",
    ),
    BackendRow(
        name="torch",
        module="logitx.backends.torch",
        families=("torch",),
        requires="torch",
        summary="derivatives and operators of PyTorch around the kernels",
        around="numba",
    ),
    BackendRow(
        name="tensorflow",
        module="logitx.backends.tensorflow",
        families=("tensorflow",),
        requires="tensorflow",
        summary="gradients of TensorFlow around the kernels",
        around="numba",
    ),
    BackendRow(
        name="dask",
        module="logitx.backends.dask",
        families=("dask",),
        requires="dask",
        summary="lazily, block by block, each by the backend of its own kind",
    ),
    BackendRow(
        name="generic",
        module="logitx.backends.generic",
        families=("numpy", "torch", "jax", "tensorflow", "array_api"),
        requires=None,
        summary="the Array API standard, on any array and device",
    ),
)
