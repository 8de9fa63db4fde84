"""torch.compile, torch.export, and the operators that they leave in graphs."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys

import pytest

import logitx as lx
from logitx.testing.examples import Inputs
from logitx.testing.ops import uses

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec")  # PyTorch itself, in torch.export

IDS = torch.tensor([2, -100, 1])

COMPILED = {  # beside the examples of OPS
    "labels in a list": lambda x: lx.cross_entropy(x, [2, 0, 1]),
    "temperature that learns": lambda x: lx.softmax(x, temperature=x[0, 0].abs()),
    "vmap": lambda x: torch.func.vmap(lambda x: lx.softmax(x))(x),
    "grad": lambda x: torch.func.grad(lambda x: lx.cross_entropy(x, IDS))(x),
}


def compiled(function, **options):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager", **options)


def tensor(values):
    kind = {"f": torch.float32}.get(values.dtype.kind)
    return torch.tensor(values, dtype=kind, requires_grad=kind is not None)


def weighed(outputs, given):
    weights = [torch.linspace(-1.0, 2.0, one.numel(), dtype=one.dtype).reshape(one.shape) for one in outputs]
    ends = [torch.where(one.isfinite(), one * w, 0.0).sum() for one, w in zip(outputs, weights, strict=True)]
    return torch.autograd.grad(sum(one for one in ends if one.requires_grad), given)


@pytest.mark.parametrize("use", uses("graph"), ids=lambda use: use.id)
def test_compiled_without_a_graph_break(use):
    """Values, and gradients where autograd records the call."""
    function, given = use.bound(Inputs.draw(3, 3), tensor)
    expected, found = function(*given), compiled(function)(*given)
    torch.testing.assert_close(found, expected)
    given = [one for one in given if one.requires_grad]
    if "derivative" not in use.op.lacks:
        torch.testing.assert_close(weighed(found, given), weighed(expected, given), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_with_what_is_traced(name):
    function, x = COMPILED[name], torch.randn(3, 3, generator=torch.Generator().manual_seed(2), requires_grad=True)
    expected, found = function(x), compiled(function)(x)
    torch.testing.assert_close(found, expected)
    if name != "grad":
        torch.testing.assert_close(weighed([found], [x]), weighed([expected], [x]), rtol=1e-4, atol=1e-6)


def test_a_compiled_function_itself():
    x = torch.randn(2, 3)
    torch.testing.assert_close(compiled(lx.softmax)(x), lx.softmax(x))


def test_compiled_for_any_shape():
    function = compiled(
        lambda x, ids: lx.cross_entropy(x, ids, temperature=0.5) + lx.logsumexp(x, 0).sum(), dynamic=True
    )
    for n in (3, 5, 9):
        x, ids = torch.randn(n, n + 1, requires_grad=True), torch.arange(n)
        expected = lx.cross_entropy(x, ids, temperature=0.5) + lx.logsumexp(x, 0).sum()
        found = function(x, ids)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, x), torch.autograd.grad(expected, x))


def test_compiled_with_a_number_that_changes():
    function, x = compiled(lambda x, t: lx.softmax(x, temperature=t)), torch.randn(2, 3)
    for t in (0.5, 0.7, 2.0, torch.tensor(3.0), torch.tensor(4.0)):
        torch.testing.assert_close(function(x, t), lx.softmax(x, temperature=t))


def test_compiled_with_an_output():
    x, out = torch.randn(2, 3, 2), torch.empty(2, 3, 2)
    compiled(lambda x, out: lx.softmax(x, (0, 1), out=out))(x, out)
    torch.testing.assert_close(out, lx.softmax(x, (0, 1)))


def test_compiled_errors():
    x = torch.randn(2, 3)
    function = compiled(lambda x, ids: lx.cross_entropy(x, ids))
    function(x, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"class id 7 at position \(1,\) is out of range"):
        function(x, torch.tensor([0, 7]))
    with pytest.raises(RuntimeError, match=r"temperature: -1.0 is not allowed"):
        compiled(lambda x: lx.softmax(x, temperature=-1.0))(x)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x, ids):
        return lx.cross_entropy(self.linear(x), ids, label_smoothing=0.1), lx.softmax(x), lx.logsumexp(x)


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
def test_exported(strict):
    net, rows = Net(), torch.export.Dim("rows")
    example = torch.randn(3, 4), torch.tensor([0, 3, 1])
    program = torch.export.export(net, example, dynamic_shapes=({0: rows}, {0: rows}), strict=strict)
    names = {str(node.target) for node in program.graph.nodes if "logitx" in str(node.target)}
    assert names == {f"logitx.{name}.default" for name in ("cross_entropy", "softmax", "logsumexp")}
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    x, ids = torch.randn(7, 4), torch.randint(0, 4, (7,))
    found, expected = loaded(x, ids), net(x, ids)
    torch.testing.assert_close(found, expected)
    found[0].backward()
    expected[0].backward()
    torch.testing.assert_close(loaded.linear.weight.grad, net.linear.weight.grad)
    with pytest.raises(ValueError, match="out of range"):
        loaded(x, ids + 9)


def _operator_calls():
    x, half = torch.randn(3, 4), torch.tensor(0.5, dtype=torch.float64)
    mask, ids = torch.rand(3, 4) > 0.3, torch.tensor([3, 1, 0])
    mask[:, 0] = True
    none = (None,) * 7
    yield "softmax", (x, mask, half, half, 1, "nan", "float32")
    yield "log_softmax", (x, None, None, None, 0, "zero", "float32")
    yield "logsumexp", (x, mask, 1, "float32")
    yield "softmax_vjp", (x, x, 1, "float32")
    yield "log_softmax_vjp", (x, x, 1, "float32")
    yield "cross_entropy_grad_hess", (x, ids, None, torch.rand(3), 1, "sum", "float32")
    for name in ("cross_entropy", "cross_entropy_value_and_grad"):
        yield name, (x, ids, *none, 1, -100, "mean", "nan", False, "float32", "float32")
        weights = torch.rand(4) + 0.5, torch.rand(3) + 0.5
        yield name, (x, ids, *weights, *(half,) * 4, mask, 1, -100, "none", "nan", True, "float32", "float32")
        yield name, (x, torch.softmax(x, 1), *none, 1, None, "sum", "nan", False, "float32", "float64")


@pytest.mark.parametrize(("name", "arguments"), list(_operator_calls()))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_operators_pass_opcheck(name, arguments, dtype):
    importlib.import_module("logitx.backends.torch")
    kind = getattr(torch, dtype)
    x, *others = arguments
    x = x.detach().to(kind).requires_grad_(not name.endswith(("vjp", "hess")))
    arguments = x, *(dtype if one == "float32" and i < len(others) - 1 else one for i, one in enumerate(others))
    torch.library.opcheck(getattr(torch.ops.logitx, name), arguments)


LAYERS = {"linear_cross_entropy", "linear_cross_entropy_value_and_grad"}


UNHASHABLE = pytest.mark.xfail(reason="a plan of traced lengths is hashed: unhashable type: non-nested SymInt")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=UNHASHABLE if name.endswith("grad") else ()) for name in sorted(LAYERS)]
)
def test_operators_of_layers_pass_opcheck(name):
    importlib.import_module("logitx.backends.torch")
    hidden, weight, bias = (torch.randn(shape, requires_grad=True) for shape in ((3, 2), (4, 2), (4,)))
    options = -100, "mean", "nan", 1 << 20, ["float32"] * 3
    torch.library.opcheck(getattr(torch.ops.logitx, name), (hidden, weight, bias, IDS, *(None,) * 6, *options))


def test_every_operator_is_checked():
    importlib.import_module("logitx.backends.torch")
    registered = {name.partition("::")[2].partition(".")[0] for name in torch._C._dispatch_get_all_op_names()
                  if name.startswith("logitx::")}  # fmt: skip
    assert registered == {name for name, _ in _operator_calls()} | LAYERS


def test_operators_differentiate_by_all_operands():
    importlib.import_module("logitx.backends.torch")
    random = torch.Generator().manual_seed(5)
    x = torch.randn(3, 3, generator=random, dtype=torch.float64)
    weights = [torch.rand(3, generator=random, dtype=torch.float64) + 0.5 for _ in range(2)]
    numbers = [torch.tensor(number, dtype=torch.float64) for number in (0.1, 0.05, 3.0, 0.7)]
    given = [tensor.requires_grad_() for tensor in (x, *weights, *numbers)]
    static = 1, -100, "mean", "nan", True, "float64", "float64"
    loss, *parts = torch.ops.logitx.cross_entropy(x, IDS, *given[1:], None, *static)
    names = "class_weight", "sample_weight", "label_smoothing", "z_loss", "softcap", "temperature"
    expected, others = lx.cross_entropy(x, IDS, return_parts=True, **dict(zip(names, given[1:], strict=True)))
    torch.testing.assert_close((loss, *parts), (expected, *others))
    for found, one in zip((loss, *parts), (expected, *others), strict=True):
        torch.testing.assert_close(
            torch.autograd.grad(found.sum(), given, allow_unused=True, retain_graph=True),
            torch.autograd.grad(one.sum(), given, allow_unused=True, retain_graph=True),
        )


def test_layers_and_merges_of_any_length():
    """A length that changes is traced, and hashes to nothing."""
    weight = torch.randn(9, 4, requires_grad=True)

    def loss(hidden):
        ids = torch.zeros(hidden.shape[0], dtype=torch.int64)
        total = lx.merge_logsumexp(hidden.sum(1), hidden[:, 0]).sum()
        return lx.linear_cross_entropy(hidden, weight, ids) + total

    function = compiled(loss, dynamic=True)
    for length in (5, 6):
        hidden = torch.randn(length, 4)
        torch.testing.assert_close(function(hidden), loss(hidden))


@pytest.mark.parametrize(
    "imports",
    [
        "import torch, logitx",
        "import logitx, torch; logitx.warmup((), dtypes=())",
        "import torch, logitx as lx; lx.softmax(torch.zeros(2, 3))",
    ],
)
def test_a_program_is_loaded_by_another_process(imports, tmp_path):
    """Its operators were registered by a first call alone."""

    class Loss(torch.nn.Module):
        def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            return lx.cross_entropy(x, ids)

    given = torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)
    torch.export.save(torch.export.export(Loss(), given), tmp_path / "loss.pt2")
    code = f"""{imports}
program = torch.export.load({str(tmp_path / "loss.pt2")!r}).module()
loss = program(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))
assert abs(float(loss) - 1.0986123) < 1e-6, loss
"""
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
