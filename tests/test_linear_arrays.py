"""The cross-entropy of a linear layer of arrays with labels or masks, of lazy ones, and of TensorFlow's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx

RANDOM = np.random.default_rng(0)
HIDDEN, WEIGHT, BIAS = (RANDOM.standard_normal(shape) for shape in ((3, 2), (4, 2), 4))
IDS, SAMPLES, PER_CLASS = np.array([1, 3, 0]), np.array([1.0, 2.0, 0.5]), np.array([0.5, 1.0, 2.0, 1.0])
SOFT = RANDOM.random((3, 4))
ROWS, FEATURES, CLASSES = ["a", "b", "c"], ["f", "g"], ["w", "x", "y", "z"]
OPTIONS = {"reduction": "none", "block_bytes": 50}


def right(targets: Any = IDS, **options: Any) -> Any:
    return lx.linear_cross_entropy_value_and_grad(HIDDEN, WEIGHT, targets, BIAS, **OPTIONS, **options)


def test_frames() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    hidden = pd.DataFrame(HIDDEN, index=ROWS, columns=FEATURES)
    weight = pd.DataFrame(WEIGHT, index=CLASSES, columns=FEATURES)
    bias, ids = pd.Series(BIAS, index=CLASSES), pd.Series(IDS, index=ROWS)
    samples = pd.Series(SAMPLES, index=ROWS)
    found, gradients = lx.linear_cross_entropy_value_and_grad(
        hidden, weight, ids, bias, sample_weight=samples, **OPTIONS
    )
    loss, (dhidden, dweight, dbias) = right(sample_weight=SAMPLES)
    pd.testing.assert_series_equal(found, pd.Series(loss, index=ROWS))
    pd.testing.assert_frame_equal(gradients[0], pd.DataFrame(dhidden, index=ROWS, columns=FEATURES))
    pd.testing.assert_frame_equal(gradients[1], pd.DataFrame(dweight, index=CLASSES, columns=FEATURES))
    pd.testing.assert_series_equal(gradients[2], pd.Series(dbias, index=CLASSES))
    loss, (dhidden, dweight, dbias) = lx.linear_cross_entropy_value_and_grad(hidden, WEIGHT, ids)
    assert isinstance(dhidden, pd.DataFrame)
    assert (type(dweight), dbias) == (np.ndarray, None)
    np.testing.assert_allclose(loss, lx.linear_cross_entropy(HIDDEN, WEIGHT, IDS))
    np.testing.assert_allclose(loss, lx.linear_cross_entropy(HIDDEN, weight, ids))
    soft = pd.DataFrame(SOFT, index=ROWS, columns=CLASSES)
    np.testing.assert_allclose(lx.linear_cross_entropy(hidden, weight, soft, bias, **OPTIONS), right(SOFT)[0])
    assert lx.which("linear_cross_entropy", hidden, weight, ids).backend == "numba"


@pytest.mark.parametrize("name", ["weight", "bias", "class_weight", "sample_weight", "ids", "rows", "classes"])
def test_other_labels_are_refused(name: str) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    hidden = pd.DataFrame(HIDDEN, index=ROWS, columns=FEATURES)
    given = {
        "weight": pd.DataFrame(WEIGHT, index=CLASSES, columns=FEATURES),
        "bias": pd.Series(BIAS, index=CLASSES),
        "class_weight": pd.Series(PER_CLASS, index=CLASSES),
        "sample_weight": pd.Series(SAMPLES, index=ROWS),
        "targets": pd.Series(IDS, index=ROWS),
    }
    if name in ("rows", "classes"):
        given["targets"] = pd.DataFrame(SOFT, index=ROWS, columns=CLASSES)

    def loss() -> Any:
        options = {key: given[key] for key in ("class_weight", "sample_weight")}
        return lx.linear_cross_entropy(hidden, given["weight"], given["targets"], given["bias"], **options)

    assert loss() > 0
    called = "targets" if name in ("ids", "rows", "classes") else name
    given[called] = given[called].iloc[:, ::-1] if name in ("weight", "classes") else given[called].iloc[::-1]
    with pytest.raises(ValueError, match=f"^{called}: its labels are not those of the logits; allowed are the same"):
        loss()


def test_polars() -> None:
    pl = pytest.importorskip("polars", reason="polars is not installed")
    hidden, weight = pl.DataFrame(HIDDEN, schema=FEATURES), pl.DataFrame(WEIGHT, schema=FEATURES)
    bias, soft = pl.Series("bias", BIAS), pl.DataFrame(SOFT, schema=CLASSES)
    found, gradients = lx.linear_cross_entropy_value_and_grad(hidden, weight, soft, bias, **OPTIONS)
    loss, (dhidden, dweight, dbias) = right(SOFT)
    assert [one.columns for one in gradients[:2]] == [FEATURES] * 2
    for a, b in zip((found, *gradients), (loss, dhidden, dweight, dbias), strict=True):
        np.testing.assert_allclose(a.to_numpy(), b)
    two = pl.DataFrame(SOFT[:, :2], schema=CLASSES[:2])  # as many classes as features, of other names
    few = lx.linear_cross_entropy(hidden, weight[:2], two)
    np.testing.assert_allclose(few, lx.linear_cross_entropy(HIDDEN, WEIGHT[:2], SOFT[:, :2]))
    with pytest.raises(ValueError, match="^weight: columns .* are not those of the logits"):
        lx.linear_cross_entropy(hidden, weight.select(FEATURES[::-1]), IDS)


def test_data_arrays_are_matched_by_name() -> None:
    xr = pytest.importorskip("xarray", reason="xarray is not installed")

    def made(x: Any, **coords: list[str]) -> Any:
        return xr.DataArray(x, dims=tuple(coords), coords=coords)

    hidden, weight = made(HIDDEN, row=ROWS, feature=FEATURES), made(WEIGHT.T, feature=FEATURES, token=CLASSES)
    bias, per_class = made(BIAS, token=CLASSES), made(PER_CLASS, token=CLASSES)
    for targets, plain in ((made(IDS, row=ROWS), IDS), (made(SOFT.T, token=CLASSES, row=ROWS), SOFT)):
        found, gradients = lx.linear_cross_entropy_value_and_grad(
            hidden, weight, targets, bias, class_weight=per_class, temperature=made(SAMPLES, row=ROWS), **OPTIONS
        )
        loss, (dhidden, dweight, dbias) = right(plain, class_weight=PER_CLASS, temperature=SAMPLES[:, None])
        xr.testing.assert_allclose(found, made(loss, row=ROWS))
        xr.testing.assert_allclose(gradients[0], made(dhidden, row=ROWS, feature=FEATURES))
        xr.testing.assert_allclose(gradients[1], made(dweight, token=CLASSES, feature=FEATURES))
        xr.testing.assert_allclose(gradients[2], made(dbias, token=CLASSES))
    ids = made(IDS, row=ROWS)
    for name, wrong in (
        ("weight", made(WEIGHT, token=CLASSES, other=FEATURES)),
        ("weight", made(WEIGHT, token=CLASSES, feature=FEATURES[::-1])),
        ("bias", made(BIAS, token=CLASSES[::-1])),
        ("targets", made(SOFT, row=ROWS, other=CLASSES)),
        ("targets", made(SOFT, row=ROWS, token=CLASSES[::-1])),
        ("targets", made(IDS, row=ROWS[::-1])),
    ):
        arguments = {"weight": weight, "targets": ids, "bias": bias} | {name: wrong}
        with pytest.raises(ValueError, match=f"^{name}: (dimensions .* are not allowed|labels along)"):
            lx.linear_cross_entropy(hidden, *arguments.values())


def test_masked_arrays() -> None:
    hidden = np.ma.MaskedArray(HIDDEN, np.zeros((3, 2), bool))
    found, (dhidden, dweight, dbias) = lx.linear_cross_entropy_value_and_grad(hidden, WEIGHT, IDS)
    assert type(dhidden) is np.ma.MaskedArray
    assert type(dweight) is np.ndarray
    assert (found, dbias) == (lx.linear_cross_entropy(HIDDEN, WEIGHT, IDS), None)
    hidden[1, 1] = np.ma.masked
    with pytest.raises(ValueError, match="^hidden: has masked entries; allowed are none, fill them first"):
        lx.linear_cross_entropy(hidden, WEIGHT, IDS)
    with pytest.raises(ValueError, match="^weight: has masked entries; allowed are none, fill them first"):
        lx.linear_cross_entropy(HIDDEN, np.ma.masked_greater(WEIGHT, 0), IDS)


@pytest.mark.parametrize("labels", [IDS, SOFT], ids=["hard", "soft"])
def test_lazy_arrays(labels: Any) -> None:
    dask = pytest.importorskip("dask.array", reason="dask is not installed")
    hidden, weight, bias = (dask.from_array(x, chunks=2) for x in (HIDDEN, WEIGHT, BIAS))
    found, gradients = lx.linear_cross_entropy_value_and_grad(hidden, weight, dask.from_array(labels), bias, **OPTIONS)
    loss, others = right(labels)
    for a, b in zip((found, *gradients), (loss, *others), strict=True):
        assert isinstance(a, dask.Array)
        np.testing.assert_allclose(a.compute(), b, rtol=1e-12, atol=1e-14)


def test_tensorflow() -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    hidden, weight, bias = tf.constant(HIDDEN), tf.Variable(WEIGHT), tf.Variable(BIAS)
    assert lx.which("linear_cross_entropy", hidden, weight, IDS).backend == "numba"
    loss, others = right()
    found, gradients = lx.linear_cross_entropy_value_and_grad(hidden, weight, IDS, bias, **OPTIONS)
    held = lx.linear_cross_entropy_value_and_grad(tf.Variable(HIDDEN), weight, IDS, bias, **OPTIONS)
    for a, b, c in zip((found, *gradients), (loss, *others), (held[0], *held[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
        np.testing.assert_allclose(c, b, rtol=1e-12)

    def differentiate(hidden: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            loss = lx.linear_cross_entropy(hidden, weight, tf.constant(IDS), bias, **OPTIONS)
        return loss, tape.gradient(loss, (hidden, weight, bias))

    for way in (differentiate, tf.function(differentiate)):
        found, gradients = way(hidden)
        for a, b in zip((found, *gradients), (loss, *others), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    unknown = tf.function(differentiate, input_signature=[tf.TensorSpec((None, 2), tf.float64)], autograph=False)
    with pytest.raises(ValueError, match=r"^hidden: shape \(None, 2\) has a length that is not known; allowed are"):
        unknown(hidden)
