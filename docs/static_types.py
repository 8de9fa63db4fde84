"""The static types of the public functions: `src/logitx/__init__.pyi`, which `docs/generate.py` writes.

A function has an overload for each kind of array and for each option that changes the type of the result. What a
function returns is its line of RESULTS; the kinds of arrays are the rows of the tables above it, in the words of
`src/logitx/_types.pyi`. Of two overloads that fit, the first counts.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import logitx as lx
from logitx._arrays.family import FLOATS
from logitx._operations import OPERATIONS
from logitx.backends import BACKENDS

STUB = Path(__file__).resolve().parent.parent / "src" / "logitx" / "__init__.pyi"


class Row(NamedTuple):
    """A kind of array, for some values of options."""

    first: str  # the type of the first argument
    options: Mapping[str, str]  # types of other parameters; three dots in front keep the default, else it must be given
    result: str  # an array of the shape of the first argument, or a number a row, or a loss
    gradient: str = ""  # of a loss
    rows: str = ""  # the log-normalizers of a loss


class Overloads(NamedTuple):
    """The overloads of a function for some values of its options: one for each row."""

    rows: tuple[Row, ...]
    returns: str  # in the columns of a row
    options: Mapping[str, str] = {}  # as in `Row`


ARRAY, DOUBLES, MANY = "ndarray[S, dtype[F]]", "NDArray[float64]", "NDArray[floating]"
DOUBLE, ONE, NUMBERS = "float64", "floating", "Number | Flat | Nested"
TYPED, DROPPED = {"dtype": "DType"}, {"keepdims": "...Literal[False]"}
TOTAL, NONE, EITHER = ({"reduction": kind} for kind in ('...Literal["mean", "sum"]', 'Literal["none"]', "Reduction"))
UNTYPED, UNSETTLED = (Row(first, {}, "Any", "Any", "Any") for first in ("Untyped", "Array"))
OTHERS = (Row("Tensor[R]", {}, *"RRR"), Row("A", {}, *"AAA"), Row("Sequence[A]", {}, *"AAA"))

ENTRIES = (
    UNTYPED,
    Row("Number", {}, ONE),
    Row("Plain", TYPED, MANY),
    Row("Floats", {}, "Floats"),
    Row("Listed", {}, DOUBLES),
    *OTHERS,
)
TWO_ENTRIES = (
    UNTYPED,
    Row("Number", {"b": "...Number | None"}, ONE),
    Row(ARRAY, {"b": f"...NDArray[F] | {NUMBERS} | None"}, "NDArray[F]"),
    Row(NUMBERS, {"b": ARRAY}, "NDArray[F]"),
    Row(f"Whole | {NUMBERS}", {"b": f"...Whole | {NUMBERS} | None"}, DOUBLES),
    Row("Tensor[R]", {"b": "...Tensor[R] | Number | None"}, "R"),
    Row("Number", {"b": "Tensor[R]"}, "R"),
    Row("A", {"b": "...A | Number | None"}, "A"),
    Row("Number", {"b": "A"}, "A"),
)
ROWS = (
    UNTYPED,
    Row("OneRow", {**DROPPED, **TYPED}, ONE),
    Row("OneRow", DROPPED, DOUBLE),
    Row("OneSeries", DROPPED, ONE),
    Row("Numpy", {"axis": "None", **DROPPED, **TYPED}, ONE),
    Row("Single", {"axis": "None", **DROPPED}, ONE),
    Row("Double", {"axis": "None", **DROPPED}, DOUBLE),
    Row("Plain", TYPED, MANY),
    Row(ARRAY, {}, "NDArray[F]"),
    Row("Listed", {}, DOUBLES),
    Row("Frame[Any, R]", DROPPED, "R"),
    *OTHERS,
)
LOSS = (
    UNTYPED,
    Row("Numpy", {**TOTAL, **TYPED}, ONE),
    Row("OneRow", {}, DOUBLE),
    Row("OneSeries", {}, ONE),
    Row("Single", TOTAL, ONE),
    Row("Double", TOTAL, DOUBLE),
    Row("Plain", {**NONE, **TYPED}, MANY),
    Row(ARRAY, NONE, "NDArray[F]"),
    Row("Listed", NONE, DOUBLES),
    Row("Frame[Any, R]", NONE, "R"),
    Row("Numpy", EITHER, "Any"),
    *OTHERS,
)
LOSS_AND_GRADIENT = (
    UNTYPED,
    Row(ARRAY, {**TOTAL, **TYPED}, ONE, ARRAY, MANY),
    Row("Listed", {**TOTAL, **TYPED}, ONE, DOUBLES, MANY),
    Row("Flat", {}, DOUBLE, DOUBLES, DOUBLE),
    Row("ndarray[S, dtype[N]]", TOTAL, ONE, "ndarray[S, dtype[N]]", MANY),
    Row("Doubles", TOTAL, DOUBLE, "Doubles", DOUBLES),
    Row("Listed", TOTAL, DOUBLE, DOUBLES, DOUBLES),
    Row("Frame[D, R]", TOTAL, ONE, "D", "R"),
    Row(ARRAY, {**NONE, **TYPED}, MANY, ARRAY, MANY),
    Row(ARRAY, NONE, "NDArray[F]", ARRAY, MANY),
    Row("Listed", NONE, DOUBLES, DOUBLES, DOUBLES),
    Row("Frame[D, R]", NONE, "R", "D", "R"),
    Row("Numpy", EITHER, "Any", "Any", "Any"),
    *OTHERS,
)


def layers(has_bias: bool) -> tuple[Row, ...]:
    """Return the rows of a linear layer: the gradient is that by hidden, weight and bias."""
    found = []
    for row in LOSS_AND_GRADIENT:
        known = {"D": ("W", "W"), "R": ("Tensor[R]", "R"), "A": ("A", "A"), "Any": ("Array", "Any")}
        weight, by_weight = known.get(row.gradient, ("Array", MANY))
        bias, by_bias = (weight.replace("W", "B"), by_weight.replace("W", "B")) if has_bias else ("...None", "None")
        gradient = f"tuple[{row.gradient}, {by_weight}, {by_bias}]"
        found.append(row._replace(options={**row.options, "weight": weight, "bias": bias}, gradient=gradient))
    return tuple(found)


def switched(option: str, off: Overloads, on: Overloads, any_value: str = "bool") -> tuple[Overloads, ...]:
    """Return the overloads of a function with an option that adds to what it returns."""
    return (
        off._replace(options={option: "...Literal[False]"}),
        on._replace(options={option: "Literal[True]"}),
        Overloads((UNSETTLED,), "{result}", {option: any_value}),  # where the option is a variable
    )


NAMES_OF_PARTS = "bool | str | list[str] | tuple[str, ...]"


def without_parts(*plain: Overloads) -> tuple[Overloads, ...]:
    """Return the overloads of a function whose results are Any where `return_parts` is given."""
    off = tuple(one._replace(options={"return_parts": "...Literal[False]"}) for one in plain)
    return (*off, Overloads((UNSETTLED,), "{result}", {"return_parts": NAMES_OF_PARTS}))


ONE_RESULT, TWO_RESULTS = "{result}", "tuple[{result}, {result}]"
WITH_GRADIENT, PARTS = "tuple[{result}, {gradient}]", "LossParts[{result}, {rows}]"
LIKE_FIRST, LIKE_BOTH, PER_ROW, PER_CALL = (
    (Overloads(rows, ONE_RESULT),) for rows in (ENTRIES, TWO_ENTRIES, ROWS, LOSS)
)

# Losses of elements: the shape of the result depends on the reduction and on the shape of the logits
UNKNOWN, TWO_UNKNOWN = ((Overloads((UNTYPED, UNSETTLED), returns),) for returns in (ONE_RESULT, TWO_RESULTS))

# What each public function returns that takes arrays
RESULTS: dict[str, tuple[Overloads, ...]] = {
    "softmax": LIKE_FIRST,
    "log_softmax": LIKE_FIRST,
    "softmax_vjp": LIKE_FIRST,
    "log_softmax_vjp": LIKE_FIRST,
    "logsumexp": switched("return_sign", Overloads(ROWS, ONE_RESULT), Overloads(ROWS, TWO_RESULTS)),
    "logmeanexp": PER_ROW,
    "merge_logsumexp": LIKE_BOTH,
    "log_matmul": LIKE_BOTH,
    "logcumsumexp": LIKE_FIRST,
    "segment_softmax": LIKE_FIRST,
    "segment_log_softmax": LIKE_FIRST,
    "segment_logsumexp": LIKE_FIRST,
    "segment_cross_entropy": PER_CALL,
    "logaddexp": LIKE_BOTH,
    "cross_entropy": switched(
        "return_parts",
        Overloads(LOSS, ONE_RESULT),
        Overloads(LOSS_AND_GRADIENT, f"tuple[{{result}}, {PARTS}]"),
        NAMES_OF_PARTS,
    ),
    "cross_entropy_value_and_grad": switched(
        "return_parts",
        Overloads(LOSS_AND_GRADIENT, WITH_GRADIENT),
        Overloads(LOSS_AND_GRADIENT, f"tuple[{{result}}, {{gradient}}, {PARTS}]"),
        NAMES_OF_PARTS,
    ),
    "cross_entropy_grad_hess": (Overloads(ENTRIES, TWO_RESULTS),),
    "sigmoid": LIKE_FIRST,
    "log_sigmoid": LIKE_FIRST,
    "binary_cross_entropy": UNKNOWN,
    "binary_cross_entropy_value_and_grad": TWO_UNKNOWN,
    "binary_cross_entropy_grad_hess": (Overloads(ENTRIES, TWO_RESULTS),),
    "binary_focal_loss": UNKNOWN,
    "binary_focal_loss_value_and_grad": TWO_UNKNOWN,
    "focal_loss": PER_CALL,
    "focal_loss_value_and_grad": (Overloads(LOSS_AND_GRADIENT, WITH_GRADIENT),),
    "info_nce": UNKNOWN,
    "info_nce_value_and_grad": TWO_UNKNOWN,
    "balanced_class_weight": UNKNOWN,
    "linear_cross_entropy": without_parts(Overloads(LOSS, ONE_RESULT)),
    "linear_cross_entropy_value_and_grad": without_parts(
        *(Overloads(layers(has_bias), WITH_GRADIENT) for has_bias in (False, True))
    ),
}
# Functions whose results are Any to a type checker, as their signatures say, until they have a line above
PLAIN = {
    "entropy", "selected_log_softmax", "kl_divergence", "js_divergence", "softmax_mean", "softmax_top_k", "sample",
    "gumbel_softmax",
}  # fmt: skip
# Parameters of other functions whose types are narrower than their signatures say
NARROWED = {
    "which": {"op": "_Operation"},
    "warmup": {"ops": "..._Operation | Iterable[_Operation] | None", "dtypes": "...Iterable[_Float]"},
}
HEAD = '''\
"""What type checkers know of logitx: written by `nox -s docs` from docs/static_types.py."""

# mypy: disable-error-code="overload-overlap, overload-cannot-match"
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, overload

from numpy import dtype, float64, floating, ndarray
from numpy.typing import NDArray

from logitx._dispatch import Choice
from logitx._functions.control import use_backend as _use_backend
from logitx._plan import Axis, Empty, Reduction\
'''
USE_BACKEND = """__version__: str

class use_backend(_use_backend):
    def __init__(self, name: _Backend | None) -> None: ...
"""


class Bare(str):
    """An annotation that a signature shows without quotation marks."""

    __slots__ = ()
    __repr__ = str.__str__


def definition(name: str, function: Any, types: Mapping[str, str], result: str) -> str:
    """Return the definition of a function, some of whose parameters have other types than its signature says."""
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        said = types.get(parameter.name, f"...{parameter.annotation}")
        default = parameter.default if said.startswith("...") else parameter.empty
        parameters.append(parameter.replace(annotation=Bare(said.removeprefix("...")), default=default))
    return f"def {name}{inspect.Signature(parameters)} -> {result}: ..."


def overloads(name: str) -> Iterator[str]:
    """Yield the overloads of a function."""
    function = getattr(lx, name)
    first, *others = inspect.signature(function).parameters
    for rows, returns, options in RESULTS[name]:
        for row in rows:
            if all(option in others or said.startswith("...") for option, said in row.options.items()):
                types = {first: row.first, **row.options, **options}
                yield f"@overload\n{definition(name, function, types, returns.format(**row._asdict()))}"


def functions() -> Iterator[str]:
    """Yield the public functions, and where the other public names are."""
    for name in lx.__all__:
        made = getattr(lx, name)
        if name in RESULTS:
            yield from overloads(name)
        elif name in NARROWED:
            yield definition(name, made, NARROWED[name], inspect.signature(made).return_annotation)
        elif name not in PLAIN and inspect.isfunction(made) and "Array" in str(inspect.signature(made)):
            raise SystemExit(f"{name}: say what it returns in RESULTS of docs/static_types.py")
        elif name != "use_backend":
            yield f"from {made.__module__} import {name} as {name}"


def stub() -> str:
    """Return the text of the stub."""
    body = "\n".join(functions())
    types = STUB.with_name("_types.pyi").read_text(encoding="utf-8")
    known = re.findall(r"^(?:class )?([A-Z]\w*)(?: =|:|\(|\[)", types, re.MULTILINE)
    used = ", ".join(name for name in known if re.search(rf"\b{name}\b", body))
    values = {"_Operation": OPERATIONS, "_Backend": (row.name for row in BACKENDS), "_Float": FLOATS}
    literals = (f"{name}: TypeAlias = Literal{json.dumps([*strings])}" for name, strings in values.items())
    parts = (HEAD, f"from logitx._types import {used}\n", *literals, f"__all__ = {lx.__all__}", USE_BACKEND, body)
    return "\n".join(parts) + "\n"
