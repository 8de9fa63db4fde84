"""The cross-entropy of a linear layer in JAX beyond its values: derivatives, memory, skipped rows, shards."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import logitx as lx

jax = pytest.importorskip("jax", reason="jax is not installed")

RNG = np.random.default_rng(6)
HIDDEN, WEIGHT, BIAS = RNG.standard_normal((7, 5)), RNG.standard_normal((11, 5)), RNG.standard_normal(11)
LABELS = np.array([3, 0, -100, 10, 5, 5, 1])


def _full(x64: Any, h: Any, w: Any, b: Any, **options: Any) -> Any:
    return lx.cross_entropy(h @ w.T + b, x64(LABELS), **options)


@pytest.mark.parametrize("options", [{}, {"reduction": "none"}, {"label_smoothing": 0.1, "softcap": 2.0}], ids=str)
def test_derivatives(options: dict[str, Any]) -> None:
    array = jax.numpy.asarray
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        factors = (array(HIDDEN), array(WEIGHT), array(BIAS))

        def ours(h: Any, w: Any, b: Any) -> Any:
            return lx.linear_cross_entropy(h, w, array(LABELS), b, block_bytes=200, **options).sum()

        def full(h: Any, w: Any, b: Any) -> Any:
            return _full(array, h, w, b, **options).sum()

        for transform in (jax.grad, jax.jacfwd, lambda f, which: jax.jit(jax.jacfwd(jax.grad(f, which), which))):
            found, right = (transform(f, (0, 1, 2))(*factors) for f in (ours, full))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found, right)
        batch = array(np.stack([HIDDEN, 2 * HIDDEN]))
        found = jax.vmap(jax.grad(ours), (0, None, None))(batch, *factors[1:])
        right = jax.vmap(jax.grad(full), (0, None, None))(batch, *factors[1:])
        np.testing.assert_allclose(found, right, rtol=1e-9, atol=1e-12)


def test_derivatives_by_weights_and_targets() -> None:
    soft = np.float32(RNG.random((7, 11)))
    h, w, weight = (jax.numpy.asarray(x, "float32") for x in (HIDDEN, WEIGHT, RNG.random(11)))

    def ours(soft: Any, weight: Any, heat: Any) -> Any:
        return lx.linear_cross_entropy(h, w, soft, class_weight=weight, temperature=heat, block_bytes=100)

    def full(soft: Any, weight: Any, heat: Any) -> Any:
        return lx.cross_entropy(h @ w.T, soft, class_weight=weight, temperature=heat)

    found, right = (jax.grad(f, (0, 1, 2))(soft, weight, jax.numpy.float32(0.7)) for f in (ours, full))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), found, right)


def test_shard_map_on_one_device() -> None:
    arrays = [jax.numpy.asarray(one, "float32") for one in (HIDDEN, WEIGHT, BIAS)]
    mesh, spec = jax.sharding.Mesh(jax.devices()[:1], ("rows",)), jax.sharding.PartitionSpec

    def loss(h: Any, w: Any, b: Any) -> Any:
        return lx.linear_cross_entropy(h, w, jax.numpy.asarray(LABELS), b, block_bytes=2 * 11 * 4)

    mapped = jax.shard_map(
        lambda *given: jax.lax.pmean(loss(*given), "rows"), mesh=mesh, in_specs=(spec("rows"), spec(), spec()),
        out_specs=spec(),
    )  # fmt: skip
    found, right = (jax.jit(jax.value_and_grad(f, (0, 1, 2)))(*arrays) for f in (mapped, loss))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, right)


def test_memory_is_a_fifth_of_that_with_logits() -> None:
    h, w, ids = (jax.ShapeDtypeStruct(s, d) for s, d in (((1024, 64), "float32"), ((32_000, 64), "float32"),
                                                         ((1024,), "int32")))  # fmt: skip

    def plain(h: Any, w: Any, ids: Any) -> Any:
        return -jax.numpy.take_along_axis(jax.nn.log_softmax(h @ w.T), ids[:, None], 1).mean()

    def ours(h: Any, w: Any, ids: Any) -> Any:
        return lx.linear_cross_entropy(h, w, ids, block_bytes=1 << 23)

    for transform in (lambda f: f, lambda f: jax.value_and_grad(f, (0, 1))):
        mine, full = (
            jax.jit(transform(f)).lower(h, w, ids).compile().memory_analysis().temp_size_in_bytes for f in (ours, plain)
        )
        assert mine <= full / 5


SHARDED = """
import re, jax, numpy as np, logitx as lx
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
mesh = Mesh(np.array(jax.devices()), ("d",))
made = np.random.default_rng(0).standard_normal
hidden, weight = made((256, 16), np.float32), made((1024, 16), np.float32)
ids = np.random.default_rng(1).integers(0, 1024, 256)
right = lx.linear_cross_entropy_value_and_grad(hidden, weight, ids)
rows, classes = (P("d"), P(), P("d")), (P(), P("d"), P())
for specs in (rows, classes):
    arrays = [jax.device_put(x, NamedSharding(mesh, s)) for x, s in zip((hidden, weight, ids), specs)]
    function = jax.jit(jax.value_and_grad(
        lambda h, w, ids: lx.linear_cross_entropy(h, w, ids, block_bytes=1 << 18), (0, 1)))
    compiled = function.lower(*arrays).compile()
    gathered = re.findall(r"= \\w+\\[([\\d,]*)\\]\\S* all-gather", compiled.as_text())
    sizes = [np.prod([int(n) for n in shape.split(",") if n]) for shape in gathered]
    assert max(sizes, default=0) <= 256 * 16, (specs, gathered)
    loss, (dhidden, dweight) = compiled(*arrays)
    np.testing.assert_allclose(loss, right[0], rtol=1e-5)
    np.testing.assert_allclose(dhidden, right[1][0], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(dweight, right[1][1], rtol=1e-3, atol=1e-6)
"""


def test_shards_are_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks have 64 rows of 1024 classes; nothing gathered is larger than the hidden features, 256 x 16."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    run = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]


def _counting(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, ran: list[str]) -> None:
    """Wrap a function so that it records each run, but not its tracing."""
    function = getattr(module, name)

    def counted(*args: Any) -> Any:
        jax.debug.callback(lambda: ran.append(name))
        return function(*args)

    monkeypatch.setattr(module, name, counted)


def _same_as_in_numpy(arrays: tuple[Any, ...], ids: Any, ran: list[str], **options: Any) -> list[str]:
    """Compare JAX's gradients with NumPy's; return what ran for them, and then for the loss alone."""
    given = [jax.numpy.asarray(one) for one in (*arrays, ids)]
    right, others = lx.linear_cross_entropy_value_and_grad(*arrays, ids, **options)
    ran.clear()
    found, gradients = lx.linear_cross_entropy_value_and_grad(*given, **options)
    jax.effects_barrier()
    for a, b in zip((found, *gradients[:2]), (right, *others[:2]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    first = list(ran)
    np.testing.assert_allclose(lx.linear_cross_entropy(*given, **options), right, rtol=1e-5, atol=1e-6)
    jax.effects_barrier()
    return [*first, "loss", *ran[len(first) :]]


def test_skips_blocks_of_rows_that_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from logitx.backends.jax.linear import gradients, loss

    if jax.device_count() > 1:
        pytest.skip("each of several devices has its own rows")
    ran: list[str] = []
    for module in (gradients, loss):
        _counting(monkeypatch, module, "from_logits", ran)
    labels = np.array([-100, 3, -100, -100, 0, -100, 10, -100, -100, 1, -100])  # 11 rows in 4 blocks: 3, 3, 3 and 2
    made = np.random.default_rng(7).standard_normal
    given = made((11, 3), np.float32), made((11, 3), np.float32)
    for ids, steps in ((labels, 2), (np.where(labels < 0, 2, labels), 4), (np.full(11, -100), 0)):
        told = _same_as_in_numpy(given, ids, ran, block_bytes=3 * 11 * 4, reduction="none", label_smoothing=0.1)
        assert told == [*["from_logits"] * steps, "loss", *["from_logits"] * steps]


@pytest.mark.parametrize(
    "options", [{}, {"softcap": 2.0, "z_loss": 0.1, "temperature": np.full((11, 1), 0.7, np.float32)}], ids=len
)
def test_losses_in_tiles_skip_rows_that_do_not_count(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 11 rows, 4 are taken at a time, by some 2 of 9 classes: a block of all classes would have 2 rows."""
    from logitx.backends.jax.linear import class_tiles

    if jax.device_count() > 1:
        pytest.skip("each of several devices has its own rows")
    ran: list[str] = []
    monkeypatch.setattr(class_tiles, "ENOUGH", 4)
    _counting(monkeypatch, class_tiles, "_block_losses", ran)
    made = np.random.default_rng(9)
    given = made.standard_normal((11, 3), np.float32), made.standard_normal((9, 3), np.float32)
    labels, weight = made.integers(0, 9, 11), made.random(9, np.float32)
    for counting, steps in ((11, 3), (5, 2), (4, 1), (0, 0)):
        ids = np.where(made.permutation(11) < counting, labels, -100)
        told = _same_as_in_numpy(given, ids, ran, block_bytes=2 * 9 * 4, class_weight=weight, **options)
        assert told == ["loss", *["_block_losses"] * steps]
        told = _same_as_in_numpy(given, ids, ran, block_bytes=2 * 9 * 4, sample_weight=ids % 3, reduction="sum")
    hidden = given[0].copy()
    hidden[1, 0], bias = np.nan, np.where(np.arange(9) == 4, -np.inf, 0.5).astype(np.float32)
    arrays, ids = [jax.numpy.asarray(one) for one in (hidden, given[1])], labels * 0 + 4
    found = lx.linear_cross_entropy(*arrays, ids, bias, block_bytes=72, reduction="none")
    right = lx.linear_cross_entropy(hidden, given[1], ids, bias, reduction="none")
    assert np.isposinf(right).sum() == 10
    np.testing.assert_array_equal(found, right)
    arrays[0] = jax.numpy.asarray(given[0])
    traced = jax.jit(lambda ids: lx.linear_cross_entropy(*arrays, ids, block_bytes=72, reduction="none"))(labels + 1)
    np.testing.assert_array_equal(np.isnan(traced), labels == 8)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "softcap": 2.0, "reduction": "sum"}], ids=str)
def test_logits_wait_where_their_gradient_will_be(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 13 rows by 7 features 7 wait, where at least 5 count; the others are in blocks of 2. Pieces have 1 class."""
    from logitx.backends.jax.linear import gradients

    if jax.device_count() > 1:
        pytest.skip("each of several devices has its own rows")
    ran: list[str] = []
    for name in ("_logits_to_gradient", "_add_block"):
        _counting(monkeypatch, gradients, name, ran)
    made = np.random.default_rng(8)
    arrays = made.standard_normal((13, 7), np.float32), made.standard_normal((11, 7), np.float32)
    labels, bias = made.integers(0, 11, 13), made.standard_normal(11, np.float32)
    for counting, steps in ((13, 3), (7, 0), (5, 0)):
        ids = np.where(made.permutation(13) < counting, labels, -100)
        told = _same_as_in_numpy(arrays, ids, ran, bias=bias, block_bytes=2 * 11 * 4, **options)
        assert told == ["_logits_to_gradient", *["_add_block"] * steps, "loss"]
    told = _same_as_in_numpy(
        arrays, np.where(np.arange(13) < 4, labels, -100), ran, bias=bias, block_bytes=88, **options
    )
    assert told == ["_add_block"] * 2 + ["loss"]


def test_export_for_any_number_of_rows() -> None:
    export = pytest.importorskip("jax.export", reason="absl, which exports of old JAX ask for, is not installed")
    weight, (rows,) = jax.numpy.asarray(WEIGHT, "float32"), export.symbolic_shape("rows")
    given = jax.ShapeDtypeStruct((rows, 5), "float32"), jax.ShapeDtypeStruct((rows,), "int32")

    def loss(hidden: Any, ids: Any) -> Any:
        return lx.linear_cross_entropy(hidden, weight, ids)

    arrays = jax.numpy.asarray(HIDDEN, "float32"), jax.numpy.asarray(LABELS, "int32")
    for function in (loss, jax.grad(loss)):
        exported = export.export(jax.jit(function))(*given)
        np.testing.assert_allclose(exported.call(*arrays), function(*arrays), rtol=1e-5, atol=1e-6)
