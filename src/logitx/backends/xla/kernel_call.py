"""Calls of kernels by handlers: machine code calls machine code, so types are compared when a handler is compiled."""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types

from logitx.backends.numba.compile.policy import intrinsic
from logitx.backends.numba.compile.static import KNOWN, Function
from logitx.backends.numba.kernels.signature import Dtypes, arguments_of

_ANY = Dtypes(*["float32"] * 5)  # kernels know the dtypes of their arrays; for a handler an array is four words


def kernel_call(entry: Function) -> Function:
    """Return a function of (address of a kernel, its arguments without ways) for the kernels of an entry function.

    TypeError if the arguments are no NamedTuples, or not the ones that the entry function declares.
    """
    wanted = arguments_of(entry, _ANY)

    @intrinsic
    def call(_context: Any, kernel: Any, arguments: Any) -> Any:
        given = [kind for kind in wanted if kind is not KNOWN]
        if len(given) != len(arguments.types):
            raise TypeError(f"{entry.__qualname__} takes {len(given)} arguments, its handler passes {arguments}")

        def emit(context: Any, builder: Any, _signature: Any, operands: Any) -> Any:
            values = zip(cgutils.unpack_tuple(builder, operands[1]), arguments.types, given, strict=True)
            left = iter([_as_declared(context, builder, *one) for one in values])
            kinds = [types.none if kind is KNOWN else kind for kind in wanted]
            passed = [context.get_dummy_value() if kind is KNOWN else next(left) for kind in wanted]
            function = context.call_conv.get_function_type(types.int64, kinds)
            callee = builder.inttoptr(operands[0], function.as_pointer())
            _, code = context.call_conv.call_function(builder, callee, types.int64, kinds, passed)
            return code

        return types.int64(types.int64, arguments), emit

    return call


def _as_declared(context: Any, builder: Any, value: Any, kind: Any, wanted: Any) -> Any:
    """Return a value as a kernel takes it: the same members, in the NamedTuple that its entry function declares."""
    named = getattr(wanted, "instance_class", None)
    members = [value] if named is None else cgutils.unpack_tuple(builder, value)
    declared = [wanted] if named is None else wanted.types
    agrees = named is getattr(kind, "instance_class", None) and len(members) == len(declared)
    if not agrees or any(one.type != context.get_value_type(two) for one, two in zip(members, declared, strict=True)):
        raise TypeError(f"a kernel takes {wanted}, its handler passes {kind}")
    return value if named is None else context.make_tuple(builder, wanted, members)
