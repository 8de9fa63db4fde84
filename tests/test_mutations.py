"""The suite has teeth: break an operation in one named way, and the named case must catch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from logitx._options import flat, nested
from logitx.backends import generic
from logitx.testing import OPS, TARGETS, Cell, check

Operation = Callable[..., Any]
TARGET = next(target for target in TARGETS if target.name == "numpy-generic")


@dataclass(frozen=True)
class Mutation:
    """A way to break an operation, whose operands come one by one, and the case that must notice."""

    name: str
    op: str
    breaks: Callable[[Operation], Operation]
    case: str
    says: str  # part of the message: the row that is wrong, or what is wrong
    dtype: str = "float32"

    @property
    def id(self) -> str:
        return f"{self.op}: {self.name}".replace(" ", "_")


def _row(name: str) -> str:
    return repr(name)


def _plan(**changes: Any) -> Callable[[Operation], Operation]:
    """Run the operation on a plan with other facts; a callable makes one from the plan."""

    def breaks(operation: Operation) -> Operation:
        def broken(plan: Any, *operands: Any) -> Any:
            facts = {name: change(plan) if callable(change) else change for name, change in changes.items()}
            return operation(replace(plan, **facts), *operands)

        return broken

    return breaks


def _operand(position: int, change: Callable[[Any], Any]) -> Callable[[Operation], Operation]:
    """Change one operand that is not None."""

    def breaks(operation: Operation) -> Operation:
        def broken(plan: Any, *operands: Any) -> Any:
            changed = list(operands)
            if changed[position] is not None:
                changed[position] = change(changed[position])
            return operation(plan, *changed)

        return broken

    return breaks


def _result(change: Callable[..., Any]) -> Callable[[Operation], Operation]:
    """Change the result: ``change(result, plan, *operands)``."""

    def breaks(operation: Operation) -> Operation:
        def broken(plan: Any, *operands: Any) -> Any:
            with np.errstate(all="ignore"):
                return change(operation(plan, *operands), plan, *operands)

        return broken

    return breaks


def _other_axis(plan: Any) -> Any:
    layout = plan.layout
    return replace(layout, axis=(layout.axis + 1) % len(layout.shape)) if len(layout.shape) > 1 else layout


def _swapped(plan: Any) -> str:
    return "zero" if plan.empty == "nan" else "nan"


# -- the softmax family -----------------------------------------------------------------------------------------------


def _without_shift(p: Any, plan: Any, x: Any, *_: Any) -> Any:
    e = np.exp(x)
    return e / e.sum(axis=plan.layout.axis, keepdims=True)


def _lse_without_shift(result: Any, plan: Any, x: Any, *_: Any) -> Any:
    return np.log(np.exp(x).sum(axis=plan.layout.axis)), result[1]


def _through_log_normalizer(p: Any, plan: Any, x: Any, *_: Any) -> Any:
    top = x.max(axis=plan.layout.axis, keepdims=True)
    return np.exp(x - (top + np.log(np.exp(x - top).sum(axis=plan.layout.axis, keepdims=True))))


def _log_of_softmax(log_p: Any, plan: Any, x: Any, *_: Any) -> Any:
    top = x.max(axis=plan.layout.axis, keepdims=True)
    e = np.exp(x - top)
    return np.log(e / e.sum(axis=plan.layout.axis, keepdims=True))


def _log_of_sum(log_p: Any, plan: Any, x: Any, *_: Any) -> Any:
    v = x - x.max(axis=plan.layout.axis, keepdims=True)
    return v - np.log(np.exp(v).sum(axis=plan.layout.axis, keepdims=True))


def _in_integers(p: Any, plan: Any, x: Any, *_: Any) -> Any:
    e = np.exp((x - x.max(axis=plan.layout.axis, keepdims=True)).astype(np.float64))  # wraps around
    return e / e.sum(axis=plan.layout.axis, keepdims=True)


def _in_half(p: Any, plan: Any, x: Any, *_: Any) -> Any:
    e = np.exp(x - x.max(axis=plan.layout.axis, keepdims=True))
    return e / np.sum(e, axis=plan.layout.axis, keepdims=True, dtype=np.float16)


def _in_place(operation: Operation) -> Operation:
    def broken(plan: Any, x: Any, *operands: Any) -> Any:
        p = operation(plan, x, *operands)
        x[...] = p
        return p

    return broken


def _masked_wins(p: Any, plan: Any, x: Any, where: Any, *_: Any) -> Any:
    """Shift by the maximum of all entries, masked ones too."""
    if where is None:
        return p
    e = np.where(where, np.exp(x - x.max(axis=plan.layout.axis, keepdims=True)), 0)
    return e / e.sum(axis=plan.layout.axis, keepdims=True)


def _temperature_on_the_probabilities(p: Any, plan: Any, x: Any, where: Any, temperature: Any, *_: Any) -> Any:
    return p if temperature is None else p / temperature


# -- cross-entropy ----------------------------------------------------------------------------------------------------


def _off_by_one(targets: Any) -> Any:
    return targets if targets.dtype.kind == "f" else np.where(targets >= 0, (targets + 1) % 3, targets)


def _over_all_rows(operation: Operation) -> Operation:
    def broken(plan: Any, *operands: Any) -> Any:
        if plan.reduction != "mean":
            return operation(plan, *operands)
        loss, *parts = operation(replace(plan, reduction="none"), *operands)
        return (np.mean(loss), *parts)

    return broken


def _soft_over_all_rows(operation: Operation) -> Operation:
    over_all = _over_all_rows(operation)
    return lambda plan, *operands: (operation if plan.hard else over_all)(plan, *operands)


def _ignored_counted(operation: Operation) -> Operation:
    def broken(plan: Any, x: Any, targets: Any, *operands: Any) -> Any:
        if not plan.hard or plan.ignore_index is None:
            return operation(plan, x, targets, *operands)
        labels = np.where(targets == plan.ignore_index, 0, targets)
        return operation(replace(plan, ignore_index=None), x, labels, *operands)

    return broken


def _in_logits_dtype(operation: Operation) -> Operation:
    def broken(plan: Any, x: Any, targets: Any, *operands: Any) -> Any:
        if plan.hard and plan.ignore_index is not None:
            same = targets.astype(x.dtype) == np.asarray(plan.ignore_index).astype(x.dtype)
            targets = np.where(same, plan.ignore_index, targets)
        return operation(plan, x, targets, *operands)

    return broken


def _masked_as_logits(operation: Operation) -> Operation:
    """Mask by -inf in the logits: smoothing then spreads over all classes."""

    def broken(plan: Any, x: Any, *operands: Any) -> Any:
        *others, where = operands
        if where is None:
            return operation(plan, x, *operands)
        return operation(plan, np.where(where, x, -np.inf).astype(x.dtype), *others, None)

    return broken


def _label_unmasked(result: Any, plan: Any, x: Any, targets: Any, *operands: Any) -> Any:
    """Mask the normalizer but not the logit of the label."""
    where = operands[-1]
    if where is None or not plan.hard or plan.reduction != "none" or x.ndim != 2:
        return result
    loss, z, normalizer = result
    labels = np.clip(targets, 0, plan.layout.n - 1)
    rows = np.arange(len(labels))
    hidden = ~where[rows, labels] & where.any(axis=1) & (targets >= 0)
    return np.where(hidden, normalizer - x[rows, labels], loss).astype(loss.dtype), z, normalizer


def _zero_times_infinity(result: Any, plan: Any, x: Any, targets: Any, *operands: Any) -> Any:
    if plan.hard or plan.reduction != "none":
        return result
    loss, z, normalizer = result
    return loss + 0 * (targets * x).sum(axis=plan.layout.axis).astype(loss.dtype), z, normalizer


def _stored_in_half(result: Any, plan: Any, x: Any, *_: Any) -> Any:
    loss, *parts = result
    return (loss.astype(x.dtype).astype(loss.dtype), *parts)


def _cancelling(result: Any, plan: Any, x: Any, targets: Any, *operands: Any) -> Any:
    """Gradient p - 1 at the label, after p was rounded."""
    if not plan.hard or x.ndim != 2 or any(one is not None for one in operands) or plan.layout.axis != 1:
        return result
    loss, gradient, *parts = result
    rows = np.flatnonzero((targets >= 0) & np.isfinite(x).all(axis=1))
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    gradient[rows, targets[rows]] = p[rows, targets[rows]] - np.float32(1)
    return (loss, gradient, *parts)


def _rounded_where_signed(result: Any, plan: Any, x: Any, b: Any, where: Any, *_: Any) -> Any:
    """A sum of factors of both signs, as NumPy adds it up."""
    if b is None or x.ndim != 2 or plan.layout.axis != 1:
        return result
    value, sign = result
    top = x.max(axis=1, keepdims=True)
    total = (b * np.exp(x - top)).sum(axis=1)
    plain = (b < 0).any(axis=1) & (b != 0).all(axis=1) & np.isfinite(x).all(axis=1)
    return np.where(plain, top[:, 0] + np.log(np.abs(total)), value).astype(value.dtype), sign


SOFTMAX = (
    Mutation("no max-shift", "softmax", _result(_without_shift), "special rows", _row("offset 10000")),
    Mutation("exp(x - logZ)", "softmax", _result(_through_log_normalizer), "special rows", _row("offset 10000")),
    Mutation("wrong axis", "softmax", _plan(layout=_other_axis), "special rows", _row("plain")),
    Mutation("empty policy swapped", "softmax", _plan(empty=_swapped), "special rows", _row("all -inf")),
    Mutation("mask leaking", "softmax", _operand(1, lambda where: None), "masked rows", _row("masked NaN")),
    Mutation("masked maximum wins", "softmax", _result(_masked_wins), "masked rows", _row("masked maximum")),
    Mutation("wrong temperature", "softmax", _operand(2, lambda t: 1 / t), "special rows, scaled", _row("plain")),
    Mutation(
        "temperature on p", "softmax", _result(_temperature_on_the_probabilities), "special rows, scaled", _row("equal")
    ),
    Mutation("no softcap", "softmax", _operand(3, lambda cap: None), "special rows, scaled", _row("offset 10000")),
    Mutation("integers wrap around", "softmax", _result(_in_integers), "int8 wraparound", "entries", "integer"),
    Mutation("sum in half precision", "softmax", _result(_in_half), "float16 sum of 70000", "entries", "float16"),
    Mutation("promoted", "softmax", _plan(result="float64"), "special rows", "dtype is float64", "float16"),
    Mutation("writes to its input", "softmax", _in_place, "special rows", "argument 0 was modified"),
    Mutation("log of softmax", "log_softmax", _result(_log_of_softmax), "special rows", _row("104 below the maximum")),
    Mutation("log of the sum", "log_softmax", _result(_log_of_sum), "special rows", _row("dominating maximum")),
    Mutation("no max-shift", "logsumexp", _result(_lse_without_shift), "special rows", _row("offset 10000")),
    Mutation("sign of b lost", "logsumexp", _operand(1, np.abs), "rows with b", _row("sum is negative")),
    Mutation("signed sum rounded", "logsumexp", _result(_rounded_where_signed), "rows with b", _row("maxima cancel")),
    Mutation("b == 0 leaks", "logsumexp", _operand(1, lambda b: b + 1e-30), "rows with b", _row("b == 0 on NaN")),
)  # fmt: skip

LOSS = "cross_entropy"
GRAD = "cross_entropy_value_and_grad"
HESS = "cross_entropy_grad_hess"
LOSSES = (
    Mutation("label off by one", LOSS, _operand(1, _off_by_one), "rows", _row("plain")),
    Mutation("mean over N, class weights", LOSS, _over_all_rows, "mean with class weights", "loss"),
    Mutation("mean over N, ignored rows", LOSS, _over_all_rows, "mean with ignored rows", "loss"),
    Mutation(
        "mean over N, soft labels", LOSS, _soft_over_all_rows, "mean with class weights, one-hot soft labels", "loss"
    ),
    Mutation("wrong axis", LOSS, _plan(layout=_other_axis), "rows", ""),
    Mutation("ignored counted", LOSS, _ignored_counted, "rows", _row("ignored")),
    Mutation("ignored counted in the mean", LOSS, _ignored_counted, "mean with class weights and ignored rows", "loss"),
    Mutation("ids compared as logits", LOSS, _in_logits_dtype, "label 257 beside ignore_index 256", "loss", "bfloat16"),
    Mutation("mask leaking", LOSS, _operand(8, lambda where: None), "masked rows", _row("masked NaN")),
    Mutation("label not masked", LOSS, _result(_label_unmasked), "masked rows", _row("masked label")),
    Mutation(
        "smoothing over masked classes", LOSS, _masked_as_logits, "masked rows, smoothed", _row("other class masked")
    ),
    Mutation("0 times -inf", LOSS, _result(_zero_times_infinity), "soft rows", _row("0 at -inf")),
    Mutation("empty policy swapped", LOSS, _plan(empty=_swapped), "all ignored, empty=zero", "loss"),
    Mutation("sample weight lost", LOSS, _operand(3, lambda s: None), "sample weight 0 on a NaN row", "loss"),
    Mutation("z-loss not squared", LOSS, _operand(5, lambda z: z / 2), "rows, weighted z-loss", _row("plain")),
    Mutation("losses stored in half", LOSS, _result(_stored_in_half), "bfloat16 loss of 36", "loss", "bfloat16"),
    Mutation(
        "gradient sign", GRAD, _result(lambda r, *_: (r[0], -r[1], *r[2:])), "rows", "gradient"
    ),
    Mutation("gradient cancels at the label", GRAD, _result(_cancelling), "rows", _row("dominating label")),
    Mutation(
        "mask leaking", GRAD, _operand(8, lambda where: None), "masked rows", _row("masked maximum")
    ),
    Mutation("wrong temperature", GRAD, _operand(7, lambda t: 1 / t), "rows, scaled", _row("plain")),
    Mutation("class weights lost", HESS, _operand(2, lambda w: None), "rows, weighted", _row("dominating label")),
    Mutation("hessian is p", HESS, _result(lambda r, *_: (r[0], np.abs(r[0]))), "rows", "hessian"),
)  # fmt: skip

LINEAR, LINEAR_GRAD = "linear_cross_entropy", "linear_cross_entropy_value_and_grad"


def _inexact(result: Any, plan: Any, hidden: Any, weight: Any, *_: Any) -> Any:
    loss, dhidden, dweight, dbias = result
    return loss, dhidden, dweight + 1e-3 * np.abs(dweight), dbias


LAYERS = (
    Mutation("bias lost", LINEAR, _operand(2, lambda b: None), "a class at -inf", _row("plain")),
    Mutation("label off by one", LINEAR, _operand(3, _off_by_one), "rows", _row("plain")),
    Mutation("softcap lost", LINEAR, _operand(8, lambda cap: None), "rows, scaled", _row("dominated label")),
    Mutation("last class lost", LINEAR, _operand(2, lambda b: np.where(np.arange(len(b)) == len(b) - 1, -np.inf, b)),
             "1000 classes in tiles", "loss"),
    Mutation("ignored counted in the mean", LINEAR, _result(lambda r, plan, hidden, *_: r * 0.75),
             "ignore_index is a valid id", "loss"),
    Mutation("gradient of the sum", LINEAR_GRAD, _plan(reduction="sum"), "rows in tiles", "loss"),
    Mutation("dhidden of the wrong sign", LINEAR_GRAD, _result(lambda r, *_: (r[0], -r[1], *r[2:])), "rows",
             _row("plain")),
    Mutation("dweight rounded off", LINEAR_GRAD, _result(_inexact), "rows in tiles", "dweight"),
    Mutation("dbias lost", LINEAR_GRAD, _result(lambda r, *_: (*r[:3], None if r[3] is None else 0 * r[3])),
             "1000 classes in tiles", "dbias"),
    Mutation("NaN of a dead row leaks", LINEAR_GRAD,
             _result(lambda r, plan, hidden, *_: (r[0], r[1], r[2] + 0 * hidden.sum(), r[3])), "rows in tiles",
             "dweight"),
)  # fmt: skip

REST = (
    Mutation("no inner sum", "softmax_vjp", _result(lambda r, plan, p, dp: p * dp), "special rows", _row("plain")),
    Mutation(
        "no inner sum", "log_softmax_vjp", _result(lambda r, plan, log_p, d: np.array(d)), "special rows", _row("plain")
    ),
    Mutation("too much", "entropy", _result(lambda r, *_: r + 0.25), "special rows", _row("plain")),
    Mutation("too much", "softmax_mean", _result(lambda r, *_: r + 0.25), "special rows", _row("plain")),
    Mutation(
        "mask leaking", "selected_log_softmax", _operand(2, lambda _: None), "masked rows, ids=few", _row("some masked")
    ),
    Mutation("mask leaking", "kl_divergence", _operand(2, lambda _: None), "masked rows, even", _row("some masked")),
    Mutation("mask leaking", "js_divergence", _operand(2, lambda _: None), "masked rows, even", _row("some masked")),
    Mutation("only the larger", "merge_logsumexp", _result(lambda r, plan, a, b: np.maximum(a, b)), "every pair", ""),
    Mutation("mask leaking", "segment_softmax", _operand(3, lambda _: None), "masked rows", _row("masked maximum")),
    Mutation("mask leaking", "segment_log_softmax", _operand(3, lambda _: None), "masked rows", _row("masked +inf")),
    Mutation("no empty one", "segment_logsumexp", _result(lambda r, *_: np.maximum(r, -9)), "special rows", "-inf"),
    Mutation("no mask", "segment_cross_entropy", _operand(4, lambda _: None), "masked rows, reduction=none", "loss"),
    Mutation("no +inf", "log_matmul", _result(lambda r, *_: np.nan_to_num(r)), "special sums", "product"),
    Mutation("wrong way", "logcumsumexp", _plan(reverse=lambda p: not p.reverse), "special rows", _row("plain")),
)


_OF_ELEMENTS = [(f"binary_cross_entropy{more}", name, position, change, f"elements, {case}")
                for more in ("", "_value_and_grad", "_grad_hess")
                for name, position, change, case in (("pos_weight", 2, np.ones_like, "weighted"),
                ("weight", 3, np.ones_like, "weighted"), ("mask", 7, np.ones_like, "masked"))]  # fmt: skip
_OF_POWERS = [(op, "gamma", 9, lambda _: None, "rows, gamma=2.0") for op in ("focal_loss", "focal_loss_value_and_grad")]
BINARY = (
    Mutation("a product", "sigmoid", _result(lambda r, plan, x, out: np.exp(x) * np.array(r)), "elements", "far below"),
    Mutation("the other class", "log_sigmoid", _result(lambda r, plan, x, out: r - x), "elements", "far above"),
    *(Mutation(f"no {name}", op, _operand(position, change), case, "")
      for op, name, position, change, case in (*_OF_ELEMENTS, *_OF_POWERS)),
)  # fmt: skip


@pytest.mark.parametrize("mutation", [*SOFTMAX, *LOSSES, *LAYERS, *REST, *BINARY], ids=lambda mutation: mutation.id)
def test_mutation_is_caught(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    op = next(row for row in OPS if row.name == mutation.op)
    cell = Cell(op, TARGET, mutation.dtype)
    case = op.case(mutation.case, mutation.dtype)
    assert not check(cell, [case]).failures, "the case fails without the mutation"
    operation = getattr(generic, mutation.op)
    broken = mutation.breaks(lambda plan, *values: operation(plan, *nested(mutation.op, values)))
    monkeypatch.setattr(generic, mutation.op, lambda plan, *operands: broken(plan, *flat(operands)))
    failures = {failure.case: failure.message for failure in check(cell).failures}
    assert mutation.case in failures, f"not caught by {mutation.case!r}, only by {list(failures)}"
    assert mutation.says in failures[mutation.case]


def test_every_operation_of_a_backend_has_a_mutation() -> None:
    """Functions that call others have none of their own to break."""
    broken = {mutation.op for mutation in (*SOFTMAX, *LOSSES, *LAYERS, *REST, *BINARY)}
    assert {op.name for op in OPS if hasattr(generic, op.name)} <= broken
