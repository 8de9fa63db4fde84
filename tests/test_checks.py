"""The checks of the project name each fact once: which Pythons are supported, and which sessions must pass."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOXFILE = (ROOT / "noxfile.py").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
RUN = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PYPROJECT["project"]["classifiers"]))
TREE = ast.parse(NOXFILE)
SESSIONS = [node.name for node in TREE.body if isinstance(node, ast.FunctionDef) and "session" in ast.unparse(node)]


def must_pass() -> list[str]:
    """Return the list of noxfile.py."""
    (found,) = [
        node.value
        for node in TREE.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "nox.options.sessions"
    ]
    return ast.literal_eval(found)


def test_pyproject_names_the_pythons():
    assert sorted(PYTHONS, key=lambda version: int(version[2:])) == PYTHONS
    assert PYPROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == PYTHONS[0]
    assert re.findall(r"\b3\.\d+", NOXFILE + RUN) == []


def test_the_workflow_has_all_pythons():
    first, second = re.findall(r"python-version: (?:\|\n((?: +3\.\d+\n)+)|(3\.\d+)\n)", WORKFLOW)
    assert first[0].split() == PYTHONS[::-1]  # the first is what `python3` is
    assert second[1] == PYTHONS[-1]


def test_what_must_pass_stands_in_one_list():
    assert set(must_pass()) <= set(SESSIONS)
    assert {"tests", "lint", "types"} <= set(must_pass())
    assert "run: nox\n" in WORKFLOW
    others = [name for line in re.findall(r"run: nox -s (.*)", WORKFLOW) for name in line.split()]
    assert set(others) <= set(SESSIONS)
    assert not set(others) & set(must_pass())
    assert "print(*nox.options.sessions)" in RUN
    assert re.findall(r"nox -s (\w+)", RUN) == ["tests"]


def test_ci_runs_the_command_of_the_readme():
    command = "python3 -m pip install nox && python3 -m nox -s tests"
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"step '{command}'" in RUN
