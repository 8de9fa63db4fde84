"""Memory: where an array of the caller lies, as a value of a kernel.

`Lent` is an argument as it comes from Python: an array with any number of axes, or None for what is absent. Numba's own
array type would count references to every argument, which takes time, and want a fixed number of axes, which costs a
reshape before the call and another after it. A caller holds its arrays for as long as a kernel runs. Their lengths and
strides are copied while the GIL is held: another thread may change a shape, which frees the memory these were in.

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

_HEADER = (
    object.__basicsize__
)  # of a PyObject; then data, nd, dimensions, strides, base, descr, flags: NumPy's binary interface
MOST_AXES = 8  # of an array that a kernel takes as it lies
_OWNS_DATA = 4  # a flag of NumPy's

# What a kernel returns, unless it is the first row with a bad class id. UNFIT: an array must be reshaped first, or has
# other lengths than the result, nothing has been written; FAILED: no memory.
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


def _copy_items(builder: Any, source: Any, target: Any, count: Any) -> None:
    """Copy the first integers by one masked read: a loop, or a memcpy, takes 3 % of the time of a small call."""
    vector, which = ir.VectorType(I64, MOST_AXES), ir.VectorType(ir.IntType(1), MOST_AXES)
    counts = builder.insert_element(ir.Constant(vector, ir.Undefined), count, I32(0))
    counts = builder.shuffle_vector(counts, counts, ir.Constant(ir.VectorType(I32, MOST_AXES), [0] * MOST_AXES))
    mask = builder.icmp_signed("<", ir.Constant(vector, list(range(MOST_AXES))), counts)
    kind = ir.FunctionType(vector, [vector.as_pointer(), I32, which, vector])
    read = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{MOST_AXES}i64.p0")
    place = builder.inttoptr(source, vector.as_pointer())
    found = builder.call(read, [place, I32(8), mask, ir.Constant(vector, None)])
    builder.store(found, builder.bitcast(target, vector.as_pointer()), align=8)


@unbox(Lent)
def _unbox_lent(kind: Lent, obj: Any, c: Any) -> Any:
    builder = c.builder
    place = cgutils.alloca_once_value(builder, ir.Constant(c.context.get_value_type(kind), None))
    with builder.if_then(builder.icmp_unsigned("!=", obj, c.pyapi.borrow_none())):
        start = builder.ptrtoint(obj, I64)

        def field(offset: int, element: Any) -> Any:
            address = builder.add(start, I64(_HEADER + offset))
            return builder.load(builder.inttoptr(address, element.as_pointer()), typ=element)

        ndim = builder.sext(field(8, I32), I64)
        room = cgutils.alloca_once(builder, ir.ArrayType(I64, 2 * MOST_AXES))
        copies = [builder.gep(room, [I64(0), I64(first)]) for first in (0, MOST_AXES)]
        for offset, copy in zip((16, 24), copies, strict=True):
            _copy_items(builder, field(offset, I64), copy, ndim)
        # What shows the memory of something else and yet owns some shows a tensor without memory: its numbers are any
        owns = builder.icmp_unsigned("!=", builder.and_(field(48, I32), I32(_OWNS_DATA)), I32(0))
        lost = builder.and_(owns, builder.icmp_unsigned("!=", field(32, I64), I64(0)))
        many = builder.icmp_signed(">", ndim, I64(MOST_AXES))
        address = builder.select(builder.or_(lost, many), I64(0), field(0, I64))
        ndim = builder.select(many, I64(-1), ndim)
        for index, value in enumerate((address, ndim, *(builder.ptrtoint(copy, I64) for copy in copies))):
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
    if lent.ndim <= 0 or axis >= lent.ndim:  # absent, or of too many axes, or of fewer than when the call was checked
        return make_view(lent, 0, 0, 0, 0, 0, 0, 0), lent.ndim == 0
    first = lent.ndim - lent.ndim  # a literal 0 would have a type of its own, and another compilation
    outer, outer_stride, one = _merged_axes(lent.lengths, lent.strides, first, axis)
    inner, inner_stride, two = _merged_axes(lent.lengths, lent.strides, axis + 1, lent.ndim)
    n, n_stride = _axis_item(lent.lengths, axis), _axis_item(lent.strides, axis)
    stored = lent.address != 0 or outer * n * inner == 0  # a tensor may have lost its memory
    return make_view(lent, lent.address, outer, n, inner, outer_stride, n_stride, inner_stride), one and two and stored


@primitive
def view_beside(lent: Any, axis: int, x: Any) -> Any:
    """Return (view, fits) of an array beside the view of the logits: it does not fit if its lengths are others.

    They were the same when the call was checked; what another thread has made of them since must not lead beyond it.
    """
    view, fits = view_of_entries(lent, axis)
    same = view.outer == x.outer and view.n == x.n and view.inner == x.inner
    return view, lent.ndim == 0 or (fits and same)


@primitive
def has_one_a_row(rows: Any, x: Any) -> bool:
    """Return True if there is one number for each row of the view of the logits, or no array."""
    enough: bool = rows.address == 0 or rows.outer == x.outer * x.inner
    return enough


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
