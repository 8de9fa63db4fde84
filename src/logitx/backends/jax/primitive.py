"""One primitive for the operations that have kernels: on CPUs it lowers to them, elsewhere to the formulas.

What it computes is what `generic` does. It has no derivatives of its own: those are rules of the operations, which are
written in closed form, out of this primitive again.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from logitx._options import nested
from logitx._plan import Array, Plan
from logitx._unfit import Unfit
from logitx.backends import generic
from logitx.backends.jax import sharding, signed_sums
from logitx.backends.jax.kernel_calls import CLASSES, ONE, ROWS_OR_ONE, kernel, kinds, results
from logitx.backends.jax.registration import why_missing

_lower_function = mlir.lower_fun  # looked up here: a release without it fails this import, and `generic` runs
kernel_p = Primitive("logitx")
kernel_p.multiple_results = True


def run_primitive(plan: Plan, *operands: Any) -> tuple[Array, ...]:
    """Compute an operation; operands that are None are absent, and so are results that the plan does not ask for."""
    present = tuple(operand is not None for operand in operands)
    arrays = alike(*(jnp.asarray(operand) for operand in operands if operand is not None))
    return tuple(kernel_p.bind(*arrays, plan=plan, present=present))


def _varying(aval: Any) -> frozenset[Any]:
    """Return the axes of a mesh along which an array differs from device to device, inside `shard_map`."""
    kind = getattr(aval, "mat", aval)  # JAX 0.10 keeps it there
    names: frozenset[Any] = getattr(kind, "varying", None) or getattr(kind, "vma", None) or frozenset()
    return names


def alike(*arrays: Array) -> tuple[Array, ...]:
    """Cast all arrays to vary over the union of their mesh axes, as `jax.numpy` does implicitly."""
    each = [_varying(jax.typeof(x)) if hasattr(jax, "typeof") else frozenset() for x in arrays]
    every = frozenset().union(*each)
    if all(names == every for names in each):
        return arrays
    cast = functools.partial(jax.lax.pcast, to="varying") if hasattr(jax.lax, "pcast") else jax.lax.pvary
    return tuple(cast(x, tuple(every - names)) if every - names else x for x, names in zip(arrays, each, strict=True))


def zeros_among(shape: Any, dtype: str, *arrays: Any) -> Array:
    """Return zeros with the same varying mesh axes as `arrays` (or trees of them), usable as the carry of a loop."""
    return alike(jnp.zeros(shape, dtype), *jax.tree.leaves(arrays))[0]


def _with_absent(present: tuple[bool, ...], arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Put None back where operands are absent."""
    left = iter(arrays)
    return tuple(next(left) if there else None for there in present)


def portable(*arrays: Array, plan: Plan, present: tuple[bool, ...]) -> tuple[Array, ...]:
    """Compute an operation by its formulas."""
    operands = _with_absent(present, arrays)
    if plan.op.startswith(("softmax", "log_softmax")) and not plan.op.endswith("vjp"):
        operands = (*operands, None)  # no output to write to
    elif plan.op == "logsumexp":
        operands = (operands[0], None, operands[1], None)  # no factors
    elif plan.op == "signed_logsumexp":
        return signed_sums.of_formulas(plan, *operands)
    found = getattr(generic, plan.op)(plan, *nested(plan.op, operands))
    return tuple(found[: len(results(plan))]) if isinstance(found, tuple) else (found,)


def fast(*arrays: Array, plan: Plan, present: tuple[bool, ...]) -> tuple[Array, ...]:
    """Compute an operation by its kernel."""
    return kernel(plan, *_with_absent(present, arrays))


@kernel_p.def_impl
def _impl(*arrays: Array, plan: Plan, present: tuple[bool, ...]) -> tuple[Array, ...]:
    with jax.disable_jit(False):  # who debugs without jit would be led back here
        return tuple(_jitted(*arrays, plan=plan, present=present))


@functools.partial(jax.jit, static_argnames=("plan", "present"))
def _jitted(*arrays: Array, plan: Plan, present: tuple[bool, ...]) -> tuple[Array, ...]:
    return tuple(kernel_p.bind(*arrays, plan=plan, present=present))


@kernel_p.def_abstract_eval
def _abstract_kernel(*avals: Any, plan: Plan, present: tuple[bool, ...]) -> Any:
    if any(_varying(aval) or _is_placed(aval) for aval in avals):
        return jax.make_jaxpr(functools.partial(portable, plan=plan, present=present))(*avals).out_avals
    return [jax.core.ShapedArray(one.shape, one.dtype) for one in results(plan)]


def _is_placed(aval: Any) -> bool:
    """True if the type of an array names the mesh on which it lies, or how it is sharded there."""
    sharding = getattr(aval, "sharding", None)
    return sharding is not None and not getattr(sharding.mesh, "empty", True)


def stretched(plan: Plan, size: int) -> Plan:
    """Return the plan of a batch of calls, as one call."""
    lay = plan.layout
    shape = (size, *lay.shape)
    layout = dataclasses.replace(
        lay, given=shape, axes=(lay.axis + 1,), folds=False, permutation=None, inverse=None, permuted=shape,
        shape=shape, axis=lay.axis + 1, outer=size * lay.outer, rows=(size, *lay.rows), kept=(size, *lay.column),
        column=(size, *lay.column),
    )  # fmt: skip
    return dataclasses.replace(plan, layout=layout)


def _batch_kernel(arrays: tuple[Array, ...], dims: tuple[Any, ...], *, plan: Plan, present: tuple[bool, ...]) -> Any:
    size = next(x.shape[dim] for x, dim in zip(arrays, dims, strict=True) if dim is not None)
    each = [kind for kind, there in zip(kinds(plan), present, strict=True) if there]
    single = any(dim is not None and kind in (CLASSES, ONE) for kind, dim in zip(each, dims, strict=True))
    if single or plan.reduction != "none":
        function = functools.partial(portable, plan=plan, present=present)
        return jax.vmap(function, in_axes=dims)(*arrays), (0,) * len(results(plan))
    moved = []
    for x, dim, kind in zip(arrays, dims, each, strict=True):
        if dim is not None:
            x = jnp.moveaxis(x, dim, 0)
            if kind == ROWS_OR_ONE and x.ndim == 1:
                x = jnp.broadcast_to(x.reshape(size, *(1 for _ in plan.layout.column)), (size, *plan.layout.column))
        elif kind == ROWS_OR_ONE and x.ndim == 0:
            pass
        elif kind not in (CLASSES, ONE):
            x = jnp.broadcast_to(x, (size, *x.shape))
        moved.append(x)
    found = kernel_p.bind(*moved, plan=stretched(plan, size), present=present)
    return found, (0,) * len(found)


batching.primitive_batchers[kernel_p] = _batch_kernel


def _lower(ctx: Any, *arrays: Any, plan: Plan, present: tuple[bool, ...]) -> Any:
    function = functools.partial(portable, plan=plan, present=present)
    return _lower_function(function, multiple_results=True)(ctx, *arrays)


def _is_alone(context: Any) -> bool:
    """True if the lowered code sees arrays of one device only: a program of one device, or a shard in `shard_map`."""
    axes = context.axis_context
    manual = getattr(axes, "manual_axes", None)
    return getattr(axes, "num_devices", 0) == 1 if manual is None else set(manual) == set(axes.mesh.axis_names)


def _is_spread(context: Any) -> bool:
    """True if the lowered code sees whole arrays, which XLA's partitioner will split over known devices."""
    return getattr(context.axis_context, "device_assignment", None) is not None


def _lower_on_cpu(ctx: Any, *arrays: Any, plan: Plan, present: tuple[bool, ...]) -> Any:
    context, operands = ctx.module_context, _with_absent(present, ctx.avals_in)
    # An export may run where these kernels are not
    if (
        context.lowering_parameters.for_export
        or kernel_refusal(plan, operands) is not None
        or why_missing() is not None
    ):
        return _lower(ctx, *arrays, plan=plan, present=present)
    if _is_alone(context):
        function = functools.partial(fast, plan=plan, present=present)
    elif _is_spread(context) and sharding.has_shard_rule(plan, operands):
        function = sharding.sharded(plan, present)
    else:
        return _lower(ctx, *arrays, plan=plan, present=present)
    try:
        return _lower_function(function, multiple_results=True)(ctx, *arrays)
    except Unfit:
        return _lower(ctx, *arrays, plan=plan, present=present)


def lowered_for_devices(primitive: Any) -> None:
    """Ask JAX to pass the devices to lowering; without them a program of several devices would run the formulas."""
    try:
        from jax._src.dispatch import prim_requires_devices_during_lowering
    except ImportError:
        return
    prim_requires_devices_during_lowering.add(primitive)


lowered_for_devices(kernel_p)
mlir.register_lowering(kernel_p, _lower)
mlir.register_lowering(kernel_p, _lower_on_cpu, platform="cpu")


def kernel_refusal(plan: Plan, operands: tuple[Any, ...]) -> str | None:
    """Return why not to call a kernel, None where it is to be called; operands are arrays or descriptions of them.

    No shape is too small: measured against jitted `jax.nn` and `optax` the least ratio is 1.03, for 10 numbers, where
    the call decides (4.9 v 5.2 us); 5 to 7 for (32, 10) and 2.3 to 3.4 for (128, 1000), on 2 cores.
    """
    return None if all(plan.layout.shape) else "the array is empty"


jitted = functools.partial(jax.jit, static_argnums=0)


custom_jvp = functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
