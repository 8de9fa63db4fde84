"""Functions of segments: rows of different lengths that lie one after another, or in any order, along one axis."""

from __future__ import annotations

from typing import Any, Never

from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._plan import Array, Empty, Reduction
from logitx._prepared import call


@exact
def segment_softmax(
    x: Array = MISSING,
    /,
    axis: int = 0,
    *,
    segment_ids: Array | None = None,
    offsets: Array | None = None,
    num_segments: int | None = None,
    where: Array | None = None,
    empty: Empty = "nan",
    **wrong: Never,
) -> Array:
    """Probabilities within each segment of an axis.

    With the largest logit ``top`` and the sums over the segment of entry i::

        p_i = exp(x_i - top) / sum_j exp(x_j - top)

    The entries of a segment are, for example, the edges that lead to one node, the choices of one person, the
    tokens of one text. Each segment is a row of `softmax`.

    Parameters
    ----------
    x : array
        Logits, in nats, of any array type and of any shape with at least one axis; other axes are independent.
    axis : int, default 0
        The axis along which the entries of segments lie.
    segment_ids : array of int, optional
        The segment of each entry along `axis`, from 0, in any order. Sorted ids are faster.
    offsets : array of int, optional
        In place of `segment_ids`: segment s is ``x[offsets[s]:offsets[s + 1]]``, as in CSR matrices and ragged arrays.
    num_segments : int, optional
        How many segments there are; by default one more than the largest id. Needed where ids cannot be read: inside
        `jax.jit`, of Dask, on a device.
    where : array of bool, optional
        Entries that take part; broadcasts to `x`. A masked entry never reaches its segment.
    empty : {"nan", "zero"}, default "nan"
        The result for a segment in which every unmasked logit is -inf.

    Returns
    -------
    array
        Of the shape and dtype of `x`, in the order of its entries. float16 and bfloat16 are computed in float32 and
        rounded once.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed; for both or none of `segment_ids` and `offsets`.
    ValueError
        For a value or shape that is not allowed, and for an id out of range. Where ids cannot be read, an entry with
        such an id is NaN and is in no segment.

    Notes
    -----
    Special values are those of `softmax`, by segment: a segment with NaN or +inf is NaN; masked entries give 0.
    Sums are added in pairs, in an order that depends on nothing but the ids.

    References
    ----------
    M. Fey and J. E. Lenssen, "Fast graph representation learning with PyTorch Geometric", arXiv:1903.02428 (2019), has
    the same function as ``torch_geometric.utils.softmax``, with 1e-16 added to the sum; here nothing is added.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> x = np.array([0.0, 0.0, 5.0, 1.0])
    >>> print(lx.segment_softmax(x, segment_ids=[0, 0, 2, 0]).round(4))
    [0.2119 0.2119 1.     0.5761]
    >>> print(lx.segment_softmax(x, offsets=[0, 2, 2, 4]).round(4))
    [0.5   0.5   0.982 0.018]
    """
    if wrong:
        raise unexpected(segment_softmax, wrong)
    return call("segment_softmax", x, segment_ids, axis, offsets, num_segments, where, empty)


@exact
def segment_log_softmax(
    x: Array = MISSING,
    /,
    axis: int = 0,
    *,
    segment_ids: Array | None = None,
    offsets: Array | None = None,
    num_segments: int | None = None,
    where: Array | None = None,
    empty: Empty = "nan",
    **wrong: Never,
) -> Array:
    """Logarithms of the probabilities within each segment of an axis.

    With the largest logit ``top`` and the sums over the segment of entry i::

        log p_i = (x_i - top) - log(sum_j exp(x_j - top))

    Each segment is a row of `log_softmax`.

    Parameters
    ----------
    x : array
        Logits, in nats, of any array type and of any shape with at least one axis.
    axis : int, default 0
        The axis along which the entries of segments lie.
    segment_ids, offsets, num_segments : optional
        The segments, as in `segment_softmax`.
    where : array of bool, optional
        Entries that take part; broadcasts to `x`.
    empty : {"nan", "zero"}, default "nan"
        The result for a segment in which every unmasked logit is -inf: NaN, or the logarithm of zero, -inf.

    Returns
    -------
    array
        Log-probabilities in nats, of the shape and dtype of `x`, in the order of its entries.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed; for both or none of `segment_ids` and `offsets`.
    ValueError
        For a value or shape that is not allowed, and for an id out of range, as in `segment_softmax`.

    Notes
    -----
    Special values are those of `log_softmax`, by segment; masked entries give -inf.

    References
    ----------
    As for `segment_softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.segment_log_softmax(np.array([0.0, 0.0, 5.0]), segment_ids=[1, 1, 0]).round(4))
    [-0.6931 -0.6931  0.    ]
    """
    if wrong:
        raise unexpected(segment_log_softmax, wrong)
    return call("segment_log_softmax", x, segment_ids, axis, offsets, num_segments, where, empty)


@exact
def segment_logsumexp(
    x: Array = MISSING,
    /,
    axis: int = 0,
    *,
    segment_ids: Array | None = None,
    offsets: Array | None = None,
    num_segments: int | None = None,
    where: Array | None = None,
    **wrong: Never,
) -> Array:
    """Logarithm of the sum of exponentials of each segment of an axis.

    With the largest logit ``top`` and the sums over the entries j of segment s::

        y_s = log(sum_j exp(x_j)) = top + log(sum_j exp(x_j - top))

    Each segment is a row of `logsumexp`.

    Parameters
    ----------
    x : array
        Exponents, in nats, of any array type and of any shape with at least one axis.
    axis : int, default 0
        The axis along which the entries of segments lie.
    segment_ids, offsets, num_segments : optional
        The segments, as in `segment_softmax`.
    where : array of bool, optional
        Entries that take part; broadcasts to `x`.

    Returns
    -------
    array
        Of the dtype of `x` and of its shape, with as many entries along `axis` as there are segments.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed; for both or none of `segment_ids` and `offsets`.
    ValueError
        For a value or shape that is not allowed, and for an id out of range. Where ids cannot be read, an entry with
        such an id is in no segment.

    Notes
    -----
    A segment with NaN is NaN; one with +inf and no NaN is +inf; one in which nothing counts (without entries, only
    -inf, all masked) is -inf.

    References
    ----------
    As for `segment_softmax`; the same sums are the inclusive values of nested and conditional logit models: D.
    McFadden, "Conditional logit analysis of qualitative choice behavior" (1974).

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> x = np.array([1000.0, 1000.0, 5.0])
    >>> print(lx.segment_logsumexp(x, offsets=[0, 2, 2, 3]).round(4))
    [1000.6931      -inf    5.    ]
    """
    if wrong:
        raise unexpected(segment_logsumexp, wrong)
    return call("segment_logsumexp", x, segment_ids, axis, offsets, num_segments, where)


@exact
def segment_cross_entropy(
    x: Array = MISSING,
    targets: Array = MISSING,
    /,
    axis: int = 0,
    *,
    segment_ids: Array | None = None,
    offsets: Array | None = None,
    num_segments: int | None = None,
    where: Array | None = None,
    reduction: Reduction = "mean",
    empty: Empty = "nan",
    **wrong: Never,
) -> Any:
    """Cross-entropy of each segment of an axis against probabilities.

    With the targets t and the sums over the entries i and j of segment s::

        loss_s = sum_i t_i * (log(sum_j exp(x_j)) - x_i)

    Each segment is a row of `cross_entropy`: the loss of conditional
    logit models and of ranking (ListNet), with lists of different lengths.

    Parameters
    ----------
    x : array
        Logits, in nats, of any array type and of any shape with at least one axis.
    targets : array of float
        Probabilities of the entries, of the shape of `x`; those of a segment need not sum to 1.
    axis : int, default 0
        The axis along which the entries of segments lie.
    segment_ids, offsets, num_segments : optional
        The segments, as in `segment_softmax`.
    where : array of bool, optional
        Entries that take part; broadcasts to `x`.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean over segments that count, the sum, or one loss a segment.
    empty : {"nan", "zero"}, default "nan"
        The loss of a segment in which every unmasked logit is -inf, and the mean where no segment counts.

    Returns
    -------
    array
        At least float32. One number, or with ``reduction="none"`` the shape of `x` with as many entries along `axis` as
        there are segments.

    Raises
    ------
    TypeError
        For an array type, a dtype or an axis that is not allowed; for both or none of `segment_ids` and `offsets`.
    ValueError
        For a value or shape that is not allowed, and for an id out of range, as in `segment_softmax`.

    Notes
    -----
    A segment without entries, or whose entries are all masked, does not count: its loss is 0, and the mean is that of
    the others. A segment with NaN or +inf is NaN. A target above 0 at a masked entry or at -inf gives +inf; a target of
    0 there adds nothing.

    References
    ----------
    Z. Cao et al., "Learning to rank: from pairwise approach to listwise approach", ICML (2007); D. McFadden,
    "Conditional logit analysis of qualitative choice behavior" (1974).

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> x, chosen = np.array([1.0, 2.0, 3.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 1.0, 0.0])
    >>> print(lx.segment_cross_entropy(x, chosen, offsets=[0, 3, 5], reduction="none").round(4))
    [0.4076 0.6931]
    """
    if wrong:
        raise unexpected(segment_cross_entropy, wrong)
    return call("segment_cross_entropy", x, targets, axis, segment_ids, offsets, num_segments, where, reduction, empty)
