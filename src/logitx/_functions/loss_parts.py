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
from logitx._dispatch import on_backend
from logitx._functions.evaluated_rows import classes_last, has_maximum, in_compute, numbers_of_rows
from logitx._operations import OPERATIONS, check
from logitx._options import LinearLayer, LossOptions
from logitx._plan import Array, LossParts, Plan
from logitx._prepared import call
from logitx._results import finished, reduced_loss, row_number
from logitx.backends.formulas.class_ids import class_weights_and_shares
from logitx.backends.formulas.linear_blocks import block_plan, block_rows, pieces
from logitx.backends.formulas.numbers import to_compute
from logitx.backends.formulas.pairs import reduce_losses

_OF_LOSS = ("z_loss", "log_normalizer")  # what backends return with a loss


def call_with_parts(op: str, *arguments: Any) -> Any:
    """Return what a loss returns, and a named tuple of its parts; the last argument has the names of the parts."""
    arguments, names = arguments[:-1], _checked(arguments[-1])
    with_loss = bool(set(_OF_LOSS) & set(names))
    plan, operands, _, labels = check(op, *arguments, with_loss)
    told = numbers_of_rows(plan, operands) if set(_OF_ROWS) & set(names) else None
    if told is None:
        found = call(op, *arguments, with_loss)
    else:
        outputs, told = told
        found = OPERATIONS[op].assemble(plan, finished(OPERATIONS[op].outputs, plan, outputs, labels))
    *results, given = found if with_loss else (*_as_tuple(found), None)
    parts = []
    for name in names:
        if name in _OF_LOSS:
            parts.append(getattr(given, name))
            continue
        part = _OF_ROWS[name](plan, operands) if told is None else getattr(told, name)
        parts.append(finished((row_number,), plan, part, labels)[0])
    return (*results, _tuple_of(names)(*parts))


def call_layer(op: str, *arguments: Any) -> Any:
    """Return what the loss of a linear layer returns; the last argument says which parts come with it.

    The parts are made from the logits, block by block.
    """
    arguments, names = arguments[:-1], arguments[-1]
    if names is False:
        return call(op, *arguments)
    names = _OF_LOSS if names is True else _checked(names)
    results = call(op, *arguments)
    results = results if op.endswith("value_and_grad") else (results,)
    plan, (layer, targets, options), _, labels = check(op, *arguments)
    if FAMILIES[plan.family].as_given:
        raise TypeError(
            "return_parts: lazy arrays are not allowed here; allowed are blocks of them, or cross_entropy of"
            " hidden @ weight.T"
        )
    kinds = tuple(reduced_loss if name == "z_loss" else row_number for name in names)
    parts = finished(kinds, plan, _parts_of_layer(plan, names, layer, targets, options), labels)
    return (*results, (LossParts if names == _OF_LOSS else _tuple_of(names))(*parts))


def _parts_of_layer(
    plan: Plan, names: tuple[str, ...], layer: LinearLayer, targets: Array, options: LossOptions
) -> tuple[Array, ...]:
    xp, count, n = FAMILIES[plan.family].namespace(layer.hidden), plan.layout.outer, plan.layout.n
    hidden = xp.reshape(layer.hidden, (count, layer.hidden.shape[-1]))
    targets = xp.reshape(targets, (count,) if plan.hard else (count, n))
    weight = xp.matrix_transpose(to_compute(plan, layer.weight))
    sample = None if options.sample_weight is None else to_compute(plan, xp.reshape(options.sample_weight, (count,)))
    scales = {}
    for name, value in (("softcap", options.softcap), ("temperature", options.temperature)):
        per_row = value is not None and not isinstance(value, float) and value.ndim > 0
        scales[name] = (per_row, xp.reshape(value, (count, 1)) if per_row else value)
    found: list[list[Array]] = [[] for _ in names]
    for piece in pieces(count, block_rows(plan, count)):
        logits = to_compute(plan, hidden[piece, ...]) @ weight
        logits = logits if layer.bias is None else logits + to_compute(plan, layer.bias)[None, :]
        each = options._replace(
            sample_weight=None if sample is None else sample[piece],
            **{name: value[piece, ...] if per_row else value for name, (per_row, value) in scales.items()},
        )
        operands = logits, targets[piece, ...], each
        for values, part in zip(
            found, _parts_of_block(block_plan(plan, logits.shape[0]), names, operands), strict=True
        ):
            values.append(part)
    joined = dict(zip(names, (xp.concat(values, axis=0) for values in found), strict=True))
    if "z_loss" in joined:
        _, share = class_weights_and_shares(plan, xp, targets, options.class_weight, sample)
        joined["z_loss"] = reduce_losses(plan, joined["z_loss"], share)
    return tuple(value if name == "z_loss" else xp.reshape(value, plan.layout.rows) for name, value in joined.items())


def _parts_of_block(plan: Plan, names: tuple[str, ...], operands: tuple[Any, ...]) -> list[Array]:
    """Return the parts of a block of rows, one number a row each."""
    given: dict[str, Array] = {}
    if set(_OF_LOSS) & set(names):
        with_parts = replace(plan, return_parts=True)
        found = on_backend(with_parts, operands, lambda backend: backend.cross_entropy(with_parts, *operands))
        given = dict(zip(_OF_LOSS, found[1:], strict=True))
    return [given[name] if name in given else _OF_ROWS[name](plan, operands) for name in names]


def _as_tuple(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


def _checked(names: Any) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, tuple | list):
        kind = type(names).__name__
        raise TypeError(f"return_parts: {kind} is not allowed; allowed are True, False and a tuple of names")
    allowed = (*_OF_LOSS, *_OF_ROWS)
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
    given = logits, targets, scaled
    return 0.0 - on_backend(each, given, lambda backend: backend.cross_entropy(each, *given))[0]


def _entropies(plan: Plan, operands: tuple[Any, ...]) -> Array:
    logits, _, options = operands
    of_rows = replace(plan, op="entropy", reduction="none", return_parts=False)
    given = logits, options.where, options.temperature, options.softcap
    return on_backend(of_rows, given, lambda backend: backend.entropy(of_rows, *given))


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
