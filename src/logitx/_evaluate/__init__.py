"""`python -m logitx`: evaluate saved logits, or print versions, backends and devices."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import logitx
from logitx._evaluate.errors import FileError, one_line
from logitx._evaluate.evaluation import evaluate, for_a_person
from logitx._evaluate.info import facts
from logitx._evaluate.readers import SUFFIXES

# Errors caused by a file, an option or an absent library; any other error is a defect and keeps its traceback.
_MISTAKES = (FileError, OSError, ValueError, TypeError, ImportError, MemoryError)

_EXAMPLES = """examples:
  %(prog)s logits.npy labels.npy
  %(prog)s run.safetensors:logits run.safetensors:labels --json
  %(prog)s table.parquet table.parquet:label --top-k 3
  %(prog)s table.parquet:score_* labels.csv:label
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, or 2 for an error of the user."""
    try:
        try:
            given = _parser().parse_args(arguments)
        except SystemExit:  # it printed its help or version
            _write([])
            raise
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries that read files: they name neither the file nor a cure
            values = given.run(given)
        _write([json.dumps(_plain(values))] if given.json else _table(given.shown(values)))
    except _MISTAKES as error:
        _complain(f"logitx: error: {one_line(str(error)) or type(error).__name__}")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    name = "python -m logitx" if Path(sys.argv[0]).name == "__main__.py" else "logitx"
    parser = argparse.ArgumentParser(prog=name, description="Evaluate saved logits.")
    parser.add_argument("--version", action="version", version=f"logitx {logitx.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    given = commands.add_parser(
        "evaluate",
        help="loss, perplexity and accuracy of saved logits",
        description="Print loss (nats), perplexity, accuracy and top-k accuracy of saved logits.\n\n"
        f"Files are read block by block: {', '.join(SUFFIXES)}.\nAn array or a column within one is FILE:NAME."
        " Labels are class ids, one a row,\nor probabilities of the shape of the logits.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    given.add_argument("logits", help="file of logits: rows first, classes last")
    given.add_argument("labels", help="file of class ids or probabilities")
    for option, kind, default, metavar, text in (
        ("--top-k", int, 5, "K", "count labels among the K highest logits"),
        ("--axis", int, -1, "AXIS", "of the classes, not the first"),
        ("--ignore-index", int, -100, "ID", "class id of rows that do not count"),
        ("--label-smoothing", float, 0.0, "EPS", "share of each label that is spread over all classes"),
        ("--temperature", float, 1.0, "T", "divide the logits by T"),
        ("--softcap", float, None, "C", "replace each logit x by C tanh(x / C) first"),
        ("--block-bytes", int, 1 << 25, "N", "size of a block of logits; two are in memory"),
    ):
        text = text if default is None else f"{text}; default: %(default)s"
        given.add_argument(option, type=kind, default=default, metavar=metavar, help=text)
    given.add_argument("--calibration", action="store_true", help="also calibration error and Brier score")
    given.add_argument("--diagram", metavar="FILE", help="draw the calibration: a picture for matplotlib to write")
    given.add_argument("--json", action="store_true", help="print one object of JSON")
    given.add_argument("--no-progress", action="store_true", help="show no bar; without a terminal there is none")
    given.set_defaults(run=evaluate, shown=for_a_person)
    info = commands.add_parser("info", help="backends, versions, devices, threads and cache")
    info.add_argument("--json", action="store_true", help="print one object of JSON")
    info.set_defaults(run=lambda given: facts(), shown=lambda values: values)
    return parser


def _write(lines: list[str]) -> None:
    """Write lines to the standard output; an OSError if it is closed."""
    stream = sys.stdout
    if stream is None:
        raise OSError("standard output: is closed")
    try:
        encoding = stream.encoding or "utf-8"
        text = "".join(f"{line}\n" for line in lines)
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # else Python writes the rest once more when it ends, and fails
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise OSError(f"standard output: {error.strerror or error}") from None


def _complain(line: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _table(values: dict[str, Any]) -> list[str]:
    width = max(map(len, values))
    rows = [
        (name if i == 0 else "", f"{one:.6g}" if isinstance(one, float) else one)
        for name, value in values.items()
        for i, one in enumerate(value if isinstance(value, list) else [value])
    ]
    return [f"{name.replace('_', ' '):{width}}  {one}" for name, one in rows]


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: None for NaN, and for infinities what JavaScript and `float` read."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
