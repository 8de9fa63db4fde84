"""What else SECURITY.md promises: errors of the documented types, tables that do not grow, no processes."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx._arrays import families

X, W, IDS = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), np.array([0, 1])


def of_library(name: str) -> Callable[[Any], Any]:
    if name == "numpy":
        return np.asarray
    library = pytest.importorskip("jax.numpy" if name == "jax" else "torch")
    return library.asarray  # type: ignore[no-any-return]


BAD = {  # what is passed, and the argument that the error names
    "0-d bias": (lambda a: lx.linear_cross_entropy(a(X), a(W), a(IDS), a(np.float32(1))), "bias"),
    "bias, a number": (lambda a: lx.linear_cross_entropy(a(X), a(W), a(IDS), 1.0), "bias"),
    "0-d bias, gradients": (
        lambda a: lx.linear_cross_entropy_value_and_grad(a(X), a(W), a(IDS), a(np.float32(1))),
        "bias",
    ),
    "0-d targets of a layer": (lambda a: lx.linear_cross_entropy(a(X), a(W), a(IDS[0])), "targets"),
    "targets of a layer, a number": (lambda a: lx.linear_cross_entropy(a(X), a(W), 1), "targets"),
    "0-d probabilities of a layer": (lambda a: lx.linear_cross_entropy(a(X), a(W), a(np.float32(1))), "targets"),
    "0-d targets": (lambda a: lx.cross_entropy(a(X), a(IDS[0])), "targets"),
    "0-d probabilities": (lambda a: lx.cross_entropy(a(X), a(np.float32(1))), "targets"),
    "0-d targets of an accumulator": (lambda a: lx.CrossEntropy().update(a(X), a(IDS[0])), "targets"),
    "0-d targets, fed": (lambda a: lx.CrossEntropy().feed(a(X), a(IDS[0])), "targets"),
    "targets, a number, fed": (lambda a: lx.CrossEntropy().feed(a(X), 1), "targets"),
    "0-d sample_weight, fed": (
        lambda a: lx.CrossEntropy().feed(a(X), a(IDS), sample_weight=a(np.float32(1))),
        "sample_weight",
    ),
    "complex values": (lambda a: lx.softmax_mean(a(X), a(np.ones((2, 3), np.complex64))), "values"),
    "complex weights": (lambda a: lx.cross_entropy(a(X), a(IDS), sample_weight=[1j, 2]), "sample_weight"),
    "complex temperature": (lambda a: lx.softmax(a(X), temperature=1j), "temperature"),
}


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("name", BAD)
def test_numbers_in_place_of_arrays_and_complex_numbers(name, library):
    call, argument = BAD[name]
    with pytest.raises((TypeError, ValueError), match=f"^{argument}: .* is not allowed|^{argument}: .* does not fit"):
        call(of_library(library))


FAKE = {
    "softmax": lambda t, ids: lx.softmax(t),
    "log_softmax": lambda t, ids: lx.log_softmax(t.requires_grad_()),
    "logsumexp": lambda t, ids: lx.logsumexp(t),
    "cross_entropy": lambda t, ids: lx.cross_entropy(t, ids),
    "cross_entropy_value_and_grad": lambda t, ids: lx.cross_entropy_value_and_grad(t, ids),
    "linear_cross_entropy": lambda t, ids: lx.linear_cross_entropy(t, t, ids),
    "merge_logsumexp": lambda t, ids: lx.merge_logsumexp(t, t),
    "CrossEntropy": lambda t, ids: lx.CrossEntropy().update(t, ids),
}


@pytest.mark.parametrize("name", FAKE)
def test_fake_tensors_outside_of_their_mode_are_refused(name):
    torch = pytest.importorskip("torch")
    fake = pytest.importorskip("torch._subclasses.fake_tensor")
    with fake.FakeTensorMode():
        x, ids = torch.ones(2, 3), torch.zeros(2, dtype=torch.long)
        assert lx.softmax(x).shape == (2, 3)
    with pytest.raises(TypeError, match="is a fake tensor, outside of its mode; allowed are"):
        FAKE[name](x, ids)


def test_operands_that_are_fake_are_refused():
    torch = pytest.importorskip("torch")
    fake = pytest.importorskip("torch._subclasses.fake_tensor")
    with fake.FakeTensorMode():
        x, ids = torch.ones(2, 3), torch.zeros(2, dtype=torch.long)
    real = torch.ones(2, 3)
    for call, name in (
        (lambda: lx.cross_entropy(real, ids), "targets"),
        (lambda: lx.softmax(real, where=x), "where"),
        (lambda: lx.softmax(real, temperature=x), "temperature"),
        (lambda: lx.logsumexp(real, b=x), "b"),
    ):
        with pytest.raises(TypeError, match=f"^{name}: is a fake tensor, outside of its mode"):
            call()


def test_the_table_of_array_types_does_not_grow_for_ever():
    first = type("Number0", (float,), {})
    lx.softmax([first(1.0), 2.0])
    assert families.family_of(first(1.0)) is families.FAMILIES["numpy"]
    gone = weakref.ref(first)
    del first
    for index in range(1, 2000):
        assert families.family_of(type(f"Number{index}", (float,), {})(1.0)) is families.FAMILIES["numpy"]
    assert len(families._BY_TYPE) <= families._MOST_TYPES
    gc.collect()
    assert gone() is None


def test_info_starts_no_process():
    code = """
import sys
def hook(event, arguments):
    assert event not in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.exec", "os.spawn"), arguments
sys.addaudithook(hook)
from logitx._evaluate.info import facts
print(facts()["python"])
"""
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert sys.version.split()[0] in found.stdout


def test_every_promise_names_tests_that_there_are():
    here = Path(__file__).parent
    text = (here.parent / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ") and "promise" not in line]
    assert rows
    for _, promise, named, _ in rows:
        file = None
        for name, test in re.findall(r"`(\w+\.py)?(?:::(\w+))?`", named):
            file = name or file
            assert (f"def {test}(" if test else "def test_") in (here / str(file)).read_text(encoding="utf-8"), promise
        assert file is not None, promise
