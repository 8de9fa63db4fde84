"""The nodes that torch.compile puts in a graph, one an operation. Imported while TorchDynamo reads a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from logitx._dispatch import run
from logitx._operations import OPERATIONS


def _as_given(value: Any) -> Any:
    """Return an argument as the user passed it: a graph has list types of its own, and symbols for numbers."""
    if isinstance(value, list):
        return [_as_given(one) for one in value]
    return float(value) if isinstance(value, torch.SymFloat) else value


def _node(op: str) -> Callable[..., Any]:
    def node(*arguments: Any) -> Any:
        return run(op, *map(_as_given, arguments))

    node.__name__ = node.__qualname__ = op  # what a graph and its errors show
    return torch.compiler.allow_in_graph(node)  # type: ignore[no-any-return]


NODES = {op: _node(op) for op in OPERATIONS}
