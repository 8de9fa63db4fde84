"""Calibration, temperature scaling and confidence: beside their definitions, in pieces, and drawn."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx._evaluate import main
from logitx.calibration import Calibration, confidence, fit_temperature, reliability_diagram

RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(4000, 5)) * 1.5
LABELS = (TRUE + RNG.gumbel(size=TRUE.shape)).argmax(axis=1)  # drawn from the probabilities of these logits
X = (2.5 * TRUE).astype(np.float32)  # too sure by this factor
WEIGHT = RNG.integers(0, 5, 4000) / 4


def by_hand(x: Any, labels: Any, bins: int, weight: Any) -> tuple[float, float]:
    p = lx.softmax(x.astype(float))
    c, hit = p.max(axis=1), p.argmax(axis=1) == labels
    error = 0.0
    for b in range(bins):
        inside = (c > b / bins) & (c <= (b + 1) / bins)
        if weight[inside].sum():
            gap = np.average(hit[inside], weights=weight[inside]) - np.average(c[inside], weights=weight[inside])
            error += abs(gap) * weight[inside].sum() / weight.sum()
    return error, np.average(((p - np.eye(5)[labels]) ** 2).sum(axis=1), weights=weight)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_error_and_brier_are_those_of_the_definition(bins: int) -> None:
    result = Calibration(bins=bins).update(X.astype(float), LABELS, sample_weight=WEIGHT).result()
    np.testing.assert_allclose((result.error, result.brier), by_hand(X, LABELS, bins, WEIGHT), rtol=1e-9)
    assert result.count == np.count_nonzero(WEIGHT)
    one_hot = Calibration(bins=bins).update(X.astype(float), np.eye(5)[LABELS], sample_weight=WEIGHT).result()
    np.testing.assert_allclose(one_hot[:5], result[:5], rtol=1e-9)


def test_the_right_edge_is_closed() -> None:
    sure = Calibration(bins=10).update(np.array([[1000.0, 0.0], [0.0, 0.0]]), np.array([1, 0])).result()
    assert sure.bins.weight.tolist() == [0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0.5]  # 1 and 0.5
    assert sure.error == 0.75
    assert sure.maximum_error == 1.0


@pytest.mark.parametrize("strategy", ["width", "count"])
def test_pieces_in_any_order_give_the_same_bits(strategy: Any) -> None:
    whole = Calibration(strategy=strategy).update(X, LABELS, sample_weight=WEIGHT)
    merged = Calibration(strategy=strategy)
    for piece in np.array_split(RNG.permutation(4000), 7):
        part = Calibration(strategy=strategy).update(X[piece], LABELS[piece], sample_weight=WEIGHT[piece])
        merged.merge(pickle.loads(pickle.dumps(part)))
    fed = Calibration(strategy=strategy).feed(X, LABELS, sample_weight=WEIGHT, block_bytes=5000)
    for other in (merged, fed):
        assert repr(other.result()) == repr(whole.result())


def test_bins_of_equal_count() -> None:
    bins = Calibration(bins=8, strategy="count").update(X, LABELS).result().bins
    assert len(bins.weight) == 8
    assert 0.06 < bins.weight.min() <= bins.weight.max() < 0.2
    assert np.all(bins.lower < bins.confidence)
    assert np.all(bins.confidence <= bins.upper)


def test_ignored_rows_and_special_values() -> None:
    ids = np.where(np.arange(4000) % 3 == 0, -100, LABELS)
    some = Calibration().update(X, ids).result()
    assert repr(some) == repr(Calibration().update(X[ids >= 0], ids[ids >= 0]).result())
    assert np.isnan(Calibration().result().error)
    assert np.isnan(Calibration().update(np.array([[np.nan, 0.0]]), [0]).result().brier)
    impossible = Calibration().update(np.array([[-np.inf, 0.0]]), [0]).result()
    assert (impossible.brier, impossible.error) == (2, 1)
    with pytest.raises(ValueError, match="^targets: class id 5 at position"):
        Calibration().update(X, LABELS + 1)
    with pytest.raises(ValueError, match="^strategy: 'mass' is not allowed"):
        Calibration(strategy="mass")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^other: has another bins; allowed are the same options"):
        Calibration().merge(Calibration(bins=3))
    with pytest.raises(TypeError, match="^other: int is not allowed"):
        Calibration().merge(3)  # type: ignore[arg-type]


def test_every_array_type() -> None:
    right = repr(Calibration(axis=0).update(X.T, LABELS).result())
    assert repr(Calibration().update(X, LABELS).result()) == right
    for name in ("torch", "jax.numpy", "dask.array", "pandas", "array_api_strict"):
        module: Any = pytest.importorskip(name, reason=f"{name} is not installed")
        made = module.DataFrame(X) if name == "pandas" else module.asarray(X)
        if name == "array_api_strict":
            assert confidence(made).shape == (4000,)
        result = Calibration().update(made, LABELS).result()
        np.testing.assert_allclose(result.error, Calibration().update(X, LABELS).result().error, rtol=1e-6)
        np.testing.assert_allclose(fit_temperature(made, LABELS), fit_temperature(X, LABELS), rtol=1e-6)


def test_temperature_is_where_the_loss_is_least() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    for options in ({}, {"sample_weight": WEIGHT}):
        best = optimize.minimize_scalar(
            lambda log_t, options=options: lx.cross_entropy(
                X.astype(float), LABELS, temperature=float(np.exp(log_t)), **options
            ),
            bounds=(-5, 5), method="bounded", options={"xatol": 1e-10},
        )  # fmt: skip
        np.testing.assert_allclose(fit_temperature(X.astype(float), LABELS, **options), np.exp(best.x), rtol=1e-5)
    assert 2.3 < fit_temperature(X, LABELS) < 2.7
    soft = lx.softmax(TRUE)
    np.testing.assert_allclose(fit_temperature(2.5 * TRUE, soft), 2.5, rtol=1e-6)
    worse, better = Calibration().update(X, LABELS), Calibration(temperature=2.5).update(X, LABELS)
    assert better.result().error < worse.result().error / 3


def test_temperature_at_its_bounds() -> None:
    sure, wrong = np.eye(4) * 3.0, np.roll(np.eye(4), 1, axis=0) * 3.0
    assert lx.cross_entropy(sure, np.arange(4), temperature=fit_temperature(sure, np.arange(4))) < 1e-12
    assert fit_temperature(wrong, np.arange(4)) > 1000
    masked = np.where(np.arange(5) == 2, -np.inf, X.astype(float))
    assert np.isfinite(fit_temperature(masked, LABELS))
    with pytest.raises(ValueError, match="^targets: no row counts"):
        fit_temperature(sure, np.full(4, -100))


def test_temperature_is_read_at_most_ten_times(monkeypatch: pytest.MonkeyPatch) -> None:
    from logitx._calibration import temperature

    reads: list[float] = []
    original = temperature._slope_and_curvature
    monkeypatch.setattr(
        temperature, "_slope_and_curvature", lambda rows, beta: reads.append(beta) or original(rows, beta)
    )
    for factor in (0.05, 1, 30, 1000):
        reads.clear()
        np.testing.assert_allclose(fit_temperature(factor * TRUE, lx.softmax(TRUE)), factor, rtol=1e-5)
        assert len(reads) <= 10


def test_one_temperature_a_class() -> None:
    heat = np.array([0.5, 1.0, 2.0, 4.0, 1.5])
    found = fit_temperature(TRUE * heat, lx.softmax(TRUE), per_class=True)
    np.testing.assert_allclose(found, heat, rtol=1e-3)


def test_confidence_is_the_largest_probability_or_the_energy() -> None:
    p = lx.softmax(X)
    np.testing.assert_allclose(confidence(X), p.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(confidence(X, temperature=2.0), lx.softmax(X, temperature=2.0).max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(confidence(X.reshape(40, 100, 5), (0, 2)), lx.softmax(X.reshape(40, 100, 5), (0, 2)).max(
        axis=(0, 2)), rtol=1e-6)  # fmt: skip
    np.testing.assert_allclose(confidence(X, score="energy"), lx.logsumexp(X), rtol=1e-6)
    np.testing.assert_allclose(confidence(X, score="energy", temperature=2.0), 2 * lx.logsumexp(X / 2), rtol=1e-6)
    with pytest.raises(ValueError, match="^score: 'entropy' is not allowed"):
        confidence(X, score="entropy")  # type: ignore[arg-type]


def test_the_diagram_shows_every_bin_with_rows(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    calibration = Calibration(bins=10).update(X, LABELS)
    axes = reliability_diagram(calibration)
    there = int(np.count_nonzero(calibration.result().bins.weight))
    assert [len(container) for container in axes.containers] == [there] * 3
    axes.figure.savefig(tmp_path / "reliability.png")
    with pytest.raises(TypeError, match="^calibration: float is not allowed"):
        reliability_diagram(1.0)  # type: ignore[arg-type]


def test_the_command_prints_and_draws_it(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    logits, labels, picture = (tmp_path / name for name in ("x.npy", "y.npy", "diagram.png"))
    np.save(logits, X)
    np.save(labels, LABELS)
    arguments = ["evaluate", str(logits), str(labels), "--json", "--no-progress", "--temperature", "2.0"]
    assert main([*arguments, "--calibration", "--diagram", str(picture)]) == 0
    found, right = json.loads(capsys.readouterr().out), Calibration(temperature=2.0).update(X, LABELS).result()
    assert found["calibration_error"] == right.error
    assert found["brier"] == right.brier
    assert found["accuracy"] == right.accuracy
    assert picture.read_bytes().startswith(b"\x89PNG")
