"""The contrastive loss beside its definition and PyTorch's recipe, and the memory that it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 40, 8))
MORE = RNG.standard_normal((15, 8))


def test_is_the_mean_of_two_cross_entropies() -> None:
    x, ids = A @ B.T, np.arange(40)
    right = (lx.cross_entropy(x, ids, temperature=0.5) + lx.cross_entropy(x.T, ids, temperature=0.5)) / 2
    np.testing.assert_allclose(lx.info_nce(A, B, temperature=0.5), right)
    one = lx.info_nce(A, B, temperature=0.5, symmetric=False, negatives=MORE)
    np.testing.assert_allclose(one, lx.cross_entropy(A @ np.concatenate([B, MORE]).T, ids, temperature=0.5))
    labels = RNG.integers(0, 40, 7)
    found = lx.info_nce(A[:7], B, targets=labels, symmetric=False, block_bytes=400)
    np.testing.assert_allclose(found, lx.cross_entropy(A[:7] @ B.T, labels))


@pytest.mark.parametrize("negatives", [None, MORE], ids=["pairs", "with negatives"])
def test_gradients_are_those_of_autograd(negatives: Any) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    leaves = [torch.tensor(one, requires_grad=True) for one in (A, B, np.array(0.3))]
    more = None if negatives is None else torch.tensor(negatives, requires_grad=True)
    a, b, heat = leaves
    columns = b if more is None else torch.cat([b, more])
    ids = torch.arange(40)
    entropy = torch.nn.functional.cross_entropy
    peer = (entropy(a @ columns.T / heat, ids) + entropy(b @ a.T / heat, ids)) / 2
    leaves += [] if more is None else [more]
    right = torch.autograd.grad(peer, leaves)
    loss, found = lx.info_nce_value_and_grad(A, B, temperature=0.3, negatives=negatives)
    np.testing.assert_allclose(loss, peer.item())
    given = [found.a, found.b, found.temperature, *([] if negatives is None else [found.negatives])]
    ours = lx.info_nce(a, b, temperature=heat, negatives=more)  # a learned temperature
    recorded = torch.autograd.grad(ours, leaves)
    for one, two, three in zip(given, recorded, right, strict=True):
        np.testing.assert_allclose(one, three.numpy(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(two.numpy(), three.numpy(), rtol=1e-9, atol=1e-12)


def test_derivatives_of_jax() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    a, b = jax.numpy.asarray(A), jax.numpy.asarray(B)
    _, right = lx.info_nce_value_and_grad(A, B, temperature=0.5)
    function = jax.jit(jax.grad(lambda a, b, t: lx.info_nce(a, b, temperature=t), argnums=(0, 1, 2)))
    for one, two in zip(function(a, b, 0.5), (right.a, right.b, right.temperature), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((A, B[:3]), {}, r"^b: shape \(3, 8\) is not allowed without targets; allowed is that of a, \(40, 8\)"),
        ((A, B[:, :3]), {}, r"^b: shapes \(40, 8\) and \(40, 3\) are not allowed; allowed are \(rows, features\)"),
        ((A, B), {"targets": np.arange(40)}, r"^targets: an array is not allowed with symmetric=True"),
        ((A, B), {"negatives": MORE[:, :2]}, r"^negatives: shape \(15, 2\) is not allowed; allowed is \(rows, 8\)"),
        ((A, B), {"temperature": 0.0}, r"^temperature: 0.0 is not allowed"),
    ],
)
def test_errors_name_the_argument(arguments: Any, options: Any, message: str) -> None:
    for function in (lx.info_nce, lx.info_nce_value_and_grad):
        with pytest.raises(ValueError, match=message):
            function(*arguments, **options)


def test_labelled_arrays_are_refused() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    with pytest.raises(TypeError, match="^b: DataFrame is not allowed; allowed are arrays without labels"):
        lx.info_nce(A, pandas.DataFrame(B))
