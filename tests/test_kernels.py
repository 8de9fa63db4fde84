"""The Numba kernels: their mathematics on every number there is, and the same bits however a call is made."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numba.core.types import int64

import logitx as lx
from logitx import _unfit
from logitx.backends.numba.compile.policy import compile_kernel, native
from logitx.backends.numba.kernels import logsumexp, softmax
from logitx.backends.numba.kernels.signature import Dtypes, signature_of
from logitx.backends.numba.memory.arguments import Lent, view_of_rows
from logitx.backends.numba.memory.load_store import read_lanes, write_back
from logitx.backends.numba.vectors import exp_log
from logitx.backends.numba.vectors.lanes import spread_as, width_of
from logitx.backends.xla.call_frame import absent
from logitx.backends.xla.kernel_call import kernel_call

HALVES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def exp_of(x, out, parts, crew):
    numbers, results = view_of_rows(x), view_of_rows(out)
    for i in range(0, numbers.outer, width_of(numbers)):
        lanes = read_lanes(numbers, i * numbers.outer_stride, numbers)
        write_back(results, i * numbers.outer_stride, exp_log.exp_of_sum(lanes, spread_as(lanes, 0.0)))
    return 0


def expm1_of(x, out, parts, crew):
    numbers, results = view_of_rows(x), view_of_rows(out)
    for i in range(0, numbers.outer, width_of(numbers)):
        write_back(
            results, i * numbers.outer_stride, exp_log.expm1(read_lanes(numbers, i * numbers.outer_stride, numbers))
        )
    return 0


def log1p_of(x, out, parts, crew):
    numbers, results = view_of_rows(x), view_of_rows(out)
    for i in range(0, numbers.outer, width_of(numbers)):
        lanes = read_lanes(numbers, i * numbers.outer_stride, numbers)
        write_back(results, i * numbers.outer_stride, exp_log.log1p_of_sum(lanes, spread_as(lanes, 0.0)))
    return 0


FUNCTIONS = {  # the function, what it computes, where (as float32), and the bound in its docstring
    "exp": (exp_of, np.exp, (-110.0, -0.0), 0.96),
    "expm1": (expm1_of, np.expm1, (-110.0, -0.0), 1.2),
    "log1p": (log1p_of, np.log1p, (0.0, np.inf), 0.84),
}


def ulps(found: np.ndarray, right: np.ndarray) -> float:
    """Return the largest error, in units in the last place of float32 at the right result."""
    nearest = right.astype(np.float32)
    spacing = np.spacing(np.abs(nearest)).astype(np.float64)
    return float(np.nanmax(np.abs(found.astype(np.float64) - right) / np.where(np.isfinite(spacing), spacing, np.nan)))


def every_float32(first: float, last: float, at_once: int) -> Iterator[np.ndarray]:
    """Yield all numbers between two of one sign, in blocks."""
    low, high = sorted(int(np.float32(x).view(np.uint32)) for x in (first, last))
    for start in range(low, high, at_once):
        yield np.arange(start, min(start + at_once, high + 1), dtype=np.uint32).view(np.float32)


def worst(name: str, blocks: Iterator[np.ndarray]) -> float:
    function, right, _, _ = FUNCTIONS[name]
    compiled = compile_kernel(function, (Lent("float32"), Lent("float32"), int64, int64))
    largest = 0.0
    for block in blocks:
        x = np.resize(block, (block.size + 31) // 32 * 32)
        out = np.empty_like(x)
        compiled(x, out, 1, 0)
        with np.errstate(under="ignore"):
            largest = max(largest, ulps(out, right(x.astype(np.float64))))
    return largest


@pytest.mark.parametrize("name", FUNCTIONS)
def test_mathematics_keeps_its_bound_on_a_sample(name):
    rng = np.random.default_rng(0)
    low, high = sorted(int(np.float32(x).view(np.uint32)) for x in FUNCTIONS[name][2])
    sample = rng.integers(low, high, 1_000_000, dtype=np.uint32).view(np.float32)
    assert 0.5 < worst(name, iter([sample])) < FUNCTIONS[name][3]


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_mathematics_keeps_its_bound_on_every_float32(name):
    assert worst(name, every_float32(*FUNCTIONS[name][2], 1 << 22)) < FUNCTIONS[name][3]


@pytest.mark.parametrize("dtype", HALVES)
def test_every_half_is_read_and_written_as_it_is(dtype):
    x = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(HALVES[dtype])
    found = lx.logsumexp(x[:, None])  # of one class: the class
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found.astype(np.float32), x.astype(np.float32))


# -- the same bits ----------------------------------------------------------------------------------------------------

SHAPES = [((7, 3), -1), ((1, 200), -1), ((65, 1000), -1), ((3, 40_000), -1), ((33, 70), 0), ((5, 21, 37), 1)]


def results(x: np.ndarray, axis: int) -> list[np.ndarray]:
    """Return what every kernel makes of an array."""
    labels = np.argmin(x, axis)
    weights = np.linspace(0.5, 2.0, x.shape[axis], dtype=x.dtype)
    soft = lx.softmax(-x, axis)
    loss, gradient = lx.cross_entropy_value_and_grad(x, labels, axis, class_weight=weights, reduction="none")
    smooth = lx.cross_entropy(x, labels, axis, label_smoothing=0.1, reduction="none")
    hard, slope = lx.cross_entropy_value_and_grad(x, soft, axis, reduction="none")
    p = lx.softmax(x, axis)
    return [
        p, lx.log_softmax(x, axis), lx.logsumexp(x, axis), loss, gradient, smooth, hard, slope,
        lx.softmax_vjp(p, x, axis), lx.log_softmax_vjp(lx.log_softmax(x, axis), x, axis),
        lx.log_softmax(x, axis, temperature=0.7, softcap=5.0),
    ]  # fmt: skip


def example(shape: tuple[int, ...], dtype: np.dtype | str = "float32") -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    return (4 * rng.standard_normal(shape)).astype(dtype)


def same(found: list[np.ndarray], right: list[np.ndarray]) -> None:
    for one, other in zip(found, right, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_a_row_alone_and_in_a_batch_give_the_same_bits(shape, axis):
    x = np.moveaxis(example(shape), axis, -1).reshape(-1, shape[axis])
    together = results(x, -1)
    for row in (0, len(x) - 1, len(x) // 2):
        same([one[0] for one in results(x[row : row + 1], -1)], [one[row] for one in together])


@pytest.mark.parametrize(
    ("shape", "axis"), [((600, 1000), -1), ((9, 70_000), -1), ((2, 300_001), -1), ((40, 5000), 0)], ids=str
)
def test_threads_change_no_bit(shape, axis):
    x, before = example(shape), os.cpu_count() or 1
    try:
        lx.set_num_threads(1)
        right = results(x, axis)
        for n in (2, 8):
            lx.set_num_threads(n)
            for _ in range(3):
                same(results(x, axis), right)
    finally:
        lx.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_rows_in_pieces_are_rows(dtype):
    x, labels = example((2, 300_001), dtype), np.array([7, 300_000])
    x[1, :5] = 0.0, -np.inf, 3.0, -np.inf, 60.0
    everything = np.ones(x.shape[1], bool)  # with a mask, a row is taken as a whole
    tolerance = 4 * float(np.finfo(dtype).eps)
    for function in (lx.softmax, lx.log_softmax, lx.logsumexp):
        np.testing.assert_allclose(function(x), function(x, where=everything), rtol=tolerance)
    found = lx.cross_entropy_value_and_grad(x, labels, z_loss=0.1, return_parts=True)
    right = lx.cross_entropy_value_and_grad(x, labels, z_loss=0.1, return_parts=True, where=everything)
    for one, other in zip((*found[:2], *found[2]), (*right[:2], *right[2]), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance)
    x[0, 5], x[1, [5, 100_000]] = np.inf, [np.inf, np.nan]
    for function in (lx.softmax, lx.log_softmax, lx.logsumexp):
        np.testing.assert_array_equal(function(x), function(x, where=everything))
    x[0, :3] = np.nan, -np.inf, np.inf
    x[1] = -np.inf
    for function in (lx.softmax, lx.log_softmax, lx.logsumexp):
        np.testing.assert_array_equal(function(x), function(x, where=everything))
    loss, gradient = lx.cross_entropy_value_and_grad(x, labels, reduction="none")
    assert np.isnan(loss).all()
    assert gradient[0, 1] == 0.0
    assert np.isnan(gradient[0, 2:]).all()
    assert not gradient[1].any()
    with pytest.raises(ValueError, match=r"class id 300001 at position \(1,\)"):
        lx.cross_entropy(x, np.array([0, 300_001]))


def layouts(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the same numbers, differently laid out."""
    yield "Fortran", np.asfortranarray(x)
    yield "backwards", np.ascontiguousarray(x[::-1, ..., ::-1])[::-1, ..., ::-1]
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    yield "every other", wide[..., ::2]
    rows = np.zeros((2 * len(x), *x.shape[1:]), x.dtype)
    rows[::2] = x
    yield "every other row", rows[::2]
    fixed = x.copy()
    fixed.flags.writeable = False
    yield "read-only", fixed
    memory = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    yield "unaligned", unaligned
    yield "swapped bytes", x.astype(x.dtype.newbyteorder())


LAID = [((5, 300), -1), ((40, 7), -1), ((9, 33, 5), 1), ((3, 50), 0), ((2, 300_001), -1)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("shape", "axis"), LAID, ids=str)
def test_layouts_give_the_same_bits(shape, axis, dtype):
    x = example(shape, dtype)
    right = lx.softmax(x, axis), lx.logsumexp(x, axis), lx.cross_entropy_value_and_grad(x, np.argmax(x, axis), axis)[1]
    for name, laid in layouts(x):
        labels = np.argmax(x, axis)
        found = lx.softmax(laid, axis), lx.logsumexp(laid, axis), lx.cross_entropy_value_and_grad(laid, labels, axis)[1]
        for one, other in zip(found, right, strict=True):
            np.testing.assert_array_equal(np.asarray(one, other.dtype), other, err_msg=name)
        out = laid if laid.flags.writeable else np.empty_like(laid)
        assert lx.softmax(laid, axis, out=out) is out
        np.testing.assert_array_equal(out.astype(x.dtype), right[0], err_msg=name)


@pytest.mark.parametrize(("shape", "axis"), LAID, ids=str)
def test_gradients_of_any_layouts_have_the_same_bits(shape, axis):
    dy, everywhere = example(shape), np.broadcast_to(np.float32(0.5), shape)
    for function, y in ((lx.softmax_vjp, lx.softmax(dy, axis)), (lx.log_softmax_vjp, lx.log_softmax(dy, axis))):
        right, even = function(y, dy, axis), function(y, everywhere.copy(), axis)
        np.testing.assert_array_equal(function(y, everywhere, axis), even)
        np.testing.assert_array_equal(function(y, np.round(dy).astype(int), axis), function(y, np.round(dy), axis))
        for (name, one), (_, other) in zip(layouts(y), layouts(dy), strict=True):
            np.testing.assert_array_equal(np.asarray(function(one, dy, axis), y.dtype), right, err_msg=name)
            np.testing.assert_array_equal(function(y, other, axis), right, err_msg=name)


def test_axes_that_cannot_be_merged_as_they_lie():
    x = example((4, 6, 5, 8))
    cut = x[:, ::2, :, 1:7].transpose(2, 0, 3, 1)
    for axis in (0, 1, 2, 3, (1, 3), None):
        np.testing.assert_array_equal(lx.softmax(cut, axis), lx.softmax(np.ascontiguousarray(cut), axis))


NARROW = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
DIGEST = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from test_kernels import digest
print(digest())
"""


def digest() -> str:
    """Return a hash of the bits of all results."""
    total = hashlib.sha256()
    for shape, axis in SHAPES:
        for one in results(example(shape), axis):
            total.update(np.ascontiguousarray(one).tobytes())
    return total.hexdigest()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names a processor of x86-64")
def test_a_processor_with_narrower_registers_gives_the_same_bits(tmp_path):
    here = str(Path(__file__).parent)
    found = subprocess.run(
        [sys.executable, "-c", DIGEST, here],
        env={**os.environ, **NARROW, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == digest()


# -- signatures -------------------------------------------------------------------------------------------------------


def test_a_kernel_is_compiled_in_the_ways_that_it_declares():
    floats = Dtypes("float32", "float32", "float32")
    assert signature_of(softmax.normalize, (True, None, None), floats)[-1] == int64
    with pytest.raises(TypeError, match="normalize is not compiled in the ways"):
        signature_of(softmax.normalize, (True, None), floats)


def test_a_handler_that_passes_something_else_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    call, kind = kernel_call(logsumexp.logsumexp_long), logsumexp.LogsumexpLongArrays

    def without_axis(frame: int, kernel: int) -> Any:
        return call(kernel, (kind(absent(), absent(), absent(), absent()), 1, frame))

    def with_a_number_for_an_array(frame: int, kernel: int) -> Any:
        return call(kernel, (kind(absent(), absent(), absent(), 1), 1, 1, frame))

    for handler in (without_axis, with_a_number_for_an_array):
        monkeypatch.setattr(_unfit, "_REASONS", {})  # no kernel would run after what looks like a fault of Numba
        with pytest.warns(RuntimeWarning), pytest.raises(_unfit.Unfit, match="its handler passes"):
            native(handler, (int64, int64))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_turned_rows_have_the_bits_of_strided_ones(dtype: type) -> None:
    """Rows that are turned in blocks, in part or one by one give the same bits, for every number of classes."""
    rng = np.random.default_rng(5)
    for n in (*range(1, 40), 63, 64, 100, 255):
        x = rng.normal(size=(69, n)).astype(dtype)
        spread = np.empty((69, 2 * n), dtype)[:, ::2]
        spread[...] = x
        turned = np.moveaxis(np.stack([x.T, x.T], axis=1), 1, 0)  # classes on the axis before the last, 69 neighbors
        for function in (lx.softmax, lx.log_softmax):
            wanted = function(x)
            for other in (spread, np.asfortranarray(x)):
                np.testing.assert_array_equal(function(other), wanted)
            columns = function(turned, axis=1)[1].T
            np.testing.assert_allclose(columns, wanted, rtol=4 * np.finfo(dtype).eps, atol=0)
        out = x.copy()
        lx.softmax(out, out=out)
        np.testing.assert_array_equal(out, lx.softmax(x))
