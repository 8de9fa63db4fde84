"""Arguments that are known when a kernel is compiled, and functions chosen by type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.extending import NativeValue, lower_builtin, models, register_model, type_callable, unbox

Function = Callable[..., Any]


class Known(types.Literal):
    """The type of an argument that is known to be there when compiling: Numba drops branches on ``is None``.

    Where the argument is None instead, it drops the other branch, so that a kernel has only one of two ways in it.
    """

    def __init__(self) -> None:
        """Make the one type; nothing but its being there is known."""
        super().__init__("known")

    @property
    def literal_type(self) -> Any:
        """Stay what it is in calls."""
        return self


KNOWN = Known()


register_model(Known)(models.OpaqueModel)


@unbox(Known)
def _unbox(_kind: Known, _obj: Any, c: Any) -> Any:
    return NativeValue(c.context.get_dummy_value())


def by_type(cases: dict[type, Function]) -> Function:
    """Return a function of (x, facts) for kernels: the primitive for the type of `facts`, chosen when compiling."""

    def chosen(x: Any, facts: Any) -> Any:
        raise NotImplementedError("only for kernels")

    def call(context: Any, kinds: Any) -> Any:
        function = context.resolve_value_type(cases[getattr(kinds[1], "instance_class", int)])
        return function, function.get_call_type(context, kinds, {})

    @type_callable(chosen)
    def typing(context: Any) -> Any:
        return lambda x, facts: call(context, (x, facts))[1].return_type

    @lower_builtin(chosen, types.Any, types.Any)
    def lower(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        implementation = context.get_function(*call(context.typing_context, signature.args))
        context.add_linking_libs(implementation.libs)
        return implementation(builder, operands)

    return chosen
