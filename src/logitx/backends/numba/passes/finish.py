"""*Finish*: the formulas that make each element of an output from an element of a tile and the numbers of its row.

One formula for each type of `facts`, chosen when a kernel is compiled. `copies` applies it, to rows that are written
at once and to tiles that another pass changes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from logitx.backends.numba.compile.policy import primitive
from logitx.backends.numba.compile.static import by_type
from logitx.backends.numba.passes.scaling import exponent
from logitx.backends.numba.vectors.lanes import cast_as, fma, lane, select, single_lane, spread_as, wide


class Scaled(NamedTuple):
    """A factor in two parts, for each row."""

    high: Any
    low: Any


class Logarithm(NamedTuple):
    """What log_softmax subtracts."""

    top: Any
    log_sum: Any
    scale: Any


class Gradient(NamedTuple):
    """What turns exponentials into the gradient of every class as if it were not the label."""

    quiet: Any  # rows without a gradient
    slant: Any
    high: Any
    low: Any


@primitive
def _as_it_is(x: Any, _facts: int) -> Any:
    return x


@primitive
def _scaled_element(x: Any, facts: Any) -> Any:
    return fma(x, wide(x, facts.high), x * wide(x, facts.low))


@primitive
def _logarithm(x: Any, facts: Any) -> Any:
    v, _ = exponent(x, facts.top, facts.scale)
    return v - wide(x, facts.log_sum)


@primitive
def _gradient_element(e: Any, facts: Any) -> Any:
    p = fma(e, wide(e, facts.high), e * wide(e, facts.low))
    return select(wide(e, facts.quiet), spread_as(e, 0.0), wide(e, facts.slant) * p)


@primitive
def complement_of(p: Any, v: Any, beside: Any) -> Any:
    """Return 1 - p, which cancels at the maximum, where `v` = (x - max) / temperature is 0: there it is `beside`."""
    return select(v == spread_as(v, 0.0), beside, spread_as(v, 1.0) - p)


finish_element = by_type({int: _as_it_is, Scaled: _scaled_element, Logarithm: _logarithm, Gradient: _gradient_element})


@primitive
def _heavier(weight: float, high: Any, low: Any) -> Any:
    """Multiply a number in two parts, one lane each, by a weight."""
    most, least = cast_as(lane(high, 0), weight), cast_as(lane(low, 0), weight)
    product = weight * most
    lost = fma(weight, most, -product) + weight * least
    first = single_lane(high, product)
    return first, single_lane(high, (product - cast_as(lane(first, 0), weight)) + lost)


@primitive
def _weigh_scaled(weight: float, facts: Any) -> Any:
    return Scaled(*_heavier(weight, facts.high, facts.low))


@primitive
def _weigh_gradient(weight: float, facts: Any) -> Any:
    return Gradient(facts.quiet, facts.slant, *_heavier(weight, facts.high, facts.low))


weigh_formula = by_type({Scaled: _weigh_scaled, Gradient: _weigh_gradient})
