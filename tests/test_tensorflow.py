"""TensorFlow: eager tensors on the kernels, graphs on TensorFlow's operations, gradients in both, and Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing.examples import Inputs
from logitx.testing.operation import Use
from logitx.testing.ops import uses

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((4, 5)) * 2
V = RANDOM.standard_normal((4, 5))
IDS = np.array([1, 4, -100, 0])
WHERE = np.array([True, True, False, True, True])


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_no_copy_on_the_way_in_and_out(dtype: str) -> None:
    import logitx._arrays.tensorflow as xp

    x = tf.cast(tf.random.normal((300, 400)), dtype)
    assert lx.which("softmax", x).backend == "numba"
    memory = xp.view_memory(x)
    assert not memory.flags.owndata
    assert not memory.flags.writeable
    assert np.shares_memory(memory, xp.view_memory(x))
    held = np.zeros(300 * 400 + 64, dtype=np.uint8 if dtype == "bfloat16" else dtype)
    start = -held.ctypes.data % 64 // held.itemsize
    if dtype != "bfloat16":
        shared = xp.shared(held[start : start + 300 * 400], dtype)
        assert np.shares_memory(xp.view_memory(shared), held)
        unaligned = held[start + 1 : start + 1 + 300 * 400]  # TensorFlow would end the process
        assert not np.shares_memory(xp.view_memory(xp.shared(unaligned, dtype)), held)
    p = lx.softmax(x)
    assert xp.view_memory(p).ctypes.data % 64 == 0
    assert p.dtype == x.dtype
    np.testing.assert_allclose(tf.cast(tf.reduce_sum(tf.cast(p, "float32"), -1), "float32"), np.ones(300), rtol=2e-2)


def test_results_outlive_what_made_them() -> None:
    results = [lx.softmax(tf.random.normal((256, 256))) for _ in range(20)]
    for p in results:
        np.testing.assert_allclose(tf.reduce_sum(p, -1), np.ones(256), rtol=1e-5)


# -- what TensorFlow has ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_agrees_with_tensorflows_own(graph: bool) -> None:
    way = tf.function if graph else lambda function: function
    x, ids = tf.constant(X, tf.float32), tf.constant([1, 4, 2, 0])
    dense = tf.nn.softmax(tf.constant(V, tf.float32))
    for ours, theirs in (
        (lambda: lx.softmax(x), lambda: tf.nn.softmax(x, axis=-1)),
        (lambda: lx.softmax(x, 0), lambda: tf.nn.softmax(x, axis=0)),
        (lambda: lx.log_softmax(x), lambda: tf.nn.log_softmax(x)),
        (lambda: lx.logsumexp(x, 0), lambda: tf.reduce_logsumexp(x, 0)),
        (
            lambda: lx.cross_entropy(x, ids, reduction="none"),
            lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(ids, x),
        ),
        (
            lambda: lx.cross_entropy(x, dense, reduction="none"),
            lambda: tf.nn.softmax_cross_entropy_with_logits(dense, x),
        ),
    ):
        np.testing.assert_allclose(way(ours)(), theirs(), rtol=2e-6, atol=1e-7)


# -- gradients --------------------------------------------------------------------------------------------------------

INPUTS = Inputs.draw(4, 5)
DIFFERENTIABLE = [use for use in uses("derivative") if use.example.by[0] == 0]
SOFTMAX = next(use for use in DIFFERENTIABLE if use.op.name == "softmax")


def results(use: Use, x: Any) -> Any:
    """All results of a call with other logits, as one vector."""
    function, (_, *others) = use.bound(INPUTS, tf.constant)
    return tf.concat([tf.reshape(one, [-1]) for one in function(x, *others)], 0)


def given(use: Use) -> tuple[Any, Any]:
    """Return the logits of a call, and a direction."""
    x = use.bound(INPUTS, tf.constant)[1][0]
    return x, tf.cos(tf.reshape(tf.range(tf.cast(tf.size(x), x.dtype)), x.shape))


def scalar(use: Use, x: Any) -> Any:
    """Weigh the entries, so that their gradients differ."""
    y = results(use, x)
    y = tf.where(tf.math.is_finite(y), y, tf.zeros_like(y))
    return tf.reduce_sum(y * tf.reshape(tf.cos(tf.range(tf.cast(tf.size(y), y.dtype))), tf.shape(y)))


def gradient(use: Use, x: Any, backend: str | None = None) -> Any:
    with lx.use_backend(backend), tf.GradientTape() as tape:
        tape.watch(x)
        y = scalar(use, x)
    return tape.gradient(y, x)


@pytest.mark.parametrize("use", DIFFERENTIABLE, ids=lambda use: use.id)
def test_gradients(use: Use) -> None:
    """Against differences, in graphs, and of the second order."""
    x, v = given(use)
    first = gradient(use, x)
    step = 1e-6
    difference = (scalar(use, x + step * v) - scalar(use, x - step * v)) / (2 * step)
    np.testing.assert_allclose(tf.reduce_sum(first * v), difference, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(tf.function(gradient)(use, x), first, rtol=1e-12, atol=1e-14)
    with tf.GradientTape() as tape:
        tape.watch(x)
        inner = tf.reduce_sum(gradient(use, x) * v)
    difference = (gradient(use, x + step * v) - gradient(use, x - step * v)) / (2 * step)
    np.testing.assert_allclose(tape.gradient(inner, x), difference, rtol=1e-5, atol=1e-8)

    @tf.function
    def second(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            inner = tf.reduce_sum(gradient(use, x) * v)
        return tape.gradient(inner, x)

    np.testing.assert_allclose(second(x), difference, rtol=1e-5, atol=1e-8)
    with tf.GradientTape() as tape:  # a graph, differentiated twice from without
        tape.watch(x)
        with tf.GradientTape() as inside:
            inside.watch(x)
            y = tf.function(scalar)(use, x)
        inner = tf.reduce_sum(inside.gradient(y, x) * v)
    np.testing.assert_allclose(tape.gradient(inner, x), difference, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("use", uses("derivative", all_examples=False), ids=lambda use: use.id)
def test_other_ways_to_differentiate(use: Use) -> None:
    x, v = given(use)
    expected = float(tf.reduce_sum(gradient(use, x) * v))
    with tf.autodiff.ForwardAccumulator(x, v) as forward:
        y = scalar(use, x)
    assert float(forward.jvp(y)) == pytest.approx(expected, rel=1e-9)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = results(use, x)
    with lx.use_backend("generic"), tf.GradientTape() as plain:
        plain.watch(x)
        z = results(use, x)
    np.testing.assert_allclose(tape.jacobian(y, x), plain.jacobian(z, x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(tape.gradient(y, x), tape.gradient(y, x), rtol=0)
    with tf.autodiff.ForwardAccumulator(x, v) as forward:
        first = gradient(use, x)
    step = 1e-6
    difference = (gradient(use, x + step * v) - gradient(use, x - step * v)) / (2 * step)
    np.testing.assert_allclose(forward.jvp(first), difference, rtol=1e-5, atol=1e-8)


def test_gradients_by_all_operands() -> None:
    heat, weight = tf.Variable(0.7, dtype=tf.float64), tf.Variable([1.0, 2.0, 0.5, 1.0, 3.0], dtype=tf.float64)
    x = tf.Variable(X)

    def loss() -> Any:
        return lx.cross_entropy(x, IDS, temperature=heat, class_weight=weight, label_smoothing=0.1)

    for way in (loss, tf.function(loss)):
        with tf.GradientTape() as tape:
            y = way()
        assert isinstance(y, tf.Tensor)
        by_x, by_heat, by_weight = tape.gradient(y, (x, heat, weight))
        step = 1e-6
        heat.assign_add(step)
        up = loss()
        heat.assign_sub(2 * step)
        down = loss()
        heat.assign_add(step)
        assert float(by_heat) == pytest.approx(float(up - down) / (2 * step), rel=1e-6)
        expected = lx.cross_entropy_value_and_grad(
            X, IDS, temperature=0.7, class_weight=weight.numpy(), label_smoothing=0.1
        )
        assert float(y) == pytest.approx(float(expected[0]))
        np.testing.assert_allclose(by_x, expected[1], rtol=1e-9, atol=1e-12)
        assert by_weight.shape == (5,)


SPECIAL = {
    "label at -inf": (0, [-np.inf, 0.0, 1.0, 2.0], [0.0, 0.09003057, 0.24472847, 0.66524096]),
    "NaN": (1, [np.nan, 0.0, -np.inf, 2.0], [np.nan, np.nan, 0.0, np.nan]),
    "all -inf": (1, [-np.inf] * 4, [0.0] * 4),
    "dominating label": (0, [30.0, 0.0, 0.0, 0.0], [-2.8072869e-13] + [9.357623e-14] * 3),
}


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("name", SPECIAL)
def test_gradients_of_special_rows(name: str, graph: bool) -> None:
    label, row, expected = SPECIAL[name]
    x = tf.constant([row], tf.float32)

    def by_logits(x: Any) -> Any:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            loss, p = lx.cross_entropy(x, np.array([label])), lx.softmax(x)
            one = tf.reduce_sum(p * tf.constant([[0.0, 0.0, 0.0, 1.0]]))
        return tape.gradient(loss, x), tape.gradient(one, x)

    by_loss, by_p = (tf.function(by_logits) if graph else by_logits)(x)
    np.testing.assert_allclose(by_loss, [expected], rtol=2e-6)
    if name == "all -inf":
        np.testing.assert_array_equal(by_p, [[0.0] * 4])


def test_small_gradients_of_float16_survive_a_scaled_loss() -> None:
    x = tf.constant(np.zeros((2, 3000)), tf.float16)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = 2.0**12 * lx.cross_entropy(x, [0, 1])
    np.testing.assert_allclose(tape.gradient(loss, x)[0, 1], 2.0**12 / 6000, rtol=2e-3)


# -- graphs -----------------------------------------------------------------------------------------------------------


def test_lengths_that_are_not_known() -> None:
    spec = [tf.TensorSpec([None, 5], tf.float32), tf.TensorSpec([None], tf.int32)]

    @tf.function(input_signature=spec)
    def losses(x: Any, ids: Any) -> Any:
        options = {"where": WHERE, "sample_weight": np.array([2.0]), "label_smoothing": 0.1}
        return lx.cross_entropy(x, ids, reduction="none", **options), lx.softmax(x, temperature=2.0), lx.logsumexp(x)

    for rows in (1, 4):
        x, ids = X[:rows].astype(np.float32), IDS[:rows]
        each, p, normalizer = losses(tf.constant(x), tf.constant(ids, tf.int32))
        expected = lx.cross_entropy(x, ids, reduction="none", where=WHERE, sample_weight=2.0, label_smoothing=0.1)
        np.testing.assert_allclose(each, expected, rtol=1e-6)
        np.testing.assert_allclose(p, lx.softmax(x, temperature=2.0), rtol=1e-6)
        np.testing.assert_allclose(normalizer, lx.logsumexp(x), rtol=1e-6)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3, None]), tf.TensorSpec([None, None, None], tf.int64)])
    def image(x: Any, ids: Any) -> Any:
        return lx.cross_entropy(x, ids, axis=2), lx.logsumexp(x, axis=3), lx.softmax(x, axis=3, dtype="float64")

    x = RANDOM.standard_normal((2, 4, 3, 5)).astype(np.float32)
    loss, normalizer, p = image(tf.constant(x), tf.zeros((2, 4, 5), tf.int64))
    np.testing.assert_allclose(loss, lx.cross_entropy(x, np.zeros((2, 4, 5), int), axis=2), rtol=1e-6)
    np.testing.assert_allclose(normalizer, lx.logsumexp(x, axis=3), rtol=1e-6)
    np.testing.assert_allclose(p, lx.softmax(x, axis=3, dtype="float64"), rtol=1e-12)

    @tf.function(input_signature=[tf.TensorSpec([None, 3, 5, None])])
    def several(x: Any) -> Any:
        return lx.softmax(x, axis=(2, 1), where=np.array([[True], [True], [False], [True], [True]]))

    x = RANDOM.standard_normal((2, 3, 5, 4)).astype(np.float32)
    expected = lx.softmax(x, axis=(2, 1), where=np.array([[True], [True], [False], [True], [True]]))
    np.testing.assert_allclose(several(tf.constant(x)), expected, rtol=1e-6)

    @tf.function(input_signature=[tf.TensorSpec([None, 3, None, None])])
    def folded(x: Any) -> Any:
        return lx.softmax(x, axis=(0, 3))

    with pytest.raises(ValueError, match="axis: .* has lengths that are not known; .* tensorflow.ensure_shape"):
        folded(tf.zeros((2, 3, 4, 5)))

    @tf.function(input_signature=[tf.TensorSpec([2, None])])
    def classes(x: Any) -> Any:
        return lx.cross_entropy(x, [0, 0])

    with pytest.raises(ValueError, match=r"logits: shape \(2, None\) has no known length along axis \(1,\)"):
        classes(tf.zeros((2, 3)))


def test_compiled_by_xla() -> None:
    x = tf.constant(X, tf.float32)
    compiled = tf.function(lambda x: (lx.softmax(x), lx.cross_entropy(x, IDS), gradient(SOFTMAX, x)), jit_compile=True)
    for found, expected in zip(
        compiled(x), (lx.softmax(x), lx.cross_entropy(x, IDS), gradient(SOFTMAX, x)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_labels_out_of_range() -> None:
    x = tf.constant(X, tf.float32)
    ids = tf.constant([0, 9, 1, 1])
    with pytest.raises(ValueError, match=r"targets: class id 9 at position \(1,\) is out of range"):
        lx.cross_entropy(x, ids)
    with tf.GradientTape() as tape:
        tape.watch(x)
        with pytest.raises(ValueError, match="targets: class id 9"):
            lx.cross_entropy(x, ids)
    losses = tf.function(lambda ids: lx.cross_entropy(x, ids, reduction="none"))(ids)
    np.testing.assert_array_equal(np.isnan(losses), [False, True, False, False])


def test_mixed_input() -> None:
    x, ids = X.astype(np.float32), IDS
    expected = lx.cross_entropy(x, ids, class_weight=np.arange(1.0, 6.0))
    assert float(lx.cross_entropy(tf.constant(x), ids, class_weight=np.arange(1.0, 6.0))) == pytest.approx(
        float(expected)
    )
    assert lx.cross_entropy(x, tf.constant(ids), class_weight=np.arange(1.0, 6.0)) == expected
    with pytest.raises(TypeError, match="class_weight: a tensorflow array cannot go with logits of numpy; convert one"):
        lx.cross_entropy(x, ids, class_weight=tf.constant(np.arange(1.0, 6.0)))
    with pytest.raises(TypeError, match="out: arrays of tensorflow are immutable"):
        lx.softmax(tf.constant(x), out=tf.constant(x))


def test_which_says_why() -> None:
    x = tf.constant(X)
    assert lx.which("softmax", x).backend == "numba"
    with tf.GradientTape() as tape:
        assert lx.which("softmax", x).backend == "generic"
        tape.watch(x)
        assert lx.which("softmax", x).backend == "tensorflow"
        assert lx.which("softmax_vjp", x, x).backend == "generic"
    seen = []
    tf.function(lambda x: seen.append(lx.which("softmax", x).backend))(x)
    assert seen == ["tensorflow"]


# -- Keras ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    images, labels = datasets.load_digits(return_X_y=True)
    return images.astype(np.float32) / 16, labels


@pytest.fixture(scope="module")
def keras() -> Any:
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras runs on another library")
    return keras


def net(keras: Any, activation: Any) -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(10, activation)])


@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eager"])
def test_a_loss_trains_a_keras_model_to_the_same_weights(keras: Any, digits: tuple[Any, Any], eagerly: bool) -> None:
    def ours(labels: Any, logits: Any) -> Any:  # Keras makes floats of labels, and gives the logits second
        return lx.cross_entropy(logits, tf.cast(labels, tf.int32), reduction="none")

    images, labels = digits
    trained = []
    for loss in (ours, keras.losses.SparseCategoricalCrossentropy(from_logits=True)):
        model = net(keras, None)
        model.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss, run_eagerly=eagerly)
        history = model.fit(images, labels, epochs=1 if eagerly else 10, batch_size=64, shuffle=False, verbose=0)
        assert history.history["loss"][-1] < (2.0 if eagerly else 0.15)
        trained.append((model.get_weights(), float((model(images).numpy().argmax(-1) == labels).mean())))
    for mine, theirs in zip(trained[0][0], trained[1][0], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0.02, atol=2e-3)
    assert trained[0][1] > (0.6 if eagerly else 0.95)


def test_softmax_is_an_activation_of_keras(keras: Any, digits: tuple[Any, Any]) -> None:
    images, labels = digits
    results = []
    for activation in (lx.softmax, "softmax"):
        model = net(keras, activation)
        model.compile(optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
        model.fit(images, labels, epochs=5, batch_size=64, shuffle=False, verbose=0)
        results.append(model.predict(images, verbose=0))
    np.testing.assert_allclose(results[0].sum(-1), np.ones(len(images)), rtol=1e-5)
    np.testing.assert_allclose(results[0], results[1], atol=0.05)
    assert (results[0].argmax(-1) == labels).mean() > 0.95
