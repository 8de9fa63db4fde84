"""Random calls against the oracle: any shape, axis, values and options that a call may have, shrunk where one is wrong.

The ordinary session draws the same few examples every time; `nox -s fuzz` draws new ones for ten minutes, and
records how many. What it found stands in REGRESSIONS, which every target runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Set
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.array_api import make_strategies_namespace

import logitx as lx
from logitx.testing import OPS, TARGETS, Case, Op, Target
from logitx.testing.cases import FLOATS, INTEGERS, MEMORY, Data, class_axes, data, row_shape
from logitx.testing.ops import expected
from logitx.testing.suite import check_case, using

XPS = make_strategies_namespace(np)
GROUPS = {  # kinds of arrays that are given the same calls
    "numpy": ("numpy-numba", "numpy-generic"),
    "others": ("torch-grad", "torch-vmap", "array-api-strict"),
    "jax": ("jax-eager",),  # in a few shapes, as it is compiled for each
}
SHARE = {"numpy": 1, "others": 4, "jax": 16}  # one of so many examples
MARKS = {"others": pytest.mark.slow, "jax": pytest.mark.slow}
RESERVED = HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.nested_given, HealthCheck.filter_too_much

# -- strategies -------------------------------------------------------------------------------------------------------

SHAPES = XPS.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6)
LAYERS = st.tuples(XPS.array_shapes(min_dims=0, max_dims=2, max_side=4), st.integers(1, 4), st.integers(1, 9))
FEW_SHAPES = st.sampled_from([(5,), (2, 4), (3, 1, 6)])  # for what is compiled anew for each
FEW_LAYERS = st.sampled_from([((), 2, 5), ((3,), 4, 1), ((2, 2), 1, 9)])
USUAL = st.floats(-30, 30, width=16)
NUMBERS = st.one_of(
    USUAL, USUAL, USUAL, st.sampled_from([0.0, -0.0, 1e4, -1e4, np.inf, -np.inf, np.nan, 1e-40]), st.floats(width=32)
)
Shapes = st.SearchStrategy[Any]
EIGHTHS = st.integers(-16, 16).map(lambda number: number / 8)


def arrays(shape: tuple[int, ...], elements: st.SearchStrategy[Any], dtype: str) -> st.SearchStrategy[Data]:
    """Arrays of the values of a strategy, rounded to a dtype."""
    exact = XPS.arrays(np.float64, shape, elements=elements, fill=st.nothing())
    return exact.map(lambda values: data(np.asarray(values), dtype))


@st.composite
def axes(draw: st.DrawFn, ndim: int) -> Any:
    """An axis, several in any order, or all."""
    kind = draw(st.sampled_from(["last", "one", "several", "all"]))
    if kind == "several":
        chosen = draw(st.permutations(range(ndim)))[: draw(st.integers(1, ndim))]
        return tuple(a - ndim if draw(st.booleans()) else a for a in chosen)
    return -1 if kind == "last" else None if kind == "all" else draw(st.integers(-ndim, ndim - 1))


@st.composite
def logits(
    draw: st.DrawFn, shapes: Shapes, dtypes: tuple[str, ...], elements: st.SearchStrategy[Any] = NUMBERS
) -> tuple[Data, Any]:
    """Logits and the class axes."""
    shape, column = draw(shapes), draw(st.sampled_from(dtypes))
    axis = draw(axes(len(shape)))
    if column == "bool":
        return draw(arrays(shape, st.sampled_from([0.0, 1.0]), "bool")), axis
    if column == "integer":
        dtype = draw(st.sampled_from(INTEGERS))
        return draw(arrays(shape, st.integers(0, 127).map(float), dtype)), axis
    made = draw(arrays(shape, elements, column))
    return Data(made.values, column, draw(st.sampled_from(MEMORY))), axis


def maybe(draw: st.DrawFn, options: dict[str, Any], name: str, strategy: st.SearchStrategy[Any]) -> None:
    """Give an option in half of the cases."""
    if draw(st.booleans()):
        options[name] = draw(strategy)


def weights(shape: tuple[int, ...], dtype: str, zero: bool = True) -> st.SearchStrategy[Data]:
    """Weights that are exact in every dtype."""
    return arrays(shape, st.integers(0 if zero else 1, 16).map(lambda number: number / 8), dtype)


def float_of(x: Data) -> str:
    """The dtype of arrays beside the logits."""
    return x.dtype if x.dtype in FLOATS else "float32"


def scaled(draw: st.DrawFn, options: dict[str, Any], x: Data, axis: Any, names: Set[str]) -> None:
    """Draw a mask, a temperature and a soft cap, of those a function takes."""
    kept = row_shape(x.values.shape, axis, keepdims=True)
    if "where" in names:
        shape = draw(st.sampled_from([x.values.shape, kept]))
        maybe(draw, options, "where", arrays(shape, st.booleans().map(float), "bool"))
    for name, low, high in (("temperature", 4, 16), ("softcap", 8, 200)):
        if name in names:
            size = st.integers(low, high).map(lambda number: number / 8)
            maybe(draw, options, name, st.one_of(size, arrays((), size, float_of(x)), arrays(kept, size, float_of(x))))


def options_of(op: Op) -> Set[str]:
    """The names of the options of a function."""
    return inspect.signature(getattr(lx, op.name)).parameters.keys()


def base(axis: Any) -> dict[str, Any]:
    """The axis, where it is not the default."""
    return {} if axis == -1 else {"axis": axis}


@st.composite
def row_cases(draw: st.DrawFn, op: Op, shapes: Shapes) -> Case:
    """Calls of functions of logits alone: softmax, logsumexp and what asks of a row."""
    x, axis = draw(logits(shapes, op.dtypes))
    names, options, out = options_of(op), base(axis), "none"
    scaled(draw, options, x, axis, names)
    if "b" in names:
        factor = st.integers(-8, 16).map(lambda number: number / 8)
        maybe(draw, options, "b", arrays(x.values.shape, factor, float_of(x)))
    for name, value in (("keepdims", True), ("return_sign", True), ("empty", "zero")):
        if name in names:
            maybe(draw, options, name, st.just(value))
    if "out" in names and "keepdims" not in names:  # of the shape of the logits
        writable = x.dtype in FLOATS and x.memory != "readonly"
        out = draw(st.sampled_from(["none", "new", "self"] if writable else ["none"]))
    if out == "none" and "dtype" in names:
        allowed = ["float16", "float32", "float64"][op.fuzz == "numbers" :]
        maybe(draw, options, "dtype", st.sampled_from(allowed))
    return Case("fuzz", column_of(x), (x,), options, out=out)


def column_of(x: Data) -> str:
    """The column of the table of cells."""
    return "integer" if x.dtype in INTEGERS else x.dtype


@st.composite
def targets(draw: st.DrawFn, x: Data, axis: Any, options: dict[str, Any]) -> Data:
    """Class ids, some of them ignored, or probabilities."""
    rows = row_shape(x.values.shape, axis)
    n = int(np.prod([x.values.shape[a] for a in class_axes(axis, x.values.ndim)]))
    if draw(st.booleans()):
        return draw(arrays(x.values.shape, st.integers(0, 8).map(lambda number: number / 8), float_of(x)))
    ignored = options.get("ignore_index", -100)
    ids = st.integers(0, n - 1) if ignored is None else st.one_of(st.integers(0, n - 1), st.just(ignored))
    dtype = draw(st.sampled_from(["int64", "int32"]))
    return draw(arrays(rows, ids.map(float), dtype))


def weighted(draw: st.DrawFn, options: dict[str, Any], shape: tuple[int, ...], axis: Any, dtype: str) -> None:
    """Draw class and sample weights."""
    n = int(np.prod([shape[a] for a in class_axes(axis, len(shape))]))
    maybe(draw, options, "class_weight", weights((n,), dtype))
    maybe(draw, options, "sample_weight", weights(row_shape(shape, axis), dtype))


def of_a_loss(draw: st.DrawFn, options: dict[str, Any]) -> None:
    """Draw the options that every loss has."""
    maybe(draw, options, "label_smoothing", st.sampled_from([0.0, 0.125, 1.0]))
    maybe(draw, options, "z_loss", st.sampled_from([0.0, 0.0625]))
    options["reduction"] = draw(st.sampled_from(["none", "sum", "mean"]))
    maybe(draw, options, "empty", st.just("zero"))


@st.composite
def loss_cases(draw: st.DrawFn, op: Op, shapes: Shapes) -> Case:
    """Calls of the cross-entropies."""
    x, axis = draw(logits(shapes, op.dtypes, st.one_of(NUMBERS, USUAL)))
    options = base(axis)
    names = options_of(op)
    simple = "reduction" not in names
    if not simple:
        maybe(draw, options, "ignore_index", st.sampled_from([-100, -1, 0, None]))
        scaled(draw, options, x, axis, names)
        of_a_loss(draw, options)
        maybe(draw, options, "dtype", st.sampled_from(["float32", "float64"]))
        maybe(draw, options, "return_parts", st.just(True))
    if "gamma" in names:
        options["gamma"] = draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))
        options = {name: value for name, value in options.items() if name in names}
    aims = draw(targets(x, axis, {"ignore_index": None} if simple else options))
    if aims.values.dtype.kind == "f":
        options.pop("ignore_index", None)  # probabilities are not ignored
    weighted(draw, options, x.values.shape, axis, float_of(x))
    return Case("fuzz", column_of(x), (x, aims), options)


@st.composite
def layer_cases(draw: st.DrawFn, op: Op, layers: Shapes) -> Case:
    """Calls of the cross-entropies of a linear layer; logits are exact."""
    dtype = draw(st.sampled_from(op.dtypes))
    rows, features, n = draw(layers)
    hidden, weight = draw(arrays((*rows, features), EIGHTHS, dtype)), draw(arrays((n, features), EIGHTHS, dtype))
    x = Data(hidden.values @ weight.values.T, dtype)
    options: dict[str, Any] = {}
    of_a_loss(draw, options)
    maybe(draw, options, "block_bytes", st.sampled_from([1, 40, 400]))
    maybe(draw, options, "temperature", st.sampled_from([0.5, 2.0]))
    maybe(draw, options, "softcap", st.sampled_from([5.0, 20.0]))
    aims = draw(targets(x, -1, options))
    weighted(draw, options, x.values.shape, -1, dtype)
    args = (hidden, weight, aims)
    if draw(st.booleans()):
        args = (*args, draw(arrays((n,), st.one_of(EIGHTHS, st.just(-np.inf)), dtype)))
    return Case("fuzz", dtype, args, options)


@st.composite
def pair_cases(draw: st.DrawFn, op: Op, shapes: Shapes) -> Case:
    """Calls of functions of two arrays that broadcast: merge_logsumexp."""
    shape, dtype = draw(shapes), draw(st.sampled_from(FLOATS))
    other = draw(XPS.broadcastable_shapes(shape, max_dims=len(shape), max_side=6))
    return Case("fuzz", dtype, (draw(arrays(shape, NUMBERS, dtype)), draw(arrays(other, NUMBERS, dtype))))


@st.composite
def cotangent_cases(draw: st.DrawFn, op: Op, shapes: Shapes) -> Case:
    """Calls of the gradients of the softmaxes: probabilities or their logarithms, and a cotangent."""
    share = st.integers(0, 16).map(lambda number: number / 16)
    log_share = st.one_of(st.floats(-100, 0, width=16), st.just(-np.inf))
    x, axis = draw(logits(shapes, FLOATS, log_share if op.name.startswith("log") else share))
    return Case("fuzz", x.dtype, (x, draw(arrays(x.values.shape, USUAL, x.dtype))), base(axis))


@st.composite
def element_cases(draw: st.DrawFn, op: Op, shapes: Shapes) -> Case:
    """Calls of functions of each element: sigmoid."""
    x, _ = draw(logits(shapes, op.dtypes))
    writable = x.dtype in FLOATS and x.memory != "readonly"
    options: dict[str, Any] = {}
    out = draw(st.sampled_from(["none", "new", "self"] if writable else ["none"]))
    if out == "none":
        maybe(draw, options, "dtype", st.sampled_from(["float16", "float32", "float64"]))
    return Case("fuzz", column_of(x), (x,), options, out=out)


@st.composite
def binary_cases(draw: st.DrawFn, op: Op, shapes: Shapes) -> Case:
    """Calls of the binary losses."""
    x, _ = draw(logits(shapes, op.dtypes, st.one_of(NUMBERS, USUAL)))
    shape, options, names = x.values.shape, dict[str, Any](), options_of(op)
    if draw(st.booleans()):
        aims = draw(arrays(shape, st.integers(0, 8).map(lambda number: number / 8), float_of(x)))
    else:
        maybe(draw, options, "ignore_index", st.sampled_from([-1, 0, None]))
        aims = draw(arrays(shape, st.integers(0, 1).map(float), draw(st.sampled_from(["int64", "int32", "bool"]))))
    maybe(draw, options, "pos_weight", st.one_of(st.just(2.5), weights(shape[-1:], float_of(x))))
    maybe(draw, options, "sample_weight", st.one_of(st.just(0.5), weights(shape, float_of(x))))
    maybe(draw, options, "where", arrays(shape, st.booleans().map(float), "bool"))
    if "reduction" in names:
        maybe(draw, options, "label_smoothing", st.sampled_from([0.0, 0.125, 1.0]))
        options["reduction"] = draw(st.sampled_from(["none", "sum", "mean"]))
        maybe(draw, options, "empty", st.just("zero"))
        maybe(draw, options, "dtype", st.sampled_from(["float32", "float64"]))
    if "gamma" in names:
        options["gamma"] = draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))
        maybe(draw, options, "alpha", st.sampled_from([0.0, 0.25, 1.0]))
    return Case("fuzz", column_of(x), (x, aims), options)


DRAWN = {  # by `Op.fuzz`
    "rows": row_cases,
    "numbers": row_cases,
    "losses": loss_cases,
    "layers": layer_cases,
    "cotangents": cotangent_cases,
    "pairs": pair_cases,
    "elements": element_cases,
    "binary losses": binary_cases,
}


def cases(op: Op, few: bool) -> st.SearchStrategy[Case]:
    """Every call of a function; in few shapes, if asked for."""
    if op.fuzz not in DRAWN:
        raise ValueError(f"OPS: fuzz={op.fuzz!r} of {op.name} is not allowed; allowed are {', '.join(DRAWN)}")
    shapes = (FEW_LAYERS if few else LAYERS) if op.fuzz == "layers" else (FEW_SHAPES if few else SHAPES)
    return DRAWN[op.fuzz](op, shapes)


# -- tests ------------------------------------------------------------------------------------------------------------

REGRESSIONS: dict[str, list[Case]] = {
    # every term rounded to the same side when it is added to the maximum's 1
    "softmax": [Case("equal terms beside a maximum", "integer", (Data(np.array([0, 8, 0, 0, 0, 0]), "int32"),))],
    "cross_entropy_value_and_grad": [
        Case("equal terms beside a maximum, flat", "integer",
             (Data(np.array([[0] * 5, [0] * 4 + [7]]), "int32"), Data(np.array(0), "int64")),
             {"axis": None, "reduction": "none"}),
    ],
    "logsumexp": [
        # what the maxima leave is below the rounding of a plain sum
        Case("two cancel", "float16", (data([0, 17, 17], "float16"),), {"b": data([0.125, 0.125, -0.125], "float16")}),
        # exp(-4e-10) is 1 in float32, and so the sum 0: more than its condition allows is not asked for
        Case("a near-tie cancels", "bfloat16", (data([0, 0, -4.38e-10], "bfloat16"),),
             {"b": data([0.125, 0.625, -0.75], "bfloat16")}),
        # of equal logits below the maximum nothing is left either, though each product is rounded
        Case("rounded products cancel", "float32", (data([0, 16, 16, 16, 17, 17], "float32"),),
             {"b": data([0.125, 0.375, -0.125, -0.25, 1, -1], "float32"), "return_sign": True}),
        # a sum near 1 is rounded at its end, of which its logarithm, near 0, does not know
        Case("near 1", "float16", (data([-9, 0], "float16"),), {"b": data([0.125, 1.0], "float16")}),
        Case("near -1", "float64", (data([-2, 0], "float64"),),
             {"b": data([0.125, -1.0], "float64"), "return_sign": True}),
    ],
}  # fmt: skip


def run(op: Op, target: Target, case: Case) -> bool:
    """Check a case on a target, where the target has its dtypes and its shape; tell whether it has."""
    if target.absent(case.dtype) is not None or not target.fits(case):
        return False
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(using(target.backend))
            check_case(op, target, case)
        except ValueError as error:
            if not str(error).startswith("use_backend:"):
                raise
            with lx.use_backend(None):
                check_case(op, target, case)
    return True


def fuzz(op: Op, group: str, record: Callable[[str, object], None]) -> None:
    targets = [target for target in TARGETS if target.name in GROUPS[group]]
    reasons = {target.name: target.absent() for target in targets}
    here = [target for target in targets if reasons[target.name] is None]
    if not here:
        pytest.skip(str(reasons))
    checked = dict.fromkeys((target.name for target in here), 0)

    @settings(suppress_health_check=RESERVED, max_examples=-(-settings().max_examples // SHARE[group]))
    @given(cases(op, group == "jax"))
    def holds(case: Case) -> None:
        try:
            for target in here:
                with noting(target.name):
                    checked[target.name] += run(op, target, case)
        finally:
            expected.cache_clear()  # of millions of cases

    for case in REGRESSIONS.get(op.name, []):
        holds = example(case)(holds)
    try:
        holds()
    finally:
        record("fuzz", [[op.name, name, count] for name, count in checked.items()])


@contextlib.contextmanager
def noting(name: str) -> Iterator[None]:
    """Say on which kind of array an error was raised."""
    try:
        yield
    except Exception as error:
        error.add_note(f"on {name}")
        raise


@pytest.mark.parametrize("group", [pytest.param(name, marks=MARKS.get(name, ())) for name in GROUPS])
@pytest.mark.parametrize("op", [op for op in OPS if "fuzz" not in op.lacks], ids=lambda op: op.name)
def test_any_call_gives_what_the_oracle_says(op, group, record_property):
    fuzz(op, group, record_property)


def test_a_function_that_is_drawn_in_no_way_is_an_error():
    with pytest.raises(ValueError, match="^OPS: fuzz='' of softmax is not allowed; allowed are rows, numbers, "):
        cases(dataclasses.replace(OPS[0], fuzz=""), few=False)
