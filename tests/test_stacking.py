"""Lists of arrays are stacked by the library of the arrays, also where it traces or records derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

ROWS = np.array([[1.0, 2.0], [0.0, 1.0]], np.float32)


def test_lists_of_jax_arrays() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    rows = [jax.numpy.asarray(row) for row in ROWS]
    for kind in (list, tuple):
        assert isinstance(lx.softmax(kind(rows)), jax.Array)
        for transform in (lambda f: f, jax.jit):
            found = transform(lambda *rows, kind=kind: lx.softmax(kind(rows)))(*rows)
            np.testing.assert_allclose(found, lx.softmax(ROWS), rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda row: lx.cross_entropy([row, rows[1]], [0, 1])))(rows[0])
    np.testing.assert_allclose(gradient, lx.cross_entropy_value_and_grad(ROWS, [0, 1])[1][0], rtol=1e-6)
    nested = lx.logsumexp([rows, rows], b=[[rows[0], rows[0]], rows])
    want = lx.logsumexp(np.array([ROWS, ROWS]), b=np.array([[ROWS[0], ROWS[0]], ROWS]))
    np.testing.assert_allclose(nested, want, rtol=1e-6)


def test_lists_of_tensors() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rows = [torch.tensor(row, requires_grad=True) for row in ROWS]
    lx.cross_entropy(rows, [torch.tensor(0), torch.tensor(1)]).backward()
    want = lx.cross_entropy_value_and_grad(ROWS, [0, 1])[1]
    np.testing.assert_allclose(np.stack([row.grad.numpy() for row in rows]), want, rtol=1e-6)
    mapped = torch.vmap(lambda row: lx.softmax([row, 2.0 * row]))(torch.tensor(ROWS))
    torch.testing.assert_close(mapped[:, 0], lx.softmax(torch.tensor(ROWS)))


@pytest.mark.parametrize("library", ["jax.numpy", "torch"])
def test_operands_that_are_lists_of_arrays(library: str) -> None:
    xp = pytest.importorskip(library, reason=f"{library} is not installed")
    x = xp.asarray(ROWS)
    ones = [xp.asarray(1.0), 2.0]
    numbers = np.array([1.0, 2.0])
    for found, want in (
        (lx.cross_entropy(x, [0, 1], sample_weight=ones), lx.cross_entropy(ROWS, [0, 1], sample_weight=numbers)),
        (lx.cross_entropy(x, [0, 1], class_weight=ones), lx.cross_entropy(ROWS, [0, 1], class_weight=numbers)),
        (lx.softmax(x, temperature=[[one] for one in ones]), lx.softmax(ROWS, temperature=numbers[:, None])),
        (lx.softmax([x[0], ROWS[1]]), lx.softmax(ROWS)),
        (lx.merge_logsumexp(ones, [3.0, 4.0]), np.logaddexp(numbers, [3.0, 4.0])),
        (lx.merge_logsumexp([3.0, 4.0], ones), np.logaddexp(numbers, [3.0, 4.0])),
        (lx.linear_cross_entropy([x[0], x[1]], [x[0], x[1]], [0, 1]), lx.cross_entropy(ROWS @ ROWS.T, [0, 1])),
        (lx.logmeanexp([x[0], x[1]]), lx.logmeanexp(ROWS)),
    ):
        assert type(found) is type(x)
        np.testing.assert_allclose(np.asarray(found), want, rtol=1e-6)
    with pytest.raises(ValueError, match="x: .*; allowed are lists whose parts have one length"):
        lx.softmax([x[0], x[0, :1]])


class Stand:
    """A stand-in for an array, as parameters of Flax are."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __jax_array__(self) -> Any:
        return self.value


def test_what_stands_for_a_jax_array() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x, eye, heat = jax.numpy.asarray(ROWS), jax.numpy.eye(2), jax.numpy.asarray(2.0)
    for found, want in (
        (lx.softmax(Stand(x)), lx.softmax(x)),
        (lx.softmax(x, temperature=Stand(heat)), lx.softmax(x, temperature=heat)),
        (lx.softmax([Stand(x[0]), x[1]]), lx.softmax(x)),
        (lx.linear_cross_entropy(x, Stand(eye), [0, 1], Stand(heat + x[0])), lx.cross_entropy(x + x[0], [0, 1])),
        (lx.merge_logsumexp(Stand(x), Stand(x)), lx.merge_logsumexp(x, x)),
        (jax.jit(lambda x: lx.cross_entropy(Stand(x), Stand(jax.numpy.array([0, 1]))))(x), lx.cross_entropy(x, [0, 1])),
    ):
        assert isinstance(found, jax.Array)
        np.testing.assert_allclose(found, want, rtol=1e-6)


def test_a_dataset_is_told_what_to_do() -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    dataset = xarray.Dataset({"a": ("x", [1.0, 2.0])})
    with pytest.raises(TypeError, match=r"x: Dataset .* take one, dataset\['name'\], or stack them"):
        lx.softmax(dataset)
    with pytest.raises(TypeError, match=r"where: Dataset .* take one"):
        lx.softmax(np.zeros(2), where=dataset)
