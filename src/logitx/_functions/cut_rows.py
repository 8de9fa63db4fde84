"""Rows whose classes are split over several arrays: normalizers of their parts are merged."""

from __future__ import annotations

from typing import Never

from logitx._functions.keywords import MISSING, exact, unexpected
from logitx._plan import Array
from logitx._prepared import call


@exact
def merge_logsumexp(
    a: Array = MISSING, b: Array | None = None, /, *, axis_name: str | tuple[str, ...] | None = None, **wrong: Never
) -> Array:
    """Merge partial log-normalizers, of a stream, of chunks or of shards.

    Elementwise::

        log(exp(a) + exp(b)) = max(a, b) + log(1 + exp(-abs(a - b)))

    Parameters
    ----------
    a : array
        Values of `logsumexp` over a part of the classes, in nats.
    b : array, optional
        Those over another part; they broadcast.
    axis_name : str or tuple of str, optional
        In place of `b`, for JAX arrays inside `jax.shard_map` (or a `jax.vmap` that names its axis): `a` is merged with
        those of all other devices along these axes of the mesh. Three numbers an element are exchanged.

    Returns
    -------
    array
        `logsumexp` over both parts, of their wider dtype (float32 for float16 with bfloat16). A plain number takes
        the dtype of the other argument.

    Raises
    ------
    TypeError
        For an array type or a dtype that is not allowed, or two arrays of different libraries.
    ValueError
        For shapes that do not broadcast, for `axis_name` with `b` or with arrays that are not JAX's.

    Notes
    -----
    -inf, the value of an empty part, is neutral; +inf without NaN gives +inf; NaN gives NaN.

    References
    ----------
    M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", arXiv:1805.02867 (2018).

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> x = np.arange(10.0)
    >>> print(lx.merge_logsumexp(lx.logsumexp(x[:3]), lx.logsumexp(x[3:])).round(6), lx.logsumexp(x).round(6))
    9.45863 9.45863
    """
    if wrong:
        raise unexpected(merge_logsumexp, wrong)
    return call("merge_logsumexp", a, b, axis_name)
