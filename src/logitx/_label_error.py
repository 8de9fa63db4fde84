"""The error of a class id out of range."""

from __future__ import annotations

from logitx._plan import Plan


class LabelError(ValueError):
    """A class id outside ``[0, n)`` that is not ``ignore_index``: a ValueError.

    Attributes
    ----------
    index : tuple of int
        The position in the targets of the first such id.
    label : int
        The id.

    Examples
    --------
    >>> import numpy as np
    >>> import logitx as lx
    >>> try:
    ...     lx.cross_entropy(np.zeros((2, 3)), [0, 7])
    ... except lx.LabelError as error:
    ...     print(error.index, error.label)
    (1,) 7
    """

    def __init__(self, plan: Plan, position: int, label: int) -> None:
        """Name the label at flat C-order `position` of the targets."""
        n, index = plan.ids, []
        for length in reversed(plan.layout.rows):
            position, last = divmod(position, length)
            index.append(last)
        self.plan, self.index, self.label = plan, tuple(reversed(index)), label
        where = f" at position {self.index}" if index else ""
        ignored = "ignore_index is None" if plan.ignore_index is None else f"ignore_index is {plan.ignore_index}"
        argument = "ids" if plan.op.startswith("selected") else "targets"
        super().__init__(f"{argument}: class id {label}{where} is out of range; allowed are 0 to {n - 1} ({ignored})")

    def within(self, plan: Plan, first: tuple[int, ...]) -> LabelError:
        """Return this error of a slice that starts at `first`, with the index in the full array of `plan`."""
        index = tuple(map(sum, zip(self.index, first, strict=True)))
        position = 0
        for place, length in zip(index, plan.layout.rows, strict=True):
            position = position * length + place
        return LabelError(plan, position, self.label)

    def __reduce__(self) -> tuple[type[ValueError], tuple[str]]:
        """Pickle as a plain ValueError: the plan that made the message need not travel."""
        return ValueError, (str(self),)
