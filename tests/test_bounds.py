"""A class id outside its range is an error, and never an address: memory next to every array is out of reach here.

Arrays end where a page begins that nobody may touch, or begin where one ends; what a kernel allocates for its results
does too. A read or write by a bad class id ends the process.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="protects pages by the C library of Linux")

GUARDED = """
import ctypes, itertools, mmap, sys
import numpy as np
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
PAGE = mmap.PAGESIZE
KEPT = []

def guarded(shape, dtype=float, at_end=True):
    "Return an array with a page before and one behind it that cannot be touched."
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    room = -(-max(size, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, room + 2 * PAGE)
    KEPT.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + PAGE + room):
        assert libc.mprotect(page, PAGE, 0) == 0  # no access at all
    return np.frombuffer(memory, dtype, size // dtype.itemsize, PAGE + (room - size if at_end else 0)).reshape(shape)

def placed(values, at_end):
    array = guarded(values.shape, values.dtype, at_end)
    array[...] = values
    return array
"""

CONTROL = """
array = guarded((1000,), np.float32, at_end={at_end})
array[...] = 1
np.lib.stride_tricks.as_strided(array[{start}:], (2,), (4 * {step},)).sum()
"""

CALLS = """
import logitx as lx
lx.set_num_threads(1)
plain = np.empty
ids = [n, n + 1, -1, -99, -101, 2**31, -(2**31), 2**32 + 1, 2**40, 2**62, -(2**63), 2**63 - 1]
rng = np.random.default_rng(0)
shape = (rows, n) if axis == -1 else (n, rows)
seen = 0

def refused(name, args, options):
    global seen
    try:
        getattr(lx, name)(*args, **options)
    except ValueError as error:
        assert "class id" in str(error) and "out of range" in str(error), error
        seen += 1
    else:
        raise AssertionError((name, options))

for at_end, bad in itertools.product((True, False), ids):
    np.empty = lambda shape, dtype=float: guarded(shape, dtype, at_end)  # what kernels write their results to
    x = placed(rng.standard_normal(shape).astype(dtype), at_end)
    labels = rng.integers(0, n, rows)
    labels[rng.integers(0, rows)] = bad
    labels = placed(labels, at_end)
    extra = {
        "class_weight": placed(np.linspace(0.5, 1, n, dtype=dtype), at_end),
        "sample_weight": placed(np.ones(rows, dtype), at_end),
        "where": placed(np.ones(shape, bool), at_end),
        "label_smoothing": 0.1,
        "temperature": 0.5,
    }
    for count in (0, 1, 2, 5):
        for chosen in itertools.combinations(extra, count):
            options = {key: extra[key] for key in chosen} | {"reduction": ("none", "sum", "mean")[seen % 3]}
            for name in ("cross_entropy", "cross_entropy_value_and_grad"):
                refused(name, (x, labels, axis), options)
            if chosen in ((), ("class_weight",)):
                refused("cross_entropy_grad_hess", (x, labels, axis), {key: extra[key] for key in chosen})
    hidden = placed(rng.standard_normal((rows, 3)).astype(dtype), at_end)
    weight = placed(rng.standard_normal((n, 3)).astype(dtype), at_end)
    for name in ("linear_cross_entropy", "linear_cross_entropy_value_and_grad"):
        for few in ({}, {"block_bytes": 4 * n}, {"class_weight": extra["class_weight"]}):
            refused(name, (hidden, weight, labels), few)
    np.empty = plain
    KEPT.clear()
assert seen > 100
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    code = GUARDED + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize(("at_end", "start", "step"), [(True, 999, 1), (False, 0, -1)])
def test_a_touch_beyond_an_array_ends_the_process(at_end, start, step):
    assert run(CONTROL.format(at_end=at_end, start=start, step=step)).returncode < 0


def bad_ids(rows: int, n: int, axis: int, dtype: str) -> None:
    found = run(f"rows, n, axis, dtype = {rows}, {n}, {axis}, {dtype!r}\n" + CALLS)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(("rows", "n", "axis"), [(5, 70, -1), (40, 5, -1)], ids=str)
def test_a_bad_class_id_touches_nothing(rows, n, axis):
    bad_ids(rows, n, axis, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize(("rows", "n", "axis"), [(5, 70, -1), (40, 5, -1), (33, 7, 0), (2, 300_000, -1)], ids=str)
def test_a_bad_class_id_touches_nothing_in_any_layout_or_dtype(rows, n, axis, dtype):
    bad_ids(rows, n, axis, dtype)
