"""Data that comes in pieces and files larger than memory: the same results, in bounded memory."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx._arrays import memory_maps
from logitx.backends import memory_maps as backend

RNG = np.random.default_rng(9)
X = RNG.normal(size=(61, 17)).astype(np.float32) * 3
IDS = RNG.integers(0, 17, 61)
IDS[::7] = -100
SOFT = RNG.dirichlet(np.ones(17), 61)
WEIGHT, SAMPLE = RNG.random(17), RNG.integers(0, 3, 61) / 2
OPTIONS = {"class_weight": WEIGHT, "label_smoothing": 0.1, "z_loss": 0.01, "softcap": 9.0, "temperature": 1.5}


def mapped(path: Path, array: Any, mode: str = "r") -> Any:
    array.tofile(path)
    return np.memmap(path, array.dtype, mode, shape=array.shape)


# -- CrossEntropy -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [IDS, SOFT], ids=["hard", "soft"])
def test_any_split_and_order_gives_what_all_at_once_gives(targets):
    ignore = -100 if targets is IDS else None
    whole = lx.cross_entropy(X, targets, sample_weight=SAMPLE, ignore_index=ignore, dtype="float64", **OPTIONS)
    results = []
    for sizes in ([61], [1] * 61, [5, 0, 50, 6]):
        stops = np.cumsum(sizes)
        pieces = [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]
        for order in (pieces, pieces[::-1]):
            total = lx.CrossEntropy(ignore_index=ignore, top_k=3, **OPTIONS)
            for piece in order:
                part = lx.CrossEntropy(ignore_index=ignore, top_k=3, **OPTIONS)
                part.update(X[piece], targets[piece], sample_weight=SAMPLE[piece])
                total.merge(pickle.loads(pickle.dumps(part)))
            results.append(total.result())
    assert math.isclose(results[0].loss, whole, rel_tol=1e-6)
    assert math.isclose(results[0].perplexity, math.exp(results[0].loss))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-14)
        assert result.count == results[0].count


def test_accuracies_are_those_of_sorting():
    x = np.round(X)  # ties: of equal logits the first is the higher
    counts = SAMPLE * (IDS != -100)
    order = np.argsort(-x, axis=1, kind="stable")
    for k in (1, 3, 17, 99):
        result = lx.CrossEntropy(top_k=k).update(x, IDS, sample_weight=SAMPLE).result()
        near = (order[:, :k] == IDS[:, None]).any(axis=1)
        assert math.isclose(result.top_k_accuracy, (counts * near).sum() / counts.sum())
        assert math.isclose(result.accuracy, (counts * (order[:, 0] == IDS)).sum() / counts.sum())
    assert result.count == np.count_nonzero(counts)


def test_masks_axes_and_what_counts():
    where = RNG.random(X.shape) > 0.3
    where[np.arange(61), np.maximum(IDS, 0)] = True
    where[3] = False
    result = lx.CrossEntropy().update(X, IDS, where=where).result()
    assert math.isclose(result.loss, lx.cross_entropy(X, IDS, where=where), rel_tol=1e-6)
    best = np.where(where, X, -np.inf).argmax(axis=1)
    counted = (IDS != -100) & where.any(axis=1)
    assert math.isclose(result.accuracy, (best == IDS)[counted].mean())
    assert result.count == counted.sum()
    turned = lx.CrossEntropy(axis=0).update(X.T, IDS).result()
    assert turned == lx.CrossEntropy().update(X, IDS).result()
    cube = RNG.normal(size=(3, 6, 4))
    ids = RNG.integers(0, 12, 6)
    folded = np.moveaxis(cube, 1, 0).transpose(0, 2, 1).reshape(6, 12)
    assert lx.CrossEntropy(axis=(2, 0)).update(cube, ids).result().accuracy == (folded.argmax(1) == ids).mean()


def test_rounding_is_kept_and_infinities_do_not_spoil_it():
    many = lx.CrossEntropy()
    logits = np.array([[1e16, 0.0], [0.0, 0.0]])
    many.update(logits[:1], [1])  # a loss of 1e16, beside which 0.69 vanishes in float64
    for _ in range(1000):
        many.update(logits[1:], [0])
    assert many.result().loss * 1001 == pytest.approx(1e16 + 1000 * math.log(2), abs=2.0)
    assert many._loss.low + (many._loss.high - 1e16) == pytest.approx(1000 * math.log(2), rel=1e-12)
    infinite = lx.CrossEntropy().update(np.array([[0.0, -np.inf]]), [1])
    assert infinite.update(logits[1:], [0]).result().loss == math.inf
    assert infinite.result().perplexity == math.inf


def test_nothing_so_far_and_errors():
    assert math.isnan(lx.CrossEntropy().result().loss)
    assert lx.CrossEntropy(empty="zero").update(X, np.full(61, -100)).result() == (0.0, 1.0, 0.0, 0, None)
    before = lx.CrossEntropy().update(X, IDS)
    kept = before.result()
    with pytest.raises(ValueError, match=r"^targets: class id 17 at position \(60,\) is out of range"):
        before.update(X, np.r_[IDS[:-1], 17])
    with pytest.raises(ValueError, match="^other: has another class_weight, top_k; allowed are the same options"):
        before.merge(lx.CrossEntropy(class_weight=WEIGHT, top_k=3))
    with pytest.raises(TypeError, match="^other: int is not allowed"):
        before.merge(1)
    with pytest.raises(ValueError, match="^top_k: 0 is not allowed; allowed are integers of 1 or more"):
        lx.CrossEntropy(top_k=0)
    with pytest.raises(ValueError, match="^empty: 'none' is not allowed"):
        lx.CrossEntropy(empty="none")
    assert before.result() == kept


@pytest.mark.parametrize("library", ["jax.numpy", "torch", "array_api_strict", "dask.array", "pandas", "xarray"])
def test_every_array_type(library):
    xp = pytest.importorskip(library, reason=f"{library} is not installed")
    made = {
        "dask.array": lambda a: xp.from_array(a, chunks=10),
        "pandas": lambda a: xp.DataFrame(a) if a.ndim == 2 else xp.Series(a),
        "xarray": lambda a: xp.DataArray(a, dims=("row", "class")[: a.ndim]),
    }.get(library, lambda a: xp.asarray(a))
    right = lx.CrossEntropy(label_smoothing=0.1, top_k=4).update(X, IDS, sample_weight=SAMPLE).result()
    whole = lx.CrossEntropy(label_smoothing=0.1, top_k=4).update(made(X), made(IDS), sample_weight=made(SAMPLE))
    fed = lx.CrossEntropy(label_smoothing=0.1, top_k=4).feed(
        made(X), made(IDS), sample_weight=made(SAMPLE), block_bytes=2000
    )
    for result in (whole.result(), fed.result()):
        np.testing.assert_allclose(result, right, rtol=3e-6)
        assert result.count == right.count


# -- feed -------------------------------------------------------------------------------------------------------------


class Sliced:
    """What has a shape, a dtype and slices, and no more."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype, self.largest = array, array.shape, array.dtype, 0

    def __getitem__(self, piece: slice) -> Any:
        self.largest = max(self.largest, self.array[piece].nbytes)
        return self.array[piece]


@pytest.mark.parametrize("block_bytes", [1, 1000, 1 << 20])
def test_feed_reads_blocks(block_bytes, tmp_path):
    right = lx.CrossEntropy(top_k=3).update(X, IDS).result()
    source = Sliced(X)
    assert lx.CrossEntropy(top_k=3).feed(source, IDS, block_bytes=block_bytes).result() == pytest.approx(
        right, rel=1e-12
    )
    assert source.largest <= max(block_bytes, X[0].nbytes)
    files_ = mapped(tmp_path / "x", X), mapped(tmp_path / "t", IDS)
    assert lx.CrossEntropy(top_k=3).feed(*files_, block_bytes=block_bytes).result() == pytest.approx(right, rel=1e-12)
    assert lx.CrossEntropy(top_k=3).feed(X, list(IDS), block_bytes=block_bytes).result() == pytest.approx(
        right, rel=1e-12
    )


def test_feed_says_what_is_wrong(tmp_path):
    total = lx.CrossEntropy()
    with pytest.raises(ValueError, match="^targets: 60 rows are not allowed; allowed are as many as of logits, 61"):
        total.feed(X, IDS[1:])
    with pytest.raises(ValueError, match="^axis: 0 of shape .* is the first; allowed are rows along the first axis"):
        lx.CrossEntropy(axis=0).feed(X, IDS)
    with pytest.raises(TypeError, match="^source: generator is not allowed; allowed is what has a shape and slices"):
        total.feed((x for x in X), IDS)
    ids = IDS.copy()
    ids[50] = 99
    for source in (X, mapped(tmp_path / "x", X)):
        with pytest.raises(ValueError, match=r"^targets: class id 99 at position \(50,\) is out of range"):
            lx.CrossEntropy().feed(source, ids, block_bytes=500)


def test_progress_is_shown(capsys):
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    lx.CrossEntropy().feed(X, IDS, progress=True, block_bytes=500)
    shown = capsys.readouterr().err
    assert "61.0/61.0" in shown
    assert "row/s" in shown


# -- memory maps ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(backend, "LARGE_CALL", 0)
    monkeypatch.setattr(memory_maps, "BLOCK", 500)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_memory_maps_give_what_memory_gives(reduction, tmp_path):
    x, ids = mapped(tmp_path / "x", X), mapped(tmp_path / "t", IDS)
    assert lx.which("cross_entropy", x, ids).backend == "memory_maps"
    options = {**OPTIONS, "reduction": reduction, "sample_weight": SAMPLE, "where": WEIGHT > 0.2}
    options["temperature"] = SAMPLE[:, None] + 1
    loss, parts = lx.cross_entropy(x, ids, return_parts=True, **options)
    right, others = lx.cross_entropy(X, IDS, return_parts=True, **options)
    assert type(loss) is type(right)
    np.testing.assert_allclose(loss, right, rtol=1e-6)
    np.testing.assert_allclose(parts.z_loss, others.z_loss, rtol=1e-6)
    np.testing.assert_array_equal(parts.log_normalizer, others.log_normalizer)
    np.testing.assert_array_equal(lx.logsumexp(x), lx.logsumexp(X))
    np.testing.assert_array_equal(lx.softmax(x), lx.softmax(X))
    bad = IDS.copy()
    bad[50] = 17
    with pytest.raises(ValueError, match=r"^targets: class id 17 at position \(50,\) is out of range"):
        lx.cross_entropy(x, bad, reduction=reduction)


@pytest.mark.usefixtures("small_blocks")
def test_softmax_writes_to_memory_maps(tmp_path):
    out = np.memmap(tmp_path / "p", np.float32, "w+", shape=X.shape)
    x = mapped(tmp_path / "x", X)
    assert lx.softmax(x, out=out) is out
    np.testing.assert_array_equal(np.fromfile(tmp_path / "p", np.float32).reshape(X.shape), lx.softmax(X))
    lx.log_softmax(X, out=out)  # an array in memory, a result that may be larger
    np.testing.assert_array_equal(out, lx.log_softmax(X))
    own = mapped(tmp_path / "own", X, "r+")
    lx.softmax(own, out=own)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "own", np.float32).reshape(X.shape), lx.softmax(X))


@pytest.mark.usefixtures("small_blocks")
def test_only_pages_of_files_are_given_back(tmp_path):
    """What is computed from a memory map has its type, but not its pages; a copy-on-write map has changes."""
    x = mapped(tmp_path / "x", X, "c")
    x[5] = 7.0
    assert not memory_maps.is_mapped(x)
    assert "copied on write" in str(lx.which("logsumexp", x).declined)
    np.testing.assert_allclose(lx.logsumexp(x)[5], 7 + math.log(17), rtol=1e-6)
    lx.CrossEntropy().feed(x, IDS, block_bytes=100)
    assert (x[5] == 7.0).all()
    computed = mapped(tmp_path / "y", X).copy()
    assert type(computed) is np.memmap
    assert not memory_maps.is_mapped(computed)
    np.testing.assert_array_equal(lx.softmax(computed), lx.softmax(X))
    assert lx.which("softmax", mapped(tmp_path / "z", X), axis=0).backend == "numba"


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read as Linux says it")
def test_memory_stays_bounded(tmp_path):
    """600 MB of logits, a sparse file, in 200 MB more than the library takes itself."""
    code = """
import resource, sys
import numpy as np
import logitx as lx
rows = 150_000
x = np.memmap(sys.argv[1], np.float32, "w+", shape=(rows, 1000))
ids = np.zeros(rows, np.int64)
lx.cross_entropy(np.zeros((500, 1000), np.float32), ids[:500]); lx.logsumexp(np.zeros((500, 1000), np.float32))
lx.CrossEntropy().update(np.zeros((500, 1000), np.float32), ids[:500])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert abs(lx.cross_entropy(x, ids) - np.log(1000)) < 1e-5
assert abs(lx.CrossEntropy().feed(x, ids).result().loss - np.log(1000)) < 1e-5
assert abs(lx.logsumexp(x)[-1] - np.log(1000)) < 1e-5
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert int(ran.stdout) < 200_000


def test_copies_have_sums_of_their_own():
    one = lx.CrossEntropy().update(np.zeros((3, 4)), [0, 0, 0])
    before, other = one.result(), copy.copy(one)
    other.update(np.eye(4)[:3] * 50, [1, 2, 3])
    assert one.result() == before
    assert other.result().count == 6
