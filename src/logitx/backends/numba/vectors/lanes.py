"""Lanes: a vector of numbers as one value of a kernel.

Kernels are written on vectors, not on loops that a compiler may or may not vectorize. A `Lanes` value holds 32 float32
or 16 float64 numbers (128 bytes) on every machine, whatever its registers: LLVM splits it into as many registers as it
takes. So element j always meets the same lane, sums have one order, and results are the same bits on any processor.

`a + b`, `a - b`, `a * b`, `a / b`, `a < b`, `a == b` work lane by lane; a comparison gives a mask for `select`. The
functions below are the rest of the vocabulary. No operation carries a fast-math flag.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import lower_builtin, models, register_model, type_callable

from logitx.backends.numba.compile.policy import intrinsic

LANES = {"float32": 32, "float64": 16}  # 128 bytes: two 512-bit registers keep both multipliers busy
WIDTH = {types.float32: LANES["float32"], types.float64: LANES["float64"]}


class Lanes(types.Type):
    """The type of a vector; `dtype` is float32, float64, or boolean for a mask."""

    def __init__(self, dtype: Any, width: int) -> None:
        """Name the type by its element type and width, which is what Numba compares types by."""
        self.dtype, self.width = dtype, width
        super().__init__(name=f"Lanes({dtype}, {width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        element = ir.IntType(1) if fe_type.dtype is types.boolean else dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.width))


def lanes_of(dtype: Any) -> Lanes:
    """Return the vector type of a compute dtype."""
    return Lanes(dtype, WIDTH[dtype])


def constant(builder: Any, like: Any, value: float | int) -> Any:
    """Return a constant of a scalar or vector LLVM type."""
    if not isinstance(like, ir.VectorType):
        return ir.Constant(like, value)
    return splat(builder, ir.Constant(like.element, value), like)


def splat(builder: Any, value: Any, kind: Any) -> Any:
    """Return a vector of one value; LLVM folds it, and its text is short, which matters when compiling."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None))


def with_element(like: Any, element: Any) -> Any:
    """Return an LLVM type of the same width with another element type."""
    return ir.VectorType(element, like.count) if isinstance(like, ir.VectorType) else element


def call(builder: Any, name: str, *operands: Any) -> Any:
    """Call an LLVM intrinsic whose operands and result share one type."""
    kind = operands[0].type
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    bits = "f32" if isinstance(element, ir.FloatType) else "f64"
    suffix = f"v{kind.count}{bits}" if isinstance(kind, ir.VectorType) else bits
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(operands)), f"llvm.{name}.{suffix}"
    )
    return builder.call(function, operands)


# --- arithmetic -------------------------------------------------------------------------------------------------------


def _define_operation(op: Any, method: str) -> None:
    @type_callable(op)
    def typing(_context: Any) -> Any:
        return lambda a, b: a if isinstance(a, Lanes) and a == b else None

    @lower_builtin(op, Lanes, Lanes)
    def lower(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return getattr(builder, method)(*operands)


def _define_comparison(op: Any, predicate: str) -> None:
    @type_callable(op)
    def typing(_context: Any) -> Any:
        return lambda a, b: Lanes(types.boolean, a.width) if isinstance(a, Lanes) and a == b else None

    @lower_builtin(op, Lanes, Lanes)
    def lower(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.fcmp_ordered(predicate, *operands)


for _op, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_operation(_op, _method)
for _op, _predicate in ((operator.lt, "<"), (operator.gt, ">"), (operator.le, "<="), (operator.eq, "==")):
    _define_comparison(_op, _predicate)


@type_callable(operator.or_)
def _type_or(_context: Any) -> Any:
    return lambda a, b: a if isinstance(a, Lanes) and a == b and a.dtype is types.boolean else None


@lower_builtin(operator.or_, Lanes, Lanes)
def _lower_or(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
    return builder.or_(*operands)


@intrinsic
def select(_context: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Take `yes` where the mask holds, else `no`."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.select(*operands)

    return yes(mask, yes, no), emit


@intrinsic
def fma(_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return call(builder, "fma", *operands)

    return a(a, b, c), emit


@intrinsic
def maximum_of_two(_context: Any, new: Any, old: Any) -> Any:
    """Return the larger one; `old` where `new` is NaN."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *operands), *operands)

    return new(new, old), emit


@intrinsic
def spread_as(_context: Any, like: Any, value: Any) -> Any:
    """Return lanes that all hold `value`: as many as other lanes have, or as a tile takes."""
    kind = like if isinstance(like, Lanes) else lanes_of(like.dtype)
    if kind.dtype is types.boolean:
        return None

    def emit(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        single = context.cast(builder, operands[1], signature.args[1], kind.dtype)
        return splat(builder, single, ir.VectorType(single.type, kind.width))

    return kind(like, value), emit


@intrinsic
def single_lane(_context: Any, like: Any, value: Any) -> Any:
    """Return one lane, of the dtype of a tile or of other lanes."""
    kind = Lanes(like.dtype, 1)

    def emit(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        one = context.cast(builder, operands[1], signature.args[1], kind.dtype)
        return splat(builder, one, ir.VectorType(one.type, 1))

    return kind(like, value), emit


@intrinsic
def wide(_context: Any, like: Any, value: Any) -> Any:
    """Return a single lane as a whole vector; a vector as it is."""
    kind = Lanes(value.dtype, like.width if isinstance(like, Lanes) else WIDTH[like.dtype])

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        given = operands[1]
        if given.type.count == kind.width:
            return given
        one = builder.extract_element(given, ir.IntType(32)(0))
        return splat(builder, one, ir.VectorType(one.type, kind.width))

    return kind(like, value), emit


@intrinsic
def lane(_context: Any, value: Any, index: Any) -> Any:
    """Return one lane."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.extract_element(*operands)

    return value.dtype(value, types.int64), emit


def _halves(builder: Any, value: Any) -> tuple[Any, Any]:
    half = value.type.count // 2
    undefined = ir.Constant(value.type, ir.Undefined)
    index = ir.VectorType(ir.IntType(32), half)
    low = builder.shuffle_vector(value, undefined, ir.Constant(index, list(range(half))))
    return low, builder.shuffle_vector(value, undefined, ir.Constant(index, list(range(half, 2 * half))))


def _fold(builder: Any, value: Any, combine: Any) -> Any:
    """Combine halves until one element is left: one fixed tree, the same on every machine."""
    while value.type.count > 1:
        value = combine(*_halves(builder, value))
    return builder.extract_element(value, ir.IntType(32)(0))


@intrinsic
def fold_maximum(_context: Any, value: Any) -> Any:
    """Return the largest of all lanes, which must not be NaN."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return _fold(builder, operands[0], lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))

    return value.dtype(value), emit


@intrinsic
def any_of(_context: Any, mask: Any) -> Any:
    """Return whether a mask holds in any lane."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        bits = ir.IntType(mask.width)
        return builder.icmp_unsigned("!=", builder.bitcast(operands[0], bits), bits(0))

    return types.boolean(mask), emit


@intrinsic
def bits_of(_context: Any, mask: Any) -> Any:
    """Return a mask as the bits of a number, the first lane last."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.zext(builder.bitcast(operands[0], ir.IntType(mask.width)), ir.IntType(64))

    return types.int64(mask), emit


@intrinsic
def first_of(_context: Any, bits: Any) -> Any:
    """Return the first lane whose bit is set; there must be one."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.cttz(operands[0], ir.IntType(1)(1))

    return types.int64(types.int64), emit


@intrinsic
def is_nan(_context: Any, value: Any) -> Any:
    """Return a mask of the lanes that are NaN."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.fcmp_unordered("uno", *operands, *operands)

    return Lanes(types.boolean, value.width)(value), emit


@intrinsic
def fold_sum(_context: Any, value: Any, residue: Any) -> Any:
    """Return the sum of all lanes and of their residues, in float64."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        double = ir.VectorType(ir.DoubleType(), value.width)
        high, low = (v if v.type == double else builder.fpext(v, double) for v in operands)
        return _fold(builder, builder.fadd(high, low), builder.fadd)

    return types.float64(value, residue), emit


@intrinsic
def fold_parts(_context: Any, high: Any, low: Any) -> Any:
    """Return the sum of all lanes in two parts, a single lane each; every addition keeps what it loses."""
    one = Lanes(high.dtype, 1)

    def emit(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        highs, lows = operands
        while highs.type.count > 1:
            (a, b), (c, d) = _halves(builder, highs), _halves(builder, lows)
            highs = builder.fadd(a, b)
            from_b = builder.fsub(highs, a)
            from_a = builder.fsub(highs, from_b)
            lost = builder.fadd(builder.fsub(a, from_a), builder.fsub(b, from_b))
            lows = builder.fadd(builder.fadd(c, d), lost)
        return context.make_tuple(builder, signature.return_type, (highs, lows))

    return types.UniTuple(one, 2)(high, low), emit


@intrinsic
def least(_context: Any, a: Any, b: Any) -> Any:
    """Return the smaller of two counts; Numba's own `min` takes ten times as long to compile."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        return builder.select(builder.icmp_signed("<", *operands), *operands)

    return types.int64(types.int64, types.int64), emit


# --- dtypes -----------------------------------------------------------------------------------------------------------


def _element(like: Any) -> Any:
    return like if isinstance(like, types.Float) else like.dtype


@intrinsic
def cast_as(_context: Any, value: Any, like: Any) -> Any:
    """Convert a number to the dtype of a tile or number."""

    def emit(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        return context.cast(builder, operands[0], signature.args[0], signature.return_type)

    return _element(like)(value, like), emit


@intrinsic
def biggest(_context: Any, like: Any) -> Any:
    """Return the largest finite number of a dtype, as float64."""
    value = 3.4028234663852886e38 if _element(like) is types.float32 else 1.7976931348623157e308

    def emit(context: Any, _builder: Any, signature: Any, _operands: Any) -> Any:
        return context.get_constant(signature.return_type, value)

    return types.float64(like), emit


@intrinsic
def width_of(_context: Any, tile: Any) -> Any:
    """Return the number of lanes: of lanes, or for the dtype of a tile or number."""
    lanes = tile.width if isinstance(tile, Lanes) else WIDTH[_element(tile)]

    def emit(_context: Any, _builder: Any, _signature: Any, _operands: Any) -> Any:
        return ir.IntType(64)(lanes)

    return types.int64(tile), emit
