"""`Sum`: what `CrossEntropy` adds numbers up in."""

from __future__ import annotations

import math


class Sum:
    """A compensated sum in float64: `low` holds the rounding error of `high`."""

    __slots__ = ("high", "infinite", "low")

    def __init__(self) -> None:
        self.high = self.low = self.infinite = 0.0

    def add(self, value: float) -> None:
        """Add a number; infinities and NaN go to `infinite`, so that `low` stays finite."""
        if not math.isfinite(value):
            self.infinite += value
            return
        total = self.high + value
        larger, smaller = (self.high, value) if abs(self.high) >= abs(value) else (value, self.high)
        self.low += (larger - total) + smaller
        self.high = total

    def merge(self, other: Sum) -> None:
        """Add another sum."""
        for value in (other.high, other.low):
            self.add(value)
        self.infinite += other.infinite

    @property
    def value(self) -> float:
        """The sum."""
        return self.high + self.low + self.infinite
