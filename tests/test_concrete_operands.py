"""Operands with known values beside something that is traced: closed over by a function, they are only looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import logitx as lx

jax = pytest.importorskip("jax", reason="jax is not installed")
X, Y = np.array([[0.0, 1.0, 2.0], [3.0, 1.0, -1.0]], np.float32), np.array([1, 0])
OPTIONS = {
    "temperature": np.float32(2.0), "softcap": np.float32(5.0), "label_smoothing": np.float32(0.1),
    "z_loss": np.float32(0.1), "class_weight": np.array([1.0, 2.0, 0.5], np.float32),
    "sample_weight": np.array([1.0, 3.0], np.float32), "rows of temperature": np.array([[1.0], [2.0]], np.float32),
    "rows of softcap": np.array([[5.0], [2.0]], np.float32),
}  # fmt: skip
TRANSFORMS: dict[str, Callable[..., Any]] = {
    "jit": jax.jit,
    "scan": lambda f: lambda x: jax.lax.scan(lambda carry, x: (carry, f(x)), 0, x[None])[1][0],
    "checkpoint": jax.checkpoint,
    "vmap": lambda f: lambda x: jax.vmap(f)(x[None])[0],
    "cond": lambda f: lambda x: jax.lax.cond(True, f, lambda x: 0.0 * f(x), x),
    "grad": lambda f: lambda x: jax.value_and_grad(lambda x: f(x).sum())(x)[0],
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("backend", "transform"), [*((None, name) for name in TRANSFORMS), ("generic", "jit")])
def test_arrays_that_a_traced_function_closes_over(backend: str | None, name: str, transform: str) -> None:
    option = {name.rpartition(" ")[2]: OPTIONS[name]}
    given = {key: jax.numpy.asarray(value) for key, value in option.items()}
    ids, weight = jax.numpy.asarray(Y), jax.numpy.eye(3)
    functions: list[tuple[Callable[..., Any], Any]] = [
        (lambda x: lx.cross_entropy(x, ids, **given), lx.cross_entropy(X, Y, **option)),
        (lambda x: lx.linear_cross_entropy(x, weight, ids, **given), lx.cross_entropy(X, Y, **option)),
    ]
    if "softcap" in option or "temperature" in option:
        functions.append((lambda x: lx.softmax(x, **given).sum(0)[0], lx.softmax(X, **option).sum(0)[0]))
    with lx.use_backend(backend):
        for function, want in functions:
            np.testing.assert_allclose(TRANSFORMS[transform](function)(jax.numpy.asarray(X)), want, rtol=1e-5)


def test_shapes_alone() -> None:
    heat = jax.numpy.asarray(2.0)
    found = jax.eval_shape(lambda x: lx.softmax(x, temperature=heat), jax.ShapeDtypeStruct((2, 3), "float32"))
    assert found.shape == (2, 3)


def test_bad_numbers_are_refused_while_tracing() -> None:
    heat = jax.numpy.asarray(-2.0)
    with pytest.raises(ValueError, match=r"temperature: -2.0 is not allowed"):
        jax.jit(lambda x: lx.softmax(x, temperature=heat))(X)
