"""Every rejected call: the same exception with the same message on every target, and nothing written before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import TARGETS, Target
from logitx.testing.suite import using

X = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
IDS = [0, 2]


class Maker:
    """Arrays of a target, of plain values."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def __call__(self, values: Any, dtype: str = "float32") -> Any:
        return self.target.make(np.asarray(values, dtype="complex64" if dtype == "complex64" else None), dtype, "C")


@dataclass(frozen=True)
class Bad:
    """A call that must be refused."""

    function: str
    call: Callable[[Maker], tuple[tuple[Any, ...], dict[str, Any]]]
    error: type[Exception]
    starts: str  # of the message: the argument and its value
    concrete: bool = False  # refused for a value that is unknown while it is traced

    @property
    def id(self) -> str:
        return f"{self.function}: {self.starts}".replace(" ", "_")


def _x(error: type[Exception], starts: str, function: str = "softmax", **options: Any) -> Bad:
    """Refuse plain options of a function of (2, 3) logits."""
    return Bad(function, lambda a: ((a(X),), options), error, starts)


def _ce(error: type[Exception], starts: str, targets: Any = IDS, kind: str = "int64", **options: Any) -> Bad:
    """Refuse targets or plain options of the cross-entropy of (2, 3) logits."""
    return Bad("cross_entropy", lambda a: ((a(X), a(targets, kind)), options), error, starts)


def _with(
    function: str, name: str, values: Any, dtype: str, error: type[Exception], starts: str, concrete: bool = False
) -> Bad:
    """Refuse an option that is an array."""

    def call(a: Maker) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args = (a(X), a(IDS, "int64")) if function.startswith("cross") else (a(X),)
        return args, {name: a(values, dtype)}

    return Bad(function, call, error, starts, concrete)


AXES = [
    _x(ValueError, "axis: 2 ", axis=2),
    _x(ValueError, "axis: -3 ", axis=-3),
    _x(ValueError, "axis: (0, 0) ", axis=(0, 0)),
    _x(ValueError, "axis: (0, -2) ", axis=(0, -2)),
    _x(ValueError, "axis: 5 ", axis=(0, 5)),
    _x(TypeError, "axis: 1.0 ", axis=1.0),
    _x(TypeError, "axis: 'last' ", axis="last"),
    _x(TypeError, "axis: True ", axis=True),
    _x(TypeError, "axis: [0, 1] ", axis=[0, 1]),
    _x(ValueError, "axis: 2 ", "log_softmax", axis=2),
    _x(ValueError, "axis: 2 ", "logsumexp", axis=2),
    Bad("softmax", lambda a: ((a(1.0),), {"axis": 1}), ValueError, "axis: 1 "),
    Bad("logsumexp", lambda a: ((a(1.0),), {"axis": -2}), ValueError, "axis: -2 "),
    _ce(ValueError, "axis: 2 ", axis=2),
    Bad("softmax_vjp", lambda a: ((a(X), a(X)), {"axis": 2}), ValueError, "axis: 2 "),
]
NUMBERS = [
    _x(ValueError, "temperature: 0.0 ", temperature=0.0),
    _x(ValueError, "temperature: -1.0 ", temperature=-1),
    _x(ValueError, "temperature: nan ", temperature=float("nan")),
    _x(ValueError, "temperature: inf ", temperature=float("inf")),
    _x(ValueError, "temperature: inf ", temperature=10**400),
    _x(TypeError, "temperature: None ", temperature=None),
    _x(TypeError, "temperature: True ", temperature=True),
    _x(TypeError, "temperature: str ", temperature="warm"),
    _x(ValueError, "softcap: 0.0 ", softcap=0),
    _x(ValueError, "softcap: -5.0 ", softcap=-5.0),
    _x(ValueError, "softcap: inf ", softcap=float("inf")),
    _x(TypeError, "softcap: False ", softcap=False),
    _with("softmax", "temperature", 0.0, "float32", ValueError, "temperature: 0.0 ", concrete=True),
    _with("softmax", "temperature", [[1.0], [-2.0]], "float32", ValueError, "temperature: -2.0 ", concrete=True),
    _with("softmax", "temperature", [1.0, 2.0, 3.0], "float32", ValueError, "temperature: shape (3,) "),
    _with("softmax", "temperature", [1.0, 2.0], "float32", ValueError, "temperature: shape (2,) "),
    _with("softmax", "softcap", [[1.0, 2.0, 3.0]], "float32", ValueError, "softcap: shape (1, 3) "),
    _with("softmax", "temperature", 1.0, "complex64", TypeError, "temperature: dtype complex64 "),
    _with("softmax", "temperature", True, "bool", TypeError, "temperature: dtype bool "),
    _ce(ValueError, "label_smoothing: -0.1 ", label_smoothing=-0.1),
    _ce(ValueError, "label_smoothing: 1.5 ", label_smoothing=1.5),
    _ce(ValueError, "label_smoothing: nan ", label_smoothing=float("nan")),
    _ce(TypeError, "label_smoothing: None ", label_smoothing=None),
    _with("cross_entropy", "label_smoothing", [0.1, 0.1], "float32", ValueError, "label_smoothing: shape (2,) "),
    _ce(ValueError, "z_loss: nan ", z_loss=float("nan")),
    _ce(ValueError, "z_loss: inf ", z_loss=float("inf")),
    _with("cross_entropy", "z_loss", [0.1], "float32", ValueError, "z_loss: shape (1,) "),
]
WORDS = [
    _x(ValueError, "empty: 'ignore' ", empty="ignore"),
    _x(ValueError, "empty: None ", empty=None),
    _x(TypeError, "dtype: 'int16' ", dtype="int16"),
    _x(TypeError, "dtype: 'half' ", dtype="half"),
    _x(TypeError, "dtype: 7 ", dtype=7),
    _ce(ValueError, "dtype: float16 ", dtype="float16"),
    _ce(ValueError, "dtype: bfloat16 ", dtype="bfloat16"),
    _ce(ValueError, "reduction: 'average' ", reduction="average"),
    _ce(ValueError, "reduction: None ", reduction=None),
    _ce(ValueError, "empty: True ", empty=True),
]
ARRAYS = [
    Bad("softmax", lambda a: ((a(X, "complex64"),), {}), TypeError, "x: dtype complex64 "),
    _with("softmax", "where", [1, 0, 1], "int64", TypeError, "where: dtype int"),
    _with("softmax", "where", [True, False], "bool", ValueError, "where: shape (2,) "),
    _with("softmax", "where", [[[True]]], "bool", ValueError, "where: shape (1, 1, 1) "),
    _with("logsumexp", "b", [1.0, 2.0], "float32", ValueError, "b: shape (2,) "),
    _with("logsumexp", "log_b", [1.0, 2.0], "float32", ValueError, "log_b: shape (2,) "),
    _with("segment_softmax", "segment_ids", [0, 1, 1], "int64", ValueError, "segment_ids: shape (3,) "),
    _with("segment_logsumexp", "offsets", [0, 1], "int64", ValueError, "offsets: from 0 to 1 ", concrete=True),
    _x(TypeError, "segment_ids, offsets: both are None", function="segment_log_softmax"),
    _with("cross_entropy", "where", [1.0, 1.0, 0.0], "float32", TypeError, "where: dtype float32 "),
    Bad("softmax_vjp", lambda a: ((a(X), a([1.0, 2.0, 3.0])), {}), ValueError, "dp: shape (3,) "),
    Bad("log_softmax_vjp", lambda a: ((a(X), a([1.0, 2.0, 3.0])), {}), ValueError, "dlog_p: shape (3,) "),
    Bad("softmax_vjp", lambda a: ((a(X, "complex64"), a(X)), {}), TypeError, "p: dtype complex64 "),
    Bad("log_softmax_vjp", lambda a: ((a(X), a(X, "complex64")), {}), TypeError, "dlog_p: dtype complex64 "),
    Bad("merge_logsumexp", lambda a: ((a(X), a([1.0, 2.0])), {}), ValueError, "b: shapes (2, 3) and (2,) "),
    Bad("merge_logsumexp", lambda a: ((a(X, "complex64"), a(X)), {}), TypeError, "a: dtype complex64 "),
    Bad("merge_logsumexp", lambda a: ((a(X),), {}), TypeError, "b: None is not allowed without axis_name"),
    Bad("merge_logsumexp", lambda a: ((a(X), a(X)), {"axis_name": "i"}), ValueError, "axis_name: 'i' is not allowed"),
    Bad("merge_logsumexp", lambda a: ((a(X),), {"axis_name": ["i"]}), ValueError, "axis_name: ['i'] is not allowed"),
]
TARGETS_OF_LOSSES = [
    _ce(TypeError, "targets: dtype bool ", [True, False], "bool"),
    _ce(TypeError, "targets: dtype complex64 ", [0, 1], "complex64"),
    _ce(ValueError, "targets: shape (2, 3) ", [[0, 0, 1], [1, 0, 0]]),  # one-hot integers
    _ce(ValueError, "targets: shape (2, 1) ", [[0], [1]]),
    _ce(ValueError, "targets: shape (2,) ", [0.0, 1.0], "float32"),  # floating ids
    _ce(ValueError, "targets: shape (2, 1) ", [[0.0], [1.0]], "float32"),
    _ce(ValueError, "targets: shape (3,) ", [0, 1, 2]),
    Bad("cross_entropy", lambda a: ((a(np.zeros((2, 3, 4))), a([[0] * 4] * 2, "int64")), {}), ValueError,
        "targets: shape (2, 4) is not allowed; allowed for class ids (int64) is exactly (2, 3); these fit axis=1"),
    _ce(ValueError, "class_weight: 'equal' ", class_weight="equal"),
    _ce(ValueError, "targets: shape (2, 2) ", [[0.5, 0.5], [1.0, 0.0]], "float32"),
    _ce(TypeError, "ignore_index: 1.0 ", ignore_index=1.0),
    _ce(TypeError, "ignore_index: True ", ignore_index=True),
    _ce(ValueError, f"ignore_index: {2**63} ", ignore_index=2**63),
    _ce(ValueError, "ignore_index: 0 ", [[0.5, 0.5, 0], [1, 0, 0]], "float32", ignore_index=0),
    _with("cross_entropy", "class_weight", [1.0, 2.0], "float32", ValueError, "class_weight: shape (2,) "),
    _with("cross_entropy", "class_weight", [[1.0, 2.0, 1.0]], "float32", ValueError, "class_weight: shape (1, 3) "),
    _with("cross_entropy", "class_weight", [1, 2, 3], "complex64", TypeError, "class_weight: dtype complex64 "),
    _with("cross_entropy", "sample_weight", [1.0, 2.0, 3.0], "float32", ValueError, "sample_weight: shape (3,) "),
    _with("cross_entropy", "sample_weight", [1, 2], "complex64", TypeError, "sample_weight: dtype complex64 "),
    Bad("cross_entropy", lambda a: ((a(np.zeros((2, 0))), a(IDS, "int64")), {}), ValueError, "logits: shape (2, 0) "),
    Bad("cross_entropy", lambda a: ((a(X, "complex64"), a(IDS, "int64")), {}), TypeError, "logits: dtype complex64 "),
    Bad("cross_entropy_grad_hess", lambda a: ((a(X), a([[0], [1]], "int64")), {}), ValueError, "targets: shape (2, 1)"),
]  # fmt: skip


def _label(labels: Any, starts: str, function: str = "cross_entropy", dtype: str = "int64", **options: Any) -> Bad:
    return Bad(function, lambda a: ((a(X), a(labels, dtype)), options), ValueError, starts, concrete=True)


LABELS = [
    _label([0, 3], "targets: class id 3 at position (1,) "),
    _label([-1, 0], "targets: class id -1 at position (0,) "),
    _label([0, -101], "targets: class id -101 at position (1,) "),
    _label([-100, 0], "targets: class id -100 at position (0,) ", ignore_index=None),
    _label([0, 200], "targets: class id 200 at position (1,) ", dtype="uint8"),
    _label([-1, 7], "targets: class id 7 at position (1,) ", ignore_index=-1),
    _label([0, 3], "targets: class id 3 at position (1,) ", "cross_entropy_value_and_grad"),
    _label([-100, 0], "targets: class id -100 at position (0,) ", "cross_entropy_grad_hess"),
    _label([0, 3], "targets: class id 3 at position (1,) ", sample_weight=[1.0, 0.0]),
    _label([0, 3], "targets: class id 3 at position (1,) ", where=np.array([[True], [False]])),
    Bad("cross_entropy", lambda a: ((a(np.zeros((2, 3, 4))), a([[0, 1, 2, 0], [0, 0, 3, 0]], "int64")), {"axis": 1}),
        ValueError, "targets: class id 3 at position (1, 2) ", concrete=True),
    Bad("cross_entropy", lambda a: ((a(X), a(6, "int64")), {"axis": None}), ValueError, "targets: class id 6 ",
        concrete=True),
]  # fmt: skip

H, W = [[1.0, 2.0], [0.5, -1.0]], [[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]


def _linear(error: type[Exception], starts: str, *values: Any, concrete: bool = False, **options: Any) -> Bad:
    """Refuse hidden features, weights, targets and bias, where given, in place of good ones; or plain options."""

    def call(a: Maker) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = [*values, *(H, W, IDS)[len(values) :]]
        kinds = ("float32", "float32", "int64", "float32")
        pairs = zip(given, kinds, strict=False)
        return tuple(a(*one) if isinstance(one, tuple) else a(one, kind) for one, kind in pairs), options

    return Bad("linear_cross_entropy", call, error, starts, concrete)


LINEAR = [
    _linear(ValueError, "hidden: shape () ", 1.0),
    _linear(ValueError, "weight: shape (3,) ", H, [1.0, 2.0, 3.0]),
    _linear(ValueError, "weight: shape (0, 2) ", H, np.zeros((0, 2))),
    _linear(ValueError, "weight: shape (2, 3) does not fit that of hidden, (2, 2): dimension 1 of weight is 3, "
            "dimension 1 of hidden 2;", H, X),
    _linear(ValueError, "bias: shape (2,) does not fit that of weight, (3, 2): dimension 0 of bias is 2, dimension 0 "
            "of weight 3;", H, W, IDS, [1.0, 2.0]),
    _linear(ValueError, "bias: shape (1, 3) does not fit that of weight, (3, 2);", H, W, IDS, [[1.0, 2.0, 3.0]]),
    _linear(ValueError, "targets: shape (3,) ", H, W, [0, 1, 2]),
    _linear(ValueError, "targets: shape (2, 2) ", H, W, ([[0.5, 0.5], [1.0, 0.0]], "float32")),
    _linear(ValueError, "targets: class id 3 at position (1,) ", H, W, [0, 3], concrete=True),
    _linear(TypeError, "hidden: dtype complex64 ", (H, "complex64")),
    _linear(TypeError, "weight: dtype complex64 ", H, (W, "complex64")),
    _linear(TypeError, "block_bytes: 1.5 ", block_bytes=1.5),
    _linear(TypeError, "block_bytes: True ", block_bytes=True),
    _linear(ValueError, "block_bytes: 0 ", block_bytes=0),
    _linear(ValueError, "temperature: -1.0 ", temperature=-1.0),
    _linear(ValueError, "reduction: 'average' ", reduction="average"),
]  # fmt: skip

ALL = (*AXES, *NUMBERS, *WORDS, *ARRAYS, *TARGETS_OF_LOSSES, *LABELS, *LINEAR)


def _refusal(bad: Bad, target: Target) -> tuple[type[BaseException], str]:
    with using(target.backend), target.session(False):
        args, options = bad.call(Maker(target))
        with pytest.raises((TypeError, ValueError)) as caught:
            target.call(getattr(lx, bad.function), args, options)
    kind = next(cls for cls in type(caught.value).__mro__ if cls in (TypeError, ValueError))
    return kind, str(caught.value)


@pytest.mark.parametrize("bad", ALL, ids=lambda bad: bad.id)
def test_same_refusal_everywhere(bad: Bad) -> None:
    blind = {"jax-jit", "torch-compile", "tensorflow-graph"} if bad.concrete else set()
    if bad.starts.startswith(("axis: 'last'", "b: shapes")):
        blind = {"pandas", "xarray"}  # axes have names, by which operands are matched
    if bad.starts.startswith("targets"):
        blind.discard("torch-compile")  # its graphs look at labels when they run
    targets = [target for target in TARGETS if not target.absent() and target.name not in blind]
    refusals = {target.name: _refusal(bad, target) for target in targets}
    kind, message = refusals["numpy-generic"]
    assert kind is bad.error
    assert message.startswith(bad.starts)
    assert "allowed" in message
    # JAX without x64 has int32 where others have int64
    refusals = {name: (kind, text.replace("int32", "int64")) for name, (kind, text) in refusals.items()}
    assert set(refusals.values()) == {(kind, message)}, refusals


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("target", [one for one in TARGETS if one.writable], ids=lambda target: target.name)
def test_out_is_checked_before_it_is_written(name: str, target: Target) -> None:
    if reason := target.absent():
        pytest.skip(reason)
    a, function = Maker(target), getattr(lx, name)
    right = (2,) if name == "logsumexp" else (2, 3)
    wrong = [a(np.full((3, 2), 7.0)), a(np.full((1, *right), 7.0)), a(np.full(right, 7.0), "float64")]
    with using(target.backend), target.session(False):
        for out in wrong:
            with pytest.raises(ValueError, match="out: shape .* is not allowed; allowed is exactly"):
                function(a(X), out=out)
        with pytest.raises(ValueError, match="empty: 'maybe'" if name != "logsumexp" else "axis: 9"):
            function(a(X), out=wrong[-1], **({"empty": "maybe"} if name != "logsumexp" else {"axis": 9}))
        for out in wrong:
            assert (target.read(out)[0] == 7).all()
        for out in ([0.0], 1.0, "here"):
            with pytest.raises(TypeError, match="out: "):
                function(a(X), out=out)


def test_out_of_immutable_arrays() -> None:
    jnp = pytest.importorskip("jax.numpy", reason="jax is not installed")
    with pytest.raises(TypeError, match="out: arrays of jax are immutable; allowed is None"):
        lx.softmax(jnp.zeros((2, 3)), out=jnp.zeros((2, 3)))


@pytest.mark.parametrize(
    "backend", [one.name for one in lx.backends() if one.available and one.name in ("numba", "generic")]
)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_out_of_numpy(name: str, backend: str) -> None:
    function = getattr(lx, name)
    memory = np.arange(10.0)
    read_only = np.zeros(5)
    read_only.flags.writeable = False
    with lx.use_backend(backend):
        with pytest.raises(ValueError, match="out: is read-only; allowed is writable memory"):
            function(np.zeros(5), out=read_only)
        with pytest.raises(ValueError, match="out: overlaps the input in part"):
            function(memory[:5], out=memory[2:7])
        with pytest.raises(ValueError, match="out: overlaps the input in part"):
            function(memory[:5], out=memory[4::-1])
        np.testing.assert_array_equal(memory, np.arange(10.0))
        beside = function(memory[::2], out=memory[1::2])  # interleaved, not overlapping
        np.testing.assert_array_equal(beside, function(np.arange(0.0, 10.0, 2)))


class Subclass(np.ndarray):
    """Might carry a unit."""


@pytest.mark.parametrize("function", [lx.softmax, lx.log_softmax, lx.logsumexp])
@pytest.mark.parametrize(
    "x",
    [None, "text", object(), {1.0: 2.0}, np.zeros(2).view(Subclass), np.array([1.0, None]),
     np.array(["a"]), np.array(["2020-01-01"], dtype="datetime64[D]")],
    ids=["None", "str", "object", "dict", "subclass", "objects", "strs", "dates"],
)  # fmt: skip
def test_unknown_arrays(function: Callable[..., Any], x: Any) -> None:
    """What the library does not know, it does not touch: it might carry more than numbers."""
    with pytest.raises(TypeError, match=r"^x: "):
        function(x)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_matrix() -> None:
    with pytest.raises(TypeError, match=r"^x: matrix "):
        lx.softmax(np.matrix([[1.0, 2.0]]))


def test_arguments_are_positional_or_keywords_as_documented() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(TypeError, match="by position"):
        lx.softmax(x=x)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        lx.softmax(x, 0, None)  # type: ignore[misc]
    with pytest.raises(TypeError, match="dim"):
        lx.softmax(x, dim=0)  # type: ignore[call-arg]


def test_half_where_there_is_none() -> None:
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    with pytest.raises((TypeError, ValueError), match=r"^dtype: '?float16'? is not"):
        lx.softmax(strict.asarray(X), dtype="float16")


def test_names() -> None:
    with pytest.raises(ValueError, match="name: 'fast' is not allowed; allowed are"):
        lx.use_backend("fast")
    with pytest.raises(ValueError, match="op: 'sofmax' is not allowed; allowed are"):
        lx.which("sofmax", np.zeros(3))


@pytest.mark.parametrize("target", [one for one in TARGETS if one.name != "numpy-generic"], ids=lambda one: one.name)
def test_arrays_of_two_libraries(target: Target) -> None:
    """NumPy arrays, lists, numbers and labels go with everything on the CPU; nothing else goes with anything else."""
    if reason := target.absent():
        pytest.skip(reason)
    a = Maker(target)
    weight = np.array([1.0, 2.0, 0.5], dtype=np.float32)
    with using(target.backend), target.session(False):
        options = {"class_weight": weight, "where": [True, True, True]}
        loss = target.call(lambda x: lx.cross_entropy(x, IDS, **options), (a(X),), {})
        assert target.problem(loss, False) is None
    if target.name in (
        "numpy-numba",
        "numpy-memmap",
        "pandas",
        "xarray",
        "torch-compile",
    ):  # the last takes NumPy arrays for tensors
        return
    with target.session(False):
        with pytest.raises(TypeError, match=r"^sample_weight: a .* array cannot go with logits of numpy; convert"):
            target.call(lambda w: lx.cross_entropy(np.array(X), IDS, sample_weight=w), (a([1.0, 2.0]),), {})
        with pytest.raises(TypeError, match=r"^targets: a .* array cannot go with logits of numpy; convert"):
            target.call(lambda t: lx.cross_entropy(np.array(X), t), (a(X),), {})


@pytest.mark.parametrize("target", TARGETS, ids=lambda one: one.name)
def test_labels_of_another_library(target: Target) -> None:
    """Class ids on the CPU go with logits of any library; where nobody can look at them, they are refused."""
    if reason := target.absent():
        pytest.skip(reason)
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    loss, ids = lx.cross_entropy(np.array(X, dtype=np.float32), IDS), torch.tensor(IDS)
    a = Maker(target)
    with target.session(False):
        found = target.call(lambda x: lx.cross_entropy(x, ids), (a(X),), {})
        np.testing.assert_allclose(target.read(found)[0], loss, rtol=1e-6)
        if target.name == "torch-compile":  # takes NumPy arrays for tensors
            return
        if target.name in ("jax-jit", "torch-vmap", "tensorflow-graph") or target.name.startswith("dask"):
            with pytest.raises(TypeError, match=r"^targets: a .* array cannot go with logits of numpy; convert"):
                target.call(lambda ids: lx.cross_entropy(np.array(X), ids), (a(IDS, "int64"),), {})
        else:
            found = target.call(lambda ids: lx.cross_entropy(np.array(X, np.float32), ids), (a(IDS, "int64"),), {})
            np.testing.assert_allclose(np.asarray(found), loss, rtol=1e-6)
