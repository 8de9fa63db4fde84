"""Scores of single rows: how sure is a model, how familiar is the input."""

from __future__ import annotations

from typing import Any, Literal

from logitx._arguments.operands import first_array
from logitx._arrays.folding import fold_axes
from logitx._functions.cross_entropy import cross_entropy
from logitx._functions.softmax import logsumexp
from logitx._labelled.table import without_labels
from logitx._plan import Array, Axis, layout


def confidence(
    logits: Array,
    /,
    axis: Axis = -1,
    *,
    score: Literal["probability", "energy"] = "probability",
    temperature: float = 1.0,
) -> Array:
    """Score of every row: the higher, the more sure a model is, or the more familiar the input.

    For each row, with the probabilities ``p`` of the logits ``x``::

        probability = max(p)
        energy = temperature * log(sum(exp(x / temperature)))

    Parameters
    ----------
    logits : array
        As in `cross_entropy`, of any array type; labels are taken off.
    axis : int, tuple of int or None, default -1
        The class axis or axes.
    score : {"probability", "energy"}, default "probability"
        The largest probability; or the negative free energy, which does not saturate and tells unfamiliar input better.
    temperature : float, default 1.0
        Divides the logits.

    Returns
    -------
    array
        One number a row.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`.

    References
    ----------
    D. Hendrycks, K. Gimpel, arXiv:1610.02136 (2016), for the probability; W. Liu et al., "Energy-based
    out-of-distribution detection", arXiv:2010.03759 (2020).

    Examples
    --------
    >>> import numpy as np
    >>> from logitx.calibration import confidence
    >>> logits = np.array([[4.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    >>> print(confidence(logits).round(3), confidence(logits, score="energy").round(3))
    [0.965 0.356] [4.036 1.133]
    """
    if score not in ("probability", "energy"):
        raise ValueError(f"score: {score!r} is not allowed; allowed are 'probability' and 'energy'")
    family, x = first_array("logits", without_labels(logits, "logits"))
    xp: Any = family.namespace(x)
    if score == "energy":
        return temperature * logsumexp(x if temperature == 1.0 else x / temperature, axis)
    lay = layout(tuple(x.shape), axis)
    x = fold_axes(family, x, lay)
    best = xp.argmax(x, axis=lay.axis)
    loss = cross_entropy(x, best, lay.axis, ignore_index=None, temperature=temperature, reduction="none")
    return xp.exp(loss * -1.0)
