"""Errors that cure: the message says what to write. tests/test_arguments.py shows that each array type has the same."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import logitx as lx


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def ids(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int64)


ALL = slice(None)
PYTORCH = "; these fit axis=1, where PyTorch has its classes"
BINARY = "; these logits are one row: for a binary loss of one score a row use binary_cross_entropy"
ONE_HOT = "; for one-hot targets pass argmax over the class axis, or convert them to floating point"
INTEGER = "; class ids must have an integer dtype, fill missing ones with ignore_index and convert with astype"


@pytest.mark.parametrize(
    ("logits", "targets", "cure"),
    [
        (zeros(2, 5, 4), ids(2, 4), PYTORCH),
        (zeros(2, 5, 4, 4), ids(2, 4, 4), PYTORCH),
        (zeros(2, 5, 4, 3), ids(5, 4, 3), "; these fit axis=0"),
        (zeros(2, 5), ids(5), "; these fit axis=0"),
        (zeros(2, 5), ids(3), "exactly (2,)"),
        (zeros(5), ids(5), BINARY),
        (zeros(2, 5), ids(2, 5), ONE_HOT),
        (zeros(2, 5), ids(2, 1), "; remove the class axis of length 1, with squeeze or reshape"),
        (zeros(2, 5), zeros(2), INTEGER),
        (zeros(2, 5), zeros(2, 1), INTEGER),
        (zeros(2, 5), ids(2) > 0, "; for two classes convert them with astype(int)"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("function", ["cross_entropy", "cross_entropy_value_and_grad", "cross_entropy_grad_hess"])
def test_targets_that_do_not_fit(function: str, logits: Any, targets: Any, cure: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^targets: .*{re.escape(cure)}$"):
        getattr(lx, function)(logits, targets)


@pytest.mark.parametrize(
    ("shape", "axis", "given", "index"),
    [
        ((5, 2), -1, (5,), (ALL, None)),
        ((5, 2, 4), 1, (5, 4), (ALL, None, ALL)),
        ((3, 5, 2), (0, 2), (5,), (None, ALL, None)),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["temperature", "softcap"])
def test_one_value_a_row_needs_the_class_axis(shape: Any, axis: Any, given: Any, index: Any, name: str) -> None:
    value = np.arange(1.0, 1.0 + np.prod(given)).reshape(given)
    shown = ", ".join("None" if one is None else ":" for one in index)
    with pytest.raises(ValueError, match=f"; for one value a row use {name}{re.escape(f'[{shown}]')}$"):
        lx.softmax(zeros(*shape), axis, **{name: value})
    assert lx.softmax(zeros(*shape), axis, **{name: value[index]}).shape == shape


@pytest.mark.parametrize("zero", [0, 0.0, np.float32(0.0), np.zeros(())])
def test_temperature_0(zero: Any) -> None:
    message = (
        "^temperature: 0.0 is not allowed; allowed are finite numbers > 0; for the most probable class use argmax$"
    )
    with pytest.raises(ValueError, match=message):
        lx.softmax(zeros(2, 3), temperature=zero)


@pytest.mark.parametrize(("value", "shown"), [(10**400, "inf"), (-(10**400), "-inf")])
@pytest.mark.parametrize("name", ["temperature", "softcap", "label_smoothing", "z_loss"])
def test_integers_beyond_the_largest_float(name: str, value: int, shown: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: {shown} is not allowed; allowed are"):
        lx.cross_entropy(zeros(2, 3), ids(2), **{name: value})


@pytest.mark.parametrize("value", [{0: 1.0, 1: 2.0}], ids=str)  # "balanced": tests/test_balanced.py
def test_class_weights_of_scikit_learn(value: Any) -> None:
    message = "^class_weight: .* is not allowed; allowed is one number a class, .*compute_class_weight$"
    for call in (
        lambda: lx.cross_entropy(zeros(2, 3), ids(2), class_weight=value),
        lambda: lx.linear_cross_entropy(zeros(2, 2), zeros(3, 2), ids(2), class_weight=value),
        lambda: lx.CrossEntropy(class_weight=value),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_weights_of_a_layer_with_the_features_first() -> None:
    message = "; this is \\(features, classes\\), as in Flax and Keras: transpose it$"
    with pytest.raises(ValueError, match=message):
        lx.linear_cross_entropy(zeros(2, 3), zeros(3, 5), ids(2))
    assert lx.linear_cross_entropy(zeros(2, 3), zeros(3, 5).T, ids(2)) > 0
    with pytest.raises(ValueError, match="allowed are as many features in both$"):
        lx.linear_cross_entropy(zeros(2, 3), zeros(5, 4), ids(2))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("label_smoothing", 2.0), ("label_smoothing", None), ("temperature", 0), ("z_loss", float("nan")),
        ("softcap", -1), ("softcap", "soft"), ("ignore_index", 1.5), ("ignore_index", 2**63), ("axis", 1.0),
        ("axis", (0, 0)), ("empty", "ignore"), ("top_k", 0),
    ],
)  # fmt: skip
def test_an_accumulator_refuses_options_when_it_is_made(option: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{option}: "):
        lx.CrossEntropy(**{option: value})


def test_an_accumulator_takes_names_of_axes_and_values_for_each_row() -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    x, t = xarray.DataArray(np.eye(3), dims=("class", "row")), np.arange(1.0, 4.0)
    made = lx.CrossEntropy(axis="class", temperature=t[None]).update(x, ids(3))
    assert made.result().loss == pytest.approx(lx.cross_entropy(np.eye(3), ids(3), axis=0, temperature=t[None]))


def test_an_accumulator_is_no_loss() -> None:
    message = r"it adds up .* update\(logits, targets\) .* result\(\); the loss .* is logitx.cross_entropy"
    with pytest.raises(TypeError, match=message):
        lx.CrossEntropy()(zeros(2, 3), ids(2))


def test_an_accumulator_starts_anew() -> None:
    made = lx.CrossEntropy(top_k=2, label_smoothing=0.1).update(zeros(2, 3), ids(2))
    other = lx.CrossEntropy(top_k=2, label_smoothing=0.1)
    assert repr(made.reset()) == repr(other)
    assert made.update(np.eye(3), [0, 1, 1]).result() == other.update(np.eye(3), [0, 1, 1]).result()
