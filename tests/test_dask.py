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
from logitx.testing.examples import Inputs, flat
from logitx.testing.ops import uses

da = pytest.importorskip("dask.array", reason="dask is not installed")
import dask  # noqa: E402

RNG = np.random.default_rng(8)
X = RNG.normal(size=(24, 30)).astype(np.float32)
IDS = RNG.integers(0, 30, 24)
CHUNKS = [(5, 30), (24, 7), (5, 7), (24, 1)]


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def lazily(call, cut, make):
    """Return the arguments of a call, with Dask arrays of `make` in chunks that depend on the length of an axis."""

    def made(one):
        return make(one, tuple(cut.get(n, n) for n in one.shape)) if isinstance(one, np.ndarray) else one

    return tuple(map(made, call[0])), {name: made(one) for name, one in call[1].items()}


def floats(one, chunks):
    """Leave arrays of other dtypes, as people often do: class ids and masks."""
    return da.from_array(one, chunks=chunks) if one.dtype.kind == "f" else one


def empty(one, chunks):
    """Make arrays that take no place in a graph."""
    return da.zeros(one.shape, chunks=chunks, dtype=one.dtype)


ROWS, CLASSES = X.shape
USES = pytest.mark.parametrize("use", uses("lazy"), ids=lambda use: use.id)
FIRST = pytest.mark.parametrize("use", uses("lazy", all_examples=False), ids=lambda use: use.id)


@USES
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_results_are_lazy_and_keep_dtype_and_chunks(use, chunks):
    def computed_too_early(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed")

    function, call = getattr(lx, use.op.name), use.example.call(narrow(Inputs.draw(ROWS, CLASSES)))
    args, options = lazily(call, dict(zip((ROWS, CLASSES), chunks, strict=True)), floats)
    with dask.config.set(scheduler=computed_too_early):
        found = flat(function(*args, **options))
    for one, right in zip(found, flat(function(*call[0], **call[1])), strict=True):
        assert isinstance(one, da.Array)
        assert isinstance(one._meta, np.ndarray)
        assert (one.dtype, one.shape) == (right.dtype, right.shape)
        if one.shape == args[0].shape:
            assert one.chunks == args[0].chunks
        np.testing.assert_allclose(one.compute(), right, rtol=2e-5, atol=2e-6)


def narrow(inputs):
    """Return float32 arrays for those of float64."""
    return Inputs(*(one.astype(np.float32) if one.dtype.kind == "f" else one for one in inputs))


@FIRST
@pytest.mark.parametrize("way", ["rows", "classes"])
def test_graphs_grow_linearly_and_hold_no_data(use, way):
    """The tasks for twice the chunks are at most twice as many and a few, and small: what is large is not in them."""
    counts, (rows, classes) = [], (32, 64)
    for blocks in (16, 32):
        cut = {rows: rows // blocks, classes: classes} if way == "rows" else {rows: rows, classes: classes // blocks}
        args, options = lazily(use.example.call(narrow(Inputs.draw(rows, classes))), cut, empty)
        found = tuple(flat(getattr(lx, use.op.name)(*args, **options)))
        graph = dask.base.collections_to_expr(found).optimize().__dask_graph__()
        counts.append(len(graph))
        assert max(len(pickle.dumps(task)) for task in graph.values()) < 10_000
    assert counts[1] <= 2 * counts[0] + 12


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
