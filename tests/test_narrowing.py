"""Operands are compared before they are narrowed: no class id becomes another, no number 0, infinite or another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import TARGETS, Target

TRACED = ("torch-compile", "torch-vmap", "jax-jit", "tensorflow-graph")  # they mark a label out of range by NaN
EAGER = [target for target in TARGETS if target.name not in TRACED]
X = np.zeros((2, 2))

# Ids that are -100, 0 or 1 to the dtype that kernels take them in, and a dtype that has them
FAR = [
    (2**64 - 100, "uint64"), (2**64 - 1, "uint64"), (2**63, "uint64"), (2**32 - 100, "uint32"), (2**32, "int64"),
    (2**32 + 1, "uint64"), (-(2**32), "int64"), (156, "uint8"),
]  # fmt: skip


def functions(x: Any, targets: Any, dtype: Any = None) -> Any:
    yield lambda **options: lx.cross_entropy(x, targets, **options)
    yield lambda **options: lx.cross_entropy_value_and_grad(x, targets, **options)
    yield lambda **options: lx.cross_entropy(x, targets, label_smoothing=0.1, **options)
    yield lambda **options: lx.CrossEntropy(**options).update(x, targets)


@pytest.mark.parametrize("ignored", [-100, -1, None])
@pytest.mark.parametrize(("label", "dtype"), FAR)
@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_a_class_id_of_any_dtype_is_not_another(target: Target, label: int, dtype: str, ignored: int | None) -> None:
    if reason := target.absent():
        pytest.skip(reason)
    ids = np.array([0, label], dtype)
    with target.session(False), lx.use_backend(target.backend):
        for function in functions(target.make(X, "float32", "C"), ids):
            with pytest.raises(ValueError, match=f"targets: class id {label} "):
                target.read(np.asarray(function(ignore_index=ignored)))


@pytest.mark.parametrize("ignored", [-100, -1, None])
@pytest.mark.parametrize(("label", "dtype"), FAR)
@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_a_class_id_of_a_row_or_an_element_is_not_another(
    target: Target, label: int, dtype: str, ignored: int | None
) -> None:
    if reason := target.absent():
        pytest.skip(reason)
    ids = np.array([0, label], dtype)
    with target.session(False), lx.use_backend(target.backend):
        x, vector = target.make(X, "float32", "C"), target.make(X[0], "float32", "C")
        with pytest.raises(ValueError, match=f"ids: class id {label} "):
            target.read(np.asarray(lx.selected_log_softmax(x, ids, ignore_index=ignored)))
        with pytest.raises(ValueError, match=f"targets: class id {label} "):
            target.read(np.asarray(lx.binary_cross_entropy(vector, ids, ignore_index=ignored)))


@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_class_ids_of_unsigned_dtypes(target: Target, dtype: str) -> None:
    if reason := target.absent():
        pytest.skip(reason)
    with target.session(False):
        found = lx.cross_entropy(target.make(X, "float32", "C"), np.array([1, 0], dtype))
        np.testing.assert_allclose(target.read(found)[0], np.log(2.0), rtol=1e-6)


def test_unsigned_class_ids_of_linear_layers_and_prepared_calls() -> None:
    x, ids = np.zeros((2, 2), np.float32), np.array([0, 2**64 - 100], np.uint64)
    for _ in range(3):
        with pytest.raises(ValueError, match=f"class id {2**64 - 100} at position"):
            lx.cross_entropy(x, ids)
        with pytest.raises(ValueError, match=f"class id {2**64 - 100} at position"):
            lx.linear_cross_entropy(x, np.eye(2, dtype=np.float32), ids)


def test_unsigned_class_ids_of_tensors() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    ids = torch.tensor([0, 2**64 - 100], dtype=torch.uint64)
    for x in (torch.zeros(2, 2), torch.zeros(2, 2, requires_grad=True)):
        with pytest.raises(ValueError, match=f"class id {2**64 - 100} at position"):
            lx.cross_entropy(x, ids)


@pytest.mark.parametrize("dtype", ["int2", "uint2", "int4", "uint4", "int8", "uint16", "uint32"])
def test_class_ids_of_any_width_in_jax(dtype: str) -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    if not hasattr(jax.numpy, dtype):
        pytest.skip(f"this version of JAX has no {dtype}")
    x, ids = jax.numpy.zeros((2, 2)), jax.numpy.array([0, 1], getattr(jax.numpy, dtype))
    layer = jax.numpy.ones((2, 3)), jax.numpy.zeros((2, 3))
    for transform in (lambda function: function, jax.jit):
        for found in (
            transform(lx.cross_entropy)(x, ids),
            transform(lx.cross_entropy_value_and_grad)(x, ids)[0],
            transform(lx.linear_cross_entropy)(*layer, ids),
            transform(lx.linear_cross_entropy_value_and_grad)(*layer, ids)[0],
            jax.vmap(lx.cross_entropy)(x[None], ids[None])[0],
            transform(jax.grad(lambda x: lx.cross_entropy(x, ids)))(x).sum() + np.log(2.0),
        ):
            np.testing.assert_allclose(found, np.log(2.0), rtol=1e-6)
        assert transform(lx.cross_entropy_grad_hess)(x, ids)[1].shape == x.shape


def test_unsigned_class_ids_that_jax_traces() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    ids = jax.numpy.array([0, 2**32 - 100], jax.numpy.uint32)
    found = jax.jit(lambda x, ids: lx.cross_entropy(x, ids, reduction="none"))(jax.numpy.zeros((2, 2)), ids)
    np.testing.assert_allclose(found, [np.log(2.0), np.nan], rtol=1e-6)


def test_lists_and_frames_of_class_ids_beside_jax() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    x = jax.numpy.zeros((2, 2))
    for ids in ([0, 2**32], pandas.Series([0, 2**32])):
        with pytest.raises(ValueError, match=rf"class id {2**32} at position \(1,\)"):
            lx.cross_entropy(x, ids)
    with pytest.raises(ValueError, match=r"class id 7 at position \(0,\)"):  # the first one
        lx.cross_entropy(x, np.array([7, 2**32]))
    with pytest.raises(ValueError, match=f"class id {2**40} does not fit int32"):
        lx.cross_entropy(x, np.array([0, 2**40]), ignore_index=2**40)


@pytest.mark.parametrize("name", ["class_weight", "sample_weight", "b", "temperature", "softcap"])
def test_numbers_that_jax_would_narrow(name: str) -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")

    def call(x: Any, numbers: Any) -> Any:
        if name.endswith("weight"):
            return lx.cross_entropy(x, np.array([0, 1]), **{name: numbers})
        return lx.logsumexp(x, b=numbers) if name == "b" else lx.softmax(x, **{name: numbers[:, None]})

    x, wide = jax.numpy.zeros((2, 2)), np.array([2**32, 2**33])
    np.testing.assert_allclose(call(x, wide), call(np.asarray(x), wide), rtol=1e-6)  # as int32 they are 0
    for number in (1e-50, 1e39):
        with pytest.raises(ValueError, match=f"{name}: .* is beyond float32, .* set jax_enable_x64"):
            call(x, np.array([number, number]))
