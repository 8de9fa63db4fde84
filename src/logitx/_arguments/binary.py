"""Argument rules of the binary functions: every element is a logit of its own, so there is no class axis."""

from __future__ import annotations

from typing import Any

from logitx._arguments import operands as _operands
from logitx._arguments import out as _out
from logitx._arguments import scaling as _scaling
from logitx._arguments.cross_entropy import adopt_targets, target_facts
from logitx._arguments.plans import start
from logitx._arguments.ranges import fit_binary_weights
from logitx._arrays.family import Family, dtype_name, is_python_number
from logitx._labelled.table import is_labelled, without_labels
from logitx._options import BinaryOptions
from logitx._plan import Array, Call, Layout


def elementwise(op: str, x: Any, out: Any, dtype: Any) -> Call:
    """Check sigmoid and log_sigmoid."""
    family, array, plan = start(op, "x", x, (), dtype, False, ())
    out = _out.out(out, family, array, plan.layout.given, plan.result)
    return Call(plan, (array, out), out)


def binary_cross_entropy(
    op: str,
    logits: Any,
    targets: Any,
    pos_weight: Any,
    sample_weight: Any,
    ignore_index: Any,
    where: Any,
    label_smoothing: Any = 0.0,
    reduction: Any = "sum",
    empty: Any = "nan",
    dtype: Any = None,
    gamma: Any = 0.0,
    alpha: Any = None,
) -> Call:
    """Check the binary losses, their gradients and the diagonal of their Hessian."""
    facts = (("reduction", reduction), ("empty", empty), *_target_facts(logits, targets, ignore_index))
    loss = not op.endswith("grad_hess")
    family, array, plan = start(op, "logits", logits, (), dtype, loss, facts)
    lay = plan.layout
    targets = adopt_targets("targets", plan, targets, family, array)
    if not _operands.same_lengths(tuple(targets.shape), lay.given):
        fix = "; for class ids of the last axis use cross_entropy" if tuple(targets.shape) == lay.given[:-1] else ""
        raise ValueError(
            f"targets: shape {tuple(targets.shape)} is not allowed; allowed is exactly that of logits, {lay.given}{fix}"
        )
    options = BinaryOptions(
        _spread("pos_weight", pos_weight, family, array, lay),
        _spread("sample_weight", sample_weight, family, array, lay),
        _scaling.scalar("label_smoothing", label_smoothing, 0.0, family, array, lay),
        _scaling.scalar("gamma", gamma, 0.0, family, array, lay),
        _scaling.scalar("alpha", alpha, None, family, array, lay),
        _spread("where", where, family, array, lay),
    )
    plan, options = fit_binary_weights(plan, family, array, options)
    return Call(plan, (array, targets, options))


def _target_facts(logits: Any, targets: Any, ignore_index: Any) -> tuple[tuple[str, Any], ...]:
    """Return the facts of the targets; booleans are class ids too, none of which is ignored."""
    bare = without_labels(targets, "targets") if is_labelled(targets) else targets
    if _operands.operand_dtype("targets", bare) == "bool":
        return ("hard", True), ("ignore_index", None)
    return target_facts(logits, targets, ignore_index)


def _spread(name: str, value: Any, family: Family, x: Array, lay: Layout) -> Array:
    """Check an operand that broadcasts to the logits, and give it their shape; weights may be numbers."""
    if value is None:
        return None
    if name != "where" and is_python_number(value):
        return None if value == 1 else float(value)
    value = _operands.adopt(name, value, family, x)
    kind = _operands.real(name, value, "real dtypes")
    if name == "where" and kind != "bool":
        raise TypeError(f"{name}: dtype {dtype_name(value.dtype)} is not allowed; allowed is bool")
    if tuple(value.shape) == lay.given:
        return value
    if not _operands.broadcasts(tuple(value.shape), lay.given):
        raise ValueError(
            f"{name}: shape {tuple(value.shape)} is not allowed; allowed are shapes that broadcast to that of the"
            f" logits, {lay.given}"
        )
    return value if family.as_given else family.namespace(x).broadcast_to(value, lay.given)
