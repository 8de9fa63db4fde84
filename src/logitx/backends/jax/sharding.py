"""Arrays that lie on several devices: each runs the kernel on its shard, and rows that are cut are merged.

XLA's partitioner asks what to do with the shards that it has found. An axis whose length the devices do not divide
evenly would be padded, with numbers that must not be counted; such an axis is asked for in one piece.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import ArrayMapping, SdyShardingRule, custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from logitx._arrays.families import jax_x64
from logitx._arrays.family import dtype_name
from logitx._plan import Array, Plan
from logitx.backends.jax import cut_rows
from logitx.backends.jax.kernel_calls import CLASSES, ENTRIES, ONE, ROWS, kernel, kinds, results


def has_shard_rule(plan: Plan, operands: tuple[Any, ...]) -> bool:
    """True if kernels can run the operation shard by shard; if not, XLA shards the formulas."""
    if plan.op in ("softmax", "log_softmax"):
        return operands[3] is None
    if plan.op.startswith("cross_entropy"):
        _, _, _, _, label_smoothing, _, softcap, _, _ = operands
        return plan.hard and label_smoothing is None and softcap is None and not plan.return_parts
    return plan.op in ("logsumexp", "softmax_vjp", "log_softmax_vjp")


def _resized(plan: Plan, shape: tuple[int, ...]) -> Plan:
    """Return the plan for a shard."""
    lay, axis = plan.layout, plan.layout.axis
    rows, column = shape[:axis] + shape[axis + 1 :], (*shape[:axis], 1, *shape[axis + 1 :])
    layout = dataclasses.replace(
        lay, given=shape, axes=(axis,), folds=False, permutation=None, inverse=None, permuted=shape, shape=shape,
        outer=math.prod(shape[:axis]), n=shape[axis], inner=math.prod(shape[axis + 1 :]), rows=rows, kept=column,
        column=column,
    )  # fmt: skip
    return dataclasses.replace(plan, layout=layout)


def _mesh_names(entry: Any) -> tuple[str, ...]:
    """Return the mesh axes of an entry of a PartitionSpec."""
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)


def _of_logits(mesh: Any, logits: Any) -> tuple[Any, ...]:
    """Return how to shard the logits: as they are, where the devices divide an axis evenly."""
    spec = tuple(logits.sharding.spec)
    spec = spec + (None,) * (len(logits.shape) - len(spec))
    sizes = (math.prod(mesh.shape[name] for name in _mesh_names(entry)) for entry in spec)
    return tuple(
        entry if length % size == 0 else None for entry, length, size in zip(spec, logits.shape, sizes, strict=True)
    )


def _specs(plan: Plan, spec: tuple[Any, ...], shapes: list[Any], each: list[int]) -> list[PartitionSpec]:
    """Return how to shard operands or results that go with logits that are sharded so."""
    axis = plan.layout.axis
    by_kind = {
        ENTRIES: spec,
        ROWS: spec[:axis] + spec[axis + 1 :],
        CLASSES: (),
        ONE: (),
    }
    column = (*spec[:axis], None, *spec[axis + 1 :])
    return [
        PartitionSpec(*by_kind.get(kind, column if len(shape.shape) else ()))
        for kind, shape in zip(each, shapes, strict=True)
    ]


def _result_kinds(plan: Plan) -> list[int]:
    return [
        ENTRIES
        if one.shape == plan.layout.shape
        else ROWS
        if plan.op == "logsumexp" or plan.reduction == "none"
        else ONE
        for one in results(plan)
    ]


def _on_shard(plan: Plan, spec: tuple[Any, ...], operands: tuple[Array, ...]) -> tuple[Array, ...]:
    """Compute an operation on a shard of the logits."""
    axis = plan.layout.axis
    names = _mesh_names(spec[axis])
    others = tuple(name for d, entry in enumerate(spec) if d != axis for name in _mesh_names(entry))
    local = dataclasses.replace(_resized(plan, operands[0].shape), reduction="none")
    if plan.op.startswith("cross_entropy"):
        return _loss_on_shard(plan, local, names, others, operands)
    if not names:
        return kernel(local, *operands)
    if plan.op == "logsumexp":
        return (cut_rows.logsumexp_of_shard(local, names, *operands),)
    if plan.op.endswith("vjp"):
        return (cut_rows.pull_back_shard(local, names, *operands),)
    return (cut_rows.normalize_shard(local, names, *operands[:3]),)


def _loss_on_shard(
    plan: Plan, local: Plan, names: tuple[str, ...], others: tuple[str, ...], operands: tuple[Array, ...]
) -> tuple[Array, ...]:
    x, targets, class_weight, sample_weight, _, z_loss, _, temperature, where = operands
    labels = cut_rows.shard_labels(
        dataclasses.replace(local, layout=dataclasses.replace(local.layout, n=plan.layout.n)), names, targets,
        class_weight, sample_weight, where,
    )  # fmt: skip
    if names:
        start = jax.lax.axis_index(names) * local.layout.n
        value, *gradient = cut_rows.loss_of_shard(local, names, start, labels, x, z_loss, temperature, where)
    else:
        value, *gradient = kernel(dataclasses.replace(local, result=_gradient_dtype(plan)), *operands)
    if plan.reduction != "none":
        value = _sum_over_shards(value, others)
    if plan.reduction == "mean":
        whole = _sum_over_shards(labels.share, others)
        divisor = jnp.where(whole == 0.0, 1.0, whole)
        value = jnp.where(whole == 0.0, jnp.nan if plan.empty == "nan" else 0.0, value / divisor)
        gradient = [jnp.where(whole == 0.0, 0.0, one / divisor) for one in gradient]
    return (value.astype(plan.loss), *(one.astype(plan.result) for one in gradient))


def _gradient_dtype(plan: Plan) -> str:
    """Return the dtype of a gradient that may still be divided."""
    return plan.compute if plan.reduction == "mean" else plan.result


def _sum_over_shards(value: Array, names: tuple[str, ...]) -> Array:
    total = jnp.sum(value)
    return jax.lax.psum(total, names) if names else total


def _sharding_rule(plan: Plan, each: list[int]) -> Any:
    """Return which axes of operands and results are the same, in Shardy's terms."""
    lay = plan.layout
    letters = [f"d{d}" for d in range(len(lay.shape))]
    rows = letters[: lay.axis] + letters[lay.axis + 1 :]
    named = {ENTRIES: letters, ROWS: rows, CLASSES: ["k"], ONE: []}

    def rule(mesh: Any, operands: Any, _: Any) -> Any:
        mapped = []
        for i, (kind, operand) in enumerate(zip(each, operands, strict=True)):
            column = [*letters[: lay.axis], f"one{i}", *letters[lay.axis + 1 :]] if len(operand.shape) else []
            mapped.append(ArrayMapping(*named.get(kind, column)))
        return SdyShardingRule(tuple(mapped), tuple(ArrayMapping(*named[kind]) for kind in _result_kinds(plan)))

    return rule


def _bits_of(plan: Plan, shapes: Any) -> AbstractContextManager[Any]:
    """Turn 64-bit numbers on if the program has them: XLA asks from a thread that does not see the setting."""
    names = {dtype_name(one.dtype) for one in (*shapes, *results(plan))} | {plan.compute}
    return jax_x64(any(name.endswith("64") for name in names))


@functools.lru_cache(maxsize=256)
def sharded(plan: Plan, present: tuple[bool, ...]) -> Any:
    """Return the operation as a function of what is present, which XLA's partitioner knows how to cut up."""
    each = [kind for kind, there in zip(kinds(plan), present, strict=True) if there]

    def filled(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        left = iter(arrays)
        return tuple(next(left) if there else None for there in present)

    @custom_partitioning
    def function(*arrays: Array) -> Any:
        return kernel(plan, *filled(arrays))

    def partition(mesh: Any, shapes: Any, outcome: Any) -> Any:
        spec = _of_logits(mesh, shapes[0])

        def lower(*arrays: Array) -> Any:
            with _bits_of(plan, shapes):
                return _on_shard(plan, spec, filled(arrays))

        def placed(specs: list[PartitionSpec]) -> tuple[NamedSharding, ...]:
            return tuple(NamedSharding(mesh, one) for one in specs)

        found = placed(_specs(plan, spec, list(outcome), _result_kinds(plan)))
        return mesh, lower, found, placed(_specs(plan, spec, list(shapes), each))

    def infer(mesh: Any, shapes: Any, outcome: Any) -> Any:
        spec = _of_logits(mesh, shapes[0])
        specs = _specs(plan, spec, list(outcome), _result_kinds(plan))
        return tuple(NamedSharding(mesh, one) for one in specs)

    function.def_partition(
        partition=partition, infer_sharding_from_operands=infer, sharding_rule=_sharding_rule(plan, each)
    )
    return function
