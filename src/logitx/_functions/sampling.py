"""The best classes of a row, and samples: made of public functions and of the array library's own operations."""

from __future__ import annotations

from typing import Any, Never

from logitx._arguments.operands import first_array, like_logits
from logitx._arguments.plans import positive
from logitx._arguments.scaling import option_number, share
from logitx._arrays.family import FLOATING, FLOATS, Family, dtype_name, namespace_dtype
from logitx._arrays.folding import fold_axes
from logitx._dispatch import choose
from logitx._functions.drawing import drawn_ids, largest_in_one_read
from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._functions.softmax import softmax
from logitx._labelled.table import Labelled
from logitx._operations import check
from logitx._plan import Array, Empty, Layout, Scalar, layout
from logitx.backends.formulas.numbers import quiet
from logitx.backends.formulas.ranking import largest, take_along
from logitx.backends.formulas.sampling import gumbel_noise, on_device, source_of


@exact
def softmax_top_k(
    logits: Array = MISSING,
    k: int = MISSING,
    /,
    axis: int | None = -1,
    *,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    softcap: Scalar | None = None,
    renormalize: bool = False,
    empty: Empty = "nan",
    dtype: Any = None,
    **wrong: Never,
) -> tuple[Array, Array]:
    """The k most probable classes of every row: their probabilities, and their ids.

    They are the probabilities ``exp(u - max(u)) / sum(exp(u - max(u)))`` of `softmax`, where the sum is that of the
    whole row, or with `renormalize` that of these k classes alone, as a router to experts wants them. Names
    and order are those of ``numpy.top_k``.

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
    Rows without probabilities (NaN, +inf, or only -inf and masked ones with ``empty="nan"``) give NaN and the ids 0 to
    k - 1. The probabilities can be differentiated. On the CPU the kernels read the logits once; with a softcap, with
    gradients and elsewhere the cost is that of `softmax` and of the array library's search for the largest.

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
    if wrong:
        raise unexpected(softmax_top_k, wrong)
    family, x, lay = _rows_of("logits", logits, axis)
    k = positive("k", k)
    if k > lay.n:
        raise ValueError(f"k: {k} is not allowed; allowed are 1 to {lay.n}, the number of classes")
    options: dict[str, Any] = {"temperature": temperature, "softcap": softcap, "empty": empty, "dtype": dtype}
    xp, x = family.namespace(x), fold_axes(family, x, lay)
    mask = None if where is None else _mask_of(family, where, x, lay)
    plan, operands, *_ = check("softmax", x, None, lay.axis, mask, temperature, softcap, empty, dtype)
    constant = family.detach(operands[0]), *operands[1:]
    found = largest_in_one_read(plan, k, constant)
    if found is None:
        ids = largest(family, _ranks(family, x, mask), k, lay.axis)
    else:
        values, ids = (xp.moveaxis(one, -1, lay.axis) for one in found)
        void = xp.any(xp.isnan(values), axis=lay.axis, keepdims=True)
        if choose(plan, operands) is choose(plan, constant) and not renormalize:
            return values, ids
    if found is None or not renormalize:
        p = softmax(x, lay.axis, where=mask, **options)
        values, total = take_along(xp, p, ids, lay.axis), xp.sum(family.detach(p), axis=lay.axis, keepdims=True)
        void = xp.isnan(total) if empty == "zero" else ~(total > 0.0)
    if renormalize:
        kept = None if mask is None else take_along(xp, mask, ids, lay.axis)
        values = softmax(take_along(xp, x, ids, lay.axis), lay.axis, where=kept, **options)
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


@quiet
def _ranks(family: Family, x: Array, where: Array) -> Array:
    """Return what logits are ordered by: at least in float32, NaN as +inf and masked ones as -inf."""
    xp, name = family.namespace(x), dtype_name(x.dtype)
    wide = "float32" if name in FLOATS[:3] else name if name in FLOATING else "float64"
    x = family.detach(xp.astype(x, namespace_dtype(xp, wide), copy=False))
    plain = where is None and family.to_numpy is not None and family.readable(x)
    if plain and bool(xp.isfinite(xp.sum(x))):  # most arrays: one read finds that there is nothing to change
        return x
    x = xp.where(x == 0.0, 0.0, xp.where(xp.isnan(x), xp.inf, x))  # in JAX -0.0 comes after 0.0
    return x if where is None else xp.where(where, x, -xp.inf)


# -- samples ----------------------------------------------------------------------------------------------------------


@exact
def sample(
    logits: Array = MISSING,
    rng: Any = MISSING,
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
    **wrong: Never,
) -> Array:
    """Class ids drawn from the softmax of every row.

    With the probabilities p of `softmax` and a uniform number r a draw, NumPy and PyTorch find the first j with::

        p[0] + ... + p[j] > r

    JAX finds ``argmax(log(p) + g)`` with Gumbel noise g, which XLA splits over devices.

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
    On the CPU the kernels read the logits once, and search among 256 classes for each draw. `top_k` and `top_p` rank
    the most probable classes of a row, and not the others; where 64 classes do not reach `top_p`, all are sorted.

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
    if wrong:
        raise unexpected(sample, wrong)
    family, x, lay = _rows_of("logits", logits, axis)
    source_of(family, rng)  # refuses what is no source
    heat, cap = _number("temperature", temperature, zero=True), _number("softcap", softcap)
    kept_share = None if top_p is None else share("top_p", top_p)
    least = None if min_p is None else share("min_p", min_p)
    k = None if top_k is None else min(positive("top_k", top_k), lay.n)
    x = family.detach(fold_axes(family, x, lay))
    mask = None if where is None else _mask_of(family, where, x, lay)
    wide = "float64" if dtype_name(x.dtype) not in FLOATS[:3] else "float32"
    xp = family.namespace(x)
    if heat == 0.0:
        best, ids = softmax_top_k(x, 1, lay.axis, where=mask)
        ids = xp.squeeze(xp.where(xp.isnan(best), -1, ids), axis=lay.axis)
        ids = xp.broadcast_to(ids, (*shape, *ids.shape))
    else:
        plan, operands, *_ = check("softmax", x, None, lay.axis, mask, heat, cap, "nan", wide)
        ids = drawn_ids(plan, operands, rng, tuple(shape), (k, kept_share, least))
    void = ids < 0
    if family.readable(void) and bool(xp.any(void)):
        raise ValueError("logits: a row has NaN, +inf or no class; allowed are rows with probabilities")
    return ids


def _number(name: str, value: Any, zero: bool = False) -> float | None:
    """Check a temperature or a softcap that is one number."""
    if value is None and name == "softcap":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: {type(value).__name__} is not allowed; allowed is one number") from None
    return 0.0 if zero and number == 0.0 else option_number(name, number)


@exact
def gumbel_softmax(
    logits: Array = MISSING,
    rng: Any = MISSING,
    /,
    axis: int | None = -1,
    *,
    where: Array | None = None,
    temperature: Scalar = 1.0,
    hard: bool = False,
    **wrong: Never,
) -> Array:
    """A differentiable sample: the softmax of logits with Gumbel noise.

    With standard exponential numbers e, Gumbel noise ``g = -log(e)`` and the temperature T::

        softmax((logits + g) / T)

    Near 0 it is one-hot, the class being
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
    if wrong:
        raise unexpected(gumbel_softmax, wrong)
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
