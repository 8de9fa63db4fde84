"""Tensors that are not dense: every argument of every function refuses them by a TypeError that says what to pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import logitx as lx

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

X, IDS = torch.zeros(3, 3), torch.zeros(3, dtype=torch.int64)


def nested(layout: Any) -> Callable[[Any], Any]:
    return lambda dtype: torch.nested.nested_tensor([torch.ones(n, dtype=dtype) for n in (2, 3)], layout=layout)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "strided nested": nested(torch.strided),
    "jagged nested": nested(torch.jagged),
    "sparse": lambda dtype: torch.eye(3, dtype=dtype).to_sparse(),
    "csr": lambda dtype: torch.eye(3, dtype=dtype).to_sparse_csr(),
}
CALLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "softmax": ("x", lx.softmax),
    "logsumexp": ("x", lx.logsumexp),
    "logmeanexp": ("x", lx.logmeanexp),
    "where": ("where", lambda bad: lx.softmax(X, where=bad)),
    "temperature": ("temperature", lambda bad: lx.softmax(X, temperature=bad)),
    "b": ("b", lambda bad: lx.logsumexp(X, b=bad)),
    "out": ("out", lambda bad: lx.softmax(X, out=bad)),
    "out of logsumexp": ("out", lambda bad: lx.logsumexp(X, out=bad)),
    "softmax_vjp": ("p", lambda bad: lx.softmax_vjp(bad, X)),
    "dp": ("dp", lambda bad: lx.softmax_vjp(X, bad)),
    "merge_logsumexp": ("a", lambda bad: lx.merge_logsumexp(bad, X)),
    "logaddexp": ("b", lambda bad: lx.logaddexp(X, bad)),
    "cross_entropy": ("logits", lambda bad: lx.cross_entropy(bad, IDS)),
    "targets": ("targets", lambda bad: lx.cross_entropy(X, bad)),
    "targets of NumPy": ("targets", lambda bad: lx.cross_entropy(np.zeros((3, 3)), bad.to(torch.int64))),
    "sample_weight": ("sample_weight", lambda bad: lx.cross_entropy(X, IDS, sample_weight=bad)),
    "class_weight": ("class_weight", lambda bad: lx.cross_entropy(X, IDS, class_weight=bad)),
    "hidden": ("hidden", lambda bad: lx.linear_cross_entropy(bad, X, IDS)),
    "weight": ("weight", lambda bad: lx.linear_cross_entropy(X, bad, IDS)),
    "bias": ("bias", lambda bad: lx.linear_cross_entropy(X, X, IDS, bad)),
    "update": ("logits", lambda bad: lx.CrossEntropy().update(bad, IDS)),
    "feed": ("source", lambda bad: lx.CrossEntropy().feed(bad, IDS)),
    "targets of feed": ("targets", lambda bad: lx.CrossEntropy().feed(X, bad)),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_that_are_not_dense_are_refused(layout: str, call: str) -> None:
    name, function = CALLS[call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls nested and sparse tensors prototypes
        bad = LAYOUTS[layout](torch.float32)
        for _ in range(2):  # the second call would be a prepared one
            with pytest.raises(TypeError, match=f"^{name}: (is a nested tensor|has the layout .*); allowed are dense"):
                function(bad)
