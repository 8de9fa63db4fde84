"""The option --smoke: small shapes, each once, and a few rounds."""

from __future__ import annotations

import dataclasses

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--smoke", action="store_true", help="small shapes, a few rounds: shows that everything runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one cell of those that are the same in small."""
    if not config.getoption("--smoke"):
        return
    kept: dict[object, pytest.Item] = {}
    for item in items:
        cell = item.callspec.params["cell"]
        small = dataclasses.replace(cell.shape.small(), why="", all_dtypes=False)
        kept.setdefault(dataclasses.replace(cell, shape=small), item)
    chosen = list(kept.values())
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
