"""A release of Numba, JAX or PyTorch that lacks what a backend uses: others run, with one warning; `which` says why.

Each part is taken away in a process of its own, with an empty cache of kernels.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

WARMED_BY_NUMPY = """
import warnings
import numpy as np
import logitx as lx
x, labels = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4), np.array([0, 1, 2])
p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
loss = -np.log(p[np.arange(3), labels]).mean()
close = lambda a, b: np.testing.assert_allclose(np.asarray(a), b, rtol=1e-5)
told = []
warnings.showwarning = lambda message, *_: told.append(str(message))
warnings.simplefilter("always", RuntimeWarning)
"""
FIRST = {
    "parts": 'lx.cross_entropy(x, labels, return_parts=("log_prob",))',
    "best classes": "lx.softmax_top_k(x, 2)",
    "draws": "lx.sample(x, np.random.default_rng(0))",
    "evaluation": "lx.CrossEntropy().update(x, labels)",
}
ON_NUMPY = """
for _ in range(2):
    close(lx.softmax(x), p)
    close(lx.cross_entropy(x, labels), loss)
    close(lx.cross_entropy(x, labels, class_weight=np.ones(4, np.float32)), loss)
    out = x.copy()
    close(lx.softmax(out, out=out), p)
close(lx.cross_entropy(x, labels, return_parts=("log_prob",))[1].log_prob, np.log(p[np.arange(3), labels]))
close(lx.softmax_top_k(x, 2)[0], np.sort(p)[:, :1:-1])
assert lx.sample(x, np.random.default_rng(0)).shape == (3,)
assert abs(lx.CrossEntropy().update(x, labels).result().loss - loss) < 1e-5
choice = lx.which("softmax", x)
assert choice.backend == "generic", choice
reason = dict(choice.declined)["numba"]
assert dict(choice.declined)["memory_maps"] == reason
assert [info.reason for info in lx.backends() if info.name == "numba"] == [reason]
lx.set_num_threads(2)
try:
    lx.use_backend("numba")
except ValueError as error:
    assert reason in str(error), error
else:
    raise AssertionError("use_backend takes what does not work")
"""
ON_JAX = """
import jax
for function in (lx.softmax, jax.jit(lx.softmax), jax.vmap(lx.softmax)):
    close(function(jax.numpy.asarray(x)), p)
close(jax.jit(jax.grad(lambda x: lx.softmax(x)[0, 0]))(jax.numpy.asarray(x))[0, 0], p[0, 0] * (1 - p[0, 0]))
choice = lx.which("softmax", jax.numpy.asarray(x))
assert choice.backend == "jax", choice
assert choice.reason.startswith("jitted JAX with custom derivatives: does not work with numba "), choice
"""
ON_TORCH = """
import torch
t = torch.from_numpy(x).requires_grad_()
y = lx.softmax(t)
close(y.detach(), p)
y[0, 0].backward()
close(t.grad[0, 0], p[0, 0] * (1 - p[0, 0]))
close(lx.softmax(t.detach()), p)
close(lx.cross_entropy(t, torch.from_numpy(labels)).detach(), loss)
close(torch.func.vmap(lx.softmax)(t.detach()), p)
assert lx.which("softmax", t).backend == "generic", lx.which("softmax", t)
"""
ON_DASK = """
import dask.array as da
close(lx.softmax(da.from_array(x, chunks=2)).compute(scheduler="sync"), p)
"""

# Ways to break Numba: at the import of Numba, at that of the backend, when a kernel is compiled
REFUSES = """
import sys, importlib.abc
class Refuses(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "numba.core.types":
            raise ImportError("Numba needs NumPy 2.3 or less. Got NumPy 2.4.")
sys.meta_path.insert(0, Refuses())
"""
LACKS_A_CLASS = "import numba.core.codegen as codegen; del codegen.CPUCodeLibrary\n"
LACKS_A_METHOD = "import numba.core.codegen as codegen; del codegen.CPUCodegen._pass_builder\n"
BROKEN = {
    "import of numba": (REFUSES, "ImportError: Numba needs NumPy 2.3"),
    "import of the backend": (LACKS_A_CLASS, "AttributeError: module 'numba.core.codegen' has no attribute"),
    "first compilation": (LACKS_A_METHOD, "AttributeError"),
}


def run(code: str, folder: object, *options: str) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(
        [sys.executable, *options, "-c", code], env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize(
    ("calls", "needs"), [(ON_NUMPY, "numba"), (ON_JAX, "jax"), (ON_TORCH, "torch"), (ON_DASK, "dask")],
    ids=["numpy", "jax", "torch", "dask"],
)  # fmt: skip
def test_numba_that_lacks_something(how, calls, needs, tmp_path):
    for library in ("numba", needs):
        pytest.importorskip(library, reason=f"{library} is not installed")
    breaks, error = BROKEN[how]
    told = run(breaks + WARMED_BY_NUMPY + calls + 'print(*told, sep="\\n")', tmp_path).splitlines()
    assert len(told) == 1, told
    assert told[0].startswith("logitx: the backend numba does not work with numba "), told
    assert error in told[0], told
    assert "Other backends run, more slowly. It was seen to work with numba " in told[0]


@pytest.mark.parametrize("first", FIRST)
def test_a_first_call_of_another_function(first, tmp_path):
    pytest.importorskip("numba", reason="numba is not installed")
    breaks, _ = BROKEN["first compilation"]
    told = run(f"{breaks}{WARMED_BY_NUMPY}{FIRST[first]}{ON_NUMPY}print(len(told))", tmp_path)
    assert told.strip() == "1"


def test_a_warning_that_is_an_error_is_raised_once(tmp_path):
    pytest.importorskip("numba", reason="numba is not installed")
    code = """
import numpy as np, logitx as lx
try:
    lx.softmax(np.zeros(2))
except RuntimeWarning as warning:
    assert "numba" in str(warning)
else:
    raise AssertionError("no warning")
assert lx.softmax(np.zeros(2)).tolist() == [0.5, 0.5]
"""
    run(LACKS_A_METHOD + code, tmp_path, "-W", "error::RuntimeWarning")


@pytest.mark.parametrize("error", ["MemoryError", "RecursionError"])
def test_what_says_nothing_about_versions_gives_nothing_up(error, tmp_path):
    pytest.importorskip("numba", reason="numba is not installed")
    code = f"""
import warnings, numpy as np, logitx as lx
import numba.core.codegen as codegen
warnings.simplefilter("error")
def fails(*_, **__):
    raise {error}
works, codegen.CPUCodegen._pass_builder = codegen.CPUCodegen._pass_builder, fails
try:
    lx.softmax(np.zeros(2))
except {error}:
    pass
else:
    raise AssertionError("nothing was raised")
codegen.CPUCodegen._pass_builder = works
lx.softmax(np.zeros(2))
assert lx.which("softmax", np.zeros(2)).backend == "numba"
"""
    run(code, tmp_path)


def test_xla_that_refuses_the_kernels(tmp_path):
    for library in ("numba", "jax"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    frame = "import importlib; importlib.import_module('logitx.backends.xla.call_frame').MAJOR = 1\n"
    check = """
choice = lx.which("softmax", jax.numpy.asarray(x))
assert "XLA refuses the kernels" in choice.reason, choice
assert lx.which("softmax", x).backend == "numba"
print(*told, sep="\\n")
"""
    calls = ON_JAX.partition("choice =")[0]
    told = run(frame + WARMED_BY_NUMPY + calls + check, tmp_path).splitlines()
    assert len(told) == 1, told
    assert told[0].startswith("logitx: the backend xla does not work with jax "), told


def test_jax_that_lacks_something(tmp_path):
    pytest.importorskip("jax", reason="jax is not installed")
    breaks = "import jax.interpreters.mlir as mlir; del mlir.lower_fun\n"
    calls = """
import jax
for function in (lx.softmax, jax.jit(lx.softmax), jax.vmap(lx.softmax)):
    close(function(jax.numpy.asarray(x)), p)
choice = lx.which("softmax", jax.numpy.asarray(x))
assert choice.backend == "generic", choice
assert "lower_fun" in dict(choice.declined)["jax"]
close(lx.softmax(x), p)
print(*told, sep="\\n")
"""
    told = run(breaks + WARMED_BY_NUMPY + calls, tmp_path).splitlines()
    assert [line.partition(" does")[0] for line in told] == ["logitx: the backend jax"]


TORCH_PARTS = (
    "torch._C._are_functorch_transforms_active", "torch._C._len_torch_dispatch_stack", "torch._C._get_tracing_state",
    "torch._C._functorch.is_functorch_wrapped_tensor", "torch.autograd.forward_ad._set_fwd_grad_enabled",
    "torch._subclasses.functional_tensor.FunctionalTensor",
)  # fmt: skip


@pytest.mark.parametrize("part", TORCH_PARTS)
def test_torch_that_lacks_something(part, tmp_path):
    for library in ("numba", "torch"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    breaks = f"import torch, torch._subclasses.functional_tensor\nkept = {part}\ndel {part}\n"
    # PyTorch's own backward pass uses some of them
    calls = ON_TORCH.replace("y[0, 0].backward()", f"{part} = kept\ny[0, 0].backward()")
    used = not part.endswith("_get_tracing_state")  # which only prepared calls ask
    if not used:
        calls = calls.replace('assert lx.which("softmax", t).backend == "generic"', "assert True")
    told = run(breaks + WARMED_BY_NUMPY + calls + 'print(*told, sep="\\n")', tmp_path).splitlines()
    expected = "logitx: the backend torch" if used else ""
    assert [line.partition(" does not work with torch ")[0] for line in told] == [expected]
