"""The calls of the library as torch.compile puts them in a graph: one node each. Imported while it reads a call.

Dynamo, which reads Python, does not look into a node. Its inside runs as the Python it is while the graph is made, with
caches, context variables and all, and leaves in the graph what a backend makes of it: an operator or formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from logitx import _dispatch

Node = Callable[..., Any]


def _node(run: Node, check: Node) -> Node:
    def node(*arguments: Any) -> Any:
        # A number that differs between calls comes as a symbol; the graph is made for its value
        known = (float(value) if isinstance(value, torch.SymFloat) else value for value in arguments)
        return run(*check(*known))

    node.__name__ = node.__qualname__ = check.__name__  # what a graph and its errors show
    return torch.compiler.allow_in_graph(node)  # type: ignore[no-any-return]


NODES = {(run.__name__, check.__name__): _node(run, check) for run in _dispatch.RUNS for check in _dispatch.CHECKS}
