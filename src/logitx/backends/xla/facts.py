"""The facts of a call: the integers that JAX passes along with the arrays, and that a handler reads."""

from __future__ import annotations

from typing import NamedTuple


class CallFacts(NamedTuple):
    """The one attribute of a call, a list of integers. Operands and results have their index, 0 if absent.

    The first operand is the logits and the first result is always there, so that no other has the index 0.
    """

    axis: int
    undefined: int = 0  # 1 if a row without a result gets NaN, 0 if it gets 0
    log: int = 0
    where: int = 0
    temperature: int = 0
    softcap: int = 0
    labels: int = 0  # for `reduce_part`; a loss has its targets at 1
    reduction: int = 0
    ignoring: int = 0
    ignored: int = 0
    hard: int = 0
    class_weight: int = 0
    sample_weight: int = 0
    smoothing: int = 0
    z_loss: int = 0
    b: int = 0
    sign: int = 0  # results
    gradient: int = 0
    z_part: int = 0
    log_normalizer: int = 0
