"""Parts of a cross-entropy by name: what ``return_parts=("log_prob", "entropy")`` adds to the loss.

Every part but `z_loss` is one number a row, made of the operands that the check of the loss returns.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from logitx._arrays.families import FAMILIES
from logitx._dispatch import choose
from logitx._functions.evaluated_rows import classes_last, has_maximum, in_compute
from logitx._operations import check
from logitx._options import LossOptions
from logitx._plan import Array, Plan
from logitx._prepared import call
from logitx._results import finished, row_number


def call_with_parts(op: str, names: Any, *arguments: Any) -> Any:
    """Return what a loss returns, and a named tuple of its parts; `arguments` are those of the check but the last."""
    names = _checked(names)
    found = call(op, *arguments, "z_loss" in names or "log_normalizer" in names)
    *results, parts = found if "z_loss" in names or "log_normalizer" in names else (*_as_tuple(found), None)
    plan, operands, _, labels = check("cross_entropy", *arguments, False)
    values = []
    for name in names:
        if name in _OF_ROWS:
            values.append(finished((row_number,), plan, _OF_ROWS[name](plan, operands), labels)[0])
        else:
            values.append(getattr(parts, name))
    return (*results, _tuple_of(names)(*values))


def _as_tuple(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


def _checked(names: Any) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, tuple | list):
        kind = type(names).__name__
        raise TypeError(f"return_parts: {kind} is not allowed; allowed are True, False and a tuple of names")
    allowed = ("z_loss", "log_normalizer", *_OF_ROWS)
    for name in names:
        if name not in allowed:
            raise ValueError(f"return_parts: {name!r} is not allowed; allowed are {', '.join(map(repr, allowed))}")
    if len(set(names)) < len(names):
        raise ValueError(f"return_parts: {tuple(names)} has a name twice; allowed is each name once")
    return tuple(names)


@functools.lru_cache(maxsize=128)
def _tuple_of(names: tuple[str, ...]) -> Callable[..., Any]:
    return namedtuple("LossParts", names)


def _log_probabilities(plan: Plan, operands: tuple[Any, ...]) -> Array:
    """Return the sum of t log(p), for a class id its log-probability: the loss without any weight, turned around."""
    logits, targets, options = operands
    each = replace(plan, op="cross_entropy", reduction="none", return_parts=False)
    scaled = LossOptions(where=options.where, temperature=options.temperature, softcap=options.softcap)
    return 0.0 - choose(each, (logits, targets, scaled)).cross_entropy(each, logits, targets, scaled)[0]


def _entropies(plan: Plan, operands: tuple[Any, ...]) -> Array:
    logits, _, options = operands
    of_rows = replace(plan, op="entropy", reduction="none", return_parts=False)
    scaling = options.where, options.temperature, options.softcap
    return choose(of_rows, (logits, *scaling)).entropy(of_rows, logits, *scaling)


def _hits(plan: Plan, operands: tuple[Any, ...]) -> Array:
    """Return True for rows whose label has the highest logit, the first among equals; False for ignored rows."""
    logits, targets, options = operands
    xp = FAMILIES[plan.family].namespace(logits)
    x = classes_last(plan, logits)
    if options.where is not None:
        x = xp.where(classes_last(plan, xp.broadcast_to(options.where, logits.shape)), x, -xp.inf)
    ids = targets if plan.hard else xp.argmax(in_compute(plan, classes_last(plan, targets)), axis=-1)
    hits = (xp.argmax(x, axis=-1) == ids) & has_maximum(xp, x)
    return hits & (ids != plan.ignore_index) if plan.hard and plan.ignore_index is not None else hits


_OF_ROWS: dict[str, Callable[[Plan, tuple[Any, ...]], Array]] = {
    "log_prob": _log_probabilities,
    "entropy": _entropies,
    "correct": _hits,
}
