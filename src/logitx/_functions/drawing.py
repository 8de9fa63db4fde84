"""What `softmax_top_k` and `sample` do with checked operands: by kernels that read the logits once, or by formulas."""

from __future__ import annotations

import math
from typing import Any

from logitx._arrays.families import FAMILIES
from logitx._dispatch import on_backend
from logitx._plan import Array, Plan
from logitx.backends.formulas.ranking import take_along
from logitx.backends.formulas.sampling import SOURCES, best_kept, kept_classes, shares_of
from logitx.backends.protocol import Backend, Draws, RanksClasses


def largest_in_one_read(plan: Plan, k: int, operands: tuple[Any, ...]) -> tuple[Array, Array] | None:
    """Return the k largest probabilities of each row, the class axis last, and their ids; None where no kernel does."""

    def use(backend: Backend) -> Any:
        return backend.best_classes(plan, k, *operands[:-1]) if isinstance(backend, RanksClasses) else None

    return on_backend(plan, operands, use)  # type: ignore[no-any-return]


def drawn_ids(
    plan: Plan, operands: tuple[Any, ...], rng: Any, shape: tuple[int, ...], cuts: tuple[Any, Any, Any]
) -> Array:
    """Return class ids, -1 for rows without probabilities: from one read of the logits, or from their softmax."""
    family, n, (k, kept_share, least) = FAMILIES[plan.family], plan.layout.n, cuts
    source, xp = SOURCES[plan.family], family.namespace(operands[0])

    def use(backend: Backend) -> Array | None:
        if not isinstance(backend, RanksClasses):
            return None
        shares = shares_of(source, rng, (math.prod(shape), math.prod(plan.layout.rows)), operands[0])
        draws = Draws(shares, least or 0.0, 1.0 if kept_share is None else kept_share)
        return backend.draw_classes(plan, draws, *operands[:-1])

    if k is None or k >= n:
        ids = on_backend(plan, operands, use)
        if ids is not None:
            return xp.reshape(ids, (*shape, *plan.layout.rows))
    found = None if k is None else largest_in_one_read(plan, k, operands)
    if found is not None:
        best, ids = found
        void, kept = xp.isnan(best[..., 0]), best_kept(xp, best, kept_share, least)
    else:
        p = on_backend(plan, operands, lambda backend: backend.softmax(plan, *operands))
        p = xp.moveaxis(p, plan.layout.axis, -1)
        void = xp.isnan(p[..., 0]) if operands[1] is None else ~(xp.sum(p, axis=-1) > 0.0)
        kept, ids = kept_classes(family, p, k, kept_share, least)
    places = source.places(kept, rng, shape)
    if ids is not None:
        places = take_along(xp, xp.broadcast_to(ids, (*shape, *ids.shape)), places[..., None], -1)[..., 0]
    return xp.where(void, -1, places)
