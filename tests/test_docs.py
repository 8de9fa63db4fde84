"""The code blocks of README and docs do what they say."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


LIBRARIES = "array_api_strict|dask|jax|lightgbm|optax|pandas|polars|sklearn|tensorflow|torch|xarray|xgboost"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def installed(code: str) -> bool:
    frameworks = re.findall(rf"^>>> (?:import|from) ({LIBRARIES})\b", code, re.MULTILINE)
    return all(importlib.util.find_spec(framework) is not None for framework in frameworks)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_blocks(path):
    """Run the blocks of a page that show results, in order; they share their names, as a reader's session would.

    A block that needs a framework which is not installed is left out.
    """
    text = path.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    report: list[str] = []
    for found in BLOCK.finditer(text):
        if ">>>" in found[1] and installed(found[1]):
            line = text[: found.start()].count("\n") + 1
            test = doctest.DocTestParser().get_doctest(found[1], names, path.name, str(path), line)
            doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=report.append, clear_globs=False)
            names.update(test.globs)  # the parser copied them
    assert not report, "".join(report)
