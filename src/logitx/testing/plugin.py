"""Pytest hooks of the suite: at the end of a run, how many cells there were, and why some did not run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

_PRINTED = pytest.StashKey[bool]()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the number of cells (function x target x dtype) that ran, and the reasons of those that did not."""
    if terminalreporter.config.stash.get(_PRINTED, False):
        return  # the hooks may be loaded by two conftest files
    terminalreporter.config.stash[_PRINTED] = True
    ran: Counter[str] = Counter()
    cases = 0
    declined: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            properties = dict(getattr(report, "user_properties", ()))
            if "cell" not in properties or (outcome != "skipped" and report.when != "call"):
                continue
            if outcome == "skipped":
                reasons[f"{properties['target']}: {properties['reason']}"] += 1
            else:
                ran[outcome] += 1
                cases += int(properties.get("cases", 0))
                declined[properties["target"]] += int(properties.get("declined", 0))
    if not ran and not reasons:
        return
    terminalreporter.section("conformance")
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(ran.items()))
    skipped = sum(reasons.values())
    total = sum(ran.values())
    terminalreporter.line(
        f"{total} cells (function x target x dtype) ran {cases} cases: {outcomes or 'none'}; {skipped} skipped"
    )
    for target, count in sorted((+declined).items()):
        terminalreporter.line(
            f"  {count} cases of {target} were declined by its backend; the automatic choice ran them"
        )
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"  skipped {count} of {reason}")
