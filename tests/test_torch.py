"""Derivatives on PyTorch: against differences, its own samples and plain formulas, under all its transforms."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import logitx as lx
from logitx.testing.examples import Inputs
from logitx.testing.ops import uses

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # PyTorch itself, in forward mode

DOUBLE = {"dtype": torch.float64}
INPUTS = Inputs.draw(3, 3)


def tensor(values):
    return torch.tensor(values, requires_grad=values.dtype.kind == "f")


def finite(results):
    """Put 0 in the place of -inf, from which there are no differences."""
    return tuple(torch.where(torch.isinf(one), 0.0, one) for one in results)


@pytest.mark.parametrize("use", uses("derivative"), ids=lambda use: use.id)
def test_derivatives_agree_with_differences(use):
    """First and second, in reverse, forward, forward over reverse, and batched."""
    function, given = use.bound(INPUTS, tensor)
    torch.autograd.gradcheck(lambda *given: finite(function(*given)), given, check_forward_ad=True,
                             check_batched_grad=True, check_batched_forward_grad=True)  # fmt: skip
    torch.autograd.gradgradcheck(
        lambda *given: finite(function(*given)), given, check_fwd_over_rev=True, fast_mode=len(given) > 3
    )


# -- PyTorch's own sample inputs --------------------------------------------------------------------------------------


def _softmax(x, axis, dtype=None):
    return lx.softmax(x, axis, dtype=dtype)


def _log_softmax(x, axis, dtype=None):
    return lx.log_softmax(x, axis, dtype=dtype)


def _logsumexp(x, axis, keepdim=False):
    return lx.logsumexp(x, axis if x.ndim else 0, keepdims=keepdim)


def _cross_entropy(x, targets, weight=None, reduction="mean", ignore_index=-100, label_smoothing=0.0):
    soft = targets.is_floating_point()
    loss = lx.cross_entropy(
        x, targets, 1, class_weight=weight, ignore_index=None if soft else ignore_index,
        label_smoothing=label_smoothing, reduction=reduction,
    )  # fmt: skip
    if soft and weight is not None and reduction == "mean":  # PyTorch divides by the number of rows
        shape = [-1 if d == 1 else 1 for d in range(x.ndim)]
        loss = loss * (weight.reshape(shape) * targets).sum() / (x.numel() / x.shape[1])
    return loss


OURS = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "nn.functional.cross_entropy": _cross_entropy,
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", OURS)
def test_sample_inputs_of_pytorch(name, dtype):
    pytest.importorskip("expecttest", reason="expecttest, which PyTorch's own tests need, is not installed")
    from torch.testing._internal.common_methods_invocations import op_db

    kind, count = getattr(torch, dtype), 0
    for op in op_db:
        if op.name != name or kind not in op.dtypes:
            continue
        for sample in op.sample_inputs("cpu", kind, requires_grad=True):
            count += 1
            theirs = op.op(sample.input, *sample.args, **sample.kwargs)
            ours = OURS[name](sample.input, *sample.args, **sample.kwargs)
            assert ours.shape == theirs.shape
            wide = ours.to(theirs.dtype)  # half inputs give losses of float32
            tolerances = {} if kind.itemsize > 2 else {"rtol": 2e-2, "atol": 2e-2}
            torch.testing.assert_close(wide, theirs, **tolerances)
            if not theirs.requires_grad or not theirs.numel():
                continue
            cotangent = torch.randn_like(theirs)
            expected = torch.autograd.grad(theirs, sample.input, cotangent)
            found = torch.autograd.grad(ours, sample.input, cotangent.to(ours.dtype))
            torch.testing.assert_close(found, expected, **tolerances)
            if kind is torch.float64 and sample.input.numel() < 40:
                function = lambda x, sample=sample: OURS[name](x, *sample.args, **sample.kwargs)  # noqa: E731
                assert torch.autograd.gradcheck(function, (sample.input,), check_forward_ad=True, fast_mode=True)
                assert torch.autograd.gradgradcheck(function, (sample.input,), fast_mode=True)
    assert count >= 5


# -- torch.func -------------------------------------------------------------------------------------------------------


def by_first(use, inputs=INPUTS):
    """Return a function of the first argument with a derivative, whose results are one vector; and that argument."""
    function, (x, *others) = use.bound(inputs, torch.tensor)
    return lambda x: torch.cat([one.reshape(-1) for one in finite(function(x, *others))]), x


TRANSFORMS = {
    "grad": lambda f, x, v: torch.func.grad(lambda x: (f(x) ** 2).sum())(x),
    "vjp": lambda f, x, v: torch.func.vjp(f, x)[1](f(x)),
    "jvp": lambda f, x, v: torch.func.jvp(f, (x,), (v,)),
    "jacrev": lambda f, x, v: torch.func.jacrev(f)(x),
    "jacfwd": lambda f, x, v: torch.func.jacfwd(f)(x),
    "hessian": lambda f, x, v: torch.func.hessian(f)(x),
    "reverse over reverse": lambda f, x, v: torch.func.jacrev(torch.func.jacrev(f))(x),
    "reverse over forward": lambda f, x, v: torch.func.jacrev(torch.func.jacfwd(f))(x),
    "forward over forward": lambda f, x, v: torch.func.jacfwd(torch.func.jacfwd(f))(x),
    "third": lambda f, x, v: torch.func.jacrev(torch.func.hessian(f))(x),
    "vectorized": lambda f, x, v: torch.autograd.functional.jacobian(f, x, vectorize=True),
    "vectorized forward": lambda f, x, v: torch.autograd.functional.jacobian(
        f, x, vectorize=True, strategy="forward-mode"
    ),
}


# All transforms of a plain call; of the others those that pass through the others: a third derivative, and both modes
CHOSEN = [
    pytest.param(use, transform, id=f"{use.id}-{transform}")
    for use in uses("derivative")
    for transform in TRANSFORMS
    if use.example is use.op.examples[0] or transform in ("reverse over forward", "third")
]


@pytest.mark.parametrize(("use", "transform"), CHOSEN)
def test_transforms_agree_with_the_formulas(use, transform):
    function, x = by_first(use)
    v = torch.linspace(-1.0, 2.0, x.numel(), **DOUBLE).reshape(x.shape)
    found = TRANSFORMS[transform](function, x, v)

    def formulas(x):
        with lx.use_backend("generic"):
            return function(x)

    torch.testing.assert_close(found, TRANSFORMS[transform](formulas, x, v))


@pytest.mark.parametrize("use", uses("derivative"), ids=lambda use: use.id)
def test_vmap(use):
    function, x = by_first(use)
    x = torch.stack([x, x.flip(0), x * 0.5, x])
    rows = x.clone().requires_grad_()
    torch.testing.assert_close(torch.func.vmap(function)(x), torch.stack([function(one) for one in x]))
    gradient = torch.func.grad(lambda x: (function(x) ** 2).sum())
    expected = torch.stack([gradient(one) for one in x])
    torch.testing.assert_close(torch.func.vmap(gradient)(x), expected)
    (found,) = torch.autograd.grad((torch.func.vmap(function)(rows) ** 2).sum(), rows)
    torch.testing.assert_close(found, expected)


def test_functional_call_and_gradients_of_each_sample():
    net = torch.nn.Linear(3, 4, **DOUBLE)
    parameters = dict(net.named_parameters())
    x, ids = torch.randn(5, 2, 3, **DOUBLE), torch.randint(0, 4, (5, 2))

    def loss(parameters, x, ids):
        return lx.cross_entropy(torch.func.functional_call(net, parameters, (x,)), ids)

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, x, ids)
    for i in range(5):
        net.zero_grad()
        lx.cross_entropy(net(x[i]), ids[i]).backward()
        torch.testing.assert_close(each["weight"][i], net.weight.grad)


def _loss_at(label):
    return lambda x: lx.cross_entropy(x, torch.tensor([label]), reduction="sum")


SPECIAL = {
    "label at -inf": (_loss_at(0), [-np.inf, 0.0, 1.0, 2.0], [0.0, 0.09003057, 0.24472847, 0.66524096]),
    "NaN": (_loss_at(1), [np.nan, 0.0, -np.inf, 2.0], [np.nan, np.nan, 0.0, np.nan]),
    "all -inf": (_loss_at(1), [-np.inf] * 4, [0.0] * 4),
    "dominating label": (_loss_at(0), [30.0, 0.0, 0.0, 0.0], [-2.8072869e-13] + [9.357623e-14] * 3),
    "softmax of NaN": (lambda x: lx.softmax(x)[0, 3], [np.nan, 0.0, -np.inf, 2.0], [np.nan, np.nan, 0.0, np.nan]),
    "softmax of -inf": (lambda x: lx.softmax(x)[0, 3], [-np.inf] * 4, [0.0] * 4),
    "log_softmax of -inf": (lambda x: lx.log_softmax(x)[0, 3], [-np.inf] * 4, [0.0] * 4),
    "logsumexp of +inf": (lambda x: lx.logsumexp(x).sum(), [np.inf, 0.0, -np.inf, 2.0], [np.nan, np.nan, 0.0, np.nan]),
    "logsumexp of -inf": (lambda x: lx.logsumexp(x).sum(), [-np.inf] * 4, [0.0] * 4),
}


# A row of NaN has no tangent of 0 to compare
HOW = [(name, how) for name, (_, _, expected) in SPECIAL.items()
       for how in ("backward", "double backward", "torch.func", "vmap", "forward", "graph")
       if how != "forward" or not np.isnan(expected).any()]  # fmt: skip


@pytest.mark.parametrize(("name", "how"), HOW)
def test_gradients_of_special_rows(name, how):
    function, row, expected = SPECIAL[name]
    x = torch.tensor([row], requires_grad=how in ("backward", "double backward", "graph"))
    if how == "torch.func":
        found = torch.func.grad(function)(x)
    elif how == "vmap":
        found = torch.func.vmap(torch.func.grad(function))(x[None])[0]
    elif how == "forward":
        found = torch.func.vmap(lambda v: torch.func.jvp(function, (x,), (v,))[1])(torch.eye(4)[:, None])[None]
    elif how == "graph":
        make_fx = importlib.import_module("torch.fx.experimental.proxy_tensor").make_fx
        found = make_fx(lambda x: torch.autograd.grad(function(x), x)[0])(x)(x)
    else:
        (found,) = torch.autograd.grad(function(x), x, create_graph=how == "double backward")
    np.testing.assert_allclose(found.detach().numpy(), [expected], rtol=2e-6)
