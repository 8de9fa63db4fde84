"""torch.compile: every call of the library becomes one node of the graph.

TorchDynamo reads Python code and would break at caches and context variables. It does not read the Python of a node:
that code runs while the graph is made. The operator or the formulas that a backend calls are what stays in the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logitx import _prepared
from logitx._operations import CHECKS, RUNS


def _check_later(check: Callable[..., Any]) -> Callable[..., Any]:
    name = check.__name__
    return lambda *arguments: (name, arguments)


def _run_in_graph(run: Callable[..., Any]) -> Callable[..., Any]:
    name = run.__name__

    def run_in_graph(check: str, arguments: tuple[Any, ...]) -> Any:
        from logitx._graph_nodes import NODES

        return NODES[name, check](*arguments)

    return run_in_graph


# TorchDynamo calls `_torchdynamo_inline` in place of a function that has it: `run(*check(...))` becomes one node, which
# does both. Calls outside of torch.compile never read the attribute.
_prepared.at_once._torchdynamo_inline = lambda *_: None  # type: ignore[attr-defined]
_prepared.is_apart._torchdynamo_inline = lambda *_: False  # type: ignore[attr-defined]
for _check in CHECKS:
    _check._torchdynamo_inline = _check_later(_check)  # type: ignore[attr-defined]
for _run in RUNS:
    _run._torchdynamo_inline = _run_in_graph(_run)  # type: ignore[attr-defined]
