"""Operators for graphs: torch.compile and torch.export record these in place of kernels, whose code they cannot trace.

Each operator takes the operands and the facts of the plan as numbers and strings, so that a graph can be read, saved
and run elsewhere. A fake kernel returns the shapes; derivatives are those of eager calls. Labels are checked when the
graph runs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import torch

from logitx._arrays.family import FLOATS, dtype_name
from logitx._options import LossOptions
from logitx._plan import Array, Layout, Plan
from logitx.backends.torch.autograd import keep, kept
from logitx.backends.torch.cross_entropy import loss_gradients
from logitx.backends.torch.linear import (
    FACTORS,
    factor_dtypes,
    layer_gradients,
    layer_gradients_of_all,
    shape_of_logits,
)
from logitx.backends.torch.softmax import logsumexp_gradient, normalized_gradients
from logitx.backends.torch.state import OPERATORS, run_eagerly, tracing

__all__ = ["OPERATORS"]

Result = tuple[tuple[int, ...], str] | None  # shape and dtype; None stands for a tensor of size 0

# Facts of a plan with their types in a schema; "result" and "loss" name dtypes.
_TYPES = {
    "axis": "int", "ignore_index": "int?", "reduction": "str", "empty": "str", "return_parts": "bool", "result": "str",
    "loss": "str", "block_bytes": "int", "gradients": "str[]",
}  # fmt: skip


def _operator_plan(
    op: str, shape: tuple[int, ...], dtype: torch.dtype, hard: bool, names: tuple[str, ...], facts: tuple[Any, ...]
) -> Plan:
    """Return the plan of arrays with one class axis."""
    static = dict(zip(names, facts, strict=True))
    axis = static.pop("axis")
    before, n, after = tuple(shape[:axis]), shape[axis], tuple(shape[axis + 1 :])
    layout = Layout(
        given=(*before, n, *after),
        axes=(axis,),
        folds=False,
        permutation=None,
        inverse=None,
        permuted=(*before, n, *after),
        shape=(*before, n, *after),
        axis=axis,
        outer=math.prod(before),
        n=n,
        inner=math.prod(after),
        rows=before + after,
        kept=(*before, 1, *after),
        column=(*before, 1, *after),
    )
    given = dtype_name(dtype)
    compute = "float64" if "float64" in (given, static["result"], static.get("loss")) else "float32"
    return Plan(op, "torch", layout, given, compute, **{"loss": compute, "hard": hard, **static})


_cached_operator_plan = functools.lru_cache(maxsize=1024)(_operator_plan)


def _schema(operands: list[str], facts: tuple[str, ...], count: int) -> str:
    tensors = [f"Tensor? {name[:-1]}" if name.endswith("?") else f"Tensor {name}" for name in operands]
    static = [f"{_TYPES[name]} {name}" for name in facts]
    returns = "Tensor" if count == 1 else f"({', '.join(['Tensor'] * count)})"
    return f"({', '.join(tensors + static)}) -> {returns}"


def _number_as_tensor(value: Any) -> Any:
    """Return a number as a tensor: in a schema, no type is both."""
    return torch.full((), value, dtype=torch.float64) if isinstance(value, float) else value


class _Operator:
    """An operation as an operator of PyTorch.

    `names` are the operands of the backend's function: with a question mark if one may be absent, None if the operator
    does not have it. `facts` are attributes of the plan. `shapes` returns shape and dtype of each result.
    """

    def __init__(
        self,
        op: str,
        names: tuple[str | None, ...],
        facts: tuple[str, ...],
        count: int,
        shapes: Callable[[Plan], tuple[Result, ...]],
        gradients: Callable[..., Any] | None,
    ) -> None:
        self.op, self.names, self.facts, self.count = op, names, facts, count
        self.shapes, self.gradients = shapes, gradients
        operands = [name for name in names if name is not None]
        self.size = len(operands)
        self.registered = torch.library.custom_op(
            f"logitx::{op}", self.compute, mutates_args=(), schema=_schema(operands, facts, count)
        )
        self.registered.register_fake(self.fake)
        if gradients is not None:
            self.registered.register_autograd(self.backward, setup_context=self.setup_context)

    def __call__(self, plan: Plan, *operands: Any) -> Any:
        """Run the operator with the arguments of the backend's function."""
        given = (_number_as_tensor(value) for name, value in zip(self.names, operands, strict=True) if name is not None)
        return self.registered(
            *given, *(plan.layout.axis if fact == "axis" else getattr(plan, fact) for fact in self.facts)
        )

    def plan(self, make: Callable[..., Plan], arguments: tuple[Any, ...]) -> Plan:
        """Return the plan of a call of the operator."""
        x, second = arguments[:2]
        hard = self.names[1] == "targets" and dtype_name(second.dtype) not in FLOATS
        return make(self.op, x.shape, x.dtype, hard, self.facts, arguments[self.size :])

    def expected(self, plan: Plan, arguments: tuple[Any, ...]) -> tuple[Result, ...]:
        """Return shapes and dtypes of the results."""
        return self.shapes(plan)

    def compute(self, *arguments: Any) -> Any:
        """Run the operation."""
        given = iter(arguments)
        operands = (None if name is None else next(given) for name in self.names)
        found = run_eagerly(self.op, self.plan(_cached_operator_plan, arguments), *operands)
        found = found if isinstance(found, tuple) else (found,)
        made = tuple(arguments[0].new_empty(0, dtype=torch.float32) if one is None else one for one in found)
        return made[0] if self.count == 1 else made

    def fake(self, *arguments: Any) -> Any:
        """Return tensors like the results, without data."""
        expected = self.expected(self.plan(_operator_plan, arguments), arguments)
        made = tuple(
            arguments[0].new_empty(
                0 if one is None else one[0], dtype=getattr(torch, "float32" if one is None else one[1])
            )
            for one in expected
        )
        return made[0] if self.count == 1 else made

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Save what the backward pass needs."""
        ctx.set_materialize_grads(False)
        ctx.plan = self.plan(_operator_plan, inputs)
        outputs = (output,) if self.count == 1 else output
        expected = zip(outputs, self.expected(ctx.plan, inputs), strict=True)
        ctx.mark_non_differentiable(*(one for one, result in expected if result is None))
        keep(ctx, *inputs[: self.size], *outputs)

    def backward(self, ctx: Any, *given: Array) -> tuple[Any, ...]:
        """Return the gradients by the operands."""
        saved = kept(ctx)
        wanted = tuple(ctx.needs_input_grad[: self.size])
        found = self.gradients(ctx.plan, saved[: self.size], saved[self.size :], wanted, given)  # type: ignore[misc]
        return (*found, *(None for _ in self.facts))


class _LinearOperator(_Operator):
    """A cross-entropy of a linear layer: gradients have the shapes of operands, and no array has that of logits."""

    def plan(self, make: Callable[..., Plan], arguments: tuple[Any, ...]) -> Plan:
        """Return the plan of a call of the operator."""
        hidden, weight, _, targets = arguments[:4]
        static = dict(zip(self.facts, arguments[self.size :], strict=True))
        gradients = tuple(static.pop("gradients"))
        wide = "float64" if "float64" in factor_dtypes(arguments) else "float32"
        names = ("axis", "result", "loss", *static)
        facts = (hidden.ndim - 1, dtype_name(hidden.dtype), wide, *static.values())
        hard = dtype_name(targets.dtype) not in FLOATS
        plan = make(self.op, shape_of_logits(hidden, weight), hidden.dtype, hard, names, facts)
        return dataclasses.replace(plan, gradients=gradients)

    def expected(self, plan: Plan, arguments: tuple[Any, ...]) -> tuple[Result, ...]:
        """Return shapes and dtypes of the results."""
        loss, *_ = _loss_results(plan)
        factors = [arguments[i] for i in FACTORS if arguments[i] is not None]
        made: list[Result] = [(tuple(one.shape), dtype) for one, dtype in zip(factors, plan.gradients, strict=True)]
        made += [None] * (len(FACTORS) - len(made))
        return (loss, *made)[: self.count]


# -- the table --------------------------------------------------------------------------------------------------------


def _full_result(plan: Plan) -> tuple[Result, ...]:
    return ((plan.layout.shape, plan.result),)


def _full_result_twice(plan: Plan) -> tuple[Result, ...]:
    return _full_result(plan) * 2


def _row_values(plan: Plan) -> tuple[Result, ...]:
    return ((plan.layout.rows, plan.result),)


def _loss_results(plan: Plan) -> tuple[Result, ...]:
    loss = (plan.layout.rows if plan.reduction == "none" else (), plan.loss)
    return (loss, loss, (plan.layout.rows, plan.loss)) if plan.return_parts else (loss, None, None)


def _loss_results_and_gradient(plan: Plan) -> tuple[Result, ...]:
    loss, *parts = _loss_results(plan)
    return (loss, *_full_result(plan), *parts)


def _by_normalized(plan: Plan, operands: Any, outputs: Any, wanted: Any, given: Any) -> Any:
    return normalized_gradients(plan, given[0], (*outputs, *operands), wanted, operands[0].dtype)


def _by_logsumexp(plan: Plan, operands: Any, outputs: Any, wanted: Any, given: Any) -> Any:
    return None if given[0] is None else logsumexp_gradient(plan, given[0], *operands), None


def _by_loss(plan: Plan, operands: Any, outputs: Any, wanted: Any, given: Any) -> Any:
    loss, *parts = given
    return loss_gradients(plan, operands, wanted, (loss, None, *parts), None)


def _by_loss_and_gradient(plan: Plan, operands: Any, outputs: Any, wanted: Any, given: Any) -> Any:
    return loss_gradients(plan, operands, wanted, given, outputs[1] if tracing() else None)


def _by_linear(plan: Plan, operands: Any, outputs: Any, wanted: Any, given: Any) -> Any:
    return layer_gradients(plan, (*operands, None), (*wanted, False), given[0], None)[:-1]  # there is no `where`


def _by_linear_and_gradients(plan: Plan, operands: Any, outputs: Any, wanted: Any, given: Any) -> Any:
    made = None
    if tracing():
        made = tuple(None if operands[i] is None else one for i, one in zip(FACTORS, outputs[1:], strict=True))
    return layer_gradients_of_all(plan, (*operands, None), (*wanted, False), given, made)[:-1]


_LOGITS = ("x", "where?", "temperature?", "softcap?", None)
_TARGETS = ("logits", "targets", *(f"{name}?" for name in LossOptions._fields))
_LINEAR = ("hidden", "weight", "bias?", "targets", *_TARGETS[2:-1], None)
_CUT = ("ignore_index", "reduction", "empty", "block_bytes", "gradients")
_REDUCED = ("axis", "ignore_index", "reduction", "empty", "return_parts", "result", "loss")

for _row in (
    _Operator("softmax", _LOGITS, ("axis", "empty", "result"), 1, _full_result, _by_normalized),
    _Operator("log_softmax", _LOGITS, ("axis", "empty", "result"), 1, _full_result, _by_normalized),
    _Operator("logsumexp", ("x", None, "where?", None), ("axis", "result"), 1, _row_values, _by_logsumexp),
    _Operator("softmax_vjp", ("p", "dp"), ("axis", "result"), 1, _full_result, None),
    _Operator("log_softmax_vjp", ("log_p", "dlog_p"), ("axis", "result"), 1, _full_result, None),
    _Operator(
        "cross_entropy_grad_hess",
        (*_TARGETS[:4], *[None] * 5),
        ("axis", "reduction", "result"),
        2,
        _full_result_twice,
        None,
    ),
    _Operator("cross_entropy", _TARGETS, _REDUCED, 3, _loss_results, _by_loss),
    _Operator("cross_entropy_value_and_grad", _TARGETS, _REDUCED, 4, _loss_results_and_gradient, _by_loss_and_gradient),
    _LinearOperator("linear_cross_entropy", _LINEAR, _CUT, 1, _loss_results, _by_linear),
    _LinearOperator("linear_cross_entropy_value_and_grad", _LINEAR, _CUT, 4, _loss_results, _by_linear_and_gradients),
):
    OPERATORS[_row.op] = _row
