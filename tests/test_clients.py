"""Programs of other projects with our functions in place of theirs: the same digits.

`nox -s programs` installs all of them.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

import logitx as lx

RNG = np.random.default_rng(0)


def library(name):
    return pytest.importorskip(name, reason=f"{name} is not installed")


def test_a_graph_attention_layer_of_pytorch_geometric(monkeypatch):
    library("torch_geometric")
    import torch
    from torch_geometric.nn import GATConv
    from torch_geometric.nn.conv import gat_conv

    torch.manual_seed(0)
    layer = GATConv(8, 4, heads=2, dropout=0.0)
    x, edges = torch.randn(20, 8), torch.randint(0, 20, (2, 60))

    def run():
        features = x.clone().requires_grad_()
        found = layer(features, edges)
        return found, *torch.autograd.grad(found.square().sum(), (features, *layer.parameters()))

    theirs = run()
    calls = []

    def ours(src, index, ptr=None, num_nodes=None, dim=0):
        calls.append(src.shape)
        return lx.segment_softmax(src, dim, segment_ids=index, num_segments=num_nodes)

    monkeypatch.setattr(gat_conv, "softmax", ours)
    for one, other in zip(run(), theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert calls


def test_softmax_over_the_edges_of_jraph():
    jraph, jax = library("jraph"), library("jax")
    logits = jax.numpy.asarray(RNG.standard_normal(50).astype(np.float32) * 5)
    ids = jax.numpy.asarray(RNG.integers(0, 9, 50))
    weights = jax.numpy.arange(50.0)

    def total(softmax):
        return jax.jit(jax.value_and_grad(lambda x: (softmax(x) * weights).sum()))(logits)

    theirs = total(lambda x: jraph.segment_softmax(x, ids, num_segments=9))
    ours = total(lambda x: lx.segment_softmax(x, segment_ids=ids, num_segments=9))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("way", ["logsumexp", "log_matmul"])
def test_the_forward_pass_of_hmmlearn(way):
    library("hmmlearn")
    from hmmlearn import _hmmc

    start, transitions = RNG.dirichlet(np.ones(5)), RNG.dirichlet(np.ones(5), 5)
    frames = RNG.standard_normal((40, 5)) * 50
    log_prob, lattice = _hmmc.forward_log(start, transitions, frames)
    log_transitions, found = np.log(transitions), [np.log(start) + frames[0]]
    for frame in frames[1:]:
        if way == "logsumexp":
            step = lx.logsumexp(log_transitions, 0, log_b=found[-1][:, None])
        else:
            step = lx.log_matmul(found[-1], log_transitions)
        found.append(step + frame)
    np.testing.assert_allclose(found, lattice, rtol=1e-13)
    np.testing.assert_allclose(lx.logsumexp(found[-1]), log_prob, rtol=1e-13)


@pytest.mark.filterwarnings("default")
def test_free_energies_of_pymbar(monkeypatch):
    with monkeypatch.context() as imports:
        imports.setitem(sys.modules, "jax", None)  # pymbar takes SciPy where JAX is missing
        library("pymbar")
        from pymbar import MBAR, mbar_solvers

    centers = np.linspace(0, 3, 6)
    x = np.concatenate([RNG.normal(center, 1, 200) for center in centers])
    energies, counts = 0.5 * (x - centers[:, None]) ** 2, np.full(6, 200)

    def differences():
        return MBAR(energies, counts).compute_free_energy_differences()["Delta_f"]

    theirs, calls = differences(), []

    def ours(*args, **options):
        calls.append(1)
        return lx.logsumexp(*args, **options)

    monkeypatch.setattr(mbar_solvers, "logsumexp", ours)
    np.testing.assert_allclose(differences(), theirs, rtol=1e-9, atol=1e-9)
    assert calls


def test_nested_sampling_of_dynesty(monkeypatch):
    dynesty = library("dynesty")
    from dynesty import bounding, dynamicsampler, utils

    def evidence():
        sampler = dynesty.NestedSampler(
            lambda x: -0.5 * float(x @ x), lambda u: 10 * u - 5, 2, nlive=50, rstate=np.random.default_rng(0)
        )
        sampler.run_nested(print_progress=False)
        return sampler.results.logz

    theirs, calls = evidence(), []

    def ours(a, axis=None, **options):
        calls.append(1)
        return lx.logsumexp(a, axis, **options)

    for module in (bounding, dynamicsampler, utils):
        if hasattr(module, "logsumexp"):
            monkeypatch.setattr(module, "logsumexp", ours)
    np.testing.assert_allclose(evidence(), theirs, rtol=1e-12)
    assert calls


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sinkhorn_loop(dtype):
    special = library("scipy.special")
    cost = (-20 * RNG.random((60, 40))).astype(dtype)

    def plan(by_rows, by_columns):
        f, g = np.zeros(60, dtype), np.zeros(40, dtype)
        for _ in range(50):
            f = -by_rows(cost, g)
            g = -by_columns(cost, f)
        return cost + f[:, None] + g

    theirs = plan(lambda m, g: special.logsumexp(m + g, axis=1), lambda m, f: special.logsumexp(m + f[:, None], axis=0))
    ours = plan(lambda m, g: lx.logsumexp(m, 1, log_b=g), lambda m, f: lx.logsumexp(m, 0, log_b=f[:, None]))
    tolerance = 5e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
