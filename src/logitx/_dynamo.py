"""torch.compile: every call of the library becomes one node of the graph.

TorchDynamo reads Python code and would break at caches and context variables. It does not read the Python of a node:
that code runs while the graph is made. The operator or the formulas that a backend calls are what stays in the graph.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from logitx import _prepared
from logitx._arrays.families import FAMILIES, family_of


def _call_in_graph(op: str, *arguments: Any) -> Any:
    from logitx._graph_nodes import NODES

    return NODES[op](*arguments)


def _family_in_graph(x: Any) -> Any:
    """Return the family of what a graph holds; the table of types cannot be guarded, as its keys are classes."""
    import torch

    return FAMILIES["torch" if isinstance(x, torch.Tensor) else "numpy"]


# TorchDynamo calls `_torchdynamo_inline` in place of a function that has it. Calls outside of torch.compile never read
# the attribute.
_prepared.call._torchdynamo_inline = _call_in_graph  # type: ignore[attr-defined]
family_of._torchdynamo_inline = _family_in_graph  # type: ignore[attr-defined]


def _offer_operators(torch: Any) -> None:
    """Register the operators when one is looked up, as `torch.export.load` does before any call."""

    class Operators(torch._ops._OpNamespace):  # type: ignore[misc]
        __module__ = "torch._ops"  # which the names of operators in saved programs begin with

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("__"):
                importlib.import_module("logitx.backends.torch.operators")
            return super().__getattr__(name)

    torch.ops.logitx = Operators("logitx")


if hasattr(sys.modules.get("torch"), "ops"):  # where logitx comes first, `warmup` registers them
    _offer_operators(sys.modules["torch"])
