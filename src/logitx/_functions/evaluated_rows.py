"""What `CrossEntropy` adds up of the rows of an update."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitx._arrays.families import FAMILIES
from logitx._arrays.family import FLOATING, dtype_name, namespace_dtype
from logitx._dispatch import on_backend
from logitx._plan import Array, Plan
from logitx.backends.formulas.ranking import take_along, takes_along
from logitx.backends.protocol import Backend, TellsRows


def in_compute(plan: Plan, x: Array) -> Array:
    """Return an array in the dtype to compute in."""
    xp = FAMILIES[plan.family].namespace(x)
    return xp.astype(x, namespace_dtype(xp, plan.compute), copy=False)


def classes_last(plan: Plan, x: Array) -> Array:
    """Return an array of the shape of the logits with one class axis, the last; integers in the dtype to compute in."""
    family, lay = FAMILIES[plan.family], plan.layout
    xp = family.namespace(x)
    if dtype_name(x.dtype) not in (*FLOATING, "bool"):
        x = in_compute(plan, x)
    if family.as_given:
        order = (*(axis for axis in range(x.ndim) if axis not in lay.axes), *lay.axes)
        x = x if order == tuple(range(x.ndim)) else xp.permute_dims(x, order)
        return x if len(lay.axes) == 1 else xp.reshape(x, (*lay.rows, lay.n))
    last = tuple(axis for axis in range(x.ndim) if axis != lay.axis)
    return x if lay.axis == len(last) else xp.permute_dims(x, (*last, lay.axis))


def numbers_of_rows(plan: Plan, operands: tuple[Any, ...]) -> tuple[tuple[Array, ...], Any] | None:
    """Return the outputs of a loss and the numbers of its rows from one pass; None where there is no such pass."""

    def use(backend: Backend) -> Any:
        return backend.loss_with_numbers(plan, *operands) if isinstance(backend, TellsRows) else None

    return on_backend(plan, operands, use)  # type: ignore[no-any-return]


def has_maximum(xp: Any, x: Array) -> Array:
    """Return True for rows, along the last axis, in which a logit is the highest: not for NaN and -inf alone."""
    return xp.any(x > -xp.inf, axis=-1) & ~xp.any(xp.isnan(x), axis=-1)


class EvaluatedRows:
    """The loss, label, weight and hit of every row of an update, as NumPy arrays."""

    hits: Any
    near: Any

    def __init__(self, plan: Plan, operands: tuple[Any, ...], top_k: int | None) -> None:
        self.plan, self.family = plan, FAMILIES[plan.family]
        logits, targets, options = operands
        class_weight, sample_weight, where = options.class_weight, options.sample_weight, options.where
        self.xp = self.family.namespace(logits)
        told = numbers_of_rows(plan, operands)
        if told is None:
            told = on_backend(plan, operands, lambda backend: backend.cross_entropy(plan, *operands)), None
        (losses, *_), numbers = told
        x = classes_last(plan, logits)
        if where is not None:
            where = classes_last(plan, self.xp.broadcast_to(where, logits.shape))
            x = self.xp.where(where, x, -self.xp.inf) if numbers is None or top_k is not None else x
        classes, labels = self._targets(targets, class_weight)
        lazy = {
            "losses": losses,
            "best": self.xp.argmax(x, axis=-1) if numbers is None else None,
            "correct": None if numbers is None else numbers.correct,
            "labels": labels,
            "classes": classes,
            "sample": sample_weight,
            "valid": None if where is None else self.xp.any(where, axis=-1),
            "near": None if top_k is None else self._near(x, labels, top_k),
        }
        there = {name: value for name, value in lazy.items() if value is not None}
        found = dict(zip(there, self.family.host(*there.values()), strict=True))
        self._settle(found, None if class_weight is None or not plan.hard else self.family.host(class_weight)[0])
        # In a row of NaN or of -inf alone no logit is the highest; the loss of any other hit is a number and not 0
        if np.any((self.hits | self.near) & ~(np.isfinite(self.losses) & (self.losses != 0.0))):
            (sound,) = self.family.host(has_maximum(self.xp, x))
            self.hits, self.near = self.hits & sound, self.near & sound

    def _targets(self, targets: Array, class_weight: Array) -> tuple[Array, Array]:
        """Return the class weight of each row (None for class ids and without weights) and its label."""
        if self.plan.hard:
            return None, targets
        xp, t = self.xp, in_compute(self.plan, classes_last(self.plan, targets))
        if class_weight is None:
            return None, xp.argmax(t, axis=-1)
        return xp.sum(xp.where(t == 0.0, 0.0, t * in_compute(self.plan, class_weight)), axis=-1), xp.argmax(t, axis=-1)

    def _near(self, x: Array, labels: Array, top_k: int) -> Array:
        """True for rows whose label is among the `top_k` highest logits; of equal logits the first ranks higher."""
        xp, kind = self.xp, namespace_dtype(self.xp, "int64")
        places = xp.arange(self.plan.layout.n, dtype=kind)
        ids = xp.reshape(xp.astype(labels, kind, copy=False), (*labels.shape, 1))
        if takes_along(xp):
            inside = (ids >= 0) & (ids < self.plan.layout.n)
            own = xp.where(inside, take_along(xp, x, xp.where(inside, ids, xp.zeros_like(ids)), -1), -xp.inf)
        else:  # Dask; elsewhere this takes twice the time
            own = xp.max(xp.where(places == ids, x, -xp.inf), axis=-1, keepdims=True)
        before = (x > own) | ((x == own) & (places < ids))
        rank = xp.sum(xp.astype(before, namespace_dtype(xp, "int32")), axis=-1)  # int64 takes a third longer
        return (rank < top_k) & xp.squeeze(own > -xp.inf, axis=-1)

    def _settle(self, found: dict[str, Any], class_weight: Any) -> None:
        plan, labels = self.plan, found["labels"].astype(np.int64)
        counted = np.ones(labels.shape, bool)
        if plan.hard and plan.ignore_index is not None:
            counted = labels != plan.ignore_index
        classes = found.get("classes")
        if class_weight is not None:  # for a label out of range the loss raises or is NaN
            classes = class_weight[np.clip(labels, 0, plan.layout.n - 1)]
        if "valid" in found:
            counted = counted & found["valid"]
        sample = np.broadcast_to(found.get("sample", 1.0), labels.shape).astype(np.float64)
        self.losses, self.sample = found["losses"], sample
        self.share = np.where(counted, sample if classes is None else sample * classes, 0.0)
        self.hits = found["best"] == labels if "best" in found else found["correct"]
        self.near = found.get("near", self.hits)
