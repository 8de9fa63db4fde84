"""The contrastive loss of pairs: two cross-entropies of linear layers, so that no matrix of all pairs is in memory."""

from __future__ import annotations

from typing import Any, NamedTuple, Never

import numpy as np

from logitx._arguments import operands as _operands
from logitx._arrays.family import Family, is_python_number, namespace_dtype
from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._functions.linear import linear_cross_entropy, linear_cross_entropy_value_and_grad
from logitx._labelled.table import is_labelled, labels_of
from logitx._plan import Array, Scalar


class ContrastiveGradients(NamedTuple):
    """The gradients of a contrastive loss."""

    a: Array
    b: Array
    negatives: Array  # None without negatives
    temperature: Array


class _Pairs(NamedTuple):
    """The arguments of both directions."""

    xp: Any
    a: Array
    b: Array
    columns: Array  # b, and the negatives below it
    ids: Array  # the column of each row of a


def _without_labels(name: str, x: Any) -> Any:
    """Refuse labelled arrays: rows belong together by their place. A variable of TensorFlow becomes its tensor."""
    if not is_labelled(x):
        return x
    labels = labels_of(x)
    if labels.kinds:
        raise TypeError(
            f"{name}: {type(x).__name__} is not allowed; allowed are arrays without labels, pass its values"
        )
    return labels.bare


def _pairs(a: Array, b: Array, symmetric: bool, negatives: Array | None, targets: Array | None) -> _Pairs:
    family, a = _operands.first_array("a", _without_labels("a", a))
    xp = family.namespace(a)
    b = _operands.adopt("b", _without_labels("b", b), family, a)
    shapes = tuple(a.shape), tuple(b.shape)
    if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][1] != shapes[1][1]:
        raise ValueError(f"b: shapes {shapes[0]} and {shapes[1]} are not allowed; allowed are (rows, features) of both")
    if targets is not None and symmetric:
        raise ValueError("targets: an array is not allowed with symmetric=True; allowed is None, or symmetric=False")
    if targets is None and shapes[0] != shapes[1]:
        raise ValueError(f"b: shape {shapes[1]} is not allowed without targets; allowed is that of a, {shapes[0]}")
    columns = b
    if negatives is not None:
        negatives = _operands.adopt("negatives", _without_labels("negatives", negatives), family, a)
        there = tuple(negatives.shape)
        if len(there) != 2 or there[1] != shapes[0][1]:
            raise ValueError(f"negatives: shape {there} is not allowed; allowed is (rows, {shapes[0][1]})")
        columns = xp.concat([b, negatives], axis=0)
    return _Pairs(xp, a, b, columns, _numbers(family, a) if targets is None else targets)


def _numbers(family: Family, x: Array) -> Array:
    """Return the numbers of the rows, on the device of `x`."""
    if family.as_given or family.readable(x):
        return np.arange(x.shape[0])
    xp, device = family.namespace(x), family.device(x)
    return xp.arange(x.shape[0], dtype=namespace_dtype(xp, "int64"), **({} if device is None else {"device": device}))


@exact
def info_nce(
    a: Array = MISSING,
    b: Array = MISSING,
    /,
    *,
    temperature: Scalar = 1.0,
    symmetric: bool = True,
    negatives: Array | None = None,
    targets: Array | None = None,
    block_bytes: int = 33_554_432,
    **wrong: Never,
) -> Array:
    """Contrastive loss of pairs of embeddings (InfoNCE, the loss of CLIP), without the matrix of all pairs.

    With the similarities ``x = a @ b.T / temperature`` and the numbers ``i`` of the rows::

        loss = (cross_entropy(x, i) + cross_entropy(x.T, i)) / 2

    Each row of `a` belongs to the row of `b` with the same number; all others are negative examples. The similarities
    are computed block by block: memory grows with the number of rows, not with its square.

    Parameters
    ----------
    a, b : array
        Embeddings of shape (rows, features), of any array type. They are taken as they are: normalize them first, where
        the cosine is wanted.
    temperature : float or array, default 1.0
        Divides the similarities: a number or a 0-d array.
    symmetric : bool, default True
        Also find the row of `a` for each row of `b`, and take the mean of both losses.
    negatives : array, optional
        More negative examples for the rows of `a`, of shape (any number, features).
    targets : array, optional
        The number of the row of `b` that belongs to each row of `a`, with ``symmetric=False``: `b` may have any number
        of rows then. By default, row i of both belong together.
    block_bytes : int, default 33554432
        As in `linear_cross_entropy`.

    Returns
    -------
    array
        The loss in nats: a scalar, at least float32.

    Raises
    ------
    TypeError
        As `linear_cross_entropy`.
    ValueError
        For shapes that do not fit, and as `linear_cross_entropy`.

    Notes
    -----
    A NaN or +inf among the similarities gives NaN. float16 and bfloat16 are multiplied and added up in float32.

    References
    ----------
    A. van den Oord et al., "Representation learning with contrastive predictive coding", arXiv:1807.03748 (2018);
    A. Radford et al., "Learning transferable visual models from natural language supervision", arXiv:2103.00020 (2021).

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> a, b = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> print(lx.info_nce(a, b, temperature=0.1).round(4))
    0.0012
    """
    if wrong:
        raise unexpected(info_nce, wrong)
    pairs = _pairs(a, b, symmetric, negatives, targets)
    loss = linear_cross_entropy(pairs.a, pairs.columns, pairs.ids, temperature=temperature, block_bytes=block_bytes)
    if not symmetric:
        return loss
    back = linear_cross_entropy(pairs.b, pairs.a, pairs.ids, temperature=temperature, block_bytes=block_bytes)
    return (loss + back) * 0.5


@exact
def info_nce_value_and_grad(
    a: Array = MISSING,
    b: Array = MISSING,
    /,
    *,
    temperature: Scalar = 1.0,
    symmetric: bool = True,
    negatives: Array | None = None,
    targets: Array | None = None,
    block_bytes: int = 33_554_432,
    **wrong: Never,
) -> tuple[Array, ContrastiveGradients]:
    """Contrastive loss of pairs and its gradients, for every array type, without the matrix of all pairs.

    As `info_nce`. The gradient by the temperature is ``-sum(g * x) / temperature`` with the gradient ``g``
    by the similarities ``x``.

    Parameters
    ----------
    a, b, temperature, symmetric, negatives, targets, block_bytes
        As in `info_nce`.

    Returns
    -------
    loss : array
        As from `info_nce`.
    gradients : named tuple
        ``(a, b, negatives, temperature)``: arrays of the shapes and dtypes of these; None without negatives.

    Raises
    ------
    TypeError
        As `info_nce`.
    ValueError
        As `info_nce`.

    Notes
    -----
    As for `info_nce`.

    References
    ----------
    As for `info_nce`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> a, b = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> loss, gradients = lx.info_nce_value_and_grad(a, b, temperature=0.5)
    >>> print(loss.round(4), gradients.a.round(4)[0], gradients.temperature.round(4))
    0.222 [-0.1217  0.1534] 0.5502
    """
    if wrong:
        raise unexpected(info_nce_value_and_grad, wrong)
    pairs = _pairs(a, b, symmetric, negatives, targets)
    options: dict[str, Any] = {"temperature": temperature, "block_bytes": block_bytes}
    loss, (da, dcolumns, _) = linear_cross_entropy_value_and_grad(pairs.a, pairs.columns, pairs.ids, **options)
    height = pairs.b.shape[0]
    db, more = (dcolumns, None) if negatives is None else (dcolumns[:height, :], dcolumns[height:, :])
    pull = _sum_of_products(pairs.xp, pairs.a, da)  # the sum of gradient times similarity: it is linear in a
    if symmetric:
        back, (db_back, da_back, _) = linear_cross_entropy_value_and_grad(pairs.b, pairs.a, pairs.ids, **options)
        pull = (pull + _sum_of_products(pairs.xp, pairs.b, db_back)) * 0.5
        loss, da, db = (loss + back) * 0.5, (da + da_back) * 0.5, (db + db_back) * 0.5
        more = None if more is None else more * 0.5
    if not is_python_number(temperature):
        family, _ = _operands.first_array("a", pairs.a)
        temperature = _operands.adopt("temperature", temperature, family, pairs.a)
        temperature = pairs.xp.astype(temperature, pull.dtype, copy=False)
    return loss, ContrastiveGradients(da, db, more, -pull / temperature)


def _sum_of_products(xp: Any, x: Array, dx: Array) -> Array:
    wide = dx.dtype if dx.dtype in (xp.float64, getattr(xp, "longdouble", xp.float64)) else xp.float32
    x, dx = xp.astype(x, wide, copy=False), xp.astype(dx, wide, copy=False)
    return xp.sum(xp.where(dx == 0.0, 0.0, x * dx))
