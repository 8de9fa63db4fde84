"""Argument rules of the accumulator `CrossEntropy`, checked when it is made."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx._arguments.cross_entropy import cross_entropy
from logitx._arguments.cures import refuse_weight_by_name
from logitx._arrays.family import is_python_number
from logitx._plan import layout

_DEFAULTS, _EXAMPLE = (-100, 0.0, 0.0, None, 1.0), np.zeros((1, 1))


def check_options(axis: Any, class_weight: Any, options: tuple[Any, ...], empty: Any) -> None:
    """Refuse what no update could use: all but names of axes, and arrays, whose shape only an update can check.

    `options` are ignore_index, label_smoothing, z_loss, softcap and temperature.
    """
    refuse_weight_by_name(class_weight)
    ignored, smoothing, z_loss, softcap, temperature = (
        one if _is_plain(one) else default for one, default in zip(options, _DEFAULTS, strict=True)
    )
    axes = axis if isinstance(axis, tuple) else (axis,)
    if not any(isinstance(one, str) for one in axes):
        layout((1,) * 64, axis)  # NumPy has up to 64 axes
    cross_entropy(
        "cross_entropy", _EXAMPLE, [0], -1, None, None, ignored, smoothing, z_loss, softcap, temperature, None, "none",
        empty, None, False,
    )  # fmt: skip


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str) or is_python_number(value)
