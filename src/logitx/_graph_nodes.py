"""The calls of the library as torch.compile puts them in a graph: one node each. Imported while it reads a call.

Dynamo, which reads Python, does not look into a node. Its inside runs as the Python it is while the graph is made, with
caches, context variables and all, and leaves in the graph what a backend makes of it: an operator or formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from logitx import _operations

Node = Callable[..., Any]


def _as_given(value: Any) -> Any:
    """Return an argument as the user's: a graph has lists of its own, and symbols for numbers that it may vary."""
    if isinstance(value, list):
        return [_as_given(one) for one in value]
    return float(value) if isinstance(value, torch.SymFloat) else value


def _node(run: Node, check: Node) -> Node:
    def node(*arguments: Any) -> Any:
        return run(*check(*map(_as_given, arguments)))

    node.__name__ = node.__qualname__ = check.__name__  # what a graph and its errors show
    return torch.compiler.allow_in_graph(node)  # type: ignore[no-any-return]


NODES = {(run.__name__, check.__name__): _node(run, check) for run in _operations.RUNS for check in _operations.CHECKS}
