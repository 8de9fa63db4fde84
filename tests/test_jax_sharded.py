"""JAX arrays on eight devices: what the compiled program calls and what it sends, and the results."""

from __future__ import annotations

import subprocess
import sys

import pytest

from logitx import testing

pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("numba", reason="numba is not installed")

CODE = """
import re, jax, numpy as np, logitx as lx
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
rng = np.random.default_rng(0)
x = rng.standard_normal((64, 320)).astype(np.float32) * 3 + 100
x[5, 7], x[6] = -np.inf, -np.inf
ids, w, v = rng.integers(0, 320, 64), rng.random(64).astype(np.float32), rng.random(320).astype(np.float32)
ids[3], ids[6] = -100, 4
keep = jax.numpy.asarray(rng.random((64, 320)) < 0.8)
FUNCTIONS = {
    "masked": (lambda x, i: lx.log_softmax(x, where=keep, temperature=2.0, empty="zero"), "normalize"),
    "weighted": (lambda x, i: lx.cross_entropy(x, i, class_weight=v, reduction="none"), "hard"),
    "weighted loss": (lambda x, i: lx.cross_entropy(x, i, z_loss=0.01, sample_weight=w, empty="zero"), "hard"),
    "gradient": (jax.value_and_grad(lambda x, i: lx.cross_entropy(x, i, z_loss=0.01, empty="zero")), "hard"),
    "softmax gradient": (jax.grad(lambda x, i: (lx.softmax(x, empty="zero") ** 2).sum()), "normalize, pull"),
    "masked gradient": (lambda x, i: lx.cross_entropy_value_and_grad(x, i, where=keep, empty="zero"), "hard"),
}
"""
CHECK = (
    CODE
    + """
from logitx.testing.examples import Inputs
from logitx.testing.ops import uses
float32 = lambda a: np.asarray(a, {"f": "float32", "i": "int32", "b": bool}[a.dtype.kind])
inputs = Inputs.draw(64, 320)._replace(x=x)
calls = [(use.id, *use.bound(inputs, float32), use.example.kernel.partition("_")[0]) for use in uses("shards", False)]
calls += [(name, function, (x, ids), kinds) for name, (function, kinds) in FUNCTIONS.items()]
rights = {}
for spec in {specs}:
    cut = len(spec) > 1 and spec[1] is not None
    axes = {64: spec[0], 320: spec[1] if cut else None}
    for name, function, given, kinds in calls:
        kinds = "" if name.startswith("entropy") else kinds  # on shards by the formulas, on each device its rows
        placed = [jax.device_put(a, NamedSharding(mesh, P(*(axes.get(n) for n in a.shape)))) for a in given]
        compiled = jax.jit(function).lower(*placed).compile()
        text = compiled.as_text()
        gathered = re.findall(r"= \\w+\\[([\\d,]*)\\]\\S* all-gather", text)
        assert max((np.prod([int(n) for n in one.split(",") if n]) for one in gathered), default=0) <= 64, (spec, name)
        called = set(re.findall('custom_call_target="logitx_([a-z]+)', text))
        merged = cut and kinds != ""
        if cut and kinds == "pull":
            assert called <= {"pull"}, (spec, name, called)  # statistics of no kernel, and sums that XLA sends
        else:
            own = called == set(kinds.split(", ")) - {""}
            assert "logitx_reduce_part" in text if merged else own, (spec, name, called)
        assert not cut or "gradient" not in name or "normalize" in called
        if name not in rights:
            with lx.use_backend("generic"):
                rights[name] = jax.tree.leaves(jax.jit(lambda *one: function(*one))(*given))
        for one, two in zip(jax.tree.leaves(compiled(*placed)), rights[name], strict=True):
            one, two = np.asarray(one), np.asarray(two)
            np.testing.assert_allclose(one, two, rtol=3e-5, atol=5e-7, err_msg=f"{spec} {name}")
"""
)
OTHERS = (
    CODE
    + """
uneven = jax.device_put(x[:, :318], NamedSharding(mesh, P(None, "b")))
found = jax.jit(lambda x: lx.softmax(x[:, 1:]))(uneven)  # 317 classes: two devices cannot share them evenly
np.testing.assert_allclose(np.asarray(found)[:6], np.asarray(jax.nn.softmax(x[:6, 1:318])), rtol=2e-5, atol=1e-9)
soft = jax.jit(lambda x: lx.cross_entropy(x, ids, label_smoothing=0.1, reduction="none"))(
    jax.device_put(x, NamedSharding(mesh, P("a", "b"))))
np.testing.assert_allclose(np.asarray(soft)[:3], lx.cross_entropy(x, ids, label_smoothing=0.1, reduction="none")[:3],
                           rtol=1e-5)
"""
)
MAPPED = (
    CODE
    + """
shard_map, jnp = jax.shard_map, jax.numpy

def merged(x):
    return lx.merge_logsumexp(lx.logsumexp(x), axis_name="b")

def of_vocabulary(x, ids):
    start = jax.lax.axis_index("b") * x.shape[1]
    here = (ids >= start) & (ids < start + x.shape[1])
    own = jnp.take_along_axis(x, jnp.where(here, ids - start, 0)[:, None], 1)[:, 0]
    return merged(x) - jax.lax.psum(jnp.where(here, own, 0.0), "b")

x[7, 3], x[8, 300], x[9, :200], ids[3] = np.nan, np.inf, -np.inf, 5
lse = jax.jit(shard_map(merged, mesh=mesh, in_specs=P("a", "b"), out_specs=P("a")))
text = lse.lower(x).compile().as_text()
assert "logitx_reduce" in text and "all-gather" not in text
np.testing.assert_allclose(np.asarray(lse(x)), np.asarray(lx.logsumexp(x)), rtol=1e-6)
each = jax.jit(shard_map(of_vocabulary, mesh=mesh, in_specs=(P("a", "b"), P("a")), out_specs=P("a")))
x, ids = x[10:58], ids[10:58]
losses, gradient = each(x, ids), jax.jit(jax.grad(lambda x: each(x, ids).sum()))(x)
np.testing.assert_allclose(np.asarray(losses), lx.cross_entropy(x, ids, reduction="none"), rtol=1e-4, atol=1e-4)
right = lx.cross_entropy_value_and_grad(x, ids, reduction="sum")[1]
np.testing.assert_allclose(np.asarray(gradient), right, rtol=1e-4, atol=1e-6)
h, W = x[:, :5] - 100, x[:5, 6:18] - 100
LOCAL = {  # of rows that lie on all devices, with weights that each has: their gradients are summed over devices
    "softmax": (lambda h, W, i: (lx.softmax(h @ W) ** 2).sum(), {"normalize", "pull"}),
    "log_softmax": (lambda h, W, i: lx.log_softmax(h @ W, temperature=9.0).sum(), {"normalize", "pull"}),
    "logsumexp": (lambda h, W, i: lx.logsumexp(h @ W).sum(), {"reduce", "normalize"}),
    "loss": (lambda h, W, i: lx.cross_entropy(h @ W, i, class_weight=v[:12], reduction="sum"), {"hard"}),
    "smoothed": (lambda h, W, i: lx.cross_entropy(h @ W, i, label_smoothing=0.1, reduction="sum"), {"soft"}),
    "linear": (lambda h, W, i: lx.linear_cross_entropy(h, W.T, i, reduction="sum"), {"hard"}),
    "blocks": (lambda h, W, i: lx.linear_cross_entropy(h, W.T, i, reduction="sum", block_bytes=96), {"hard"}),
}
h, W, ids = jnp.asarray(h), jnp.asarray(W), jnp.asarray(ids % 12)
for name, (function, kinds) in LOCAL.items():
    whole = lambda h, W, i, f=function: jax.lax.psum(f(h, W, i), ("a", "b"))
    mapped = shard_map(whole, mesh=mesh, in_specs=(P(("a", "b")), P(), P(("a", "b"))), out_specs=P())
    both = jax.jit(jax.value_and_grad(mapped, argnums=(0, 1)))
    assert set(re.findall('target="logitx_([a-z]+)', both.lower(h, W, ids).compile().as_text())) == kinds, name
    right = jax.value_and_grad(function, argnums=(0, 1))(h, W, ids)
    for one, two in zip(jax.tree.leaves(both(h, W, ids)), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(two), rtol=1e-3, atol=1e-4, err_msg=name)
"""
)
CONFORM = """
from logitx.testing import OPS, TARGETS, cells, check
from logitx.testing.targets.jax import transformed
eager = next(target for target in TARGETS if target.name == "jax-eager")
chosen = [target for target in transformed(eager) if target.name == "jax-sharded"]
chosen = [cell for cell in cells(chosen) if cell.op.name == {op!r} and cell.dtype in {dtypes}]
assert chosen
for cell in chosen:
    report = check(cell)
    assert not report.failures, (cell.id, report.failures[:3])
"""


def run(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_kernels_run_on_shards_and_no_logits_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    run(CHECK.replace("{specs}", '(P("a"), P(None, "b"))'), monkeypatch)


@pytest.mark.slow
def test_shards_along_both_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    run(CHECK.replace("{specs}", '(P("a", "b"), P(None, ("a", "b")), P("b", "a"))'), monkeypatch)


def test_uneven_shards_and_soft_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    run(OTHERS, monkeypatch)


def test_shard_map_and_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    run(MAPPED, monkeypatch)


SLOW = pytest.mark.slow
CELLS = [
    pytest.param("cross_entropy", ("float64",), id="cross_entropy-float64"),  # 64 bits by a context, not for all
    *(pytest.param(op.name, op.dtypes, marks=SLOW, id=op.name) for op in testing.OPS),
]


@pytest.mark.parametrize(("op", "dtypes"), CELLS)
def test_conformance_on_shards(op: str, dtypes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    run(CONFORM.format(op=op, dtypes=dtypes), monkeypatch)
