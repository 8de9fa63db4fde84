"""Memory: where an array of the caller lies, as a value of a kernel.

`Lent` is an argument as it comes from Python: an array with any number of axes, or None for what is absent. Numba's own
array type would count references to every argument, which takes time, and want a fixed number of axes, which costs a
reshape before the call and another after it. A caller holds its arrays for as long as a kernel runs.

`View` is what a kernel works with: the same memory as (outer, n, inner), any strides, in bytes. An array whose axes
cannot be merged so, as it lies, does not `fit`; Python then reshapes it, which may copy.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import NativeValue, make_attribute_wrapper, models, register_model, unbox

from logitx.backends.numba.compile.llvm_types import I32, I64
from logitx.backends.numba.compile.policy import intrinsic, primitive

_HEADER = object.__basicsize__  # of a PyObject; then come data, nd, dimensions, strides, by NumPy's binary interface

# What a kernel returns, unless it is the first row with a bad class id. UNFIT: an array must be reshaped first, nothing
# has been written; FAILED: no memory.
OK, UNFIT, FAILED = -1, -2, -3

# The number type that stands for a dtype. Numba has neither half; two integer types tell the kernels which one it is.
NUMBER_TYPES = {
    "float16": types.uint16,
    "bfloat16": types.int16,
    "float32": types.float32,
    "float64": types.float64,
    "bool": types.boolean,
    "int64": types.int64,
}
_NUMBER_BYTES = dict(zip(NUMBER_TYPES, (2, 2, 4, 8, 1, 8), strict=True))


class Lent(types.Type):
    """The type of an array that the caller lends for the time of a call."""

    def __init__(self, name: str) -> None:
        """Take the name of a dtype."""
        self.dtype, self.bytes = NUMBER_TYPES[name], _NUMBER_BYTES[name]
        super().__init__(name=f"Lent({name})")


class View(types.Type):
    """The type of memory seen as (outer, n, inner)."""

    def __init__(self, dtype: Any, size: int) -> None:
        """Take the number type and its size in bytes."""
        self.dtype, self.bytes = dtype, size
        super().__init__(name=f"View({dtype})")


@register_model(Lent)
class _LentModel(models.StructModel):
    def __init__(self, dmm: Any, fe_type: Lent) -> None:
        members = [(name, types.int64) for name in ("address", "ndim", "lengths", "strides")]
        super().__init__(dmm, fe_type, members)


_VIEW_FIELDS = ("address", "outer", "n", "inner", "outer_stride", "n_stride", "inner_stride")


@register_model(View)
class _ViewModel(models.StructModel):
    def __init__(self, dmm: Any, fe_type: View) -> None:
        super().__init__(dmm, fe_type, [(name, types.int64) for name in _VIEW_FIELDS])


for _name in _VIEW_FIELDS:
    make_attribute_wrapper(View, _name, _name)
for _name in ("address", "ndim", "lengths", "strides"):
    make_attribute_wrapper(Lent, _name, _name)


@unbox(Lent)
def _unbox_lent(kind: Lent, obj: Any, c: Any) -> Any:
    builder = c.builder
    place = cgutils.alloca_once_value(builder, ir.Constant(c.context.get_value_type(kind), None))
    with builder.if_then(builder.icmp_unsigned("!=", obj, c.pyapi.borrow_none())):
        start = builder.ptrtoint(obj, I64)

        def field(offset: int, element: Any) -> Any:
            address = builder.add(start, I64(_HEADER + offset))
            return builder.load(builder.inttoptr(address, element.as_pointer()), typ=element)

        values = field(0, I64), builder.sext(field(8, I32), I64), field(16, I64), field(24, I64)
        for index, value in enumerate(values):
            builder.store(value, cgutils.gep_inbounds(builder, place, 0, index))
    return NativeValue(builder.load(place))


@intrinsic
def bytes_per_element(_context: Any, memory: Any) -> Any:
    """Return the bytes of an element."""
    size = memory.bytes

    def emit(_context: Any, _builder: Any, _signature: Any, _operands: Any) -> Any:
        return I64(size)

    return types.int64(memory), emit


@intrinsic
def _axis_item(_context: Any, address: Any, index: Any) -> Any:
    """Return one of the integers at an address."""

    def emit(_context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        start = builder.inttoptr(operands[0], I64.as_pointer())
        return builder.load(builder.gep(start, [operands[1]], source_etype=I64), typ=I64)

    return types.int64(types.int64, types.int64), emit


@intrinsic
def make_view(
    _context: Any, like: Any, address: Any, outer: Any, n: Any, inner: Any, outer_stride: Any, n_stride: Any,
    inner_stride: Any,
) -> Any:  # fmt: skip
    """Return a view with the element type of `like`."""
    kind = View(like.dtype, like.bytes)

    def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
        made = cgutils.create_struct_proxy(kind)(context, builder)
        for name, value in zip(_VIEW_FIELDS, operands[1:], strict=True):
            setattr(made, name, value)
        return made._getvalue()

    return kind(like, *[types.int64] * 7), emit


@primitive
def _merged_axes(lengths: int, strides: int, first: int, last: int) -> Any:
    """Return (length, stride, fits) of neighboring axes seen as one."""
    length, stride, fits = 1, 0, True
    for axis in range(last - 1, first - 1, -1):
        this = _axis_item(lengths, axis)
        if this != 1:
            if length == 1:
                stride = _axis_item(strides, axis)
            elif _axis_item(strides, axis) != stride * length:
                fits = False
            length *= this
    return length, stride, fits or length == 0


@primitive
def view_of_entries(lent: Any, axis: int) -> Any:
    """Return (view, fits) of an array of the shape of the logits, with its classes on `axis`."""
    if lent.address == 0:
        return make_view(lent, 0, 0, 0, 0, 0, 0, 0), True
    first = lent.ndim - lent.ndim  # a literal 0 would have a type of its own, and another compilation
    outer, outer_stride, one = _merged_axes(lent.lengths, lent.strides, first, axis)
    inner, inner_stride, two = _merged_axes(lent.lengths, lent.strides, axis + 1, lent.ndim)
    n, n_stride = _axis_item(lent.lengths, axis), _axis_item(lent.strides, axis)
    return make_view(lent, lent.address, outer, n, inner, outer_stride, n_stride, inner_stride), one and two


@primitive
def view_of_rows(lent: Any) -> Any:
    """Return a view of contiguous numbers, one a row or one a class: `outer` of them."""
    size = 0
    if lent.address != 0:
        size = 1
        for axis in range(lent.ndim):
            size *= _axis_item(lent.lengths, axis)
    step = bytes_per_element(lent)
    return make_view(lent, lent.address, size, 1, 1, step, step, step)


@primitive
def given(memory: Any) -> bool:
    """Return True if the caller passed an array."""
    there: bool = memory.address != 0
    return there
