"""JAX arrays on eight devices: what the compiled program calls and what it sends, and the results."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
    "softmax": (lambda x, i: lx.softmax(x), {"normalize"}),
    "log_softmax": (lambda x, i: lx.log_softmax(x, where=keep, temperature=2.0, empty="zero"), {"normalize"}),
    "logsumexp": (lambda x, i: lx.logsumexp(x), {"reduce"}),
    "loss": (lambda x, i: lx.cross_entropy(x, i, z_loss=0.01, sample_weight=w, empty="zero"), {"hard"}),
    "weighted": (lambda x, i: lx.cross_entropy(x, i, class_weight=v, reduction="none"), {"hard"}),
    "gradient": (jax.value_and_grad(lambda x, i: lx.cross_entropy(x, i, z_loss=0.01, empty="zero")), {"hard"}),
    "masked gradient": (lambda x, i: lx.cross_entropy_value_and_grad(x, i, where=keep, empty="zero"), {"hard"}),
}
"""
CHECK = (
    CODE
    + """
for spec in {specs}:
    X, I = jax.device_put(x, NamedSharding(mesh, spec)), jax.device_put(ids, NamedSharding(mesh, P(spec[0])))
    cut = len(spec) > 1 and spec[1] is not None
    for name, (function, kinds) in FUNCTIONS.items():
        compiled = jax.jit(function).lower(X, I).compile()
        text = compiled.as_text()
        gathered = re.findall(r"= \\w+\\[([\\d,]*)\\]\\S* all-gather", text)
        assert max((np.prod([int(n) for n in one.split(",") if n]) for one in gathered), default=0) <= 64, (spec, name)
        called = set(re.findall('custom_call_target="logitx_([a-z]+)', text))
        assert called == kinds if not cut else "partial" in called, (spec, name, called)
        assert not cut or "gradient" not in name or "normalize" in called
        with lx.use_backend("generic"):
            right = jax.jit(lambda *one: function(*one))(x, ids)
        for one, two in zip(jax.tree.leaves(compiled(X, I)), jax.tree.leaves(right), strict=True):
            np.testing.assert_allclose(np.asarray(one), np.asarray(two), rtol=3e-5, atol=1e-7, err_msg=f"{spec} {name}")
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

def per_shard(x):
    parts = jax.lax.all_gather(lx.logsumexp(x), "b")
    return lx.merge_logsumexp(parts[0], parts[1])

shard_map = jax.shard_map if hasattr(jax, "shard_map") else jax.experimental.shard_map.shard_map
merged = jax.jit(shard_map(per_shard, mesh=mesh, in_specs=P("a", "b"), out_specs=P("a"), check_vma=False))
assert "logitx_reduce" in merged.lower(x).compile().as_text()
np.testing.assert_allclose(np.asarray(merged(x)), np.asarray(lx.logsumexp(x)), rtol=1e-6)
local = jax.jit(shard_map(lambda x: lx.softmax(x), mesh=mesh, in_specs=P("a"), out_specs=P("a")))
assert "logitx_normalize" in local.lower(x).compile().as_text()
np.testing.assert_allclose(np.asarray(local(x))[:6], np.asarray(jax.nn.softmax(x[:6])), rtol=2e-5, atol=1e-9)
"""
)


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


def test_uneven_shards_soft_labels_and_shard_map(monkeypatch: pytest.MonkeyPatch) -> None:
    run(OTHERS, monkeypatch)
