"""The binary family: every element is computed alone, a vector at a time, in one pass over memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import inlined, primitive
from logitx.backends.numba.kernels.signature import Computed, Mask, OfLogits, OfLoss, OfOther, OfResult, Way, Wide
from logitx.backends.numba.memory.arguments import FAILED, OK, bytes_per_element, given, view_of_rows
from logitx.backends.numba.memory.load_store import read_lanes, read_one, stream, write_back
from logitx.backends.numba.memory.prefetch import STREAMED
from logitx.backends.numba.memory.scratch import (
    is_missing,
    load_lanes,
    place_one,
    release,
    reserve,
    store_lanes,
    take_one,
)
from logitx.backends.numba.passes.sums import add_to_sum
from logitx.backends.numba.threads.workers import job_of, together
from logitx.backends.numba.vectors.exp_log import exp_of_sum, log1p_of_sum
from logitx.backends.numba.vectors.lanes import fma, fold_sum, lane, least, select, spread_as, width_of

BLOCK_ELEMENTS = 1 << 13  # elements whose losses are added up in vectors; what threads share
LOSS, SHARE, BAD = range(3)  # what is known of a block
SUMS_OF_BLOCK = 3


class SigmoidArrays(NamedTuple):
    """The arrays of `sigmoid`; `like` is absent and has the dtype to compute in."""

    logits: OfLogits
    out: OfResult
    like: Computed


def sigmoid(arrays: SigmoidArrays, log: Way, parts: int, crew: int) -> int:
    """Write the sigmoid, or with `log` its logarithm."""
    x, out, like = view_of_rows(arrays.logits), view_of_rows(arrays.out), view_of_rows(arrays.like)
    return OK if together(crew, job_of(_sigmoid_part, (x, out, like, log)), parts) else FAILED


@primitive
def blocks_of(count: int) -> int:
    """Return the number of blocks of so many elements."""
    blocks: int = (count + BLOCK_ELEMENTS - 1) // BLOCK_ELEMENTS
    return blocks


@primitive
def _sigmoid_part(x: Any, out: Any, like: Any, log: Any, part: int, parts: int) -> bool:
    end = reserve(width_of(like), like)
    if is_missing(end):
        return False
    blocks, width, past = blocks_of(x.outer), width_of(like), is_past_caches(out)
    start, stop = blocks * part // parts * BLOCK_ELEMENTS, least(blocks * (part + 1) // parts * BLOCK_ELEMENTS, x.outer)
    for at in range(start, stop, width):
        count = least(width, x.outer - at)
        two = _two_classes(read_some(x, at, count, end, 0.0))
        zero = spread_as(end, 0.0)
        if log is None:
            write_some(out, at, count, two.p, end, past)
        else:
            write_some(out, at, count, zero - two.surprise, end, past)
    release(end)
    return True


@primitive
def is_past_caches(out: Any) -> bool:
    """Return True if an output is written past the caches: it is large, and aligned."""
    past: bool = out.address % 64 == 0 and out.outer * bytes_per_element(out) >= STREAMED
    return past


@primitive
def read_some(memory: Any, at: int, count: int, end: Any, pad: float) -> Any:
    """Read a vector, of which only `count` elements may be there."""
    size = bytes_per_element(memory)
    if count == width_of(end):
        return read_lanes(memory, at * size, end)
    store_lanes(end, 0, spread_as(end, pad))
    for i in range(count):
        place_one(end, i, read_one(memory, (at + i) * size, end))
    return load_lanes(end, 0)


@primitive
def write_some(memory: Any, at: int, count: int, value: Any, end: Any, past: bool) -> None:
    """Write the first `count` elements of a vector."""
    size = bytes_per_element(memory)
    if count == width_of(end):
        if past:
            stream(memory, at * size, value)
        else:
            write_back(memory, at * size, value)
    else:
        store_lanes(end, 0, value)
        for i in range(count):
            write_back(memory, (at + i) * size, take_one(end, i))


class _TwoClasses(NamedTuple):
    """Probabilities of both classes, and the negative logarithms of these."""

    p: Any
    complement: Any
    surprise: Any
    other_surprise: Any


@primitive
def _two_classes(x: Any) -> Any:
    zero, one = spread_as(x, 0.0), spread_as(x, 1.0)
    negative = x < zero
    size = select(negative, zero - x, x)
    e = exp_of_sum(zero - size, zero)
    larger = one / (one + e)
    smaller, rest = e * larger, log1p_of_sum(e, zero)
    return _TwoClasses(
        select(negative, smaller, larger),
        select(negative, larger, smaller),
        select(negative, size, zero) + rest,
        select(negative, zero, size) + rest,
    )


# -- losses -----------------------------------------------------------------------------------------------------------


class BinaryArrays(NamedTuple):
    """The arrays of `binary_loss`; all but logits, targets and sums may be absent."""

    logits: OfLogits
    targets: OfOther
    pos_weight: Computed
    sample_weight: Computed
    where: Mask
    grad: OfResult
    hess: OfResult
    losses: OfLoss
    sums: Wide  # SUMS_OF_BLOCK numbers a block


class BinaryNumbers(NamedTuple):
    """The numbers of `binary_loss`."""

    keep: float  # 1 - smoothing
    spread: float  # smoothing / 2
    yes: float  # factor of positive targets
    no: float  # factor of negative targets
    sample: float  # weight of every element
    period: int  # elements after which the positive weights begin anew
    ignored: float  # the class id to ignore; NaN for none
    gamma: float
    factor: float  # of gradients: 1 over the denominator of the mean, or 1


class _Views(NamedTuple):
    """The arrays of a job as views."""

    x: Any
    targets: Any
    pos_weight: Any
    sample_weight: Any
    where: Any
    grad: Any
    hess: Any
    losses: Any
    sums: Any


def binary_loss(
    arrays: BinaryArrays, numbers: BinaryNumbers, gradient: Way, hard: Way, focal: Way, parts: int, crew: int
) -> int:
    """Write the losses, gradients and second derivatives that are given, and the sums of every block."""
    views = _Views(
        view_of_rows(arrays.logits),
        view_of_rows(arrays.targets),
        view_of_rows(arrays.pos_weight),
        view_of_rows(arrays.sample_weight),
        view_of_rows(arrays.where),
        view_of_rows(arrays.grad),
        view_of_rows(arrays.hess),
        view_of_rows(arrays.losses),
        view_of_rows(arrays.sums),
    )
    job = job_of(_loss_part, (views, numbers, gradient, hard, focal))
    return OK if together(crew, job, parts) else FAILED


@primitive
def _loss_part(views: Any, numbers: Any, gradient: Any, hard: Any, focal: Any, part: int, parts: int) -> bool:
    end = reserve(width_of(views.pos_weight), views.pos_weight)
    if is_missing(end):
        return False
    blocks = blocks_of(views.x.outer)
    for block in range(blocks * part // parts, blocks * (part + 1) // parts):
        _loss_block(views, numbers, block, end, gradient, hard, focal)
    release(end)
    return True


class _Weighed(NamedTuple):
    """Weights of a vector of elements."""

    yes: Any  # of the loss -log p
    no: Any  # of the loss -log (1 - p)
    sample: Any  # 0 where the element does not count
    bad: Any  # 1 for a class id out of range


@inlined
def _weigh(views: Any, numbers: Any, at: int, count: int, end: Any, hard: Any) -> Any:
    zero, one = spread_as(end, 0.0), spread_as(end, 1.0)
    t = read_some(views.targets, at, count, end, 0.0)
    sample = spread_as(end, numbers.sample)
    if given(views.sample_weight):
        sample = sample * read_some(views.sample_weight, at, count, end, 0.0)
    elif count < width_of(end):
        store_lanes(end, 0, zero)
        for i in range(count):
            place_one(end, i, lane(sample, 0))
        sample = load_lanes(end, 0)
    bad, counts = zero, one
    if hard is not None:
        counts = select(t == spread_as(end, numbers.ignored), zero, one)
    if given(views.where):
        counts = counts * read_some(views.where, at, count, end, 0.0)
    if hard is not None:
        bad = select((t == zero) | (t == one), zero, counts)
    skipped = counts == zero
    t = select(skipped, zero, t)
    keep, more = spread_as(end, numbers.keep), spread_as(end, numbers.spread)
    yes, no = fma(t, keep, more), fma(one - t, keep, more)
    if given(views.pos_weight):
        yes = select(yes == zero, zero, yes * read_some(views.pos_weight, at % numbers.period, count, end, 0.0))
    yes, no = yes * spread_as(end, numbers.yes), no * spread_as(end, numbers.no)
    return _Weighed(yes, no, select(skipped, zero, sample), bad)


@inlined
def _loss_block(views: Any, numbers: Any, block: int, end: Any, gradient: Any, hard: Any, focal: Any) -> None:
    width, zero = width_of(end), spread_as(end, 0.0)
    high, low, share, lost, bad = zero, zero, zero, zero, zero
    grad_past, hess_past, loss_past = (
        is_past_caches(views.grad),
        is_past_caches(views.hess),
        is_past_caches(views.losses),
    )
    for at in range(block * BLOCK_ELEMENTS, least((block + 1) * BLOCK_ELEMENTS, views.x.outer), width):
        count = least(width, views.x.outer - at)
        two = _two_classes(read_some(views.x, at, count, end, 0.0))
        weighed = _weigh(views, numbers, at, count, end, hard)
        yes, no, sample = weighed.yes, weighed.no, weighed.sample
        never = (sample == zero) | (yes + no == zero)
        up, down = two.surprise, two.other_surprise
        if focal is not None:
            gamma = spread_as(end, -numbers.gamma)
            up, down = exp_of_sum(gamma * down, zero) * up, exp_of_sum(gamma * up, zero) * down
        loss = select(yes == zero, zero, yes * up) + select(no == zero, zero, no * down)
        loss = select(never, zero, sample * loss)
        if given(views.losses):
            write_some(views.losses, at, count, loss, end, loss_past)
        else:
            high, low = add_to_sum(high, low, loss)
            share, lost = add_to_sum(share, lost, sample)
        bad = bad + weighed.bad
        if gradient is not None:
            factor = sample * spread_as(end, numbers.factor)
            falls, rises = two.complement, two.p
            if focal is not None:
                falls = _slope(gamma, two.p, two.complement, two.surprise, two.other_surprise)
                rises = _slope(gamma, two.complement, two.p, two.other_surprise, two.surprise)
            found = factor * (no * rises - yes * falls)
            write_some(views.grad, at, count, select(never, zero, found), end, grad_past)
        if given(views.hess):
            found = sample * ((yes + no) * two.p * two.complement)
            write_some(views.hess, at, count, select(never, zero, found), end, hess_past)
    base = 8 * SUMS_OF_BLOCK * block
    low = select(low == low, low, zero)  # inf - inf in the error of an infinite sum is NaN: drop it
    write_back(views.sums, base + 8 * LOSS, fold_sum(high, low))
    write_back(views.sums, base + 8 * SHARE, fold_sum(share, lost))
    write_back(views.sums, base + 8 * BAD, fold_sum(bad, zero))


@primitive
def _slope(gamma: Any, p: Any, complement: Any, surprise: Any, other_surprise: Any) -> Any:
    """Return (1 - p)^gamma (1 - p + gamma p (-log p)); `gamma` comes with its sign changed."""
    zero = spread_as(p, 0.0)
    more = select(p == zero, zero, p * surprise)
    return exp_of_sum(gamma * other_surprise, zero) * (complement - gamma * more)
