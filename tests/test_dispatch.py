"""Which backend runs, what users may ask and set, and that nothing is imported or chosen behind their back."""

import importlib.util
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import logitx as lx
from logitx.backends import BACKENDS

NUMBA = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
FRAMEWORKS = {"jax": "jax.numpy", "torch": "torch"}


@pytest.fixture(autouse=True)
def automatic():
    with lx.use_backend(None):
        yield


def test_backends_lists_the_registry_in_order():
    infos = lx.backends()
    assert [info.name for info in infos] == [row.name for row in BACKENDS]
    assert all(info.reason for info in infos)
    assert infos[-1].available, "generic needs nothing"


@NUMBA
def test_numpy_runs_on_numba_and_says_so():
    choice = lx.which("softmax", np.zeros((2, 3)))
    assert choice.backend == "numba"
    assert {declined.backend for declined in choice.declined} == {
        "memory_maps",
        "jax",
        "torch",
        "tensorflow",
        "dask",
        "generic",
    }
    assert all(declined.reason for declined in choice.declined)


def test_jax_arrays_and_tracers_run_on_jax():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    seen = []
    x = jax.numpy.zeros((2, 3))
    jax.jit(lambda x: seen.append(lx.which("softmax", x).backend) or x)(x)
    assert [lx.which("softmax", x).backend, *seen] == ["jax", "jax"]


def test_torch_runs_on_numba_unless_it_must_differentiate():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.zeros(2, 3)
    assert lx.which("softmax", x).backend == "numba"
    choice = lx.which("softmax", x.requires_grad_())
    assert choice.backend == "torch"
    assert any("grad" in declined.reason for declined in choice.declined if declined.backend == "numba")
    with torch.no_grad():
        assert lx.which("softmax", x).backend == "numba"


def test_torch_softmax_on_numba_reads_and_writes_the_tensors_own_memory():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.arange(6.0).reshape(2, 3)
    address = x.data_ptr()
    result = lx.softmax(x, out=x)
    assert result is x
    assert x.data_ptr() == address
    np.testing.assert_allclose(x.sum(-1).numpy(), 1.0, rtol=1e-6)


def test_standard_arrays_run_on_generic():
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    assert lx.which("softmax", xp.zeros((2, 3))).backend == "generic"


@NUMBA
def test_which_knows_every_operation_and_runs_none():
    with pytest.raises(ValueError, match="op: 'sofmax' is not allowed"):
        lx.which("sofmax", np.zeros(3))
    assert lx.which("cross_entropy", np.zeros((2, 3)), [0, 99], axis=1).backend == "numba"  # not run: not looked at
    with pytest.raises(ValueError, match="^targets: shape"):
        lx.which("cross_entropy", np.zeros((2, 3)), [0, 1, 2])


def test_what_equals_an_option_seen_before_is_checked_nonetheless():
    x, labels = np.ones((2, 3), np.float32), np.array([0, 1])
    for function, operands in ((lx.softmax, (x,)), (lx.logsumexp, (x,)), (lx.cross_entropy, (x, labels))):
        function(*operands, axis=1)
        for axis in (True, 1.0):
            with pytest.raises(TypeError, match="axis: "):
                function(*operands, axis=axis)
    lx.cross_entropy(x, labels, ignore_index=1)
    with pytest.raises(TypeError, match="ignore_index: True is not allowed"):
        lx.cross_entropy(x, labels, ignore_index=True)


def test_a_settled_call_judges_the_arrays_of_every_call():
    x, labels = np.ones((2, 3), np.float32), np.array([0, 1])
    lx.cross_entropy(x, labels)
    with pytest.raises(ValueError, match=r"class id 3 at position \(1,\)"):
        lx.cross_entropy(x, np.array([0, 3]))
    lx.softmax(x, out=np.empty_like(x))
    fixed = np.empty_like(x)
    fixed.flags.writeable = False
    for out, message in ((fixed, "read-only"), (np.empty((3, 2), np.float32), "shape"), (np.empty((2, 3)), "float64")):
        with pytest.raises(ValueError, match=f"out: .*{message}"):
            lx.softmax(x, out=out)
    backwards = np.zeros((2, 3), np.float32)[::-1, ::-1]
    assert lx.softmax(x, out=backwards) is backwards
    np.testing.assert_array_equal(backwards, lx.softmax(x))


@NUMBA
def test_use_backend_nests_and_restores():
    x = np.zeros(3)
    with lx.use_backend("generic"):
        assert lx.which("softmax", x).backend == "generic"
        with lx.use_backend("numba"):
            assert lx.which("softmax", x).backend == "numba"
        assert lx.which("softmax", x).backend == "generic"
    assert lx.which("softmax", x).backend == "numba"


@NUMBA
def test_use_backend_holds_without_a_with_statement():
    lx.use_backend("generic")
    assert lx.which("softmax", np.zeros(3)).backend == "generic"
    lx.use_backend(None)
    assert lx.which("softmax", np.zeros(3)).backend == "numba"


@NUMBA
def test_use_backend_is_the_callers_thread_alone():
    seen = []
    with lx.use_backend("generic"):
        thread = threading.Thread(target=lambda: seen.append(lx.which("softmax", np.zeros(3)).backend))
        thread.start()
        thread.join()
    assert seen == ["numba"]


def test_a_forced_backend_that_cannot_serve_raises_with_reason_and_alternatives():
    pytest.importorskip("jax", reason="JAX is not installed")
    with lx.use_backend("jax"), pytest.raises(ValueError, match=r"'jax' cannot run softmax .*numpy.*numba, generic"):
        lx.softmax(np.zeros(3))
    with lx.use_backend("jax"):
        assert lx.which("softmax", np.zeros(3)).backend == ""
        assert repr(lx.which("softmax", np.zeros(3))).startswith("none: no backend accepts this call")


def test_use_backend_refuses_unknown_names():
    allowed = ", ".join(repr(row.name) for row in BACKENDS)
    with pytest.raises(ValueError, match=f"name: 'cuda' is not allowed; allowed are None, {allowed}"):
        lx.use_backend("cuda")


@pytest.mark.parametrize("n", [0, -1])
def test_set_num_threads_refuses_what_is_not_positive(n):
    with pytest.raises(ValueError, match=f"n: {n} is not allowed"):
        lx.set_num_threads(n)


def test_set_num_threads_changes_no_result():
    x = np.random.default_rng(0).standard_normal((512, 300)).astype(np.float32)
    before = lx.softmax(x)
    try:
        lx.set_num_threads(1)
        np.testing.assert_array_equal(lx.softmax(x), before)
    finally:
        lx.set_num_threads(os.cpu_count() or 1)


def test_warmup_accepts_names_and_refuses_others():
    lx.warmup("softmax", dtypes=["float64"])
    with pytest.raises(ValueError, match="op: 'relu' is not allowed"):
        lx.warmup(["relu"])
    with pytest.raises(ValueError, match="dtypes: 'int8' is not allowed"):
        lx.warmup("softmax", dtypes=["int8"])


@pytest.mark.parametrize("framework", ["numba", "jax", "torch", "array_api_compat"])
def test_a_numpy_call_on_generic_loads_no_framework(framework):
    program = f"""
import sys, numpy as np, logitx as lx
with lx.use_backend("generic"):
    lx.softmax(np.zeros(3))
    lx.cross_entropy(np.zeros((2, 3)), np.array([0, 1]))
sys.exit({framework!r} in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("library", "module"), FRAMEWORKS.items())
def test_numpy_operands_go_with_arrays_on_the_cpu(library, module):
    xp = pytest.importorskip(module, reason=f"{library} is not installed")
    logits = xp.asarray([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    weight = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    loss = lx.cross_entropy(logits, np.array([2, 0]), class_weight=weight, sample_weight=[1, 2])
    expected = lx.cross_entropy(np.asarray(logits), np.array([2, 0]), class_weight=weight, sample_weight=[1, 2])
    assert type(loss) is type(logits)
    np.testing.assert_allclose(np.asarray(loss), expected, rtol=1e-6)


def test_arrays_of_two_frameworks_are_refused():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.raises(TypeError, match="targets: a torch array cannot go with logits of jax; convert one"):
        lx.cross_entropy(jax.numpy.zeros((2, 3)), torch.zeros(2, 3))
    with pytest.raises(TypeError, match="class_weight: a jax array cannot go with logits of numpy; convert one"):
        lx.cross_entropy(np.zeros((2, 3)), [0, 1], class_weight=jax.numpy.zeros(3))


class Subclass(np.ndarray):
    """Might carry a unit or a mask."""


class Masked(np.ma.MaskedArray):
    """Might carry a unit beside its mask."""


@pytest.mark.parametrize(
    "x", [np.ma.array([1.0, 2.0]).view(Masked), np.zeros(2).view(Subclass), {"a": 1}, "ab", None, object()]
)
def test_unknown_types_are_refused_not_stripped(x):
    with pytest.raises(TypeError, match="x: .* is not an array type that logitx knows"):
        lx.softmax(x)


@pytest.mark.parametrize("n", [1.0, "2", None, True])
def test_set_num_threads_refuses_what_is_not_an_int(n):
    with pytest.raises(TypeError, match="n: .* is not allowed; allowed are integers of 1 or more"):
        lx.set_num_threads(n)


@pytest.mark.parametrize("name", ["numba", "jax", "torch", "tensorflow", "dask"])
def test_use_backend_refuses_what_is_not_installed(name):
    program = f"""
import sys
sys.modules[{name!r}] = None
import logitx as lx
try:
    lx.use_backend({name!r})
except ValueError as error:
    print(error)
lx.use_backend("generic")
print(lx.which("softmax", [1.0]).backend)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    error, backend = run.stdout.splitlines()
    assert error.startswith(f"name: {name!r} is not allowed, {name} is not installed; allowed are None, ")
    assert f"{name!r}," not in error.partition("allowed are")[2]
    assert backend == "generic"


@NUMBA
def test_what_which_and_backends_return_is_printed_in_lines():
    choice = lx.which("softmax", np.zeros(3))
    first, *others = repr(choice).splitlines()
    assert first == f"numba: {choice.reason}"
    assert others == [f"    not {name}: {reason}" for name, reason in choice.declined]
    with lx.use_backend("generic") as forced:
        assert repr(forced) == "use_backend('generic')"
        assert repr(lx.which("softmax", np.zeros(3))).startswith("generic: ")
    infos = lx.backends()
    lines = str(infos).splitlines()
    assert [line.split()[:2] for line in lines] == [[one.name, "yes" if one.available else "no"] for one in infos]
    assert all(line.endswith(one.reason) for line, one in zip(lines, infos, strict=True))
    assert max(map(len, lines)) < 100
    assert infos == tuple(infos)


@NUMBA
def test_use_backend_serves_again():
    generic = lx.use_backend("generic")
    for _ in range(2):
        with generic:
            assert lx.which("softmax", np.zeros(3)).backend == "generic"
        assert lx.which("softmax", np.zeros(3)).backend == "numba"
