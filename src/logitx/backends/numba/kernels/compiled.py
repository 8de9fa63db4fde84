"""The compiled kernels: one for each combination of dtypes and way to fill lanes, made when it is first needed."""

from __future__ import annotations

import functools
from typing import Any

from numba.core.types import boolean, float64, int64, none

from logitx.backends.numba.compile.policy import kernel
from logitx.backends.numba.compile.static import KNOWN, Function
from logitx.backends.numba.kernels import (
    cross_entropy_ids,
    cross_entropy_long,
    cross_entropy_probabilities,
    cut_rows,
    linear_tile,
    logsumexp,
    softmax,
    vjp,
)
from logitx.backends.numba.kernels import merge as _merge
from logitx.backends.numba.kernels import partial as _partial
from logitx.backends.numba.memory.arguments import Lent

_MASK, _IDS, _WIDE = Lent("bool"), Lent("int64"), Lent("float64")
_SHARED = (int64, int64)  # how every signature ends: the number of parts, the address of the crew


def _way(*ways: bool | None) -> tuple[Any, ...]:
    """Return the types of arguments that are True or None: of two types, so that only what they ask for is compiled."""
    return tuple(none if way is None else KNOWN for way in ways)


def _compiled(function: Function, *signature: Any) -> Function:
    return kernel(function, (*signature, *_SHARED))


@functools.cache
def normalize(
    across: bool | None, log: bool | None, options: bool | None, held: str, compute: str, result: str
) -> Function:
    """Return the kernel of softmax and log_softmax."""
    numbers = _WIDE, Lent(compute), float64
    return _compiled(softmax.normalize, Lent(held), _MASK, Lent(result), int64, *_way(across, log, options), *numbers)


@functools.cache
def reduce(across: bool | None, options: bool | None, held: str, compute: str, result: str) -> Function:
    """Return the kernel of logsumexp."""
    number, row = Lent(compute), Lent(result)
    return _compiled(logsumexp.reduce, Lent(held), number, _MASK, row, row, number, int64, *_way(across, options))


@functools.cache
def partial(across: bool | None, options: bool | None, held: str, compute: str) -> Function:
    """Return the kernel of what parts of a row are merged from."""
    number = Lent(compute)
    arrays = Lent(held), _MASK, number, number, _IDS, number, _WIDE, number
    return _compiled(_partial.partial, *arrays, int64, *_way(across, options))


@functools.cache
def merge() -> Function:
    """Return the kernel that merges what parts of a row come down to."""
    return _compiled(_merge.merge, *[_WIDE] * 5)


@functools.cache
def normalize_known(
    across: bool | None, log: bool | None, options: bool | None, held: str, compute: str, result: str
) -> Function:
    """Return the kernel of softmax and log_softmax of rows whose reduction is known."""
    number = Lent(compute)
    arrays = Lent(held), _MASK, Lent(result), number, number
    return _compiled(cut_rows.normalize, *arrays, int64, *_way(across, log, options), _WIDE, number, float64)


@functools.cache
def differentiate_known(across: bool | None, options: bool | None, held: str, compute: str, result: str) -> Function:
    """Return the kernel of the gradient of cross-entropy with class ids, of rows whose reduction is known."""
    number = Lent(compute)
    arrays = Lent(held), _IDS, _MASK, Lent(result), number, number, number, number
    return _compiled(cut_rows.differentiate, *arrays, int64, *_way(across, options), float64, _WIDE, number)


@functools.cache
def hard(
    across: bool | None, backward: bool | None, options: bool | None, held: str, compute: str, result: str, loss: str
) -> Function:
    """Return the kernel of cross-entropy with class ids."""
    number, row = Lent(compute), Lent(loss)
    arrays = Lent(held), _IDS, number, number, _MASK, Lent(result), row, row, row
    numbers = boolean, int64, float64, number, _WIDE, float64, int64
    return _compiled(cross_entropy_ids.hard, *arrays, int64, *_way(across, backward, options), *numbers)


@functools.cache
def soft(across: bool | None, held: str, targets: str, compute: str, result: str, loss: str) -> Function:
    """Return the kernel of cross-entropy with probabilities or smoothed class ids, and of its Hessian."""
    number, row, entry = Lent(compute), Lent(loss), Lent(result)
    arrays = Lent(held), Lent(targets), _IDS, number, number, _MASK, entry, entry, row, row, row
    options = int64, *_way(across), boolean, int64, float64, float64, number, _WIDE, float64, int64
    return _compiled(cross_entropy_probabilities.soft, *arrays, *options)


@functools.cache
def normalize_long(log: bool | None, keeping: bool | None, held: str, compute: str, result: str) -> Function:
    """Return the kernel of softmax and log_softmax for long rows."""
    arrays = Lent(held), Lent(result)
    return _compiled(softmax.normalize_long, *arrays, int64, *_way(log, keeping), Lent(compute), _WIDE, float64)


@functools.cache
def reduce_long(held: str, compute: str, result: str) -> Function:
    """Return the kernel of logsumexp for long rows."""
    return _compiled(logsumexp.reduce_long, Lent(held), Lent(result), int64, Lent(compute), _WIDE)


@functools.cache
def hard_long(backward: bool | None, keeping: bool | None, held: str, compute: str, result: str, loss: str) -> Function:
    """Return the kernel of cross-entropy with class ids for long rows."""
    row = Lent(loss)
    arrays = Lent(held), _IDS, Lent(result), row, row, row
    numbers = boolean, int64, float64, Lent(compute), _WIDE, float64, int64
    return _compiled(cross_entropy_long.hard_long, *arrays, int64, *_way(backward, keeping), *numbers)


@functools.cache
def pull_back(across: bool | None, held: str, cotangent: str, compute: str, result: str) -> Function:
    """Return the kernel of softmax_vjp and log_softmax_vjp."""
    return _compiled(
        vjp.pull_back, Lent(held), Lent(cotangent), Lent(result), int64, *_way(across), boolean, Lent(compute)
    )


def _tile(compute: str, targets: str) -> tuple[Any, ...]:
    number, shares = Lent(compute), Lent(targets)
    return number, int64, number, _IDS, _IDS, shares, number, float64, float64, _WIDE, number, *_way(True)


@functools.cache
def reduce_tile(compute: str, targets: str) -> Function:
    """Return the kernel that reduces the rows of a tile of logits."""
    return _compiled(linear_tile.reduce, *_tile(compute, targets), _WIDE, _WIDE)


@functools.cache
def differentiate_tile(compute: str, targets: str) -> Function:
    """Return the kernel that turns a tile of logits into its gradient."""
    return _compiled(linear_tile.differentiate, *_tile(compute, targets), _WIDE)
