"""The best classes of a row, and samples: made of public functions and of the array library's own operations."""

from __future__ import annotations

from typing import Any

from logitx._arguments.operands import first_array, like_logits
from logitx._arguments.plans import positive
from logitx._arguments.scaling import option_number, share
from logitx._arrays.family import FLOATS, Family, dtype_name, namespace_dtype
from logitx._arrays.folding import fold_axes
from logitx._functions.softmax import softmax
from logitx._labelled.table import Labelled
from logitx._plan import Array, Empty, Layout, Scalar, layout
from logitx.backends.formulas.numbers import quiet
from logitx.backends.formulas.ranking import largest, take_along
from logitx.backends.formulas.sampling import Noise, cut_classes, gumbel_noise, noise_of, on_device


def softmax_top_k(
    logits: Array,
    k: int,
    /,
    axis: int | None = -1,
    *,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    softcap: Scalar | None = None,
    renormalize: bool = False,
    empty: Empty = "nan",
    dtype: Any = None,
) -> tuple[Array, Array]:
    r"""The k most probable classes of every row: their probabilities, and their ids.

    .. math:: p_{(1)} \ge p_{(2)} \ge \dots \ge p_{(k)}

    with the probabilities :math:`p` of `softmax` over the whole row, or with `renormalize` over these k classes alone,
    as a router to experts wants them. Names and order are those of ``numpy.top_k``.

    Parameters
    ----------
    logits : array
        Logits, in nats, of any shape: NumPy, PyTorch, JAX, TensorFlow or of the Array API standard.
    k : int
        How many classes, from 1 to all.
    axis : int or None, default -1
        The class axis; None for all.
    where : array of bool, optional
        Classes that take part, as in `softmax`; masked ones count as -inf.
    temperature, softcap : float or array, optional
        As in `softmax`.
    renormalize : bool, default False
        The softmax of the k logits, so that their probabilities sum to 1.
    empty : {"nan", "zero"}, default "nan"
        As in `softmax`.
    dtype : dtype or str, optional
        The dtype of the probabilities, as in `softmax`.

    Returns
    -------
    values : array
        Probabilities in descending order: of the shape of `logits` with k in place of the classes.
    ids : array of int
        Their class ids; among equal logits the lower id comes first.

    Raises
    ------
    TypeError
        For an array type, a dtype, an axis or a k that is not allowed.
    ValueError
        For a value or shape that is not allowed.

    Notes
    -----
    Rows without probabilities (NaN, +inf, or only -inf with ``empty="nan"``) give NaN and the ids 0 to k - 1. The
    probabilities can be differentiated. The cost is that of `softmax`, or with `renormalize` of reading the logits, and
    of the array library's search for the largest.

    References
    ----------
    As for `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> p, ids = lx.softmax_top_k(np.array([[1.0, 3.0, 2.0]]), 2)
    >>> print(p.round(4), ids)
    [[0.6652 0.2447]] [[1 2]]
    """
    family, x, lay = _rows_of("logits", logits, axis)
    k = positive("k", k)
    if k > lay.n:
        raise ValueError(f"k: {k} is not allowed; allowed are 1 to {lay.n}, the number of classes")
    options: dict[str, Any] = {"temperature": temperature, "softcap": softcap, "empty": empty, "dtype": dtype}
    xp, x = family.namespace(x), fold_axes(family, x, lay)
    mask = None if where is None else _mask_of(family, where, x, lay)
    ids = largest(family, _ranks(family, x, mask), k, lay.axis)
    if renormalize:
        kept = None if mask is None else take_along(xp, mask, ids, lay.axis)
        values = softmax(take_along(xp, x, ids, lay.axis), lay.axis, where=kept, **options)
    else:
        values = take_along(xp, softmax(x, lay.axis, where=mask, **options), ids, lay.axis)
    void = xp.any(xp.isnan(values), axis=lay.axis, keepdims=True)
    places = tuple(k if d == lay.axis else 1 for d in range(len(lay.shape)))
    front = xp.reshape(xp.arange(k, dtype=ids.dtype, **on_device(family, ids)), places)
    return xp.where(void, xp.nan, values), xp.where(void, front, ids)


def _rows_of(name: str, logits: Array, axis: Any) -> tuple[Family, Array, Layout]:
    """Return the family of the logits, the array and its layout."""
    try:
        family, x = first_array(name, logits)
    except Labelled:
        kind = type(logits).__name__
        raise TypeError(f"{name}: {kind} has labels; allowed is the array within") from None
    if family.as_given:
        raise TypeError(f"{name}: lazy arrays are not allowed; allowed are blocks of them, by map_blocks of Dask")
    lay = layout(tuple(x.shape), axis)
    if isinstance(axis, tuple) or not lay.axes:
        raise ValueError(f"axis: {axis} of shape {lay.given} is not allowed; allowed are one axis, or None for all")
    if not lay.n:
        raise ValueError(f"{name}: shape {lay.given} has no class along axis {lay.axes}; allowed are 1 or more")
    return family, x, lay


def _mask_of(family: Family, where: Array, x: Array, lay: Layout) -> Array:
    return like_logits("where", where, family, x, lay, "bool")


def _ranks(family: Family, x: Array, where: Array) -> Array:
    """Return what logits are ordered by: in float32 or float64, NaN as +inf and masked ones as -inf."""
    xp = family.namespace(x)
    wide = "float64" if dtype_name(x.dtype) not in FLOATS[:3] else "float32"
    x = family.detach(xp.astype(x, namespace_dtype(xp, wide), copy=False))
    x = xp.where(x == 0.0, 0.0, xp.where(xp.isnan(x), xp.inf, x))  # in JAX -0.0 comes after 0.0
    return x if where is None else xp.where(where, x, -xp.inf)


# -- samples ----------------------------------------------------------------------------------------------------------


def sample(
    logits: Array,
    rng: Any,
    /,
    axis: int | None = -1,
    *,
    shape: tuple[int, ...] = (),
    where: Array | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Array:
    r"""Class ids drawn from the softmax of every row.

    .. math:: \operatorname{argmax}_j (u_j / T + g_j), \qquad g_j = -\log e_j

    with the logits :math:`u` of `softmax`, the temperature :math:`T` and standard exponential numbers :math:`e_j`: the
    place of the maximum is distributed as the probabilities, so that neither these nor their sums are made.

    Parameters
    ----------
    logits : array
        Logits, in nats, of any shape: NumPy, PyTorch or JAX.
    rng : numpy.random.Generator, torch.Generator or jax.Array
        The source of random numbers, of the library of `logits`; for JAX a key. The same state gives the same ids for
        any number of threads.
    axis : int or None, default -1
        The class axis; None for all.
    shape : tuple of int, default ()
        So many draws of every row.
    where : array of bool, optional
        Classes that take part; broadcasts to `logits`.
    temperature : float, default 1.0
        Divides the logits; 0 gives the most probable class, the lowest id among equals.
    softcap : float, optional
        As in `softmax`.
    top_k : int, optional
        Only the k most probable classes are drawn, the lower id first among equals.
    top_p : float, optional
        Only the fewest classes whose probabilities, of those that `top_k` left, sum to this number or more: the class
        that crosses it is kept. From 0 (the most probable class) to 1.
    min_p : float, optional
        Only classes with at least this share of the largest probability, from 0 to 1.

    Returns
    -------
    array of int
        Class ids, of shape `shape` followed by that of `logits` without `axis`.

    Raises
    ------
    TypeError
        For an array type, a source of random numbers or an option that is not allowed.
    ValueError
        For a value or shape that is not allowed, and for a row without probabilities (NaN, +inf, or only -inf) if it
        can be read; under tracing and on accelerators such a row gives -1.

    Notes
    -----
    NumPy and PyTorch draw for some rows at a time, so that the memory for noise is bounded. `top_p` sorts the 64 most
    probable classes, and more only where they do not suffice; JAX, whose shapes are fixed, sorts all.

    References
    ----------
    C. J. Maddison, D. Tarlow and T. Minka, "A* sampling", Advances in Neural Information Processing Systems 27 (2014).
    A. Holtzman, J. Buys, L. Du, M. Forbes and Y. Choi, "The curious case of neural text degeneration", ICLR (2020).

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> rng = np.random.default_rng(0)
    >>> print(lx.sample(np.array([[0.0, 9.0, -np.inf], [7.0, -np.inf, 0.0]]), rng))
    [1 0]
    >>> print(lx.sample(np.array([0.0, 1.0, 2.0]), rng, shape=(2, 3), top_k=1))
    [[2 2 2]
     [2 2 2]]
    """
    family, x, lay = _rows_of("logits", logits, axis)
    noise = noise_of(family, rng)
    heat, cap = _number("temperature", temperature, zero=True), _number("softcap", softcap)
    kept_share, least = (
        None if one is None else share(name, one) for name, one in (("top_p", top_p), ("min_p", min_p))
    )
    k = None if top_k is None else min(positive("top_k", top_k), lay.n)
    x = fold_axes(family, x, lay)
    mask = None if where is None else _mask_of(family, where, x, lay)
    u = family.namespace(x).moveaxis(_ranks(family, x, mask), lay.axis, -1)
    return _drawn(family, u, noise, tuple(shape), heat, cap, k, kept_share, least)


@quiet
def _drawn(
    family: Family, u: Array, noise: Noise, shape: tuple[int, ...], heat: float | None, cap: float | None,
    k: int | None, kept_share: float | None, least: float | None,
) -> Array:  # fmt: skip
    """Return class ids; the classes are on the last axis, masked ones are -inf, and NaN is +inf."""
    xp = family.namespace(u)
    top = xp.max(u, axis=-1, keepdims=True)
    void = xp.squeeze(xp.isinf(top), axis=-1)
    if family.readable(void) and bool(xp.any(void)):
        raise ValueError("logits: a row has NaN, +inf or no class; allowed are rows with probabilities")
    if heat == 0.0:
        ids = xp.argmax(u, axis=-1)
        return xp.where(void, -1, xp.broadcast_to(ids, (*shape, *ids.shape)))
    if cap is not None:
        u, top = (xp.where(xp.isinf(one), one, cap * xp.tanh(one / cap)) for one in (u, top))
    u = (u - xp.where(xp.isinf(top), 0.0, top)) / heat
    u, order = cut_classes(family, u, k, kept_share, least)
    places = noise(u, shape)
    ids = places if order is None else take_along(xp, xp.broadcast_to(order, (*places.shape, order.shape[-1])),
                                                  places[..., None], -1)[..., 0]  # fmt: skip
    return xp.where(void, -1, ids)


def _number(name: str, value: Any, zero: bool = False) -> float | None:
    """Check a temperature or a softcap that is one number."""
    if value is None and name == "softcap":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: {type(value).__name__} is not allowed; allowed is one number") from None
    return 0.0 if zero and number == 0.0 else option_number(name, number)


def gumbel_softmax(
    logits: Array,
    rng: Any,
    /,
    axis: int | None = -1,
    *,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    hard: bool = False,
) -> Array:
    r"""A differentiable sample: the softmax of logits with Gumbel noise.

    .. math:: \operatorname{softmax}\bigl((x + g) / T\bigr), \qquad g_j = -\log e_j

    with standard exponential numbers :math:`e_j` and the temperature :math:`T`: near 0 it is one-hot, the class being
    distributed as ``softmax(x)``.

    Parameters
    ----------
    logits : array
        Logits, in nats, of any shape: NumPy, PyTorch or JAX.
    rng : numpy.random.Generator, torch.Generator or jax.Array
        As in `sample`.
    axis : int or None, default -1
        The class axis; None for all.
    where : array of bool, optional
        Classes that take part; broadcasts to `logits`.
    temperature : float or array, default 1.0
        As in `softmax`; it divides the noise as well.
    hard : bool, default False
        The value is exactly one-hot, the gradient that of the softmax (straight-through).

    Returns
    -------
    array
        Of the shape and dtype of `logits`.

    Raises
    ------
    TypeError
        For an array type, a source of random numbers or an option that is not allowed.
    ValueError
        For a value or shape that is not allowed.

    Notes
    -----
    Special values as in `softmax`; in a hard sample a row without probabilities is NaN.

    References
    ----------
    E. Jang, S. Gu and B. Poole, "Categorical reparameterization with Gumbel-softmax", ICLR (2017), arXiv:1611.01144.
    C. J. Maddison, A. Mnih and Y. W. Teh, "The concrete distribution", ICLR (2017), arXiv:1611.00712.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> print(lx.gumbel_softmax(np.array([0.0, 9.0, -np.inf]), np.random.default_rng(0), hard=True))
    [0. 1. 0.]
    """
    family, x, lay = _rows_of("logits", logits, axis)
    xp, dtype = family.namespace(x), dtype_name(x.dtype)
    wide = "float64" if dtype not in FLOATS[:3] else "float32"
    x = xp.astype(x, namespace_dtype(xp, wide), copy=False)
    noisy = x + gumbel_noise(family, x, rng)
    y = softmax(noisy, axis, where=where, temperature=temperature, dtype=dtype if dtype in FLOATS else None)
    if not hard:
        return y
    flat = fold_axes(family, y, lay)
    places = xp.reshape(xp.arange(lay.n, **on_device(family, y)), tuple(
        lay.n if d == lay.axis else 1 for d in range(len(lay.shape))
    ))  # fmt: skip
    best = xp.expand_dims(xp.argmax(family.detach(flat), axis=lay.axis), axis=lay.axis)
    hot = xp.reshape(xp.astype(places == best, y.dtype), y.shape)
    return hot + (y - family.detach(y))
