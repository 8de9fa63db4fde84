"""`python -m logitx evaluate`: loss, perplexity and accuracy of logits and labels in files."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import sys
from typing import Any

import numpy as np

import logitx
from logitx._evaluate.errors import FileError
from logitx._evaluate.readers import open_array, split
from logitx._plan import layout
from logitx.calibration import Calibration, reliability_diagram

_ROUNDING = 1e-5  # by so much a probability may be outside [0, 1]


def evaluate(given: argparse.Namespace) -> dict[str, Any]:
    """Return what is printed, by name."""
    (logits_path, logits_name), (labels_path, labels_name) = split(given.logits), split(given.labels)
    one_file = os.path.realpath(logits_path) == os.path.realpath(labels_path)
    without = labels_name if one_file and not logits_name else ""
    if one_file and logits_name == labels_name:
        raise FileError(f"{given.labels}: holds the logits; labels are in another file, or named as FILE:NAME")
    with open_array(logits_path, logits_name, without) as logits, open_array(labels_path, labels_name) as labels:
        hard = _are_ids(logits, labels, given)
        evaluation = _Evaluation(
            axis=given.axis, ignore_index=given.ignore_index if hard else None, label_smoothing=given.label_smoothing,
            temperature=given.temperature, softcap=given.softcap, top_k=given.top_k,
        )  # fmt: skip
        evaluation.labels, evaluation.hard = given.labels, hard
        if given.calibration or given.diagram:
            if given.softcap is not None:
                raise FileError("--softcap: is not allowed with --calibration and --diagram")
            evaluation.calibration = Calibration(
                axis=given.axis, ignore_index=given.ignore_index if hard else None, temperature=given.temperature
            )
        try:
            evaluation.feed(logits, labels, progress=_shows_a_bar(given), block_bytes=given.block_bytes)
        except ValueError as error:
            names = {"targets": given.labels, "logits": given.logits, "source": given.logits}
            name, colon, text = str(error).partition(": ")
            raise (FileError(f"{names[name]}: {text}") if colon and name in names else error) from None
        lay = layout(tuple(logits.shape), given.axis)
    result = evaluation.result()
    measured = {}
    if evaluation.calibration is not None:
        reliability = evaluation.calibration.result()
        measured = {"calibration_error": reliability.error, "brier": reliability.brier}
        if given.diagram:
            reliability_diagram(evaluation.calibration).figure.savefig(given.diagram)
    return {
        "loss": result.loss, "perplexity": result.perplexity, "accuracy": result.accuracy,
        f"top_{given.top_k}_accuracy": result.top_k_accuracy, **measured,
        "count": result.count, "rows": math.prod(lay.rows),
        "classes": lay.n, "unit": "nats", "targets": "class ids" if hard else "probabilities",
        "logits": given.logits, "labels": given.labels,
        "options": {name: getattr(given, name) for name in _OPTIONS if hard or name != "ignore_index"},
    }  # fmt: skip


def for_a_person(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are printed as a table."""
    shares = {name: value for name, value in values.items() if name.endswith(("accuracy", "error")) or name == "brier"}
    return {
        "loss": f"{values['loss']:.6g} {values['unit']}, the mean of the rows that count",
        "perplexity": values["perplexity"], **shares, "count": f"{values['count']} of {values['rows']} rows",
        "classes": values["classes"],
        "targets": values["targets"],
    }  # fmt: skip


_OPTIONS = ("axis", "ignore_index", "label_smoothing", "temperature", "softcap")


def _shows_a_bar(given: argparse.Namespace) -> bool:
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return terminal and not given.no_progress and importlib.util.find_spec("tqdm") is not None


def _are_ids(logits: Any, labels: Any, given: argparse.Namespace) -> bool:
    """True if the labels are class ids, False if they are probabilities; an error if their shapes do not fit."""
    shape, found = tuple(logits.shape), tuple(labels.shape)
    if len(shape) < 2:
        swapped = "; are the files swapped?" if len(found) > len(shape) else ""
        raise FileError(f"{given.logits}: shape {shape} is not allowed; logits are rows x classes{swapped}")
    if 0 in shape:
        raise FileError(f"{given.logits}: shape {shape} has no logits")
    lay = layout(shape, given.axis)
    if 0 in lay.axes:
        raise FileError(f"{given.logits}: axis {given.axis} of shape {shape} is the first; allowed are rows along it")
    if found == shape and (labels.dtype.kind not in "iu" or found != (*lay.rows, 1)):
        return False
    if found in (lay.rows, (*lay.rows, 1)):
        return True
    raise FileError(
        f"{given.labels}: shape {found} does not fit {given.logits} of shape {shape}; allowed are {lay.rows} of class"
        f" ids and {shape} of probabilities"
    )


class _Evaluation(logitx.CrossEntropy):
    """An accumulator that looks at the labels of each block: whole class ids, or probabilities within [0, 1]."""

    labels: str  # how their file was given
    hard: bool
    calibration: Calibration | None = None
    seen = 0  # rows along the first axis so far

    def update(self, logits: Any, targets: Any, **options: Any) -> logitx.CrossEntropy:
        """Take some rows."""
        if self.hard:
            targets = self._class_ids(targets[..., 0] if targets.ndim == logits.ndim else targets)
        else:
            targets = self._probabilities(targets)
        super().update(logits, targets, **options)
        if self.calibration is not None:
            self.calibration.update(logits, targets, sample_weight=options.get("sample_weight"))
        self.seen += len(targets)
        return self

    def _class_ids(self, found: Any) -> Any:
        """Return class ids as integers: tables hold them as floats where one was missing once."""
        if found.dtype.kind in "iu" and found.dtype != np.uint64:
            return found
        if found.dtype == np.uint64:
            wrong = found > np.uint64(2**63 - 1)
        else:
            values = found.astype(np.float64)
            wrong = ~((values == np.rint(values)) & (abs(values) < 2.0**63))
        self._refuse(found, wrong, "is no class id; allowed are whole numbers, below 2**63")
        return found.astype(np.int64)

    def _probabilities(self, found: Any) -> Any:
        """Return probabilities as floating numbers: one-hot rows may be integers."""
        low, high = found.min(), found.max()
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN among them too
            wrong = ~((found >= -_ROUNDING) & (found <= 1 + _ROUNDING))
            self._refuse(found, wrong, "is no probability; allowed are 0 to 1")
        return found.astype(np.float32) if found.dtype.kind in "biu" else found

    def _refuse(self, found: Any, wrong: Any, reason: str) -> None:
        if wrong.any():
            place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            raise FileError(f"{self.labels}: {found[place]} in row {self.seen + int(place[0])} {reason}")
