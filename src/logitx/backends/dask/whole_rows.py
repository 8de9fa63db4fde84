"""Blocks that hold whole rows: each block is one call of a public function, on the backend of its array type."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import logitx
from logitx._arguments.ranges import need_float64
from logitx._arrays.families import FAMILIES, family_of
from logitx._arrays.family import namespace_dtype
from logitx._label_error import LabelError
from logitx._plan import Array, Plan
from logitx.backends.dask.chunks import Work, first_of
from logitx.backends.formulas.class_ids import row_shares
from logitx.backends.formulas.numbers import empty_value, mean_of

_SCALED = ("where", "temperature", "softcap")


class Part(NamedTuple):
    """The losses of a block of rows: each field has one number a row."""

    loss: Array
    z_loss: Array
    log_normalizer: Array
    share: Array  # s c where the row counts, else 0


class Totals(NamedTuple):
    """Sums over rows, in float64."""

    loss: Array
    z_loss: Array
    share: Array


def space(block: Any) -> Any:
    """Return the namespace of a block."""
    family = family_of(block)
    if family is None:
        raise TypeError(f"a block of {type(block).__name__} is not an array type that logitx knows")
    return FAMILIES[family.name].namespace(block)


def solid(xp: Any, result: Any, dtype: str) -> Any:
    """Return a result as an array, not a scalar, of a dtype."""
    if isinstance(result, np.generic):
        result = np.asarray(result)
    with np.errstate(over="ignore"):  # a sum that is beyond the dtype is inf
        return xp.astype(result, namespace_dtype(xp, dtype), copy=False)


def whole_normalized(work: Work, *blocks: Any) -> Any:
    """Compute softmax or log_softmax."""
    given, plan = work.given(blocks), work.plan
    options = {name: given[name] for name in _SCALED if given[name] is not None}
    return getattr(logitx, plan.op)(
        given["x"], axis=plan.layout.axes, empty=plan.empty, dtype=plan.result, **options
    )  # fmt: skip


def whole_normalizer(work: Work, *blocks: Any) -> Any:
    """Compute logsumexp, and its sign if that is asked for."""
    given, plan = work.given(blocks), work.plan
    x, options = given["x"], {name: given[name] for name in ("b", "where")}
    found = logitx.logsumexp(
        x, axis=plan.layout.axes, return_sign=plan.return_sign, dtype=plan.result, **options
    )  # fmt: skip
    xp = space(x)
    return tuple(solid(xp, one, plan.result) for one in found) if plan.return_sign else solid(xp, found, plan.result)


def whole_pulled_back(work: Work, *blocks: Any) -> Any:
    """Compute softmax_vjp or log_softmax_vjp of a block."""
    given, plan = work.given(blocks), work.plan
    return getattr(logitx, plan.op)(given["x"], given["cotangent"], axis=plan.layout.axes)


def merged_normalizers(work: Work, *blocks: Any) -> Any:
    """Merge two blocks of normalizers."""
    given = work.given(blocks)
    a, b = given["x"], given["cotangent"]
    return solid(space(a), logitx.merge_logsumexp(a, b), work.plan.result)


def whole_losses(work: Work, *blocks: Any) -> Part:
    """Compute the loss of every row."""
    given = work.given(blocks)
    found = loss_of_block(work, given, given["sample_weight"], logitx.cross_entropy)
    return part_of_block(work, given, found, given["sample_weight"])


def whole_losses_and_gradient(work: Work, *blocks: Any) -> tuple[Any, ...]:
    """Compute the loss of every row and, last, the gradient, both divided by the mean's denominator if there is one."""
    given = work.given(blocks)
    weight = divided(work, given)
    loss, gradient, *more = loss_of_block(work, given, weight, logitx.cross_entropy_value_and_grad)
    found = (loss, *more) if more else loss
    return (*part_of_block(work, given, found, weight), gradient)


def whole_gradient_and_hessian(work: Work, *blocks: Any) -> Any:
    """Compute the gradient and the diagonal of the Hessian."""
    given = work.given(blocks)
    return with_whole_positions(
        work, given, logitx.cross_entropy_grad_hess, given["x"], given["targets"], axis=work.plan.layout.axes,
        class_weight=flat_weights(given["class_weight"]), sample_weight=given["sample_weight"],
    )  # fmt: skip


def share_of(given: dict[str, Any]) -> float:
    """Return 1 over the denominator of the mean, 1 without one; 0 where that is 0."""
    whole = given.get("whole")
    if whole is None:
        return 1.0
    whole = float(whole)
    return 0.0 if whole == 0.0 else 1.0 / whole


def divided(work: Work, given: dict[str, Any]) -> Any:
    """Return sample weights divided by the denominator of the mean; 0 where that is 0."""
    weight = given["sample_weight"]
    if given.get("whole") is None:
        return weight
    factor, xp = share_of(given), space(given["x"])
    if weight is None:
        return xp.full((1,) * len(work.plan.layout.rows), factor, dtype=xp.float64)
    return xp.where(weight == 0, 0.0, xp.astype(weight, xp.float64) * factor)


def loss_of_block(work: Work, given: dict[str, Any], sample_weight: Any, function: Any) -> Any:
    """Call a loss on a block, for the losses of its rows."""
    plan, targets = work.plan, given["targets"]
    options: dict[str, Any] = {name: given[name] for name in _SCALED if given[name] is not None}
    options |= {name: given[name] for name in ("label_smoothing", "z_loss") if given[name] is not None}
    return with_whole_positions(
        work, given, function, given["x"], targets, axis=plan.layout.axes,
        class_weight=flat_weights(given["class_weight"]), sample_weight=sample_weight, ignore_index=plan.ignore_index,
        reduction="none", empty=plan.empty, dtype=_loss_dtype(work, given, sample_weight),
        return_parts=plan.return_parts, **options,
    )  # fmt: skip


def _loss_dtype(work: Work, given: dict[str, Any], sample_weight: Any) -> str:
    """Return the dtype of the losses of a block, float64 if weights are beyond float32; they are rounded later."""
    x, plan = given["x"], work.plan
    if need_float64(family_of(x), x, given["class_weight"], sample_weight):  # type: ignore[arg-type]
        return "float64"
    return min(plan.loss, plan.compute)


def flat_weights(class_weight: Any) -> Any:
    """Return weights of classes along one axis."""
    return None if class_weight is None else class_weight.reshape(-1)


def with_whole_positions(work: Work, given: dict[str, Any], function: Any, *arguments: Any, **options: Any) -> Any:
    """Call a function; a LabelError that it raises is given the position of the label in the whole array."""
    try:
        return function(*arguments, **options)
    except LabelError as error:
        raise _placed(work, given, error) from None


def _placed(work: Work, given: dict[str, Any], error: LabelError) -> LabelError:
    rows = work.plan.layout.rows
    first = [given[name] for name in given if name.startswith("row ")]
    if len(first) != len(rows):
        return error  # the sizes of the chunks are not known
    return error.within(work.plan, tuple(map(first_of, first)))


def part_of_block(work: Work, given: dict[str, Any], found: Any, sample_weight: Any) -> Part:
    """Return the losses of a block with the shares of its rows."""
    plan, x = work.plan, given["x"]
    xp = space(x)
    loss, parts = found if plan.return_parts else (found, None)
    dtype = _loss_dtype(work, given, sample_weight)
    loss = solid(xp, loss, dtype)
    z_loss, log_normalizer = (None, None) if parts is None else (solid(xp, one, dtype) for one in parts)
    if plan.reduction == "mean":
        where = None if given["where"] is None else xp.broadcast_to(given["where"], x.shape)
        counted = row_shares(
            plan, xp, given["targets"], given["class_weight"], sample_weight, where, plan.layout.axes
        )  # fmt: skip
    else:
        counted = None
    return Part(loss, z_loss, log_normalizer, counted)


# -- sums over rows ---------------------------------------------------------------------------------------------------


def totals(block: Any) -> Totals:
    """Add up the rows of a block in float64."""
    loss, z_loss, _, share = block[:4]
    xp = space(loss)
    share = None if share is None else xp.broadcast_to(share, loss.shape)
    return Totals(*(0.0 if one is None else xp.sum(one, dtype=xp.float64) for one in (loss, z_loss, share)))


def add_totals(blocks: list[Totals]) -> Totals:
    """Add totals."""
    return Totals(*map(sum, zip(*blocks, strict=True)))


def sum_or_mean(plan: Plan, value: Array, share: Array) -> Any:
    """Return the sum or the mean of a loss."""
    xp = np if isinstance(value, float | np.generic) else space(value)
    if plan.reduction == "mean":
        with np.errstate(all="ignore"):
            value = mean_of(xp, value, share, empty_value(plan))
    return solid(xp, xp.asarray(value), plan.loss)
