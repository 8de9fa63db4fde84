"""What to write instead: the ends of messages of argument errors, found from shapes and dtypes alone."""

from __future__ import annotations

from typing import Any

from logitx._plan import Layout, Plan, axis_of_rows


def of_targets(plan: Plan, shape: tuple[int, ...]) -> str:
    """Return the cure for targets of a shape that is not allowed."""
    lay = plan.layout
    if not plan.hard:
        if shape not in (lay.rows, lay.kept):
            return ""
        return "; class ids must have an integer dtype, fill missing ones with ignore_index and convert with astype"
    if shape == lay.kept:
        return "; remove the class axis of length 1, with squeeze or reshape"
    if shape == lay.given:
        one_hot = "; for one-hot targets pass argmax over the class axis, or convert them to floating point"
        binary = "; these logits are one row: for a binary loss of one score a row use binary_cross_entropy"
        return one_hot if len(shape) > 1 else binary
    axis = None if plan.op.startswith("linear") else axis_of_rows(lay.given, shape)
    return "" if axis is None else f"; these fit axis={axis}" + ", where PyTorch has its classes" * (axis == 1)


def of_dtype(dtype: str) -> str:
    """Return the cure for targets of a dtype that is not allowed."""
    if dtype == "bool":
        return "; for two classes convert them with astype(int)"
    if dtype in ("category", "object") or dtype.startswith("str"):
        return (
            "; for names of classes give the logits these names as columns or coordinates, or pass"
            " pandas.Index(names).get_indexer(targets)" + " or the codes of the categories" * (dtype == "category")
        )
    return ""


def of_column(name: str, shape: tuple[int, ...], lay: Layout) -> str:
    """Return the cure for an option of one value a row that lacks the class axes."""
    places = ", ".join("None" if axis in lay.axes else ":" for axis in range(len(lay.given)))
    return f"; for one value a row use {name}[{places}]" if shape == lay.rows else ""


def of_number(name: str, number: float) -> str:
    """Return the cure for a number that is not allowed."""
    return "; for the most probable class use argmax" if name == "temperature" and number == 0 else ""


def of_weight(weight: tuple[int, ...], features: Any) -> str:
    """Return the cure for weights of a linear layer whose features do not come last."""
    return "; this is (features, classes), as in Flax and Keras: transpose it" if weight[0] == features else ""


def refuse_weight_by_name(class_weight: Any) -> None:
    """Raise for the class weights of scikit-learn that are no array: "balanced", and a dict."""
    if isinstance(class_weight, str | dict):
        raise TypeError(
            f"class_weight: {class_weight!r} is not allowed; allowed is one number a class, in their order,"
            " as of sklearn.utils.class_weight.compute_class_weight"
        )
