"""Several class axes folded into one, and back."""

from __future__ import annotations

import numpy as np

from logitx._arrays.family import Family
from logitx._plan import Array, Layout


def fold_axes(family: Family, x: Array, layout: Layout) -> Array:
    """Move the class axes of an array next to each other and fold them into one."""
    if not layout.folds or family.as_given:
        return x
    xp = family.namespace(x)
    if layout.permutation is not None:
        x = xp.permute_dims(x, layout.permutation)
    return xp.reshape(x, layout.shape)


def unfold_axes(family: Family, x: Array, layout: Layout) -> Array:
    """Undo `fold_axes`."""
    if not layout.folds or family.as_given:
        return x
    xp = family.namespace(x)
    x = xp.reshape(x, layout.permuted)
    return x if layout.inverse is None else xp.permute_dims(x, layout.inverse)


def fold_as_view(family: Family, x: Array, layout: Layout) -> Array | None:
    """Fold an output so that writing to it writes to `x`; None if only a copy has the folded shape."""
    if not layout.folds:
        return x
    if family.to_numpy is None or not family.readable(x):
        return None
    folded = fold_axes(family, x, layout)
    same_memory = np.may_share_memory(family.to_numpy(folded), family.to_numpy(x))
    return folded if same_memory else None
