"""Labels and class weights: which labels are valid, and the share of each row in the denominator of the mean."""

from __future__ import annotations

from typing import Any

from logitx._arrays.families import family_of
from logitx._arrays.family import dtype_name, namespace_dtype
from logitx._label_error import LabelError
from logitx._plan import Array, Plan
from logitx.backends.formulas.numbers import to_compute

UNSIGNED = ("uint32", "uint64")  # ids of these dtypes may be too large for int32 or int64


def row_weights(plan: Plan, xp: Any, targets: Array, class_weight: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the class weight c of each row in float64, and which rows are ignored; classes lie on `axes`."""
    if plan.hard:
        ids = signed_ids(plan, xp, targets)
        ignored, bad = sort_out(plan, xp, ids)
        if class_weight is None:
            return xp.ones(ids.shape, dtype=xp.float64), ignored
        safe = xp.where(ignored | bad, 0, ids)
        return xp.astype(xp.reshape(class_weight, (-1,)), xp.float64)[safe], ignored
    rows = tuple(length for axis, length in enumerate(targets.shape) if axis not in axes)
    if class_weight is None:
        return xp.ones(rows, dtype=xp.float64), xp.zeros(rows, dtype=xp.bool)
    t = xp.astype(targets, xp.float64)
    lengths = tuple(length if axis in axes else 1 for axis, length in enumerate(targets.shape))
    weight = xp.reshape(weights_in_place(xp, class_weight, targets.shape, axes), lengths)
    return xp.sum(xp.where(t == 0.0, 0.0, weight * t), axis=axes), xp.zeros(rows, dtype=xp.bool)


def weights_in_place(xp: Any, class_weight: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Return class weights as an array over the class axes, in increasing order, of their lengths in `shape`."""
    given = xp.reshape(xp.astype(class_weight, xp.float64), tuple(shape[axis] for axis in axes))
    order = tuple(sorted(range(len(axes)), key=lambda i: axes[i]))
    return xp.permute_dims(given, order) if len(axes) > 1 else given


def row_shares(
    plan: Plan,
    xp: Any,
    targets: Array,
    class_weight: Array,
    sample_weight: Array,
    where: Array,
    axes: tuple[int, ...],
) -> Array:
    """Return s c of each row that counts, else 0, in float64. `where` has all axes, of any lengths that broadcast."""
    classes, skipped = row_weights(plan, xp, targets, class_weight, axes)
    share = classes if sample_weight is None else classes * xp.astype(sample_weight, xp.float64)
    if where is not None:
        skipped = skipped | ~xp.any(where, axis=axes)
    return xp.where(skipped, 0.0, share)


def signed_ids(plan: Plan, xp: Any, targets: Array) -> Array:
    """Return class ids as int64 (int32 where JAX has no other); what does not fit becomes an id out of range."""
    ids = xp.astype(targets, namespace_dtype(xp, "int64"), copy=False)
    if dtype_name(targets.dtype) not in UNSIGNED:
        return ids
    return xp.where(ids < 0, xp.zeros_like(ids) + outside(plan), ids)  # 2**64 - 100 has become -100


def outside(plan: Plan) -> int:
    """Return a class id that is out of range and not ignored."""
    return -2 if plan.ignore_index == -1 else -1


def sort_out(plan: Plan, xp: Any, ids: Array) -> tuple[Array, Array]:
    """Return masks: (ids to ignore, ids out of range)."""
    index, held = plan.ignore_index, xp.iinfo(ids.dtype)  # JAX may hold no 64 bits
    ignored = ids == index if index is not None and held.min <= index <= held.max else xp.zeros_like(ids, dtype=xp.bool)
    return ignored, ((ids < 0) | (ids >= plan.ids)) & ~ignored


def weighted_targets(xp: Any, t: Array, weight: Array) -> Array:
    """Return targets times weights: 0 if a target is 0 and its weight infinite or NaN. Differentiable by both."""
    return xp.where((t == 0.0) & ~xp.isfinite(weight), 0.0, weight * t)


def refuse_labels(plan: Plan, xp: Any, ids: Array, bad: Array) -> None:
    """Raise for the first class id out of range."""
    if bool(xp.any(bad)):
        position = int(xp.argmax(xp.astype(xp.reshape(bad, (-1,)), namespace_dtype(xp, "int64")), axis=0))
        (known,) = family_of(ids).host(ids)  # type: ignore[union-attr]
        raise LabelError(plan, position, int(known.flat[position]))


def class_weights_and_shares(
    plan: Plan, xp: Any, targets: Array, class_weight: Array, sample_weight: Array
) -> tuple[Array, Array]:
    """Return the class weight of each row, and that times its sample weight; 0 where it is ignored."""
    ignored, classes = None, None
    if plan.hard:
        ids = signed_ids(plan, xp, targets)
        ignored, bad = sort_out(plan, xp, ids)
        if class_weight is not None:
            classes = xp.take(to_compute(plan, class_weight), xp.where(ignored | bad, xp.zeros_like(ids), ids), axis=0)
    elif class_weight is not None:
        t = to_compute(plan, targets)
        classes = xp.sum(weighted_targets(xp, t, to_compute(plan, class_weight)[None, :]), axis=-1)
    if classes is None:
        classes = to_compute(plan, xp.ones_like(targets if plan.hard else targets[:, 0]))
    share = classes if sample_weight is None else sample_weight * classes
    return classes, share if ignored is None else xp.where(ignored, 0.0, share)
