"""What a case must give: the oracle applied to every row of its arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitx.testing import oracle, oracle_loss
from logitx.testing.cases import Case, Data, NDArray, from_rows, row_shape, to_rows
from logitx.testing.oracle import Near, Sum, mpf


@dataclass(frozen=True, eq=False)
class Expected:
    """One array of a result.

    Attributes
    ----------
    name : str
        What it is, for messages.
    high, low : ndarray
        The value as an unevaluated sum of two float64 numbers: exact to 106 bits.
    slack : ndarray
        See `logitx.testing.oracle`.
    kind : str
        "result" or "loss", or "hidden", "weight" or "bias" for the gradient by one: which dtype rule holds.
    elementwise : bool
        It has the shape of the logits; else it is the result of a reduction.
    by_row : ndarray
        Flat index of the row of logits that each entry belongs to; empty where it belongs to none.
    moved, ceiling : ndarray or None
        See `logitx.testing.oracle.Sum`; None where nothing cancels.
    undefined : bool
        A sum that may have lost its sign may also be NaN.
    """

    name: str
    high: NDArray
    low: NDArray
    slack: NDArray
    kind: str
    elementwise: bool
    by_row: NDArray
    moved: NDArray | None = None
    ceiling: NDArray | None = None
    undefined: bool = False


def split_numbers(entries: Iterable[Near | Sum], shape: tuple[int, ...]) -> tuple[NDArray, NDArray, NDArray]:
    """Return the entries as arrays: the high and low parts of their values, and their slack."""
    high, low, slack = [], [], []
    for near in entries:
        first = float(near.value)
        high.append(first)
        low.append(float(near.value - mpf(first)) if np.isfinite(first) else 0.0)
        slack.append(float(near.slack))
    arrays = [np.asarray(column, dtype=np.float64).reshape(shape) for column in (high, low, slack)]
    return arrays[0], arrays[1], arrays[2]


def like_logits(name: str, rows: Sequence[Sequence[Near]], x: NDArray, axis: Any) -> Expected:
    """Return an array of the shape of the logits, given row by row."""
    matrix = to_rows(x, axis).shape
    high, low, slack = (
        from_rows(part, x.shape, axis) for part in split_numbers((one for row in rows for one in row), matrix)
    )
    numbers = np.broadcast_to(np.arange(matrix[0])[:, None], matrix)
    return Expected(name, high, low, slack, "result", True, from_rows(numbers, x.shape, axis))


def one_a_row(name: str, entries: Sequence[Near] | Sequence[Sum], shape: tuple[int, ...], kind: str) -> Expected:
    """Return an expected array with one number a row."""
    return Expected(name, *split_numbers(entries, shape), kind, False, np.arange(len(entries)).reshape(shape))


def like_elements(name: str, entries: Sequence[Near], shape: tuple[int, ...]) -> Expected:
    """Return an array of the shape of the logits, each of which is a row of its own."""
    return Expected(name, *split_numbers(entries, shape), "result", True, np.arange(len(entries)).reshape(shape))


def scalar(name: str, entry: Near) -> Expected:
    """Return an expected number of the whole call."""
    return Expected(name, *split_numbers([entry], ()), "loss", False, np.empty(0, dtype=np.int64))


def values_of(option: Any) -> Any:
    """Return the values of an option that may be an array."""
    return option.values if isinstance(option, Data) else option


def spread(option: Any, x: NDArray, axis: Any, default: Any) -> NDArray:
    """Return an option that broadcasts against the logits as rows."""
    value = default if option is None else values_of(option)
    return to_rows(np.broadcast_to(np.asarray(value), x.shape), axis)


def each_row(option: Any, x: NDArray, axis: Any, default: Any) -> list[Any]:
    """Return an option that is constant along the classes: one number a row."""
    if option is None:
        option = default
    count = int(np.prod(row_shape(x.shape, axis), dtype=np.int64))
    if option is None:
        return [None] * count
    kept = np.broadcast_to(np.asarray(values_of(option)), row_shape(x.shape, axis, keepdims=True))
    return list(kept.reshape(-1).tolist())


def reduced_rows(case: Case) -> tuple[NDArray, Any, list[oracle.Row]]:
    """Return the logits of a case, their axis, and each row reduced."""
    x, options = case.args[0].values, case.options
    axis = options.get("axis", -1)
    rows = [
        oracle.reduce_row(*row)
        for row in zip(
            to_rows(x, axis),
            spread(options.get("where"), x, axis, True),
            each_row(options.get("temperature"), x, axis, 1.0),
            each_row(options.get("softcap"), x, axis, None),
            strict=True,
        )
    ]
    return x, axis, rows


def softmax(case: Case) -> list[Expected]:
    """Return what softmax must give."""
    x, axis, rows = reduced_rows(case)
    empty = case.options.get("empty", "nan")
    return [like_logits("probabilities", [oracle.softmax_row(row, empty) for row in rows], x, axis)]


def log_softmax(case: Case) -> list[Expected]:
    """Return what log_softmax must give."""
    x, axis, rows = reduced_rows(case)
    empty = case.options.get("empty", "nan")
    return [like_logits("log-probabilities", [oracle.log_softmax_row(row, empty) for row in rows], x, axis)]


def logsumexp(case: Case) -> list[Expected]:
    """Return what logsumexp must give: the value, and the sign where it is asked for."""
    options = case.options
    if options.get("b") is not None:
        x, axis = case.args[0].values, options.get("axis", -1)
        pairs = [
            oracle.signed_logsumexp_row(*row)
            for row in zip(
                to_rows(x, axis),
                spread(options["b"], x, axis, 1.0),
                spread(options.get("where"), x, axis, True),
                strict=True,
            )
        ]
    else:
        x, axis, rows = reduced_rows(_with_log_factors(case))
        values = [oracle.log_normalizer(row) for row in rows]
        pairs = [(Sum(*v), Sum(v.value if v.value != v.value else mpf(v.value != -oracle.INF))) for v in values]
    signed = bool(options.get("return_sign"))
    if not signed:  # the logarithm of a negative sum
        pairs = [(v._replace(value=oracle.NAN) if s.value < 0 else v, s) for v, s in pairs]
    shape = row_shape(x.shape, axis, bool(options.get("keepdims")))
    value = _may_cancel("logsumexp", [v for v, _ in pairs], shape, not signed)
    return [value, _may_cancel("sign", [s for _, s in pairs], shape, False)] if signed else [value]


def _with_log_factors(case: Case) -> Case:
    """Return a case without `log_b`, which is added to the logits; sums of the cases are exact in float64."""
    if "log_b" not in case.options:
        return case
    x, log_b = np.broadcast_arrays(case.args[0].values, case.options["log_b"].values)
    with np.errstate(invalid="ignore"):
        total = np.where((log_b == -np.inf) | ((x == -np.inf) & (log_b == np.inf)), -np.inf, x + log_b)
    options = {name: value for name, value in case.options.items() if name != "log_b"}
    return Case(case.name, case.dtype, (dataclasses.replace(case.args[0], values=total),), options)


def logmeanexp(case: Case) -> list[Expected]:
    """Return what logmeanexp must give; NaN where nothing counts."""
    x, axis, rows = reduced_rows(case)
    entries = []
    for row in rows:
        total, count = oracle.log_normalizer(row), sum(row.valid)
        size = oracle.CONTEXT.log(count) if count else oracle.NAN
        entries.append(Near(total.value - size, total.slack + size))
    shape = row_shape(x.shape, axis, bool(case.options.get("keepdims")))
    return [one_a_row("logmeanexp", entries, shape, "result")]


def _may_cancel(name: str, entries: Sequence[Sum], shape: tuple[int, ...], undefined: bool) -> Expected:
    plain = one_a_row(name, entries, shape, "result")
    moved, ceiling = (np.array([float(number) for number in column]).reshape(shape) for column in (
        [near.moved for near in entries], [near.ceiling for near in entries]
    ))  # fmt: skip
    return dataclasses.replace(plain, moved=moved, ceiling=ceiling, undefined=undefined)


def _row_losses(case: Case, gradient: bool) -> tuple[NDArray, Any, list[oracle_loss.RowLoss]]:
    x, options = case.args[0].values, case.options
    axis = options.get("axis", -1)
    weight = options.get("class_weight")
    settings = oracle_loss.Settings(
        class_weight=None if weight is None else weight.values,
        ignore_index=options.get("ignore_index", -100),
        label_smoothing=np.asarray(values_of(options.get("label_smoothing", 0.0))).item(),
        z_loss=np.asarray(values_of(options.get("z_loss", 0.0))).item(),
        empty=options.get("empty", "nan"),
    )
    rows = [
        oracle_loss.cross_entropy_row(row, valid, target, s, t, cap, settings, gradient)
        for row, valid, target, s, t, cap in zip(
            to_rows(x, axis),
            spread(options.get("where"), x, axis, True),
            targets_of(case),
            sample_weights(case, x, axis),
            each_row(options.get("temperature"), x, axis, 1.0),
            each_row(options.get("softcap"), x, axis, None),
            strict=True,
        )
    ]
    return x, axis, rows


def targets_of(case: Case) -> list[Any]:
    """Return the targets of every row."""
    targets = case.args[1]
    if targets.values.dtype == np.int64:
        return list(targets.values.reshape(-1))
    return list(to_rows(targets.values, case.options.get("axis", -1)))


def sample_weights(case: Case, x: NDArray, axis: Any) -> list[Any]:
    """Return the sample weight of every row."""
    weight = case.options.get("sample_weight")
    values = np.broadcast_to(1.0 if weight is None else weight.values, row_shape(x.shape, axis))
    return list(values.reshape(-1).astype(np.float64).tolist())


def _loss_parts(case: Case, gradient: bool) -> list[Expected]:
    x, axis, rows = _row_losses(case, gradient)
    reduction, empty = case.options.get("reduction", "mean"), case.options.get("empty", "nan")
    losses, parts, gradients = oracle_loss.reduced(rows, reduction, empty)
    shape = row_shape(x.shape, axis)

    def per_call(name: str, entries: Sequence[Near]) -> Expected:
        return one_a_row(name, entries, shape, "loss") if reduction == "none" else scalar(name, entries[0])

    expected = [per_call("loss", losses)]
    if gradient:
        expected.append(like_logits("gradient", gradients, x, axis))
    if case.options.get("return_parts"):
        expected.append(per_call("z_loss", parts))
        expected.append(one_a_row("log_normalizer", [row.log_normalizer for row in rows], shape, "loss"))
    return expected


def cross_entropy(case: Case) -> list[Expected]:
    """Return what cross_entropy must give: the loss, and its parts where they are asked for."""
    return _loss_parts(case, gradient=False)


def cross_entropy_value_and_grad(case: Case) -> list[Expected]:
    """Return what cross_entropy_value_and_grad must give: the loss, the gradient, and the parts if asked for."""
    return _loss_parts(case, gradient=True)


def cross_entropy_grad_hess(case: Case) -> list[Expected]:
    """Return what cross_entropy_grad_hess must give: the gradient and the diagonal of the Hessian."""
    x, axis = case.args[0].values, case.options.get("axis", -1)
    weight = values_of(case.options.get("class_weight"))
    pairs = [
        oracle_loss.grad_hess_row(row, target, weight, s)
        for row, target, s in zip(to_rows(x, axis), targets_of(case), sample_weights(case, x, axis), strict=True)
    ]
    return [
        like_logits("gradient", [g for g, _ in pairs], x, axis),
        like_logits("hessian", [h for _, h in pairs], x, axis),
    ]


def logits_of(case: Case) -> NDArray:
    """Return the logits of a linear layer: exact in float64, by the choice of the numbers of the case."""
    hidden, weight, bias = (case.args[i].values if i < len(case.args) else None for i in (0, 1, 3))
    with np.errstate(invalid="ignore"):
        x: NDArray = hidden @ weight.T  # type: ignore[union-attr]
        return x if bias is None else x + bias


def _of_layer(case: Case, gradient: bool) -> list[Expected]:
    options = {name: value for name, value in case.options.items() if name != "block_bytes"}
    x, _, rows = _row_losses(Case(case.name, case.dtype, (Data(logits_of(case), ""), case.args[2]), options), gradient)
    reduction, empty = options.get("reduction", "mean"), options.get("empty", "nan")
    losses, _, gradients = oracle_loss.reduced(rows, reduction, empty)
    by_row = reduction == "none"
    expected = [one_a_row("loss", losses, x.shape[:-1], "loss") if by_row else scalar("loss", losses[0])]
    if not gradient:
        return expected
    hidden, weight = case.args[0].values, case.args[1].values
    features = hidden.reshape(len(rows), hidden.shape[-1])
    by_hidden, by_weight, by_bias = oracle_loss.through_layer(rows, gradients, features, weight)
    numbers = np.repeat(np.arange(len(rows)), hidden.shape[-1]).reshape(hidden.shape)
    nowhere = np.empty(0, dtype=np.int64)
    expected.append(Expected("dhidden", *split_numbers(by_hidden, hidden.shape), "hidden", True, numbers))
    expected.append(Expected("dweight", *split_numbers(by_weight, weight.shape), "weight", True, nowhere))
    if len(case.args) > 3:
        expected.append(Expected("dbias", *split_numbers(by_bias, weight.shape[:1]), "bias", True, nowhere))
    return expected


def linear_cross_entropy(case: Case) -> list[Expected]:
    """Return what linear_cross_entropy must give."""
    return _of_layer(case, gradient=False)


def linear_cross_entropy_value_and_grad(case: Case) -> list[Expected]:
    """Return what linear_cross_entropy_value_and_grad must give: the loss and two or three gradients."""
    return _of_layer(case, gradient=True)


def softmax_vjp(case: Case) -> list[Expected]:
    """Return what softmax_vjp must give."""
    return _vjp(case, oracle.softmax_vjp_row)


def log_softmax_vjp(case: Case) -> list[Expected]:
    """Return what log_softmax_vjp must give."""
    return _vjp(case, oracle.log_softmax_vjp_row)


def _vjp(case: Case, of_row: Any) -> list[Expected]:
    (p, dp), axis = (one.values for one in case.args), case.options.get("axis", -1)
    rows = [of_row(*row) for row in zip(to_rows(p, axis), to_rows(dp, axis), strict=True)]
    return [like_logits("gradient", rows, p, axis)]


def merge_logsumexp(case: Case) -> list[Expected]:
    """Return what merge_logsumexp and logaddexp must give."""
    a, b = np.broadcast_arrays(*(one.values for one in case.args))
    entries = [oracle.merge(one, two) for one, two in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True)]
    high, low, slack = split_numbers(entries, a.shape)
    return [Expected("merged", high, low, slack, "result", False, np.arange(a.size).reshape(a.shape))]
