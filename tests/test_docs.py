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


def blocks():
    """Yield each page's blocks that show results; consecutive blocks of one page share their names."""
    for path in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
        names = {}
        for number, found in enumerate(BLOCK.finditer(path.read_text(encoding="utf-8")), 1):
            if ">>>" in found[1]:
                line = path.read_text(encoding="utf-8")[: found.start()].count("\n") + 1
                yield pytest.param(path, line, found[1], names, id=f"{path.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize(("path", "line", "code", "names"), list(blocks()))
def test_code_block(path, line, code, names):
    for framework in re.findall(r"import (jax|torch|array_api_strict)\b", code):
        if importlib.util.find_spec(framework) is None:
            pytest.skip(f"{framework} is not installed")
    report: list[str] = []
    test = doctest.DocTestParser().get_doctest(code, names, path.name, str(path), line)
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    runner.run(test, out=report.append, clear_globs=False)
    names.update(test.globs)  # the parser copied them
    assert not report, "".join(report)
