"""JAX: the kernels inside compiled programs, and every transformation of them."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing.examples import Inputs
from logitx.testing.operation import Use
from logitx.testing.ops import uses

jax = pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("numba", reason="numba is not installed")
jnp = jax.numpy

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 40), dtype=np.float32) * 3
IDS = RNG.integers(0, 40, 6)
LABELS = np.where(IDS == 7, 8, IDS)
SMALL = Inputs.draw(2, 7)
THEIRS = {  # what JAX has itself
    "softmax": lambda x: jax.nn.softmax(x),
    "log_softmax": lambda x: jax.nn.log_softmax(x),
    "logsumexp": lambda x: jax.nn.logsumexp(x, axis=-1),
    "cross_entropy": lambda x: -jax.nn.log_softmax(x)[0, SMALL.some[0]],
}


def array(values: Any) -> Any:
    return jnp.asarray(values, {"f": "float32", "i": "int32", "b": "bool"}[values.dtype.kind])


def x64() -> Any:
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


def close(found: Any, right: Any, **tolerance: float) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **({"rtol": 2e-4, "atol": 2e-5} | tolerance)), found, right
    )


def handlers(function: Any, *arguments: Any) -> set[str]:
    """Return the kinds of handlers that a compiled program calls."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    return set(re.findall(r'custom_call_target="logitx_([a-z]+(?:_[a-z]+)?)_', text))


# -- that it is the kernels which run ---------------------------------------------------------------------------------

GRADIENTS = {  # no more than these, where a gradient has kernels
    "softmax": (jax.grad(lambda x: (lx.softmax(x) ** 2).sum()), {"normalize", "pull_back"}),
    "cross_entropy": (jax.grad(lambda x: lx.cross_entropy(x, LABELS, z_loss=0.1)), {"hard"}),
    "mapped": (jax.vmap(lambda x: lx.softmax(x)), {"normalize"}),
}


@pytest.mark.parametrize("use", uses("graph"), ids=lambda use: use.id)
def test_programs_call_the_kernels(use: Use) -> None:
    function, given = use.bound(Inputs.draw(6, 40), array)
    assert handlers(function, *given) == {use.example.kernel} - {""}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_call_the_kernels(name: str) -> None:
    function, kinds = GRADIENTS[name]
    assert handlers(function, jnp.asarray(X)) == kinds


def test_which_tells_what_runs() -> None:
    x, ids = jnp.asarray(X), jnp.asarray(LABELS)
    assert lx.which("softmax", x).reason == "jitted JAX, on CPUs around the Numba kernels"
    assert lx.which("logsumexp", x, b=x).reason == lx.which("softmax", x).reason
    assert "formulas" in lx.which("softmax", x, temperature=jnp.ones((6, 1))).reason
    assert "formulas" in lx.which("cross_entropy", x, x).reason
    assert "formulas" not in lx.which("cross_entropy", x, ids).reason
    assert lx.which("cross_entropy", x, ids.astype("uint32")).reason == lx.which("softmax", x).reason
    assert "empty" in lx.which("softmax", x[:0]).reason
    assert "no kernels" in lx.which("merge_logsumexp", x, x).reason


def test_long_rows_have_kernels_of_their_own() -> None:
    x = jnp.asarray(RNG.standard_normal((2, 1 << 18), dtype=np.float32))
    assert handlers(lambda x: lx.softmax(x), x) == {"normalize_long"}
    close(lx.softmax(x), jax.nn.softmax(x), atol=1e-9)
    close(lx.log_softmax(x), jax.nn.log_softmax(x))
    close(lx.logsumexp(x), jax.nn.logsumexp(x, axis=-1))
    ids = jnp.asarray([5, -100])
    assert handlers(lambda x: lx.cross_entropy(x, ids), x) == {"hard_long"}
    loss, gradient = lx.cross_entropy_value_and_grad(x, ids)
    close(loss, -jax.nn.log_softmax(x)[0, 5])
    close(gradient[0], jax.nn.softmax(x[0]).at[5].add(-1.0), atol=1e-9)
    assert not gradient[1].any()


def test_exports_are_portable() -> None:
    pytest.importorskip("flatbuffers", reason="flatbuffers, which exports of JAX are written with, is not installed")
    export = pytest.importorskip("jax.export", reason="absl, which exports of old JAX ask for, is not installed")
    function = jax.jit(jax.value_and_grad(lambda x: lx.cross_entropy(x, LABELS)))
    shape = jax.ShapeDtypeStruct(X.shape, X.dtype)
    exported = export.export(function, platforms=("cpu", "cuda"))(shape)
    assert "custom_call @logitx" not in exported.mlir_module()
    back = export.deserialize(exported.serialize())
    close(back.call(jnp.asarray(X)), function(X), rtol=1e-5)


# -- transformations --------------------------------------------------------------------------------------------------

HIGHER = {
    "forward": jax.jacfwd,
    "reverse": jax.jacrev,
    "hessian": jax.hessian,
    "reverse of reverse": lambda f: jax.jacrev(jax.jacrev(f)),
    "reverse of forward": lambda f: jax.jacrev(jax.jacfwd(f)),
    "third": lambda f: jax.jacfwd(jax.hessian(f)),
}
SLOW = pytest.mark.slow


def weighed(function: Any, *others: Any) -> Any:
    """Return a function of the first argument, whose result is the finite entries of all results, weighed and added."""

    def total(x: Any) -> Any:
        ends = [one.reshape(-1) for one in function(x, *others)]
        return sum((jnp.where(jnp.isfinite(one), one, 0) * jnp.linspace(-1, 2, one.size)).sum() for one in ends)

    return total


# Layers take ten times as long to compile, and have second derivatives in test_linear_jax.py
OFTEN = [
    pytest.param(use, way, id=f"{use.id}-{way}", marks=() if way == "hessian" and use.op.fuzz != "layers" else SLOW)
    for use in uses("derivative", all_examples=False)
    for way in HIGHER
]


@pytest.mark.parametrize(("use", "way"), OFTEN)
def test_derivatives(use: Use, way: str) -> None:
    """Against those of the formulas, and of JAX's own functions."""
    function, (x, *others) = use.bound(SMALL, array)
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if way == "third" else {}
    found = HIGHER[way](weighed(function, *others))(x)
    with lx.use_backend("generic"):
        close(found, HIGHER[way](weighed(function, *others))(x), **tolerance)
    if use.op.name in THEIRS:
        close(found, HIGHER[way](weighed(lambda x: (THEIRS[use.op.name](x),)))(x), **tolerance)


@pytest.mark.parametrize(
    ("name", "axis"), [("softmax", 0), ("log_softmax", 2), ("logsumexp", 1), pytest.param("softmax", 1, marks=SLOW)]
)
def test_vmap_of_any_axis(name: str, axis: int) -> None:
    x = jnp.asarray(RNG.standard_normal((3, 4, 5)), "float32")
    function = getattr(lx, name)
    found = jax.vmap(lambda x, heat: function(x * heat, 0), (axis, 0))(x, jnp.arange(1.0, 1.0 + x.shape[axis]))
    right = [function(jnp.take(x, i, axis) * (i + 1.0), 0) for i in range(x.shape[axis])]
    close(found, jnp.stack(right), rtol=1e-6)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_vmap_of_losses(reduction: str) -> None:
    x, ids = jnp.asarray(X.reshape(2, 3, 40)), jnp.asarray(LABELS.reshape(2, 3))
    weight = jnp.asarray(RNG.random((2, 3)), "float32")

    def both(x: Any, ids: Any, weight: Any) -> Any:
        return lx.cross_entropy_value_and_grad(x, ids, sample_weight=weight, reduction=reduction)

    right = [both(*one) for one in zip(x, ids, weight, strict=True)]
    close(jax.vmap(both)(x, ids, weight), jax.tree.map(lambda *one: jnp.stack(one), *right), rtol=1e-5)
    shared = jax.vmap(lambda x: lx.cross_entropy(x, ids[0], reduction=reduction))(x)
    close(shared, jnp.stack([lx.cross_entropy(one, ids[0], reduction=reduction) for one in x]), rtol=1e-5)


def test_vmap_of_options() -> None:
    x, heat = jnp.asarray(X), jnp.asarray([0.5, 1.0, 2.0])
    found = jax.vmap(lambda heat: lx.softmax(x, temperature=heat))(heat)
    close(found, jnp.stack([lx.softmax(x, temperature=one) for one in heat]), rtol=1e-5)
    weight = jnp.asarray(RNG.random((3, 40)), "float32")
    found = jax.vmap(lambda weight: lx.cross_entropy(x, LABELS, class_weight=weight, reduction="none"))(weight)
    right = [lx.cross_entropy(x, LABELS, class_weight=one, reduction="none") for one in weight]
    close(found, jnp.stack(right), rtol=1e-5)


def test_scan_and_checkpoint() -> None:
    def loss(x: Any) -> Any:
        step = jax.checkpoint(lambda total, row: (total + lx.cross_entropy(row[None], LABELS[:1]), lx.logsumexp(row)))
        total, logs = jax.lax.scan(step, 0.0, x)
        return total + logs.sum()

    x = jnp.asarray(X)
    right = jax.grad(lambda x: lx.cross_entropy(x, np.repeat(LABELS[:1], 6), reduction="sum") + lx.logsumexp(x).sum())(
        x
    )
    close(jax.jit(jax.grad(loss))(x), right, rtol=1e-5)


def test_shapes_and_weak_types_without_data() -> None:
    shape = jax.eval_shape(
        lambda x: lx.cross_entropy_value_and_grad(x, LABELS), jax.ShapeDtypeStruct((6, 40), "bfloat16")
    )
    assert [(one.shape, one.dtype) for one in shape] == [((), "float32"), ((6, 40), "bfloat16")]


# -- special values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "dtype"),
    [(-1, "float32"), (0, "bfloat16"), *(pytest.param(*one, marks=SLOW) for one in ((0, "float32"), (-1, "float16")))],
)
@pytest.mark.parametrize(
    "options", [{}, {"class_weight": True}, {"label_smoothing": 0.1}, {"ignore_index": 0}], ids=str
)
def test_traced_ids_out_of_range_make_nan(options: dict[str, Any], dtype: str, axis: int) -> None:
    """The row's loss and gradient are NaN, that of the other rows is what the formulas give."""
    x = jnp.asarray(X.T if axis == 0 else X, dtype).at[(3, 2) if axis == 0 else (2, 3)].set(-jnp.inf)
    ids = jnp.asarray(LABELS).at[2].set(99)
    options = {**options, "class_weight": jnp.arange(1.0, 41.0)} if "class_weight" in options else options
    for reduction in ("none", "mean"):

        def both(x: Any, ids: Any, reduction: Any = reduction) -> Any:
            return lx.cross_entropy_value_and_grad(x, ids, axis, reduction=reduction, **options)

        found = jax.jit(both)(x, ids)
        with lx.use_backend("generic"):
            right = jax.jit(lambda x, ids: both(x, ids))(x, ids)
        found, right = jax.tree.map(lambda one: np.asarray(one, "float32"), (found, right))
        close(found, right, rtol=2e-2 if dtype != "float32" else 1e-4, atol=1e-4)
        row = found[1][:, 2] if axis == 0 else found[1][2]
        assert row[3] == 0
        assert np.isnan(np.delete(row, 3)).all()


def test_no_nan_is_seen_where_there_is_none() -> None:
    x = jnp.asarray(X).at[0, :3].set(-jnp.inf).at[1, 5].set(jnp.nan)
    keep = ~jnp.isnan(x)
    with jax.debug_nans(True):
        jax.block_until_ready(lx.softmax(x, where=keep))
        gradient = jax.grad(lambda x: lx.cross_entropy(x, np.full(6, 9), where=keep))(x)
        assert (gradient[0, :3] == 0).all()
        assert gradient[1, 5] == 0
        assert jax.grad(lambda x: (lx.log_softmax(x, where=keep)[:, 9]).sum())(x)[1, 5] == 0


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0), (2, 0, 4)])
def test_nothing_to_compute(shape: tuple[int, ...]) -> None:
    x = jnp.zeros(shape)
    axis = 1
    assert jax.jit(lambda x: lx.softmax(x, axis))(x).shape == shape
    assert lx.logsumexp(x, axis).shape == shape[:1] + shape[2:]
    if shape[axis]:
        loss, gradient = lx.cross_entropy_value_and_grad(x, jnp.zeros(shape[:1], int), reduction="sum")
        assert float(loss) == 0
        assert gradient.shape == shape


# -- memory, dtypes, threads, processes -------------------------------------------------------------------------------


def test_donated_and_transposed_memory() -> None:
    x = RNG.standard_normal((300, 200), dtype=np.float32)
    right = lx.softmax(x)
    found = jax.jit(lambda x: lx.softmax(x), donate_argnums=0)(jnp.asarray(x))
    close(found, right, rtol=1e-6)
    close(jax.jit(lambda x: lx.softmax(x.T, 0).T)(jnp.asarray(x)), right, rtol=1e-6)
    close(
        jax.jit(lambda x: lx.softmax(x[::2, ::-1]))(jnp.asarray(x)),
        right[::2, ::-1] / right[::2].sum(1)[:, None],
        rtol=1e-5,
    )


def test_float64_and_its_ids() -> None:
    with x64():
        x, ids = jnp.asarray(X, "float64"), jnp.asarray(LABELS, "int64")
        assert handlers(lambda x, ids: lx.cross_entropy(x, ids), x, ids) == {"hard"}
        close(lx.cross_entropy(x, ids), -jax.nn.log_softmax(x)[jnp.arange(6), ids].mean(), rtol=1e-13)
        close(lx.softmax(x, temperature=jnp.float64(0.1)), jax.nn.softmax(x / 0.1), rtol=1e-12)
        for dtype in ("uint8", "int16", "uint32", "uint64"):
            close(lx.cross_entropy(x, ids.astype(dtype)), lx.cross_entropy(x, ids), rtol=1e-13)


def test_threads_give_the_bits_of_one_thread() -> None:
    """Rows in parts of their own on XLA's threads, and many programs at once."""
    x = jnp.asarray(RNG.standard_normal((600, 1000), dtype=np.float32))
    ids = jnp.asarray(RNG.integers(0, 1000, 600))
    program = jax.jit(jax.value_and_grad(lambda x, ids: lx.cross_entropy(x, ids) + lx.logsumexp(x, 0).sum()))
    right = jax.tree.map(np.asarray, program(x, ids))

    def many(_: int) -> None:
        for _ in range(20):
            jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, program(x, ids)), right)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(many, range(16)))
    pieces = [jax.jit(lambda x: lx.softmax(x))(x[start : start + 20]) for start in range(0, 600, 20)]
    np.testing.assert_array_equal(np.concatenate(pieces), jax.jit(lambda x: lx.softmax(x))(x))


SPAWNED = """
import multiprocessing, numpy as np
def work(seed):
    import jax, logitx as lx
    x = jax.numpy.asarray(np.random.default_rng(seed).standard_normal((500, 300), dtype=np.float32))
    np.testing.assert_allclose(jax.jit(lx.softmax)(x), jax.nn.softmax(x), rtol=1e-4, atol=1e-7)
    return True
if __name__ == "__main__":
    assert work(0)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert all(pool.map(work, range(2)))
"""


@SLOW
def test_spawned_children(tmp_path: Any) -> None:
    path = tmp_path / "spawned.py"
    path.write_text(SPAWNED)
    run = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize(
    ("table", "answer"),
    [
        (None, (0, 1)),  # before 0.2 XLA shows none when it asks
        ((192, 0, 3), (0, 3)),
        ((192, 0, 2), (0, 2)),
        ((400, 0, 9), (0, 3)),  # newer ones take what is older
        ((88, 0, 1), (-1, 1)),
        ((192, 1, 0), (-1, 0)),
    ],
)
def test_what_a_handler_says_of_its_version(table: Any, answer: tuple[int, int]) -> None:
    from logitx.backends.numba.kernels.signature import Dtypes
    from logitx.backends.xla import handlers

    function = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(
        handlers.address_of_handler(handlers.Handler("reduce", (True, None), Dtypes("float32", "float32", "float32")))
    )
    frame, extension, metadata, api = (np.zeros(30, np.int64) for _ in range(4))
    metadata[0] = 48
    extension[:4] = 32, 1, 0, metadata.ctypes.data
    frame[:3] = 168, extension.ctypes.data, 0
    if table is not None:
        api[0] = table[0]
        api.view(np.int32)[8:10] = table[1:]
        frame[2] = api.ctypes.data
    assert function(frame.ctypes.data) is None
    assert tuple(metadata.view(np.int32)[6:8]) == answer


def _cells() -> list[Any]:
    from logitx.testing import OPS, TARGETS
    from logitx.testing.suite import Cell
    from logitx.testing.targets.jax import transformed

    eager = next(target for target in TARGETS if target.name == "jax-eager")
    ops = [op for op in OPS if not op.name.startswith("linear")]  # mapped and differentiated in test_linear_jax.py
    return [Cell(op, target, dtype) for op in ops for target in transformed(eager)[:3] for dtype in op.dtypes]


@SLOW
@pytest.mark.parametrize("cell", _cells(), ids=lambda cell: cell.id)
def test_conformance_of_transformations(cell: Any) -> None:
    from logitx.testing import check

    report = check(cell)
    assert not report.failures, report.failures[:3]


def test_without_jit() -> None:
    """`jax.disable_jit`, the way to debug: primitives must not look for a jit to run in."""
    x, ids = jnp.asarray([[2.0, 1.0, 0.0]]), jnp.asarray([1])
    calls = (lx.softmax, lx.logsumexp, jax.grad(lambda x: lx.cross_entropy(x, ids)), lambda x: lx.softmax_vjp(x, x))
    right = [call(x) for call in calls]
    with jax.disable_jit():
        for call, one in zip(calls, right, strict=True):
            np.testing.assert_allclose(call(x), one, rtol=1e-6)


@pytest.mark.parametrize("use", uses("graph", all_examples=False), ids=lambda use: use.id)
def test_ranks_are_never_promoted(use: Use) -> None:
    """`jax_numpy_rank_promotion="raise"`, which some users set."""
    function, given = use.bound(Inputs.draw(7, 11), array)
    with jax.numpy_rank_promotion("raise"):
        found = function(*given)
        with lx.use_backend("generic"):
            formulas = function(*given)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(formulas), strict=True):
        close(one, other, rtol=1e-4, atol=1e-5)
