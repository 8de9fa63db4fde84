"""Keywords: names from other libraries raise a TypeError that says what to write, and signatures stay exact."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx._functions.keywords import MEANT
from logitx._options import flat
from logitx.testing import OPS

X, IDS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([0, 2])
WEIGHT = np.ones(3)


@pytest.mark.parametrize(
    ("function", "args", "options", "cure"),
    [
        ("softmax", (X,), {"dim": 1}, "dim: is not an argument of softmax; write axis=1"),
        ("softmax", (), {"input": X, "dim": -1}, "input: .* of softmax; write x by position\ndim: .*=-1"),
        ("softmax", (), {"x": X}, "x: is not a keyword of softmax; write it by position"),
        ("log_softmax", (X,), {"mask": X > 2}, r"mask: .*; write where= \(True where an entry takes part\)"),
        ("logsumexp", (X, 1), {"keepdim": True}, "keepdim: is not an argument of logsumexp; write keepdims=True"),
        ("logsumexp", (), {"a": X, "axis": 1}, "a: is not an argument of logsumexp; write x by position"),
        ("logmeanexp", (X,), {"dims": ("a", "b")}, r"dims: .*; write axis=\('a', 'b'\)"),
        ("cross_entropy", (X, IDS), {"weight": WEIGHT},
         r"weight: .*; write class_weight= \(one number a class\) or sample_weight= \(one number a row\)"),
        ("cross_entropy", (X,), {"labels": IDS}, "labels: is not an argument of cross_entropy; write targets="),
        ("cross_entropy", (), {"input": X, "target": IDS}, "input: .*; write logits=\ntarget: .*; write targets="),
        ("cross_entropy", (X, IDS), {"reduce": False}, "reduce: .*; write reduction= .'none', 'sum' or 'mean'."),
        ("cross_entropy", (X, IDS), {"smoothing": 0.1}, "smoothing: .*; allowed are logits, targets, axis"),
        ("cross_entropy_grad_hess", (X, IDS), {"dim": 1}, "dim: .*; write axis=1"),
        ("linear_cross_entropy", (X, X), {"target": IDS}, "target: .*; write targets by position"),
        ("linear_cross_entropy", (X,), {"weight": X, "targets": IDS}, "weight: is not a keyword .*position\ntargets: "),
        ("softmax_vjp", (X, X), {"dim": 1}, "dim: .*; write axis=1"),
        ("logaddexp", (X, X), {"axis": 1}, "axis: is not an argument of logaddexp; allowed are no keywords"),
        ("CrossEntropy", (), {"dim": 1}, "dim: is not an argument of CrossEntropy; write axis=1"),
        ("CrossEntropy", (), {"weight": WEIGHT}, "weight: .*; write class_weight= "),
        ("which", ("softmax", X), {"dim": 1}, "dim: is not an argument of softmax; write axis=1"),
    ],
)  # fmt: skip
def test_a_wrong_keyword_is_answered_with_the_right_one(function: str, args: Any, options: Any, cure: str) -> None:
    with pytest.raises(TypeError, match=cure):
        getattr(lx, function)(*args, **options)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_function_answers_every_wrong_name(op: Any) -> None:
    function = getattr(lx, op.name)
    for wrong in MEANT.keys() - inspect.signature(function).parameters:
        with pytest.raises(TypeError, match=f"^{wrong}: is not an argument of {op.name}; "):
            function(**{wrong: 1})


def test_no_argument_has_a_name_that_is_called_wrong() -> None:
    """Except the share of a mixture, and by position `weight` of a linear layer, `a` and `b` of two normalizers."""
    for op in OPS:
        for name, parameter in inspect.signature(getattr(lx, op.name)).parameters.items():
            mixed = (op.name, name) == ("js_divergence", "weight")
            assert mixed or name not in MEANT or parameter.kind is parameter.POSITIONAL_ONLY


@pytest.mark.parametrize("function", ["cross_entropy", "cross_entropy_value_and_grad", "cross_entropy_grad_hess"])
def test_logits_and_targets_may_be_keywords(function: str) -> None:
    expected = getattr(lx, function)(X, IDS)
    for found in (
        getattr(lx, function)(logits=X, targets=IDS),
        getattr(lx, function)(targets=IDS, logits=X, axis=-1),
        getattr(lx, function)(X, targets=IDS),
    ):
        for one, two in zip(flat((found,)), flat((expected,)), strict=True):
            np.testing.assert_array_equal(one, two)
    assert lx.which(function, targets=IDS, logits=X).backend == "numba"
    with pytest.raises(TypeError, match="multiple values for argument 'targets'"):
        getattr(lx, function)(X, IDS, targets=IDS)


def test_signatures_show_what_may_be_written() -> None:
    shown = str(inspect.signature(lx.cross_entropy_grad_hess).replace(return_annotation=inspect.Signature.empty))
    assert shown == (
        "(logits: 'Array', targets: 'Array', axis: 'Axis' = -1, *,"
        " class_weight: \"Array | Literal['balanced'] | None\" = None, sample_weight: 'Array | None' = None)"
    )
    with pytest.raises(TypeError, match="targets: nothing is not an array type"):
        lx.cross_entropy(X)
    with pytest.raises(TypeError, match="missing a required argument: 'targets'"):
        lx.which("cross_entropy", X)
