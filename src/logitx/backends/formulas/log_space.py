"""Factors and products by their logarithms."""

from __future__ import annotations

import dataclasses

from logitx._arrays.families import FAMILIES
from logitx._plan import Array, Plan
from logitx.backends.formulas.numbers import to_compute


def add_log_factors(plan: Plan, x: Array, log_b: Array) -> tuple[Plan, Array]:
    """Return x + log_b in the dtype that the plan computes in, and the plan of a call on it.

    An entry is -inf if either is: the other one does not count then, not even a NaN beside a factor of zero.
    """
    xp = FAMILIES[plan.family].namespace(x)
    x, log_b = to_compute(plan, x), to_compute(plan, log_b)
    dead = (log_b == -xp.inf) | ((x == -xp.inf) & (log_b == xp.inf))
    total = xp.where(dead, 0.0, x) + xp.where(dead, -xp.inf, log_b)
    return dataclasses.replace(plan, dtype=plan.compute), total
