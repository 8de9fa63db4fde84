"""What goes in and comes out beside plain arrays: lists, scalars, other devices, labels that nobody can look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import TARGETS, Target

BY_NAME = {target.name: target for target in TARGETS}
ROW = [1.0, 2.0, 3.0]
P = np.exp(ROW) / np.exp(ROW).sum()


def test_lists_are_arrays() -> None:
    p = lx.softmax([ROW, ROW])
    assert type(p) is np.ndarray
    np.testing.assert_allclose(p, [P, P], rtol=1e-15)
    np.testing.assert_allclose(lx.softmax(([1, 2, 3], [1, 2, 3])), [P, P], rtol=1e-15)
    np.testing.assert_allclose(lx.logmeanexp([ROW, ROW]), lx.logmeanexp(np.array([ROW, ROW])))
    np.testing.assert_allclose(lx.logmeanexp([ROW], where=[[True, True, False]]), lx.logmeanexp(np.array([ROW[:2]])))
    np.testing.assert_allclose(lx.cross_entropy([ROW, ROW], [2, 0]), -np.log(P[[2, 0]]).mean(), rtol=1e-15)
    np.testing.assert_allclose(lx.cross_entropy([ROW], [[0.5, 0.5, 0]]), -np.log(P[:2]).mean(), rtol=1e-15)


@pytest.mark.parametrize(
    ("x", "dtype"),
    [(2, "float64"), (2.5, "float64"), (True, "float64"), (np.float32(2), "float32"), (np.float16(2), "float16"),
     (np.int8(2), "float64")],
)  # fmt: skip
def test_scalars_give_scalars(x: Any, dtype: str) -> None:
    for result, value in ((lx.softmax(x), 1), (lx.log_softmax(x), 0), (lx.logsumexp(x), float(x))):
        assert isinstance(result, np.generic)
        assert result.dtype == dtype
        assert result == value


def test_0d_arrays() -> None:
    for _ in range(2):  # the second call would be prepared
        for function in (lx.softmax, lx.log_softmax):
            assert isinstance(function(np.array(2.5)), np.float64)
            assert isinstance(function(np.array(2.5, np.float32), temperature=2.0), np.float32)
        assert isinstance(lx.softmax_vjp(np.array(1.0), np.array(2.0)), np.float64)
        loss, gradient = lx.cross_entropy_value_and_grad(np.array(2.5), 0, axis=())
        assert isinstance(loss, np.float64)
        assert isinstance(gradient, np.float64)
    out = np.array(0.0)
    assert lx.softmax(np.array(2.5), out=out) is out
    assert out == 1.0
    assert isinstance(lx.logsumexp(np.array(2.5)), np.float64)
    assert isinstance(lx.logsumexp(np.array(ROW)), np.float64)
    assert isinstance(lx.cross_entropy(np.array([ROW]), np.array([1])), np.float64)
    assert isinstance(lx.merge_logsumexp(lx.logsumexp(np.array(ROW)), 1.0), np.float64)


def test_0d_arrays_are_one_class_along_an_axis_of_their_own() -> None:
    for axis in (0, -1, (0,), (-1,), (), None):
        assert lx.logsumexp(np.float64(2.0), axis=axis) == 2.0
    for axis in (1, (1,), -2):
        with pytest.raises(ValueError, match=r"^axis: -?\d is out of range for 0 dimensions; allowed are -1 to 0$"):
            lx.softmax(np.float64(2.0), axis=axis)
    with pytest.raises(ValueError, match="names a dimension twice"):
        lx.softmax(np.float64(2.0), axis=(0, -1))


def test_memory_maps(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "logits", dtype=np.float32, mode="w+", shape=(2, 3))
    mapped[:] = ROW
    np.testing.assert_allclose(lx.softmax(mapped), [P, P], rtol=1e-6)


def test_sample_weight_broadcasts() -> None:
    x, ids = np.random.default_rng(0).standard_normal((4, 3, 5)), np.zeros((4, 3), dtype=int)
    by_column = np.array([1.0, 0.0, 2.0])
    expected = lx.cross_entropy(x, ids, sample_weight=np.tile(by_column, (4, 1)))
    assert lx.cross_entropy(x, ids, sample_weight=by_column) == expected
    assert lx.cross_entropy(x, ids, sample_weight=by_column.tolist()) == expected


LABELLED = ("pandas", "xarray")


@pytest.mark.parametrize("target", [one for one in TARGETS if one.name not in LABELLED], ids=lambda target: target.name)
def test_logits_broadcast_against_factors(target: Target) -> None:
    """As in SciPy: the axes are those of what both make."""
    if reason := target.absent():
        pytest.skip(reason)
    x, b = np.arange(8.0).reshape(4, 1, 2, 1) / 4, np.arange(15.0).reshape(3, 1, 5) - 4
    terms = b * np.exp(x)  # (4, 3, 2, 5)
    with target.session(True):
        given = target.make(x, "float64", "C"), {"b": target.make(b, "float64", "C"), "return_sign": True}
        for axis, keepdims in ((-1, False), (1, True), (None, False), ((0, 3), False)):
            options = given[1] | {"axis": axis, "keepdims": keepdims}
            value, sign = target.call(lx.logsumexp, given[:1], options)
            total = terms.sum(axis, keepdims=keepdims)
            for found, right in ((value, np.log(np.abs(total))), (sign, np.sign(total))):
                np.testing.assert_allclose(target.read(found)[0], right, rtol=1e-13)


@pytest.mark.parametrize("target", [one for one in TARGETS if one.name != "jax-jit"], ids=lambda target: target.name)
def test_dtype_by_name_or_by_object(target: Target) -> None:
    if reason := target.absent():
        pytest.skip(reason)
    with target.session(True):
        x = target.make(np.array(ROW), "float32", "C")
        for dtype in ("float64", target.dtype("float64")):
            values, name = target.read(lx.softmax(x, dtype=dtype))
            assert name == "float64"
            np.testing.assert_allclose(values, P, rtol=1e-15)


def test_default_float_of_jax_follows_x64() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    for x64, name in ((False, "float32"), (True, "float64")):
        with BY_NAME["jax-eager"].session(x64):
            assert lx.softmax(jax.numpy.asarray([1, 2, 3])).dtype == name


def test_default_float_of_torch_is_asked_each_time() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    ids = torch.tensor([1, 2, 3])
    assert lx.softmax(ids).dtype is torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert lx.softmax(ids).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("label", [3, -1, 2**31 - 1])
def test_labels_out_of_range_are_nan_where_nobody_can_look(label: int) -> None:
    """Under tracing the row's loss and gradient are NaN; other rows are as they were."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with BY_NAME["jax-eager"].session(False):
        x, ids = jax.numpy.asarray([ROW, ROW, ROW]), jax.numpy.asarray([1, label, -100])
        losses = jax.jit(lambda x, ids: lx.cross_entropy(x, ids, reduction="none"))(x, ids)
        np.testing.assert_allclose(losses, [-np.log(P[1]), np.nan, 0], rtol=1e-6)
        loss, gradient = jax.jit(lambda x, ids: lx.cross_entropy_value_and_grad(x, ids, reduction="sum"))(x, ids)
        assert np.isnan(loss)
        np.testing.assert_allclose(gradient, [P - [0, 1, 0], [np.nan] * 3, [0] * 3], rtol=1e-5)
        gradient, hessian = jax.jit(lx.cross_entropy_grad_hess)(x[:2], ids[:2])
        assert np.isnan(gradient[1]).all()
        assert np.isnan(hessian[1]).all()
        assert not np.isnan(gradient[0]).any()


def test_another_device() -> None:
    """Whatever `generic` creates lies where the logits lie."""
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    device = strict.Device("device1")

    def put(values: Any) -> Any:
        return strict.asarray(values, device=device)

    def back(array: Any) -> Any:
        assert array.device == device
        return np.from_dlpack(array.to_device(strict.Device("CPU_DEVICE")))

    x, ids, weight, keep = put([ROW, ROW]), put([2, -100]), put([1.0, 2.0, 0.5]), put([True, True, False])
    np.testing.assert_allclose(back(lx.softmax(x)), [P, P], rtol=1e-15)
    np.testing.assert_allclose(
        back(lx.log_softmax(x, where=keep)[:, :2]), np.log([P[:2] / P[:2].sum()] * 2), rtol=1e-14
    )
    np.testing.assert_allclose(back(lx.logsumexp(x, b=weight)), [np.log(np.exp(ROW) @ [1, 2, 0.5])] * 2, rtol=1e-14)
    loss, gradient = lx.cross_entropy_value_and_grad(x, ids, class_weight=weight, label_smoothing=0.1, z_loss=0.1)
    here = lx.cross_entropy_value_and_grad(
        np.array([ROW, ROW]), np.array([2, -100]), class_weight=np.array([1, 2, 0.5]), label_smoothing=0.1, z_loss=0.1
    )
    np.testing.assert_allclose(back(loss), here[0], rtol=1e-14)
    np.testing.assert_allclose(back(gradient), here[1], rtol=1e-12)
    with pytest.raises(TypeError, match=r"^targets: lies on device"):
        lx.cross_entropy(x, strict.asarray([2, 1]))


def test_out_that_shares_memory_with_the_mask() -> None:
    memory = np.zeros(64, np.uint8)
    where, out = memory[:6].view(bool).reshape(2, 3), memory[:48].view(float).reshape(2, 3)
    where[...] = [[True, True, False], [False, True, True]]
    with pytest.raises(ValueError, match="^out: shares memory with where; allowed is memory of its own"):
        lx.softmax(np.array([ROW, ROW]), where=where, out=out)
    assert where.sum() == 4


def test_ragged_lists() -> None:
    for call, name in (
        (lambda: lx.softmax([[1, 2], [3]]), "x"),
        (lambda: lx.softmax(ROW, where=[[True], []]), "where"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: .* allowed are lists whose parts have one length"):
            call()
