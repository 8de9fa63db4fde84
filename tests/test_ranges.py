"""Numbers beside the logits that float32 cannot hold, or not the products of: results are as if no dtype ended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import TARGETS, Target
from logitx.testing.oracle import reduce_row, softmax_row
from logitx.testing.oracle_loss import Settings, cross_entropy_row, reduced

TRACED = ("torch-compile", "torch-vmap", "jax-jit", "tensorflow-graph")  # operands are constants there
EAGER = [target for target in TARGETS if target.name not in TRACED]
LABELLED = ("pandas", "polars", "xarray")

X = np.array([[1.0, 2.0, 3.0, -4.0], [0.0, 0.0, 1.0, 0.5], [5.0, -5.0, 0.25, 0.0]])
LABELS = np.array([2, 0, 3])
SHARES = np.array([[0.5, 0.25, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
SAMPLE, CLASSES = np.array([1.0, 2.0, 0.5]), np.array([1.0, 0.5, 3.0, 2.0])
EVERY = np.ones(4, dtype=bool)

# What sample weights and class weights are multiplied by, and their dtype
SCALES = [
    (1e-39, 1.0, "float32"), (1.0, 1e-39, "float32"), (1e-25, 1e-25, "float32"), (1e38, 1.0, "float32"),
    (1e20, 1e20, "float32"), (1e-50, 1.0, "float64"), (1.0, 1e-50, "float64"), (1e39, 1.0, "float64"),
    (1.0, 1e39, "float64"), (1e-200, 1.0, "float64"), (1.0, 1e200, "float64"), (1e-20, 1e-30, "float64"),
]  # fmt: skip
FARTHER = [(1e-309, 1.0), (1.0, 1e-309), (1e-200, 1e-200), (1e200, 1e200), (1e307, 1.0)]  # beyond float64 too


def truth(x: Any, targets: Any, sample: Any, classes: Any, **options: Any) -> tuple[float, np.ndarray]:
    settings = Settings(np.asarray(classes, np.float64), **options)
    rows = [
        cross_entropy_row(row, EVERY, target, float(weight), 1, None, settings)
        for row, target, weight in zip(x, targets, sample, strict=True)
    ]
    loss, _, gradient = reduced(rows, "mean", "nan")
    return float(loss[0].value), np.array([[float(one.value) for one in row] for row in gradient])


def runnable(target: Target) -> None:
    if reason := target.absent():
        pytest.skip(reason)


def loss_and_gradient(target: Target, dtype: str, targets: np.ndarray, **options: Any) -> tuple[Any, Any]:
    with target.session(True), np.errstate(all="ignore"), lx.use_backend(target.backend):
        x = target.make(X, dtype, "C")
        alone = target.read(target.call(lambda x: lx.cross_entropy(x, targets, **options), (x,), {}))[0]
        loss, gradient = lx.cross_entropy_value_and_grad(x, targets, **options)
        loss, gradient = target.read(loss)[0], target.read(gradient)[0]
    np.testing.assert_allclose(alone, loss, rtol=1e-6)
    return loss, gradient


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("targets", [LABELS, SHARES], ids=["ids", "probabilities"])
@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_only_ratios_of_weights_matter_to_a_mean(target: Target, scale: Any, targets: np.ndarray) -> None:
    runnable(target)
    sample, classes = (SAMPLE * scale[0]).astype(scale[2]), (CLASSES * scale[1]).astype(scale[2])
    options = {"label_smoothing": 0.1, "z_loss": 0.01}
    for more in ({}, options):
        loss, gradient = truth(X, targets, sample, classes, **more)
        for dtype in ("float32", "float64"):
            given = {"sample_weight": sample, "class_weight": classes, **more}
            found = loss_and_gradient(target, dtype, targets, **given)
            np.testing.assert_allclose(found[0], loss, rtol=1e-6)
            np.testing.assert_allclose(found[1], gradient, rtol=2e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("scale", FARTHER, ids=str)
@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_ratios_of_weights_whose_products_float64_cannot_hold(target: Target, scale: Any) -> None:
    runnable(target)
    if target.name.startswith("dask"):
        pytest.skip("weights are looked at chunk by chunk, in float64")
    sample, classes = SAMPLE * scale[0], CLASSES * scale[1]
    loss, gradient = truth(X, LABELS, SAMPLE, CLASSES)
    found = loss_and_gradient(target, "float64", LABELS, sample_weight=sample, class_weight=classes)
    np.testing.assert_allclose(found[0], loss, rtol=1e-12)
    np.testing.assert_allclose(found[1], gradient, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("weight", [3e38, 1.2e38, 1e-42, 1e-45], ids=str)
@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_a_weight_of_all_cancels_in_the_mean_of_a_binary_loss(target: Target, weight: float) -> None:
    runnable(target)
    x, t = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 1.0])
    for dtype, weight_dtype in (("float32", "float32"), ("float16", "float32"), ("float32", "float64")):
        if {dtype, weight_dtype} & {*target.missing}:
            continue
        for gamma in (None, 2.0):
            options = {} if gamma is None else {"gamma": gamma}
            function = lx.binary_cross_entropy_value_and_grad if gamma is None else lx.binary_focal_loss_value_and_grad
            loss, gradient = function(x, t, **options)
            with target.session(weight_dtype == "float64"), lx.use_backend(target.backend):
                sample = target.make(np.full(3, weight).astype(weight_dtype), weight_dtype, "C")
                given = target.make(x, dtype, "C"), target.make(t, dtype, "C")
                found = [target.read(one)[0] for one in function(*given, sample_weight=sample, **options)]
            np.testing.assert_allclose(found[0], loss, rtol=1e-6)
            np.testing.assert_allclose(found[1], gradient, rtol=2e-3 if dtype == "float16" else 1e-6)


def test_the_largest_weights_do_not_warn() -> None:
    jnp = pytest.importorskip("jax.numpy", reason="jax is not installed")
    weight = jnp.full(len(LABELS), 3e38, "float32")
    found = lx.cross_entropy(jnp.asarray(X, "float32"), LABELS, sample_weight=weight)
    np.testing.assert_allclose(found, lx.cross_entropy(X, LABELS), rtol=1e-6)


def test_a_sum_without_nan_under_debug_nans_without_jit() -> None:
    """As JAX's own test of its logsumexp has it."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    jnp = jax.numpy
    with jax.debug_nans(True), jax.disable_jit():
        assert lx.logsumexp(jnp.asarray(1.0)) == 1.0
        assert lx.logsumexp(jnp.asarray(1.0), b=1.0) == 1.0
    assert np.isnan(lx.logsumexp(jnp.asarray([1.0, 2.0]), b=jnp.asarray([1.0, -3.0])))


@pytest.mark.parametrize("scale", [(1e-50, 1.0), (1e39, 1.0), (1.0, 1e-50), (1e-25, 1e-25), (1e25, 1e20)], ids=str)
@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_ratios_of_weights_in_an_accumulator(target: Target, scale: Any) -> None:
    runnable(target)
    loss, _ = truth(X, LABELS, SAMPLE, CLASSES)
    with target.session(True):
        total = lx.CrossEntropy(class_weight=CLASSES * scale[1])
        for piece in (slice(0, 2), slice(2, 3)):
            total.update(target.make(X[piece], "float32", "C"), LABELS[piece], sample_weight=SAMPLE[piece] * scale[0])
        result = total.result()
    np.testing.assert_allclose([result.loss, result.perplexity], [loss, np.exp(loss)], rtol=1e-6)
    assert result.count == 3


def test_ratios_of_weights_behind_autograd() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for scale, dtype in ((1e-39, "float32"), (1e-50, "float64"), (1e-309, "float64")):
        sample = (SAMPLE * scale).astype(dtype)
        _, gradient = truth(X, LABELS, SAMPLE if scale == 1e-309 else sample, np.ones(4))
        x = torch.tensor(X, dtype=torch.float32, requires_grad=True)
        lx.cross_entropy(x, torch.tensor(LABELS), sample_weight=torch.tensor(sample)).backward()
        np.testing.assert_allclose(x.grad, gradient, rtol=2e-5, atol=1e-7)


def test_ratios_of_weights_that_jax_traces() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    session = next(target.session for target in TARGETS if target.name == "jax-eager")
    loss, gradient = truth(X, LABELS, SAMPLE, CLASSES)
    function = jax.jit(
        lambda x, s, c: lx.cross_entropy_value_and_grad(x, jax.numpy.asarray(LABELS), sample_weight=s, class_weight=c)
    )
    for wide, by_row, by_class in ((False, 1e-25, 1e-25), (False, 1e30, 1e30), (True, 1e-50, 1e-200), (True, 1e200, 1)):
        with session(wide):
            dtype = np.float64 if wide else np.float32
            weights = (SAMPLE * by_row).astype(dtype), (CLASSES * by_class).astype(dtype)
            found = function(X.astype(np.float32), *weights)
            np.testing.assert_allclose(found[0], loss, rtol=1e-6)
            np.testing.assert_allclose(found[1], gradient, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_sums_of_losses_with_weights_beyond_float32(target: Target) -> None:
    """The weight alone is beyond float32, its product with the loss is not."""
    runnable(target)
    x = np.array([[40.0, 0.0, 0.0, 0.0], [41.0, 0.0, 0.0, 0.0]])
    sample = np.array([1e39, 2e40])
    settings = Settings()
    rows = [cross_entropy_row(row, EVERY, 0, one, 1, None, settings) for row, one in zip(x, sample, strict=True)]
    each = [float(one.loss.value) for one in rows]
    with target.session(True):
        found = lx.cross_entropy(target.make(x, "float32", "C"), [0, 0], sample_weight=sample, reduction="none")
        np.testing.assert_allclose(target.read(found)[0], each, rtol=1e-6)


@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize("option", ["softcap", "temperature"])
@pytest.mark.parametrize("number", [1e-50, 1e-30, 1e37, 3e38, 1e39, 1e300])
@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_softcap_and_temperature_of_any_size(target: Target, number: float, option: str, as_array: bool) -> None:
    runnable(target)
    x = np.array([[1.0, 2.0, 3.0, -4.0], [0.0, 0.0, 2.0**-10, 2.0**-11], [2.0**60, 2.0**100, -(2.0**100), 0.0]])
    options = {option: np.full((3, 1), number) if as_array else number}
    if as_array and target.name in LABELLED:
        options = {option: number}  # arrays beside labelled logits are matched by name
    want = [[float(one.value) for one in softmax_row(reduce_row(row, EVERY, **{option: number}), "nan")] for row in x]
    with target.session(True), lx.use_backend(target.backend):
        for dtype in ("float32", "float64"):
            found = target.call(lambda x: lx.softmax(x, **options), (target.make(x, dtype, "C"),), {})
            np.testing.assert_allclose(target.read(found)[0], want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("number", [1e39, 1e300])
def test_softcap_beyond_float32_where_jax_has_no_float64(number: float) -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x = X.astype(np.float32)
    for function in (lambda x: lx.softmax(x, softcap=number), jax.jit(lambda x: lx.softmax(x, softcap=number))):
        np.testing.assert_allclose(function(jax.numpy.asarray(x)), lx.softmax(x), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("factor", [1e-300, 1e-50, 3e38, 1e39, 1e300])
@pytest.mark.parametrize("target", EAGER, ids=lambda target: target.name)
def test_factors_of_a_sum_of_any_size(target: Target, factor: float, dtype: str) -> None:
    if reason := target.absent(dtype):
        pytest.skip(reason)
    b = np.array([factor, factor, factor / 2, factor])
    want = lx.logsumexp(X + np.log(b))
    with target.session(True), lx.use_backend(target.backend):
        x = target.make(X, dtype, "C")
        value, sign = lx.logsumexp(x, b=b, return_sign=True)
        np.testing.assert_allclose(target.read(value)[0], want, rtol=1e-3 if dtype == "float16" else 1e-6)
        assert np.all(target.read(sign)[0] == 1)
