"""The summary of the cells that ran; how many examples Hypothesis draws, and a record of these."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from logitx.testing.plugin import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]

settings.register_profile("bounded", deadline=None, max_examples=10, derandomize=True, database=None)
settings.register_profile("fuzz", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("bounded")  # `--hypothesis-profile=fuzz` loads the other one after this


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that evaluates files, and gives the one line of the refusal."""

    def refusal(logits: Any, labels: Any, *options: str) -> str:
        from logitx._evaluate import main

        assert main(["evaluate", str(logits), str(labels), "--no-progress", *options]) == 2
        out, line = capsys.readouterr()
        assert out == ""
        assert line.startswith("logitx: error: ")
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        return line

    return refusal


LIBRARIES = ("hypothesis", "numpy", "numba", "jax", "torch", "array-api-strict")
KEPT = 4  # runs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-record", metavar="FILE", type=Path, help="write there how many random calls were checked")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Add a run to the record: function, kind of array, examples, and whether one was wrong.

    With the seed of a run before, what is run again takes the place of what it was there.
    """
    path: Path | None = session.config.getoption("--fuzz-record")
    if path is None or "PYTEST_XDIST_WORKER" in os.environ:
        return
    reports = session.config.pluginmanager.getplugin("terminalreporter").stats
    cells = [
        [*cell, outcome == "failed"]
        for outcome in ("passed", "failed")
        for report in reports.get(outcome, [])
        for cell in (dict(report.user_properties).get("fuzz", ()) if report.when == "call" else ())
    ]
    run: dict[str, Any] = {
        "seed": session.config.getoption("--hypothesis-seed"),
        "versions": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    again = {(op, target) for op, target, *_ in cells}  # what was run with this seed before, in full or in part
    kept = [cell for one in before if one["seed"] == run["seed"] for cell in one["cells"] if (*cell[:2],) not in again]
    runs = [*(one for one in before if one["seed"] != run["seed"]), run | {"cells": sorted([*kept, *cells])}]
    lines = ",\n".join(
        f'{json.dumps({key: one[key] for key in run})[:-1]}, "cells": [\n'
        + ",\n".join(map(json.dumps, one["cells"]))
        + "\n]}"
        for one in runs[-KEPT:]
    )
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
