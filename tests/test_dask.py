"""Lazy arrays of Dask: nothing is computed early, chunks stay, graphs stay small, and clusters may lose a worker."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import time
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import TARGETS, cells, check

da = pytest.importorskip("dask.array", reason="dask is not installed")
import dask  # noqa: E402

RNG = np.random.default_rng(8)
X = RNG.normal(size=(24, 30)).astype(np.float32)
IDS = RNG.integers(0, 30, 24)
WEIGHT = RNG.random(30)
CHUNKS = [(5, 30), (24, 7), (5, 7), (24, 1)]
CALLS = {
    "softmax": lambda x: lx.softmax(x, temperature=0.5),
    "log_softmax": lx.log_softmax,
    "logsumexp": lambda x: lx.logsumexp(x, axis=-1, keepdims=True),
    "cross_entropy": lambda x: lx.cross_entropy(x, IDS, class_weight=WEIGHT, label_smoothing=0.1),
    "cross_entropy_value_and_grad": lambda x: lx.cross_entropy_value_and_grad(x, IDS, class_weight=WEIGHT),
    "cross_entropy_grad_hess": lambda x: lx.cross_entropy_grad_hess(x, IDS),
    "linear_cross_entropy": lambda x: lx.linear_cross_entropy(x[:, :4], x.T[:, :4], IDS),
    "linear_cross_entropy_value_and_grad": lambda x: flat(
        lx.linear_cross_entropy_value_and_grad(x[:, :4], x.T[:, :4], IDS)
    ),
    "softmax_vjp": lambda x: lx.softmax_vjp(x, X),
    "log_softmax_vjp": lambda x: lx.log_softmax_vjp(x, X),
    "merge_logsumexp": lambda x: lx.merge_logsumexp(x, x + 1),
}


def flat(result: Any) -> tuple[Any, ...]:
    loss, (dhidden, dweight, _) = result
    return loss, dhidden, dweight


def several(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_results_are_lazy_and_keep_dtype_and_chunks(name, chunks):
    def computed_too_early(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed")

    x = da.from_array(X, chunks=chunks)
    with dask.config.set(scheduler=computed_too_early):
        found = several(CALLS[name](x))
    for one, right in zip(found, several(CALLS[name](X)), strict=True):
        assert isinstance(one, da.Array)
        assert isinstance(one._meta, np.ndarray)
        assert (one.dtype, one.shape) == (right.dtype, right.shape)
        if one.shape == x.shape:
            assert one.chunks == x.chunks
        np.testing.assert_allclose(one.compute(), right, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("way", ["rows", "classes"])
def test_graphs_grow_linearly_and_hold_no_data(name, way):
    """The tasks for twice the chunks are at most twice as many and a few, and small: what is large is not in them."""
    counts = []
    for blocks in (16, 32):
        shape, cut = ((32, 32), (32 // blocks, 32)) if way == "rows" else ((32, 32), (32, 32 // blocks))
        x = da.zeros(shape, chunks=cut, dtype=np.float32)
        found = several(_call_lazily(name, x))
        graph = dask.base.collections_to_expr(found).optimize().__dask_graph__()
        counts.append(len(graph))
        assert max(len(pickle.dumps(task)) for task in graph.values()) < 10_000
    assert counts[1] <= 2 * counts[0] + 12


def _call_lazily(name: str, x: Any) -> Any:
    ids = da.zeros(x.shape[0], chunks=(x.chunks[0],), dtype=np.int64)
    if name.startswith("linear"):
        weight = da.zeros((x.shape[1], 3), chunks=(x.chunks[1], 3))
        hidden = da.zeros((x.shape[0], 3), chunks=(x.chunks[0], 3))
        result = getattr(lx, name)(hidden, weight, ids)
        return flat(result) if isinstance(result, tuple) else (result,)
    if name.startswith("cross"):
        return getattr(lx, name)(x, ids, class_weight=da.ones(x.shape[1], chunks=(x.chunks[1],)))
    return getattr(lx, name)(x, x) if name.endswith("vjp") or name.startswith("merge") else getattr(lx, name)(x)


def test_logits_with_cut_classes_are_never_cut_anew():
    x = da.from_array(X, chunks=(6, 5))
    ids = da.from_array(IDS, chunks=24)
    loss, gradient = lx.cross_entropy_value_and_grad(x, ids)
    layers = {name: layer for name, layer in loss.dask.layers.items() if "rechunk" in name}
    assert all(str(x.name) not in loss.dask.dependencies[name] for name in layers)
    assert gradient.chunks == x.chunks


@pytest.mark.parametrize("chunks", [(5, 30), (5, 7)], ids=str)
def test_labels_out_of_range_raise_when_computed(chunks):
    ids = IDS.copy()
    ids[17] = 30
    message = (
        r"^targets: class id 30 at position \(17,\) is out of range; allowed are 0 to 29 \(ignore_index is -100\)$"
    )
    with pytest.raises(ValueError, match=message):
        lx.cross_entropy(X, ids)
    loss, gradient = lx.cross_entropy_value_and_grad(da.from_array(X, chunks=chunks), ids)
    for lazy in (loss, gradient, lx.cross_entropy(da.from_array(X, chunks=chunks), ids, reduction="none")):
        with pytest.raises(ValueError, match=message):
            lazy.compute()


@pytest.mark.parametrize("chunks", [(5, 30), (5, 7)], ids=str)
@pytest.mark.parametrize(
    ("name", "value"), [("label_smoothing", 1.5), ("temperature", 0.0), ("softcap", -1.0), ("z_loss", np.inf)]
)
def test_numbers_out_of_range_raise_when_computed(chunks, name, value):
    loss, gradient = lx.cross_entropy_value_and_grad(da.from_array(X, chunks=chunks), IDS, **{name: da.asarray(value)})
    for lazy in (loss, gradient):
        with pytest.raises(ValueError, match=rf"^{name}: {value} is not allowed; allowed are "):
            lazy.compute()


def test_a_chunk_costs_a_task_to_reduce_and_one_to_finish():
    """Beside these: a merge for every chunk of rows, the denominator of the mean, and the mean."""
    with dask.config.set(scheduler="threads"):
        x, ids = dask.persist(da.from_array(X, chunks=(6, 10)), da.from_array(IDS, chunks=6))
    data = x.npartitions + ids.npartitions
    for call, most in (
        (lx.softmax, 12 + 4 + 12),
        (lx.logsumexp, 12 + 4),
        (lambda x: lx.cross_entropy(x, ids), 12 + 4 + 1),
        (lambda x: lx.cross_entropy_value_and_grad(x, ids)[1], 12 + 4 + 12 + 4 + 1),
    ):
        graph = dask.base.collections_to_expr([call(x)]).optimize().__dask_graph__()
        assert len(graph) <= data + most


def test_many_rows_and_chunks_of_no_class():
    x, ids = RNG.normal(size=(20_000, 5)).astype(np.float32), RNG.integers(0, 5, 20_000)
    lazy = da.from_array(x, chunks=((20_000,), (0, 2, 2, 1)))
    assert lazy.chunks[1] == (0, 2, 2, 1)
    for options in ({"ignore_index": 3}, {"label_smoothing": 0.1, "class_weight": np.arange(5.0)}):
        found = lx.cross_entropy_value_and_grad(lazy, da.from_array(ids, chunks=20_000), return_parts=True, **options)
        right = lx.cross_entropy_value_and_grad(x, ids, return_parts=True, **options)
        for one, other in zip((*found[:2], *found[2]), (*right[:2], *right[2]), strict=True):
            np.testing.assert_allclose(one.compute(), other, rtol=2e-5, atol=1e-9)


def test_unknown_lengths_of_chunks():
    keep = RNG.random(24) > 0.3
    x, ids = da.from_array(X, chunks=(5, 30)), da.from_array(IDS, chunks=5)
    kept, kept_ids = x[da.from_array(keep, chunks=5)], ids[da.from_array(keep, chunks=5)]
    assert np.isnan(kept.shape[0])
    np.testing.assert_allclose(lx.softmax(kept).compute(), lx.softmax(X[keep]), rtol=1e-6)
    loss, gradient = lx.cross_entropy_value_and_grad(kept, kept_ids, label_smoothing=0.1)
    right, dright = lx.cross_entropy_value_and_grad(X[keep], IDS[keep], label_smoothing=0.1)
    np.testing.assert_allclose(loss.compute(), right, rtol=1e-6)
    np.testing.assert_allclose(gradient.compute(), dright, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(lx.logsumexp(kept.rechunk({1: 7})).compute(), lx.logsumexp(X[keep]), rtol=1e-6)
    with pytest.raises(ValueError, match="^targets: 3 chunks along dimension 0 of the logits do not go with their 5"):
        lx.cross_entropy(kept, ids.rechunk(8)[da.from_array(keep, chunks=8)])
    with pytest.raises(ValueError, match=r"^x: shape .* not known; .* compute_chunk_sizes\(\)"):
        lx.softmax(kept, axis=0)
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        lx.cross_entropy(kept.T, kept_ids)


def test_several_class_axes_are_not_folded():
    x = RNG.normal(size=(4, 6, 5))
    lazy = da.from_array(x, chunks=(3, 2, 2))
    ids = RNG.integers(0, 20, 6)
    found = lx.softmax(lazy, axis=(2, 0))
    assert found.chunks == lazy.chunks
    np.testing.assert_allclose(found.compute(), lx.softmax(x, axis=(2, 0)), rtol=1e-12)
    weight = RNG.random(20)
    for one, right in zip(
        lx.cross_entropy_value_and_grad(lazy, ids, axis=(2, 0), class_weight=weight, label_smoothing=0.2),
        lx.cross_entropy_value_and_grad(x, ids, axis=(2, 0), class_weight=weight, label_smoothing=0.2),
        strict=True,
    ):
        np.testing.assert_allclose(one.compute(), right, rtol=1e-12, atol=1e-15)


def test_other_libraries_are_the_blocks_own_and_sparse_is_refused(monkeypatch):
    assert lx.which("softmax", da.zeros((2, 2))).backend == "dask"
    with lx.use_backend("dask"):
        for chunks in ((2, 2), (1, 1)):
            np.testing.assert_allclose(lx.softmax(da.zeros((2, 2), chunks=chunks)).compute(), 0.5)
    monkeypatch.setattr("array_api_compat.is_pydata_sparse_array", lambda x: True)
    with pytest.raises(TypeError, match="^softmax: no backend can run this call .*blocks of ndarray are not allowed"):
        lx.softmax(da.zeros((2, 2)))


def test_linear_layers_cut_by_rows_and_classes():
    hidden, weight, bias = RNG.normal(size=(2, 9, 4)), RNG.normal(size=(30, 4)), RNG.normal(size=30)
    ids = RNG.integers(0, 30, (2, 9))
    options = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 5.0, "sample_weight": RNG.random(9)}
    right, others = lx.linear_cross_entropy_value_and_grad(hidden, weight, ids, bias, **options)
    for cut in (30, 11, 1):
        lazy = (da.from_array(hidden, chunks=(1, 4, 2)), da.from_array(weight, chunks=(cut, 3)), ids)
        found, gradients = lx.linear_cross_entropy_value_and_grad(*lazy, da.from_array(bias, chunks=7), **options)
        for a, b in zip((found, *gradients), (right, *others), strict=True):
            assert (a.shape, a.dtype) == (np.shape(b), b.dtype)
            np.testing.assert_allclose(a.compute(), b, rtol=1e-10, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("cell", cells([one for one in TARGETS if one.name.startswith("dask")]), ids=lambda one: one.id)
def test_every_case(cell):
    everything = dataclasses.replace(cell.target, share=(0, 1), fits=lambda case: True)
    assert not check(cell._replace(target=everything)).failures


# -- clusters ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """Two processes, of one thread each."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    with (
        dask.config.set({"distributed.admin.log-format": "%(message)s"}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what a cluster says of a worker that was killed
def test_processes_of_a_cluster_one_of_which_is_killed(cluster):
    def slowly(block: Any) -> Any:
        time.sleep(0.1)
        return block

    large = RNG.normal(size=(400, 60)).astype(np.float32)
    ids = RNG.integers(0, 60, 400)
    x = da.from_array(large, chunks=(20, 25)).map_blocks(slowly, dtype=np.float32)
    with dask.config.set(scheduler=cluster):
        futures = cluster.compute(list(lx.cross_entropy_value_and_grad(x, da.from_array(ids, chunks=20))))
        time.sleep(1.5)
        assert [future.status for future in futures] == ["pending"] * 2
        os.kill(next(iter(cluster.run(os.getpid).values())), signal.SIGKILL)
        loss, gradient = cluster.gather(futures)
        with pytest.raises(ValueError, match=r"^targets: class id 99 at position \(399,\) is out of range"):
            lx.cross_entropy(da.from_array(large, chunks=20), np.r_[ids[:-1], 99]).compute()
    right, dright = lx.cross_entropy_value_and_grad(large, ids)
    np.testing.assert_allclose(loss, right, rtol=1e-6)
    np.testing.assert_allclose(gradient, dright, rtol=1e-5, atol=1e-9)
