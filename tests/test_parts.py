"""Rows of which an array has some classes: what the backends find in parts merges to what they find in the whole."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import logitx as lx
from logitx import _dispatch
from logitx._arguments import softmax
from logitx.backends import BACKENDS
from logitx.backends.protocol import Merges

MERGING = [row.name for row in BACKENDS if row.name in ("numba", "generic")]
RNG = np.random.default_rng(12)
SHAPES = [((6, 300), 1, 129), ((7, 13), 1, 5), ((9, 5, 6), 1, 2)]  # a row at a time, and two ways by columns
OPTIONS = {
    "plain": {},
    "all": {"temperature": 0.7, "softcap": 5.0, "where": True},
    "per row": {"temperature": None, "softcap": None},
}


def logits(shape, axis):
    """Rows with NaN, +inf, both, -inf in places, in one part, and everywhere."""
    x = 5.0 * RNG.standard_normal(shape)
    row = np.moveaxis(x, axis, -1)
    row[0, ..., 0], row[1, ..., -1], row[2] = np.inf, np.nan, -np.inf
    row[3, ..., 1], row[4, ..., 0], row[4, ..., 1], row[5, ..., :2] = -np.inf, np.inf, np.nan, -np.inf
    return x.astype(np.float32)


def given(name, shape, axis):
    options = dict(OPTIONS[name])
    rows = tuple(1 if d == axis else length for d, length in enumerate(shape))
    for key in ("temperature", "softcap"):
        if key in options and options[key] is None:
            options[key] = 2.0 + 3.0 * RNG.random(rows)
    if "where" in options:
        options["where"] = RNG.random(shape) > 0.3
    return options


def test_these_are_the_backends_that_merge():
    modules = {row.name: row.module for row in BACKENDS if row.requires in (None, "numba")}
    assert [name for name, module in modules.items() if isinstance(importlib.import_module(module), Merges)] == MERGING


def marked(shape, name):
    """Kernels with options for a row at a time take longest to compile."""
    return [pytest.mark.slow] if shape == SHAPES[0][0] and name != "plain" else []


CASES = [pytest.param(*case, name, marks=marked(case[0], name)) for case in SHAPES for name in OPTIONS]


@pytest.mark.parametrize("backend", MERGING)
@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize(("shape", "axis", "cut", "name"), CASES)
def test_two_parts_are_the_whole(backend, name, op, shape, axis, cut):
    x, options = logits(shape, axis), given(name, shape, axis)
    rows = tuple(length for d, length in enumerate(shape) if d != axis)
    ids, share = RNG.integers(0, shape[axis], rows), RNG.random(rows)
    if "where" in options:
        share = np.where(options["where"].any(axis), share, 0.0)
    calls, pairs = [], []
    with lx.use_backend(backend):
        for piece, first in zip(np.split(x, [cut], axis), (0, cut), strict=True):
            here = options | {
                "where": None if "where" not in options else np.split(options["where"], [cut], axis)[first > 0]
            }
            heat, cap = here.get("temperature", 1.0), here.get("softcap")
            plan, (*operands, _), *_ = softmax.over_axis(op, piece, None, axis, here["where"], heat, cap, "nan", None)
            by = _dispatch._merging(plan, tuple(operands))
            pairs.append(by.reduce_rows(plan, *operands, ids - first))
            calls.append((plan, operands, ids - first))
        heat = options.get("temperature")
        heat = heat if heat is None or isinstance(heat, float) else np.squeeze(heat, axis)
        top, rest = by.merge_rows(plan, [pair[0] for pair in pairs], [pair[1] for pair in pairs], heat)
        logit = pairs[0][2] + pairs[1][2]
        found = [by.normalize_rows(plan, *operands, top, rest) for plan, operands, _ in calls]
        slopes = [
            by.differentiate_rows(plan, *operands, 0.01, local, top, rest, logit, share)
            for plan, operands, local in calls
        ]
        right = getattr(lx, op)(x, axis=axis, **options)
        _, slope = lx.cross_entropy_value_and_grad(
            x, ids, axis=axis, sample_weight=share, z_loss=0.01, reduction="sum", **options
        )
    np.testing.assert_allclose(np.concatenate(found, axis), right, rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(np.concatenate(slopes, axis), slope, rtol=1e-4, atol=1e-6)
