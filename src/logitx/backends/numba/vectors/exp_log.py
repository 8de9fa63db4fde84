"""Exponentials and logarithms on lanes, as polynomials on fused multiply-adds.

Numba has no vector mathematics of its own: its `exp` and `log` are calls, one number at a time. These are the classical
reductions with coefficients fitted by the Remez exchange algorithm in 200-bit arithmetic; the error of each fit is
stated beside it, that of each function in its docstring.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import types

from logitx.backends.numba.compile.policy import intrinsic
from logitx.backends.numba.vectors.lanes import call, constant, with_element


class _Format(NamedTuple):
    """What the functions need to know of a floating-point format."""

    integer: Any
    mantissa: int  # stored bits
    bias: int
    shift: int  # results are made 2**shift too large and scaled down last: subnormals are reached; bias + shift is even
    magic: float  # adding it rounds to an integer and leaves that integer in the low bits
    ln2: tuple[float, float]  # high part with trailing zeros, so that a small integer times it is exact; the rest
    lowest: float  # exp of less than this is 0
    highest: float  # exp of more than this is inf
    exp: tuple[float, ...]  # (exp(r) - 1 - r) / r**2 on |r| <= ln(2) / 2, constant first
    log: tuple[float, ...]  # (log((1 + s) / (1 - s)) - 2 s) / s**3 in s**2 on |s| <= 0.1716, constant first


_LOG2_E = 1.4426950408889634
_FORMATS = {
    types.float32: _Format(
        integer=ir.IntType(32),
        mantissa=23,
        bias=127,
        shift=25,
        magic=1.5 * 2.0**23,
        ln2=(0.693145751953125, 1.42860682030941723212e-6),
        lowest=-103.98,
        highest=88.73,
        # error of the fit, by exp: 7.5e-9
        exp=(0.5000000027015140, 0.1666657682628679, 0.04166637466550312, 0.008363205157052466, 0.001394116597251097),
        # error of the fit, by log: 1.7e-11
        log=(0.6666666655260404, 0.4000012309186512, 0.2855069891459181, 0.2333341910631390),
    ),
    types.float64: _Format(
        integer=ir.IntType(64),
        mantissa=52,
        bias=1023,
        shift=53,
        magic=1.5 * 2.0**52,
        ln2=(0.69314718036912381649, 1.9082149292705877000e-10),
        lowest=-745.14,
        highest=709.79,
        # error of the fit, by exp: 1.2e-17
        exp=(
            0.50000000000000010264,
            0.16666666666666674562,
            0.041666666666623987393,
            0.0083333333333221705209,
            0.0013888888917283508654,
            0.00019841269886703175022,
            0.000024801521187934745352,
            2.7557242209943584396e-6,
            2.7620139669289753206e-7,
            2.5110097609903485312e-8,
        ),
        # error of the fit, by log: 4.5e-18
        log=(
            0.66666666666666697487,
            0.39999999999897885368,
            0.28571428626652122639,
            0.2222221103167477415,
            0.18182896211031484851,
            0.15331497697369367889,
            0.14619097427489475638,
        ),
    ),
}


def _horner(builder: Any, coefficients: tuple[float, ...], x: Any) -> Any:
    value = constant(builder, x.type, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = call(builder, "fma", value, x, constant(builder, x.type, coefficient))
    return value


def _reduce(builder: Any, form: _Format, x: Any, residue: Any, plus: int = 0) -> tuple[Any, Any, Any]:
    """Return (bits, r, p): the low bits hold k + plus, x + residue = k ln(2) + r, and p = exp(r) - 1."""
    kind = x.type
    magic = constant(builder, kind, form.magic + plus)
    rounded = call(builder, "fma", x, constant(builder, kind, _LOG2_E), magic)
    k = builder.fneg(builder.fsub(rounded, magic))
    high = call(builder, "fma", k, constant(builder, kind, form.ln2[0]), x)
    low = call(builder, "fma", k, constant(builder, kind, form.ln2[1]), residue)
    r = builder.fadd(high, low)
    square = builder.fmul(r, r)
    tail = call(builder, "fma", square, _horner(builder, form.exp, r), low)  # what r lost of `low` is not missed
    p = builder.fadd(high, tail)
    return builder.bitcast(rounded, with_element(kind, form.integer)), r, p


def _power(builder: Any, form: _Format, k: Any, shift: int, kind: Any) -> Any:
    """Return 2**(k + shift)."""
    biased = builder.add(
        builder.shl(k, constant(builder, k.type, form.mantissa)),
        constant(builder, k.type, (form.bias + shift) << form.mantissa),
    )
    return builder.bitcast(biased, kind)


@intrinsic
def exp_of_sum(_context: Any, x: Any, residue: Any) -> Any:
    """Return exp(x + residue) for x + residue of at most about 0; NaN stays NaN.

    The error is below 0.96 ulp in float32 and 1.01 ulp in float64, on three million points each; results below the
    smallest normal number are subnormal, not 0.
    """
    form = _FORMATS[x.dtype]

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        value, low = operands
        kind = value.type
        biased, _, p = _reduce(builder, form, value, low, form.bias + form.shift)
        scale = builder.bitcast(builder.shl(biased, constant(builder, biased.type, form.mantissa)), kind)
        result = builder.fmul(call(builder, "fma", scale, p, scale), constant(builder, kind, 2.0**-form.shift))
        vanishes = builder.fcmp_ordered("<", value, constant(builder, kind, form.lowest))
        return builder.select(vanishes, constant(builder, kind, 0.0), result)

    return x(x, residue), emit


@intrinsic
def exp_any(_context: Any, x: Any) -> Any:
    """Return exp(x) for any x, in two scalings; the error is below 0.96 ulp in float32."""
    form = _FORMATS[x.dtype]

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        (value,) = operands
        kind = value.type
        bits, _, p = _reduce(builder, form, value, constant(builder, kind, 0.0))
        integers = bits.type
        magic = builder.bitcast(constant(builder, kind, form.magic), integers)
        k = builder.sub(bits, magic)
        half = builder.ashr(k, constant(builder, integers, 1))
        first = _power(builder, form, half, 0, kind)
        second = _power(builder, form, builder.sub(k, half), 0, kind)
        result = builder.fmul(call(builder, "fma", first, p, first), second)
        vanishes = builder.fcmp_ordered("<", value, constant(builder, kind, form.lowest))
        result = builder.select(vanishes, constant(builder, kind, 0.0), result)
        overflows = builder.fcmp_ordered(">", value, constant(builder, kind, form.highest))
        return builder.select(overflows, constant(builder, kind, float("inf")), result)

    return x(x), emit


@intrinsic
def expm1(_context: Any, x: Any) -> Any:
    """Return exp(x) - 1 for x <= 0, without cancellation near 0; the error is below 1.2 ulp."""
    form = _FORMATS[x.dtype]

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        (value,) = operands
        kind = value.type
        bits, _, p = _reduce(builder, form, value, constant(builder, kind, 0.0))
        scale = _power(builder, form, bits, 0, kind)
        result = call(builder, "fma", scale, p, builder.fsub(scale, constant(builder, kind, 1.0)))
        vanishes = builder.fcmp_ordered("<", value, constant(builder, kind, -(form.mantissa + 3) / _LOG2_E))
        return builder.select(vanishes, constant(builder, kind, -1.0), result)

    return x(x), emit


@intrinsic
def log1p_of_sum(_context: Any, x: Any, residue: Any) -> Any:
    """Return log(1 + x + residue) for x >= 0; the error is below 0.84 ulp; NaN stays NaN, inf is inf.

    The residue is what x lost when it was rounded.
    """
    form = _FORMATS[x.dtype]

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        value, beside = operands
        kind = value.type
        integers = with_element(kind, form.integer)
        one, half = constant(builder, kind, 1.0), constant(builder, kind, 0.5)
        total = builder.fadd(one, value)
        # 2Sum of 1 and x, so that nothing of a small x is lost
        from_value = builder.fsub(total, one)
        from_one = builder.fsub(total, from_value)
        lost = builder.fadd(builder.fsub(one, from_one), builder.fsub(value, from_value))
        # total = 2**k * fraction with the fraction between sqrt(1/2) and sqrt(2)
        root_bits = builder.bitcast(constant(builder, kind, 0.5**0.5), integers)
        bits = builder.sub(builder.bitcast(total, integers), root_bits)
        exponent = builder.ashr(bits, constant(builder, integers, form.mantissa))
        fraction_bits = builder.sub(
            builder.bitcast(total, integers), builder.shl(exponent, constant(builder, integers, form.mantissa))
        )
        k = builder.sitofp(exponent, kind)
        f = builder.fsub(builder.bitcast(fraction_bits, kind), one)
        correction = builder.fdiv(builder.fadd(lost, beside), total)
        s = builder.fdiv(f, builder.fadd(f, constant(builder, kind, 2.0)))
        square = builder.fmul(s, s)
        r = builder.fmul(square, _horner(builder, form.log, square))
        half_square = builder.fmul(builder.fmul(half, f), f)
        low = call(builder, "fma", k, constant(builder, kind, form.ln2[1]), correction)
        inner = call(builder, "fma", s, builder.fadd(half_square, r), low)
        near_one = builder.fsub(f, builder.fsub(half_square, inner))
        result = call(builder, "fma", k, constant(builder, kind, form.ln2[0]), near_one)
        infinite = builder.fcmp_ordered("==", value, constant(builder, kind, float("inf")))
        return builder.select(infinite, value, result)

    return x(x, residue), emit


@intrinsic
def difference(_context: Any, x: Any, y: Any) -> Any:
    """Return (d, e) with d = x - y rounded and d + e = x - y exactly, where nothing overflows (Knuth's 2Sum)."""

    def emit(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        a, b = operands
        d = builder.fsub(a, b)
        from_a = builder.fadd(d, b)
        from_b = builder.fsub(d, from_a)
        e = builder.fsub(builder.fsub(a, from_a), builder.fadd(b, from_b))
        return context.make_tuple(builder, signature.return_type, (d, e))

    return types.UniTuple(x, 2)(x, y), emit
