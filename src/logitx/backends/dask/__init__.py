"""Lazy arrays of Dask: each block runs on the backend of its array type.

`chunks` cuts the operands like the logits, `whole_rows` computes blocks of whole rows, and `cut_rows` computes rows
whose classes are in several chunks: it reduces each chunk to pairs (max, sum), merges them, and computes the results of
each chunk from the merged pair. The logits are never rechunked.
"""

from __future__ import annotations

import functools
from typing import Any

import dask.array as da

from logitx._arrays.families import family_of
from logitx._options import LinearLayer, LossOptions
from logitx._plan import Array, Plan, Scalar
from logitx.backends.dask import linear, totals, whole_rows
from logitx.backends.dask.binary import (
    binary_cross_entropy,
    binary_cross_entropy_grad_hess,
    binary_cross_entropy_value_and_grad,
    log_sigmoid,
    sigmoid,
)
from logitx.backends.dask.chunks import Lines, Operand, add_blocks, pick
from logitx.backends.dask.cut_rows import finish, merge, reduce
from logitx.backends.dask.focal import focal_loss, focal_loss_value_and_grad
from logitx.backends.dask.log_space import complex_logsumexp, log_matmul, logcumsumexp
from logitx.backends.dask.row_numbers import entropy, js_divergence, kl_divergence, selected_log_softmax, softmax_mean
from logitx.backends.dask.segments import (
    segment_cross_entropy,
    segment_log_softmax,
    segment_logsumexp,
    segment_softmax,
)
from logitx.backends.formulas.log_space import add_log_factors

__all__ = [
    "accepts",
    "binary_cross_entropy",
    "binary_cross_entropy_grad_hess",
    "binary_cross_entropy_value_and_grad",
    "cross_entropy",
    "cross_entropy_grad_hess",
    "cross_entropy_value_and_grad",
    "entropy",
    "focal_loss",
    "focal_loss_value_and_grad",
    "js_divergence",
    "kl_divergence",
    "linear_cross_entropy",
    "linear_cross_entropy_value_and_grad",
    "log_matmul",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_vjp",
    "logcumsumexp",
    "logsumexp",
    "merge_logsumexp",
    "segment_cross_entropy",
    "segment_log_softmax",
    "segment_logsumexp",
    "segment_softmax",
    "selected_log_softmax",
    "sigmoid",
    "softmax",
    "softmax_mean",
    "softmax_vjp",
]


def accepts(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return None if the blocks are of an array type that the library supports, else the reason why not."""
    import array_api_compat

    for one in operands:
        meta = getattr(one, "_meta", None)
        if meta is not None and (family_of(meta) is None or array_api_compat.is_pydata_sparse_array(meta)):
            return f"blocks of {type(meta).__name__} are not allowed; allowed are those of dense arrays, as of NumPy"
    return None


def softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """exp(x - max) / sum of exp(x - max)."""
    return _lazy_normalized(plan, x, where, temperature, softcap)


def log_softmax(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar, out: Array) -> Array:
    """(x - max) - log(sum of exp(x - max))."""
    return _lazy_normalized(plan, x, where, temperature, softcap)


def _lazy_normalized(plan: Plan, x: Array, where: Array, temperature: Scalar, softcap: Scalar) -> Array:
    lines = Lines(plan, x, "x", where=where, temperature=temperature, softcap=softcap)
    if lines.whole:
        return lines.map(whole_rows.whole_normalized, lines.entries, plan.result)
    pairs = lines.merged(lines.parts(reduce.reduce_block), totals.merge_of(lines))
    return lines.map(finish.cut_normalized, lines.entries, plan.result, [Operand("pair", pairs, lines.rows)])


def logsumexp(plan: Plan, x: Array, b: Array, where: Array, log_b: Array) -> tuple[Array, Array]:
    """max + log(sum of b exp(x - max)), and the sign of the sum."""
    if plan.dtype.startswith("complex"):
        return complex_logsumexp(plan, x, b, where, log_b)
    if log_b is not None:
        plan, x = add_log_factors(plan, x, log_b)
    lines = Lines(plan, x, "x", b=b, where=where)
    if lines.whole:
        found = lines.map(whole_rows.whole_normalizer, lines.rows, plan.result)
    else:
        of_parts, of_pairs, of_rows = (
            (reduce.reduce_block, totals.merge_of(lines), merge.normalizer_of_pairs)
            if b is None
            else (finish.signed_sums, finish.merge_signed_sums, finish.signed_normalizer)
        )
        found = lines.merged(lines.parts(of_parts), of_pairs, functools.partial(of_rows, plan), plan.result)
    if not plan.return_sign:
        return lines.kept(found) if plan.keepdims else found, None
    value, sign = (pick(found, i, lines.rows, lines.rows, plan.result) for i in range(2))
    return (lines.kept(value), lines.kept(sign)) if plan.keepdims else (value, sign)


# -- cross-entropy ----------------------------------------------------------------------------------------------------


def cross_entropy(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array, Array]:
    """s [sum of class_weight q ((max - x) + log(sum)) + z_loss c logZ^2], reduced."""
    lines = totals.lines_of(plan, logits, targets, options)
    if lines.whole:
        return totals.reduce_parts(
            lines, lines.map(whole_rows.whole_losses, lines.rows, "float64", lines.where_rows_begin()), lines.rows
        )
    return totals.of_parts(lines, totals.reduced_chunks(lines))


def cross_entropy_value_and_grad(
    plan: Plan, logits: Array, targets: Array, options: LossOptions
) -> tuple[Array, Array, Array, Array]:
    """The loss, and s [p (A - wq) - wq (1 - p) + 2 z_loss c logZ p] du/dx with A = sum of wq."""
    lines = totals.lines_of(plan, logits, targets, options)
    every = lines.entries
    whole = [lines.share()] if plan.reduction == "mean" else []
    if lines.whole:
        both = lines.map(whole_rows.whole_losses_and_gradient, every, "float64", [*lines.where_rows_begin(), *whole])
        loss, z_part, log_normalizer = totals.reduce_parts(lines, both, every)
        return loss, pick(both, 4, every, every, plan.result), z_part, log_normalizer
    pairs = totals.pairs_of(lines)
    loss, z_part, log_normalizer = totals.reduce_parts(lines, totals.of_pairs(lines, pairs), lines.rows)
    more = [pairs, *lines.where_classes_begin(), *whole]
    return loss, lines.map(finish.cut_gradient, every, plan.result, more), z_part, log_normalizer


def cross_entropy_grad_hess(plan: Plan, logits: Array, targets: Array, options: LossOptions) -> tuple[Array, Array]:
    """s [p (A - wt) - wt (1 - p)] and s A p (1 - p), with A = sum of wt."""
    lines = Lines(
        plan, logits, "logits", targets=targets, class_weight=options.class_weight,
        sample_weight=options.sample_weight,
    )  # fmt: skip
    every = lines.entries
    if lines.whole:
        both = lines.map(whole_rows.whole_gradient_and_hessian, every, plan.result, lines.where_rows_begin())
    else:
        more = [totals.pairs_of(lines), *lines.where_classes_begin()]
        both = lines.map(finish.cut_gradient_and_hessian, every, plan.result, more)
    return pick(both, 0, every, every, plan.result), pick(both, 1, every, every, plan.result)


def linear_cross_entropy(plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions) -> Array:
    """The cross-entropy of hidden @ weight.T + bias."""
    return linear.layer_loss(plan, layer, targets, options)


def linear_cross_entropy_value_and_grad(
    plan: Plan, layer: LinearLayer, targets: Array, options: LossOptions
) -> tuple[Array, Array, Array, Array]:
    """The loss, and with g its gradient by the logits: g @ weight, g.T @ hidden and the sum of g over the rows."""
    return linear.layer_loss_and_gradients(plan, layer, targets, options)


# -- gradients of probabilities, and merging --------------------------------------------------------------------------


def softmax_vjp(plan: Plan, p: Array, dp: Array) -> Array:
    """p (dp - sum of p dp)."""
    return _lazy_pulled_back(plan, "p", p, dp)


def log_softmax_vjp(plan: Plan, log_p: Array, dlog_p: Array) -> Array:
    """dlog_p - p sum of dlog_p."""
    return _lazy_pulled_back(plan, "log_p", log_p, dlog_p)


def _lazy_pulled_back(plan: Plan, name: str, value: Array, cotangent: Array) -> Array:
    lines = Lines(plan, value, name, cotangent=cotangent)
    if lines.whole:
        return lines.map(whole_rows.whole_pulled_back, lines.entries, plan.result)
    total = lines.merged(lines.parts(finish.vjp_sums), add_blocks)
    return lines.map(finish.cut_pulled_back, lines.entries, plan.result, [Operand("pair", total, lines.rows)])


def merge_logsumexp(plan: Plan, a: Array, b: Array) -> Array:
    """max + log1p(exp(-|a - b|))."""
    a, b = (one if isinstance(one, da.Array) else da.asarray(one) for one in (a, b))
    lines = Lines(plan, a, "a", cotangent=b)
    return lines.map(whole_rows.merged_normalizers, lines.entries, plan.result)
