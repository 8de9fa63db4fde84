"""The rows of OPS for functions of segments."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx.testing import segments
from logitx.testing.examples import Example, Inputs, given
from logitx.testing.operation import Op

_LACKS = {
    "memory": "the formulas make arrays of the shape of the logits",
    "fuzz": "the grid draws ids of eight kinds",
}


def _ids(i: Inputs) -> dict[str, Any]:
    """Return ids of segments along the first axis, of which one more has no entry."""
    return {"segment_ids": i.labels, "num_segments": i.x.shape[1] + 1}


def _offsets(i: Inputs) -> dict[str, Any]:
    """Return offsets along the last axis: of one entry, of none, and of all others."""
    return {"axis": 1, "offsets": np.array([0, 1, 1, i.x.shape[1]])}


_EXAMPLES = (
    Example("plain", lambda i: given(i.x, **_ids(i))),
    Example("by offsets, masked", lambda i: given(i.x, **_offsets(i), where=i.where)),
)

SEGMENTS: tuple[Op, ...] = (
    Op(
        "segment_softmax",
        segments.softmax_grid,
        segments.softmax_cases,
        segments.segment_softmax,
        ulps=2.0,
        why="as softmax",
        examples=_EXAMPLES,
        lacks=_LACKS,
    ),
    Op(
        "segment_log_softmax",
        segments.softmax_grid,
        segments.softmax_cases,
        segments.segment_log_softmax,
        ulps=2.0,
        why="as log_softmax",
        examples=_EXAMPLES,
        lacks=_LACKS,
    ),
    Op(
        "segment_logsumexp",
        segments.logsumexp_grid,
        segments.logsumexp_cases,
        segments.segment_logsumexp,
        labelled=False,
        ulps=2.0,
        why="as logsumexp",
        examples=_EXAMPLES,
        lacks=_LACKS,
    ),
    Op(
        "segment_cross_entropy",
        segments.loss_grid,
        segments.loss_cases,
        segments.segment_cross_entropy,
        labelled=False,
        ulps=2.0,
        why="as cross_entropy, and the sum over segments",
        examples=(
            Example("plain", lambda i: given(i.x, i.probabilities, **_ids(i)), (0, 1)),
            Example("of each segment", lambda i: given(i.x, i.probabilities, **_offsets(i), reduction="none"), (0, 1)),
        ),
        lacks=_LACKS,
    ),
)
