"""Memory that is not what it says: shapes that change during a call, tensors without storage, outputs that overlap."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.backends.numba.kernels import cross_entropy_ids, logsumexp, softmax, vjp
from logitx.backends.numba.kernels.signature import Dtypes, compiled_kernel
from logitx.backends.numba.memory.arguments import MOST_AXES, UNFIT
from logitx.backends.numba.passes.loss import LossNumbers
from logitx.backends.numba.passes.reports import MEAN, NONE

FLOATS = Dtypes("float32", "float32", "float32", "float32", "float32")
X, LABELS = np.ones((3, 4), np.float32), np.zeros(3, np.int64)
OTHERS = ((4, 3), (2, 4), (3, 3), (3,), (12,), (1, 3, 4))  # lengths of a result that another thread made of X's


def kept(*shape: int) -> np.ndarray:
    """Return memory that is seen to be written to, also beyond its end."""
    return np.full(1000, 7.0, np.float32)[: int(np.prod(shape))].reshape(shape)


def untouched(array: np.ndarray) -> bool:
    memory = array
    while memory.base is not None:
        memory = memory.base
    return bool((memory == 7.0).all())


@pytest.mark.parametrize("shape", OTHERS, ids=str)
@pytest.mark.parametrize("across", [True, None])
def test_kernels_compare_lengths_with_those_of_the_result(shape, across):
    out, axis = kept(*shape), 1
    normalize = compiled_kernel(softmax.normalize, (across, None, None), FLOATS)
    assert normalize((X, None, None, None, out), (axis, np.nan), across, None, None, 1, 0) == UNFIT
    pull_back = compiled_kernel(vjp.pull_back, (across,), FLOATS)
    assert pull_back((X, X, out, None), (axis, False), across, 1, 0) == UNFIT
    assert pull_back((X, out, kept(3, 4), None), (axis, False), across, 1, 0) == UNFIT
    hard = compiled_kernel(cross_entropy_ids.hard, (across, True, None), FLOATS)
    numbers = LossNumbers(axis, True, -100, 0.0, 0.0, np.nan, MEAN)
    arrays = (X, LABELS, None, None, None, None, None, out, kept(), None, None)
    assert hard(arrays, numbers, across, True, None, 1, 0) == UNFIT
    assert untouched(out)


@pytest.mark.parametrize("across", [True, None])
def test_kernels_compare_the_number_of_rows(across):
    few = kept(2)
    reduce = compiled_kernel(logsumexp.logsumexp_rows, (across, None), FLOATS)
    for value, sign in ((few, None), (kept(3), few)):
        arrays = logsumexp.LogsumexpArrays(X, b=None, log_b=None, where=None, like=None, value=value, sign=sign)
        assert reduce(arrays, 1, across, None, 1, 0) == UNFIT
    hard = compiled_kernel(cross_entropy_ids.hard, (across, None, None), FLOATS)
    for labels, loss, log_normalizer in ((LABELS, few, None), (LABELS[:2], kept(3), None), (LABELS, kept(3), few)):
        arrays = (X, labels, None, None, None, None, None, None, loss, None, log_normalizer)
        numbers = LossNumbers(1, True, -100, 0.0, 0.0, np.nan, NONE)
        assert hard(arrays, numbers, across, None, None, 1, 0) == UNFIT
    assert untouched(few)


RACE = """
import sys, threading, time, warnings
import numpy as np, logitx as lx
warnings.simplefilter("ignore")  # NumPy discourages what is done here
sys.setswitchinterval(1e-6)
x, labels = np.zeros((1, 20000), np.float32), np.zeros(1, int)
call = {call}
one, two = call(x), call(x.reshape(20000, 1))
done = False
def change():
    while not done:
        x.shape = (20000, 1)
        x.shape = (1, 20000)
thread = threading.Thread(target=change)
thread.start()
end, calls = time.monotonic() + 2, 0
while time.monotonic() < end:
    try:
        found = call(x)
    except ValueError:
        continue
    calls += 1
    assert any(found.shape == right.shape and np.array_equal(found, right) for right in (one, two)), found
done = True
thread.join()
assert calls
"""


@pytest.mark.parametrize("call", ["lx.softmax", "lx.logsumexp", "lambda x: lx.softmax(x, out=np.empty(x.shape, 'f4'))"])
def test_a_shape_that_another_thread_changes(call):
    found = subprocess.run([sys.executable, "-c", RACE.format(call=call)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_arrays_of_more_axes_than_kernels_take_as_they_lie():
    x = np.random.default_rng(0).standard_normal((*[1] * MOST_AXES, 3, 5)).astype(np.float32)
    labels = np.zeros(x.shape[:-1], int)
    for _ in range(2):  # the second call is a prepared one
        np.testing.assert_array_equal(lx.softmax(x), lx.softmax(x.reshape(3, 5)).reshape(x.shape))
        np.testing.assert_array_equal(lx.logsumexp(x), lx.logsumexp(x.reshape(3, 5)).reshape(x.shape[:-1]))
        loss, gradient = lx.cross_entropy_value_and_grad(x, labels)
        assert loss == lx.cross_entropy(x.reshape(3, 5), labels.reshape(3))
        assert gradient.shape == x.shape
        losses = lx.cross_entropy(x, labels, reduction="none", sample_weight=np.ones(labels.shape, np.float32))
        assert losses.shape == labels.shape


# -- tensors without storage ------------------------------------------------------------------------------------------


def torch_calls() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    good, labels = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)
    return {
        "softmax": lx.softmax,
        "softmax, out": lambda t: lx.softmax(good, out=t),
        "log_softmax": lx.log_softmax,
        "logsumexp": lx.logsumexp,
        "logsumexp, b": lambda t: lx.logsumexp(good, b=t),
        "cross_entropy": lambda t: lx.cross_entropy(t, labels),
        "cross_entropy, probabilities": lambda t: lx.cross_entropy(good, t),
        "cross_entropy_value_and_grad": lambda t: lx.cross_entropy_value_and_grad(t, labels),
        "softmax_vjp": lambda t: lx.softmax_vjp(t, good),
        "softmax_vjp, dp": lambda t: lx.softmax_vjp(good, t),
        "linear_cross_entropy": lambda t: lx.linear_cross_entropy(t, good, labels),
        "linear_cross_entropy, weight": lambda t: lx.linear_cross_entropy(good, t, labels),
        "CrossEntropy": lambda t: lx.CrossEntropy().update(t, labels),
    }


@pytest.mark.parametrize("grad", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [
    "softmax", "softmax, out", "log_softmax", "logsumexp", "logsumexp, b", "cross_entropy",
    "cross_entropy, probabilities", "cross_entropy_value_and_grad", "softmax_vjp", "softmax_vjp, dp",
    "linear_cross_entropy", "linear_cross_entropy, weight", "CrossEntropy",
])  # fmt: skip
def test_a_tensor_without_storage_is_refused(name, dtype, grad):
    """As PyTorch refuses it; a sharded model frees its parameters so. A prepared call knows the shape alone."""
    torch = pytest.importorskip("torch")
    call = torch_calls()[name]
    seen, tensor = (
        torch.zeros(3, 4, dtype=getattr(torch, dtype), requires_grad=grad and name != "softmax, out") for _ in range(2)
    )
    if dtype == "float32":
        call(seen)
    tensor.untyped_storage().resize_(0)
    with pytest.raises((TypeError, ValueError), match="storage of 0 bytes|is not allowed"):
        call(tensor)


def test_labels_without_storage_are_refused():
    torch = pytest.importorskip("torch")
    x, labels = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)
    lx.cross_entropy(x, labels.clone())
    labels.untyped_storage().resize_(0)
    with pytest.raises(TypeError, match="targets: has 3 elements in a storage of 0 bytes"):
        lx.cross_entropy(x, labels)


def test_tensors_without_elements_need_no_storage():
    torch = pytest.importorskip("torch")
    x = torch.zeros(0, 4)
    assert lx.softmax(x).shape == (0, 4)
    assert lx.logsumexp(x).shape == (0,)
    assert lx.cross_entropy(x, torch.zeros(0, dtype=torch.long), reduction="sum") == 0


# -- outputs ----------------------------------------------------------------------------------------------------------


def as_strided(shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """Return 100 numbers seen so; strides in elements."""
    at = -sum(stride * (length - 1) for stride, length in zip(strides, shape, strict=True) if stride < 0)
    return np.lib.stride_tricks.as_strided(np.zeros(100)[at:], shape, [8 * one for one in strides], writeable=True)


@pytest.mark.parametrize("shape_and_strides", [
    ((2, 3), (0, 1)), ((3, 2), (1, 0)), ((2, 3), (1, 1)), ((2, 3), (-1, 1)), ((4, 4), (2, 3)), ((2, 3, 2), (6, 0, 1)),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("backend", [None, "generic"])
def test_out_whose_elements_share_memory_is_refused(shape_and_strides, backend):
    out = as_strided(*shape_and_strides)
    x = np.random.default_rng(0).standard_normal(out.shape)
    with lx.use_backend(backend):
        for given in (x, x.astype(np.float32)):
            for _ in range(2):
                with pytest.raises(ValueError, match="^out: its elements share memory; allowed is memory of its own"):
                    lx.softmax(given, out=out, dtype="float64")
        with pytest.raises(ValueError, match="^out: its elements share memory"):
            lx.logsumexp(np.zeros((*out.shape, 2)), out=out)
    assert not out.any()


@pytest.mark.parametrize("shape_and_strides", [
    ((2, 3), (1, 2)), ((2, 3), (4, 1)), ((2, 3), (-3, 1)), ((2, 3), (10, -3)), ((3, 4), (2, 3)), ((1, 3), (0, 1)),
    ((2, 1, 3), (3, 0, 1)), ((4, 3), (3, 4)), ((2, 0), (0, 0)), ((2, 3, 4), (1, 8, 2)),
], ids=str)  # fmt: skip
def test_out_in_any_layout_is_written(shape_and_strides):
    out = as_strided(*shape_and_strides)
    x = np.random.default_rng(0).standard_normal(out.shape)
    for _ in range(2):
        out[...] = 7.0
        assert lx.softmax(x, out=out) is out
        np.testing.assert_array_equal(out, lx.softmax(x))


def test_out_that_is_an_expanded_tensor_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="^out: its elements share memory"):
        lx.softmax(torch.zeros(2, 3), out=torch.zeros(1, 3).expand(2, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(4, 4), (50, 7), (300, 1000)], ids=str)
@pytest.mark.parametrize("name", ["temperature", "softcap"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_out_that_shares_memory_with_an_operand_is_refused(op, library, name, shape, dtype):
    """A kernel would read for a later row what it has written for an earlier one: probabilities wrong by 0.96."""
    rows, n = shape
    memory = np.zeros(rows * n + rows, dtype)
    operand, out, x = memory[1 : rows + 1].reshape(rows, 1), memory[: rows * n].reshape(shape), np.zeros(shape, dtype)
    operand[...] = before = np.random.default_rng(0).random((rows, 1)) + 0.5
    if library == "torch":
        torch = pytest.importorskip("torch")
        x, out, operand = (torch.from_numpy(one) for one in (x, out, operand))
    with pytest.raises(ValueError, match=f"^out: shares memory with {name}; allowed is memory of its own"):
        getattr(lx, op)(x, out=out, **{name: operand})
    np.testing.assert_array_equal(memory[1 : rows + 1], before[:, 0].astype(dtype))
