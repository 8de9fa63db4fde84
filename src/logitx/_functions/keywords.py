"""Keywords that a public function does not have: the error names what to write instead.

A public function takes them as ``**wrong`` and raises what `unexpected` returns. `exact` hides ``**wrong`` and the
default MISSING from `inspect.signature` and `help`; type checkers see the overloads. An empty ``**wrong`` costs 20 ns,
a wrapper that catches the TypeError of Python 90.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

# What other libraries call an argument, or what it is taken for, and its names here: the function's own are meant
MEANT: dict[str, tuple[str, ...]] = {
    "dim": ("axis",),
    "dims": ("axis",),
    "axes": ("axis",),
    "keepdim": ("keepdims",),
    "mask": ("where",),
    "weight": ("class_weight", "sample_weight"),
    "weights": ("sample_weight", "class_weight"),
    "target": ("targets",),
    "label": ("targets",),
    "labels": ("targets",),
    "input": ("logits", "x", "hidden", "p", "log_p"),
    "a": ("x",),
    "reduce": ("reduction",),
    "size_average": ("reduction",),
    "tau": ("temperature",),
}
_REMARKS = {
    "where": "True where an entry takes part",
    "class_weight": "one number a class",
    "sample_weight": "one number a row",
    "reduction": "'none', 'sum' or 'mean'",
}


class nothing:
    """The type of MISSING; the error for an array that was not given names it."""


MISSING: Any = nothing()  # default of a required array, so that Python does not complain of it before `unexpected` does


def exact(function: _F) -> _F:
    """Show a function without ``**wrong``, and arguments with the default MISSING as required."""
    signature = inspect.signature(function)
    shown = [
        one.replace(default=one.empty) if one.default is MISSING else one
        for one in signature.parameters.values()
        if one.kind is not one.VAR_KEYWORD
    ]
    function.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return function


def unexpected(function: Callable[..., Any], wrong: Mapping[str, Any]) -> TypeError:
    """Return the error for keywords that `function` does not have."""
    parameters = inspect.signature(function).parameters
    return TypeError("\n".join(_sentence(function.__name__, parameters, *one) for one in wrong.items()))


def refuse_others(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise for options that are no keywords of `function`."""
    parameters = inspect.signature(function).parameters.values()
    keywords = [one.name for one in parameters if one.kind is not one.POSITIONAL_ONLY]
    wrong = {name: value for name, value in options.items() if name not in keywords}
    if wrong:
        raise unexpected(function, wrong)


def _sentence(name: str, parameters: Mapping[str, inspect.Parameter], wrong: str, value: Any) -> str:
    if wrong in parameters:
        return f"{wrong}: is not a keyword of {name}; write it by position"
    meant = [parameters[one] for one in MEANT.get(wrong, ()) if one in parameters]
    if not meant:
        options = [one.name for one in parameters.values() if one.kind is not one.POSITIONAL_ONLY]
        return f"{wrong}: is not an argument of {name}; allowed are {', '.join(options) or 'no keywords'}"
    if meant[0].kind is meant[0].POSITIONAL_ONLY:
        return f"{wrong}: is not an argument of {name}; write {meant[0].name} by position"
    same = isinstance(value, int | str | tuple) and meant[0].name not in _REMARKS  # the value is allowed here too
    shown = [f"{one.name}={value!r}" if same else _shown(one.name) for one in meant]
    return f"{wrong}: is not an argument of {name}; write {' or '.join(shown)}"


def _shown(name: str) -> str:
    return f"{name}= ({_REMARKS[name]})" if name in _REMARKS else f"{name}="
