"""Arguments that are known when a kernel is compiled, and functions chosen by type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from numba.core import types
from numba.extending import NativeValue, lower_builtin, models, register_model, type_callable, unbox

Function = Callable[..., Any]


class Known(types.Literal):
    """The type of an argument that is known to be there when compiling: Numba drops branches on ``is None``.

    Where the argument is None instead, Numba drops the other branch, so that a kernel has only one of the two.
    """

    def __init__(self) -> None:
        """Make the one type; the value is not known, only that there is one."""
        super().__init__("known")

    @property
    def literal_type(self) -> Any:
        """Stay what it is in calls."""
        return self


KNOWN = Known()


register_model(Known)(models.OpaqueModel)


@unbox(Known)
def _unbox_known(_kind: Known, _obj: Any, c: Any) -> Any:
    return NativeValue(c.context.get_dummy_value())


def by_type(cases: Mapping[type, Function | None], count: int = 2) -> Function:
    """Return a function of `count` arguments for kernels: the primitive for the type of the last one.

    The primitive is chosen when a kernel is compiled, so that cases may be added to the table until then. `int` is the
    case of what is no NamedTuple. Where the table has None, nothing is done, and None returned.
    """

    def chosen(*arguments: Any) -> Any:
        raise NotImplementedError("only for kernels")

    def call(context: Any, kinds: Any) -> Any:
        case = cases[getattr(kinds[-1], "instance_class", int)]
        if case is None:
            return None, types.none(*kinds)
        function = context.resolve_value_type(case)
        return function, function.get_call_type(context, kinds, {})

    @type_callable(chosen)
    def typing(context: Any) -> Any:
        def typer(*kinds: Any) -> Any:
            return call(context, kinds)[1].return_type

        names = [inspect.Parameter(f"x{i}", inspect.Parameter.POSITIONAL_OR_KEYWORD) for i in range(count)]
        typer.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
        return typer

    @lower_builtin(chosen, *[types.Any] * count)
    def lower(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        function, found = call(context.typing_context, signature.args)
        if function is None:
            return context.get_dummy_value()
        implementation = context.get_function(function, found)
        context.add_linking_libs(implementation.libs)
        return implementation(builder, operands)

    return chosen
