"""Write the pages of the site from the documents of the repository.

The documents are plain Markdown that reads well on a code forge. What only the site has is written as comments or as
plain lists there, and becomes cards, tabs, descriptions of functions and a navigation here.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import reference_pictures

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

# The navigation: for each part, (title, page); an empty title stands for the page's own
NAVIGATION: dict[str, list[tuple[str, str]]] = {
    "Learn": [
        ("Start", "start"),
        ("Coming from another library", "coming_from"),
        ("", "programs"),
        ("Questions", "questions"),
        ("Drag the logits", "interactive"),
        ("Gallery", "gallery/index"),
    ],
    "Use": [
        ("", "arrays"),
        ("", "rows"),
        ("Labels and calibration", "losses"),
        ("", "log_space"),
        ("", "boosting"),
        ("Larger than memory", "scaling"),
        ("", "threads"),
    ],
    "Functions": [
        ("softmax", "reference/softmax"),
        ("logsumexp", "reference/logsumexp"),
        ("cross_entropy", "reference/cross_entropy"),
        ("linear_cross_entropy", "reference/linear"),
        ("binary_cross_entropy", "reference/binary"),
        ("focal_loss", "reference/focal"),
        ("entropy and divergences", "reference/row_numbers"),
        ("samples and best classes", "reference/samples"),
        ("info_nce", "reference/contrastive"),
        ("segments", "reference/segments"),
        ("evaluation and calibration", "reference/evaluation"),
        ("backends and threads", "reference/control"),
        ("Special values", "special_values"),
        ("All signatures and shapes", "functions"),
    ],
    "How it works": [
        ("How it is right", "numerics"),
        ("How it is fast", "performance"),
        ("Write a backend", "backends"),
        ("Accuracy, measured", "accuracy/index"),
        ("Speed, measured", "benchmark/index"),
        ("", "systems"),
    ],
    "Project": [
        ("Contributing", "project/contributing"),
        ("Changelog", "project/changelog"),
        ("Security", "project/security"),
    ],
}

# Documents that have another place on the site than in the repository
PLACES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "LICENSE": "project/license.txt",
    "docs/accuracy/README.md": "accuracy/index.md",
    "docs/gallery/README.rst": "gallery/index.rst",
    "benchmarks/results/README.md": "benchmark/index.md",
}
FILES = (".md", ".png", ".py", ".txt")
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")
CARD = re.compile(r"- \*\*\[([^\]]+)\]\(([^)]+)\)\*\*:\s*(.*?)(?=\n- |\Z)", re.DOTALL)
TAB = re.compile(r"^\*\*([^*\n]+)\*\*\n(.*?)(?=^\*\*[^*\n]+\*\*\n|\Z)", re.DOTALL | re.MULTILINE)


def place(path: Path) -> str:
    """Return where a file of the repository is on the site."""
    name = path.relative_to(ROOT).as_posix()
    if name in PLACES:
        return PLACES[name]
    if name.startswith("benchmarks/results/"):
        return name.replace("benchmarks/results/", "benchmark/", 1)
    return name.removeprefix("docs/")


def depth(page: str) -> str:
    """Return the way from a page to the root of the site."""
    return "../" * page.count("/")


def linked(text: str, path: Path) -> str:
    """Return the text of a document with links that lead to places of the site."""
    here = place(path)

    def replace(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        file = (path.parent / target).resolve()
        if "://" in target or not file.exists():
            return found[0]
        if (file, anchor) == (ROOT / "README.md", "#special-values"):
            return f"{label}({depth(here)}special_values.md)"
        if file.suffix == ".html":  # a page of its own, which Sphinx only copies
            return f'<a class="reference" href="{os.path.relpath(place(file), Path(here).parent)}">{label[1:-1]}</a>'
        return f"{label}({os.path.relpath(place(file), Path(here).parent)}{anchor})"

    return LINK.sub(replace, text)


def cards(body: str, path: Path) -> str:
    """Return a list of links as a grid of cards."""
    lines = ["::::{grid} 1 2 2 3", ":gutter: 3", ""]
    for title, target, words in CARD.findall(body.strip()):
        file = (path.parent / target).resolve()
        name = os.path.relpath(place(file), Path(place(path)).parent)
        kind = "url" if file.suffix == ".html" else "doc"
        link = name if kind == "url" else name.removesuffix(file.suffix)
        lines += [
            f":::{{grid-item-card}} {title}",
            f":link: {link}",
            f":link-type: {kind}",
            "",
            words.strip(),
            ":::",
            "",
        ]
    return "\n".join([*lines, "::::", ""])


def tabs(body: str, path: Path) -> str:
    """Return sections under bold names as tabs, which switch together on all pages."""
    items = (f":::{{tab-item}} {name}\n:sync: {name}\n\n{text.strip()}\n:::\n" for name, text in TAB.findall(body))
    return "::::{tab-set}\n\n" + "\n".join(items) + "\n::::\n"


def descriptions(names: str) -> str:
    """Return directives that show the docstrings of functions."""
    lines = ["## Signatures", "", "```{eval-rst}"]
    for name in re.findall(r"[\w.]+", names):
        module, _, last = f"logitx.{name}".rpartition(".")
        kind = "class" if last[0].isupper() else "function"
        kind = "exception" if last.endswith("Error") else "class" if last == "use_backend" else kind
        members = ["   :members:"] if kind == "class" and last != "use_backend" else []
        lines += [f".. auto{kind}:: {module}.{last}", *members, ""]
    return "\n".join([*lines, "```", ""])


def marked(text: str, path: Path) -> str:
    """Return a document with its comments turned into cards, tabs and descriptions."""
    for name, made in (("cards", cards), ("tabs", tabs)):
        block = re.compile(rf"<!-- begin {name} -->\n(.*?)<!-- end {name} -->\n?", re.DOTALL)
        text = block.sub(lambda found, made=made: made(found[1], path), text)
    text = re.sub(r"<!-- picture: ([^>]+) -->", rf"![\1]({path.stem}.svg)", text)
    return re.sub(r"<!-- describe: ([^>]+) -->", lambda found: descriptions(found[1]), text)


def navigation() -> str:
    """Return the table of contents of the site."""
    parts = []
    for caption, entries in NAVIGATION.items():
        lines = [f"{title} <{page}>" if title else page for title, page in entries]
        parts.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *lines, "```"]))
    return "\n\n".join(parts) + "\n"


def special_values() -> str:
    """Return the page of special values, a section of README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## (Special values\n.*?)(?=^## )", readme, re.DOTALL | re.MULTILINE)
    if section is None:
        raise ValueError("README.md: has no section 'Special values'")
    return f"# {section[1]}\n[Numerics](numerics.md#special-values) has the rules that complete the table.\n"


def write(target: Path, content: bytes) -> None:
    """Write a file, unless it has this content already: Sphinx reads again only what is newer."""
    if not target.exists() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def documents() -> list[Path]:
    """Return the files that the site shows or offers."""
    inner = [path for folder in (DOCS, ROOT / "benchmarks" / "results") for path in sorted(folder.rglob("*"))]
    skipped = (DOCS / "gallery", DOCS / "_static", DOCS / "interactive", *DOCS.glob("*.py"))
    kept = [path for path in inner if path.suffix in FILES and not {path, *path.parents} & {*skipped}]
    return [*kept, *(ROOT / name for name in PLACES if name.isupper() or (name.endswith(".md") and "/" not in name))]


def write_pages(target: Path) -> None:
    """Write all pages, and remove those that are no more."""
    written = {target / "special_values.md"}
    write(target / "special_values.md", special_values().encode())
    for path in documents():
        page = place(path)
        if path == ROOT / "README.md":
            continue  # docs/index.md is the first page of the site
        content = path.read_bytes()
        if path.suffix == ".md":
            text = linked(marked(content.decode("utf-8"), path), path)
            content = (text + ("\n" + navigation() if page == "index.md" else "")).encode()
        write(target / page, content)
        written.add(target / page)
    for page in reference_pictures.PICTURES:
        picture = target / "reference" / f"{page}.svg"
        write(picture, reference_pictures.draw(page))
        written.add(picture)
    shutil.rmtree(target / "extra", ignore_errors=True)
    shutil.copytree(DOCS / "interactive", target / "extra" / "interactive")
    scripts = {path.stem for path in (DOCS / "gallery").glob("*.py")}
    for path in target.rglob("*"):
        part = path.relative_to(target).parts[0]
        made = part == "extra"
        if part == "gallery":  # sphinx-gallery makes these, and knows which scripts have changed
            made = not path.name.startswith("plot_") or path.name.partition(".")[0] in scripts
        if path.is_file() and path not in written and not made:
            path.unlink()
