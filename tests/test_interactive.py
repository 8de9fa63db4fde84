"""The interactive page of the documentation computes what the library computes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitx as lx

ROOT = Path(__file__).resolve().parent.parent
ARITHMETIC = ROOT / "docs" / "interactive" / "arithmetic.js"
SPECIAL = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
# What both ways to run JavaScript get: numbers that JSON has not are strings
RUN = """
const pack = (value) => typeof value === "number" && !Number.isFinite(value) ? String(value)
  : Array.isArray(value) ? value.map(pack)
  : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, pack(v)]))
  : value;
const special = { NaN, Infinity, "-Infinity": -Infinity };
const open = (value) => typeof value === "string" && value in special ? special[value]
  : Array.isArray(value) ? value.map(open)
  : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, open(v)]))
  : value;
const answers = CALLS.map(([name, ...given]) => pack(Arithmetic[name](...given.map(open))));
"""
ROWS = [
    [2.0, 1.0, 0.1, -1.0, 0.5],
    [0.0, 0.0, 0.0, 0.0, 0.0],
    [700.0, -700.0, 0.0, 1.0, 699.0],
    [50.0, 0.0, 0.0, -3.0, 1.0],
    [2.0, -np.inf, 0.1, -np.inf, 0.5],
    [-np.inf] * 5,
    [np.nan, 1.0, 2.0, 3.0, 4.0],
    [np.inf, 1.0, 2.0, 3.0, 4.0],
]
MASKS = [[False] * 5, [False, True, False, False, True], [True] * 5, [True, False, False, False, False]]
OPTIONS: list[dict[str, float]] = [{}, {"temperature": 0.3}, {"softcap": 3.0, "temperature": 2.0}]


def packed(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return [packed(one) for one in value] if isinstance(value, list) else value


def opened(value: Any) -> Any:
    if isinstance(value, str) and value in SPECIAL:
        return SPECIAL[value]
    if isinstance(value, dict):
        return {name: opened(one) for name, one in value.items()}
    return [opened(one) for one in value] if isinstance(value, list) else value


def run(calls: list[list[Any]]) -> list[Any]:
    """Return what the functions of the page give, by Node or else by Chromium."""
    given = f"const CALLS = {json.dumps([packed(call) for call in calls])};\n{RUN}"
    script = ARITHMETIC.read_text(encoding="utf-8")
    if node := shutil.which("node"):
        code = f"{script}\n{given}\nconsole.log(JSON.stringify(answers));"
        done = subprocess.run([node, "-"], input=code, capture_output=True, text=True, check=True)
        return opened(json.loads(done.stdout))
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("neither Node nor Chromium is installed: there is nothing to run JavaScript")
    playwright = pytest.importorskip("playwright.sync_api", reason="without Node, Playwright is needed")
    with playwright.sync_playwright() as running:
        page = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        return opened(json.loads(page.evaluate(f"(() => {{ {script}\n{given} return JSON.stringify(answers); }})()")))


def close(found: Any, expected: Any) -> bool:
    return bool(np.allclose(found, np.asarray(expected), rtol=1e-13, atol=1e-300, equal_nan=True))


def test_rows():
    cases = [(x, mask, options) for x in ROWS for mask in MASKS for options in OPTIONS]
    for (x, mask, options), found in zip(cases, run([["row", *case] for case in cases]), strict=True):
        logits, given = np.array(x), {"where": ~np.array(mask), **options}
        assert close(found["probability"], lx.softmax(logits, **given)), (x, mask, options)
        assert np.allclose(found["logProbability"], lx.log_softmax(logits, **given), rtol=1e-12, equal_nan=True)
        assert np.allclose(found["entropy"], lx.entropy(logits, **given), rtol=1e-12, atol=1e-15, equal_nan=True) or (
            all(mask) and np.isnan(found["entropy"])  # a row without classes has no entropy on the page
        ), (x, mask, options)
        if not options:
            assert close(found["logNormalizer"], lx.logsumexp(logits, where=given["where"])), (x, mask)


def test_losses():
    losses = [
        {},
        {"smoothing": 0.1},
        {"zLoss": 0.01},
        {"smoothing": 0.2, "zLoss": 0.1, "temperature": 0.5, "softcap": 4.0},
    ]
    cases = [(x, target, mask, options) for x in ROWS for target in (0, 1) for mask in MASKS for options in losses]
    names = {"smoothing": "label_smoothing", "zLoss": "z_loss"}
    for (x, target, mask, options), found in zip(cases, run([["loss", *case] for case in cases]), strict=True):
        given: dict[str, Any] = {names.get(name, name): value for name, value in options.items()}
        loss, gradient = lx.cross_entropy_value_and_grad(np.array(x), target, where=~np.array(mask), **given)
        same = np.allclose(found["loss"], loss, rtol=1e-12, atol=1e-15, equal_nan=True)
        assert same or (all(mask) and not found["counted"]), (x, target, mask, options, found, loss)
        assert np.allclose(found["gradient"], gradient, rtol=1e-11, atol=1e-15, equal_nan=True), (
            x,
            target,
            mask,
            options,
        )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rounding(dtype):
    rng = np.random.default_rng(0)
    cases = [(x, dtype, offset) for x in rng.uniform(-6, 6, (20, 5)).tolist() for offset in (0, 10, 1000, 10000)]
    worst: dict[str, float] = {}
    for (x, _, offset), found in zip(cases, run([["precision", *case] for case in cases]), strict=True):
        inputs = np.array(x, dtype) + np.array(offset, dtype)
        assert (np.array(found["inputs"]) == inputs).all()
        assert (np.array(found["shifted"]["probability"], dtype) == found["shifted"]["probability"]).all()
        ours = lx.softmax(inputs)
        away = np.abs(ours.astype(float) - found["ours"]["probability"]) / np.spacing(ours).astype(float)
        assert away.max() <= (0 if dtype == "float16" else 2)
        for way in ("normalizer", "shifted", "ours"):
            worst[way] = max(worst.get(way, 0.0), *found[way]["error"])
        if offset == 1000:
            assert np.isnan(found["naive"]["probability"]).all()
    assert worst["ours"] < (0.51 if dtype == "float16" else 3)
    assert worst["normalizer"] > 100


def test_exact_errors():
    """The errors of the page are those against numbers of more digits."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.prec = 400
    x = [2.0, 1.0, 0.1, -1.0, 0.5]
    (found,) = run([["precision", x, "float64", 0]])
    e = [mpmath.exp(one) for one in x]
    for way in ("naive", "normalizer", "shifted", "ours"):
        for p, true, error in zip(found[way]["probability"], e, found[way]["error"], strict=True):
            truth = true / sum(e)
            assert abs(float(abs(p - truth) / np.spacing(float(truth))) - error) < 1e-5


def test_streams():
    one, two = [3.0, -2.0, 900.0], [899.0, 0.0]
    pairs = run([["pairOf", one], ["pairOf", two], ["pairOf", one + two]])
    (merged,), normalizers = run([["mergePairs", *pairs[:2]]]), run([["logNormalizer", pair] for pair in pairs])
    assert close(merged["rest"], pairs[2]["rest"])
    assert close(normalizers[2], lx.merge_logsumexp(*normalizers[:2]))
    assert close(normalizers, [lx.logsumexp(values) for values in (one, two, one + two)])


def test_samples():
    """The classes that are kept are those that the library draws."""
    x = np.array([2.0, 1.0, 0.1, -1.0, 0.5])
    cuts = [(0, 0.9), (3, 1.0), (3, 0.8), (0, 0.0), (1, 1.0), (0, 0.5)]
    kept = run([["kept", lx.softmax(x).tolist(), *cut] for cut in cuts])
    for (top_k, top_p), found in zip(cuts, kept, strict=True):
        ids = lx.sample(x, np.random.default_rng(0), shape=(20_000,), top_k=top_k or None, top_p=top_p)
        assert set(ids.tolist()) == {j for j, one in enumerate(found) if one}


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_the_program_runs(library):
    pytest.importorskip(library)
    state = {"logits": [2.0, 1.0, -np.inf], "masked": [False, True, False], "temperature": 2, "softcap": 5, "target": 0}
    call = [["python", {**state, "logits": packed(state["logits"]), "smoothing": 0.1, "zLoss": 0.01}, library]]
    names: dict[str, Any] = {}
    script = run(call)[0]
    exec(compile(script, "page", "exec"), names)
    expected = lx.softmax(np.array(state["logits"]), where=[True, False, True], temperature=2, softcap=5)
    assert np.allclose(np.asarray(names["p"]), expected, rtol=1e-6)
    assert np.asarray(names["gradient"]).shape == (3,)
