"""`python -m logitx`: evaluate saved logits, or print versions, backends and devices."""

from __future__ import annotations

import argparse
import json
import math
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

import logitx
from logitx._evaluate.info import facts
from logitx._evaluate.readers import SUFFIXES, open_array
from logitx.calibration import Calibration, reliability_diagram

# Errors caused by a file, an option or an absent library; any other error is a defect and keeps its traceback.
_MISTAKES = (
    OSError, ValueError, TypeError, ImportError, KeyError, EOFError, MemoryError, zipfile.BadZipFile
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, or 2 for an error of the user."""
    given = _parser().parse_args(arguments)
    try:
        given.run(given)
    except _MISTAKES as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        line = " ".join(str(message).split()) or type(error).__name__
        _write_line(f"logitx: error: {line}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m logitx", description="Evaluate saved logits.")
    commands = parser.add_subparsers(required=True, metavar="command")
    evaluate = commands.add_parser(
        "evaluate",
        help="loss, perplexity and accuracy of saved logits",
        description="Print loss (nats), perplexity, accuracy and top-k accuracy of saved logits. Files are read block"
        f" by block: {', '.join(SUFFIXES)}; an array within one is FILE:NAME.",
    )
    evaluate.add_argument("logits", help="file of logits: rows first, classes last")
    evaluate.add_argument("labels", help="file of class ids or probabilities")
    evaluate.add_argument("--top-k", type=int, default=5, metavar="K", help="default: %(default)s")
    evaluate.add_argument("--axis", type=int, default=-1, help="of the classes, not the first; default: %(default)s")
    evaluate.add_argument("--ignore-index", type=int, default=-100, metavar="ID", help="default: %(default)s")
    evaluate.add_argument("--label-smoothing", type=float, default=0.0, metavar="EPS")
    evaluate.add_argument("--temperature", type=float, default=1.0, metavar="T")
    evaluate.add_argument("--softcap", type=float, metavar="C")
    evaluate.add_argument("--block-bytes", type=int, default=1 << 25, metavar="N", help="default: %(default)s")
    evaluate.add_argument("--calibration", action="store_true", help="also calibration error and Brier score")
    evaluate.add_argument("--diagram", metavar="FILE", help="draw the calibration: a picture for matplotlib to write")
    evaluate.add_argument("--json", action="store_true", help="print one object of JSON")
    evaluate.add_argument("--no-progress", action="store_true", help="show no bar")
    evaluate.set_defaults(run=_evaluate)
    info = commands.add_parser("info", help="backends, versions, devices, threads and cache")
    info.add_argument("--json", action="store_true", help="print one object of JSON")
    info.set_defaults(run=_info)
    return parser


def _evaluate(given: argparse.Namespace) -> None:
    with open_array(given.logits) as logits, open_array(given.labels) as labels:
        if len(labels.shape) == 2 and labels.shape[1] == 1:  # a column of a table
            labels = _Column(labels)
        hard = labels.dtype.kind in "iu"
        kind = _WithCalibration if given.calibration or given.diagram else logitx.CrossEntropy
        evaluation = kind(
            axis=given.axis, ignore_index=given.ignore_index if hard else None, label_smoothing=given.label_smoothing,
            temperature=given.temperature, softcap=given.softcap, top_k=given.top_k,
        )  # fmt: skip
        evaluation.feed(logits, labels, progress=not given.no_progress, block_bytes=given.block_bytes)
        rows = int(logits.shape[0])
    result = evaluation.result()
    values = {
        "loss": result.loss, "perplexity": result.perplexity, "accuracy": result.accuracy,
        f"top_{given.top_k}_accuracy": result.top_k_accuracy, "count": result.count, "rows": rows,
    }  # fmt: skip
    if isinstance(evaluation, _WithCalibration):
        calibration = evaluation.calibration
        reliability = calibration.result()
        values |= {"calibration_error": reliability.error, "brier": reliability.brier}
        if given.diagram:
            reliability_diagram(calibration).figure.savefig(given.diagram)
    _print(values, given.json)


class _WithCalibration(logitx.CrossEntropy):
    """An evaluation that measures the calibration in the same read."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        names = ("axis", "ignore_index", "temperature")
        self.calibration = Calibration(**{name: options[name] for name in names})

    def update(self, logits: Any, targets: Any, /, **weights: Any) -> logitx.CrossEntropy:
        """Take some rows."""
        super().update(logits, targets, **weights)
        self.calibration.update(logits, targets, sample_weight=weights.get("sample_weight"))
        return self


class _Column:
    """The only column of a matrix."""

    def __init__(self, matrix: Any) -> None:
        self.matrix, self.shape, self.dtype = matrix, tuple(matrix.shape[:1]), matrix.dtype

    def __getitem__(self, piece: slice) -> Any:
        return self.matrix[piece][:, 0]


def _info(given: argparse.Namespace) -> None:
    _print(facts(), given.json)


def _print(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _write_line(json.dumps(_plain(values)), sys.stdout)
        return
    width = max(map(len, values))
    for name, value in values.items():
        lines = value if isinstance(value, list) else [value]
        for i, line in enumerate(lines):
            text = f"{line:.6g}" if isinstance(line, float) else str(line)
            _write_line(f"{name.replace('_', ' ') if i == 0 else '':{width}}  {text}", sys.stdout)


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold, with None for NaN and infinities."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_line(line: str, stream: Any) -> None:
    stream.write(line + "\n")
