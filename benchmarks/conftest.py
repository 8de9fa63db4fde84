"""The option --smoke: small shapes and a few rounds."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--smoke", action="store_true", help="small shapes, a few rounds: shows that everything runs")
