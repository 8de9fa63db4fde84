"""Write each example of README, docs and docstrings as a module in a folder, for type checkers to read."""

from __future__ import annotations

import doctest
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [path for top in ("README.md", "docs", "src") for path in sorted([ROOT / top, *(ROOT / top).rglob("*")])]
# What an example, unlike a program, may do: show a value, and know that something is not None or that it is installed
PYRIGHT = ("UnusedExpression", "OptionalMemberAccess", "OptionalSubscript", "MissingImports", "MissingModuleSource")


def examples(path: Path) -> list[str]:
    """Return the code of a file of examples, or of each block of examples on a page or in a source file."""
    text = path.read_text(encoding="utf-8")
    if path.parent.name == "examples":
        return [text]
    parser = doctest.DocTestParser()
    blocks = (parser.get_examples(block) for block in re.split(r'```|"""', text))
    return ["".join(one.source for one in block if one.exc_msg is None) for block in blocks]  # not what is to fail


def main(folder: Path) -> None:
    """Write the modules and the settings of pyright."""
    for old in folder.glob("*.py"):
        old.unlink()
    settings = {f"report{name}": "none" for name in PYRIGHT}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    for path in PAGES:
        if path.suffix in (".md", ".py"):
            name = re.sub(r"\W+", "_", str(path.relative_to(ROOT)))
            for number, code in enumerate(examples(path)):
                if "import logitx" in code:
                    (folder / f"{name}_{number}.py").write_text(code, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
