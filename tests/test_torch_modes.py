"""PyTorch's modes, the memory and dtypes of tensors, and backward passes as people run them."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import logitx as lx

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def test_which_says_why():
    x, p = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3)
    assert lx.which("softmax", x).backend == "torch"
    assert lx.which("softmax", p).backend == "numba"
    assert lx.which("softmax", p, temperature=torch.tensor(1.0, requires_grad=True)).backend == "torch"
    learned = lx.which("softmax", x, temperature=torch.tensor(1.0, requires_grad=True))
    assert "formulas" in learned.reason
    assert "formulas" not in lx.which("softmax", x).reason
    reasons = dict(lx.which("softmax_vjp", x, x).declined)
    assert reasons["torch"] == "gradients are differentiated by way of the formulas"
    assert reasons["numba"] == "a tensor requires grad"
    assert dict(lx.which("softmax", p).declined)["torch"] == "no tensor requires grad"
    with pytest.raises(ValueError, match="'torch' cannot run softmax here .*no tensor requires grad"), \
            lx.use_backend("torch"):  # fmt: skip
        lx.softmax(p)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes(dtype):
    kind = getattr(torch, dtype)
    x = (torch.randn(4, 5, generator=torch.Generator().manual_seed(3)) * 4).to(kind).requires_grad_()
    ids, exact = torch.arange(4), x.detach().double().requires_grad_()
    for function in (lx.softmax, lx.log_softmax, lx.logsumexp, lambda x: lx.cross_entropy(x, ids, reduction="none")):
        found, expected = function(x), function(exact)
        assert found.dtype == (kind if kind.itemsize > 2 or function in (lx.softmax, lx.log_softmax, lx.logsumexp)
                               else torch.float32)  # fmt: skip
        tolerance = {"rtol": 4 * torch.finfo(kind).eps, "atol": 4 * torch.finfo(kind).eps}
        torch.testing.assert_close(found.double(), expected, **tolerance)
        (gradient,) = torch.autograd.grad(found[0].sum(), x)
        assert gradient.dtype == kind
        torch.testing.assert_close(gradient.double(), torch.autograd.grad(expected[0].sum(), exact)[0], **tolerance)


def test_the_dtype_of_a_result_is_not_that_of_the_gradient():
    x = torch.randn(2, 3, requires_grad=True)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        result = lx.softmax(x, dtype=dtype, temperature=0.5)
        assert result.dtype == dtype
        (gradient,) = torch.autograd.grad(result[0, 0], x)
        assert gradient.dtype == torch.float32
    loss = lx.cross_entropy(x, torch.tensor([0, 1]), dtype=torch.float64)
    assert loss.dtype == torch.float64
    assert torch.autograd.grad(loss, x)[0].dtype == torch.float32


def test_small_gradients_of_float16_survive_a_scaled_loss():
    x = torch.zeros(4, 3, dtype=torch.float16).requires_grad_()
    loss = lx.cross_entropy(x, torch.zeros(4, dtype=torch.int64), sample_weight=torch.tensor([1e-9, 1.0, 1.0, 1.0]))
    (loss * 2.0**20).backward()
    np.testing.assert_allclose(x.grad[0, 1].item(), 2.0**20 * 1e-9 / 9, rtol=1e-3)


VIEWS = {
    "transposed": lambda x: x.t(),
    "strided": lambda x: x[:, ::2],
    "expanded": lambda x: x[:1].expand(5, 6),
    "reversed": lambda x: x.flip(0)[..., 1:],
    "three dimensions": lambda x: x.reshape(5, 2, 3).permute(1, 0, 2),
    "one element": lambda x: x[0, 0],
}


@pytest.mark.parametrize("view", VIEWS)
def test_any_memory(view):
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(4), requires_grad=True)
    for function in (lx.softmax, lambda x: lx.log_softmax(x, 0), lx.logsumexp,
                     lambda x: lx.cross_entropy(x, torch.sigmoid(x.detach()).clone())):  # fmt: skip
        found = function(VIEWS[view](x))
        with lx.use_backend("generic"):
            expected = function(VIEWS[view](x))
        torch.testing.assert_close(found, expected)
        cotangent = torch.randn_like(found)
        torch.testing.assert_close(
            torch.autograd.grad(found, x, cotangent), torch.autograd.grad(expected, x, cotangent), rtol=1e-4, atol=1e-6
        )


def test_no_grad_and_inference_mode():
    x, ids = torch.randn(2, 3, requires_grad=True), torch.tensor([0, 1])
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert lx.which("softmax", x).backend == "numba"
            assert not lx.softmax(x).requires_grad
            assert not lx.cross_entropy(x, ids).requires_grad
    with torch.inference_mode():
        inside = lx.softmax(torch.zeros(2, 3))
    assert inside.is_inference()
    torch.testing.assert_close(lx.softmax(inside), torch.full((2, 3), 1 / 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_dtype(dtype):
    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(4, 4)
    with torch.autocast("cpu", dtype):
        logits = x @ w
        p, loss = lx.softmax(logits), lx.cross_entropy(logits, torch.tensor([0, 3, 1]))
        (p[0, 0] + loss).backward()
    assert (logits.dtype, p.dtype, loss.dtype, x.grad.dtype) == (dtype, dtype, torch.float32, torch.float32)


def test_an_output_and_a_gradient_exclude_each_other():
    x, out = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3)
    for call in (lambda: lx.softmax(x, out=out), lambda: lx.logsumexp(x, out=torch.zeros(2)),
                 lambda: lx.log_softmax(x.detach(), out=torch.zeros(2, 3, requires_grad=True))):  # fmt: skip
        with pytest.raises(ValueError, match="^out: cannot be written to while a tensor is differentiated"):
            call()
    with torch.no_grad():
        assert lx.softmax(x, out=out) is out


def test_backward_once_and_again():
    x, ids = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 3, 1])
    loss = lx.cross_entropy(x, ids)
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    kept = first.clone()
    first.zero_()  # what was handed out is the caller's
    (tripled,) = torch.autograd.grad(loss * 3, x, retain_graph=True)
    torch.testing.assert_close(tripled, 3 * kept)
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], kept)
    for function in (lx.softmax, lx.logsumexp, lambda x: lx.cross_entropy(x, ids),
                     lambda x: lx.cross_entropy_value_and_grad(x, ids)[0]):  # fmt: skip
        total = function(x).sum()
        total.backward()
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            total.backward()


def test_a_gradient_that_was_given_out_is_the_callers():
    x, ids = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 3, 1])
    loss, dlogits = lx.cross_entropy_value_and_grad(x, ids)
    before = dlogits.detach().clone()
    (loss * 5).backward()
    torch.testing.assert_close(dlogits.detach(), before)
    torch.testing.assert_close(x.grad, 5 * before)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(reentrant):
    from torch.utils.checkpoint import checkpoint

    x, ids = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 3, 1])
    function = lambda x: lx.cross_entropy(2 * x, ids) * 3  # noqa: E731
    (expected,) = torch.autograd.grad(function(x), x)
    checkpoint(function, x, use_reentrant=reentrant).backward()
    torch.testing.assert_close(x.grad, expected)


def test_nothing_is_kept_alive_by_a_cycle():
    x, ids = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 3, 1])
    gc.disable()
    try:
        results = [lx.softmax(x), lx.logsumexp(x), lx.cross_entropy(x, ids), lx.cross_entropy_value_and_grad(x, ids)[1]]
        alive = [weakref.ref(one) for one in results]
        del results
        assert [one() for one in alive] == [None] * 4
    finally:
        gc.enable()


def test_tensors_without_data_and_classes_of_ones_own():
    meta = torch.empty(2, 3, device="meta", requires_grad=True)
    lx.cross_entropy(meta, torch.empty(2, dtype=torch.int64, device="meta")).backward()
    assert meta.grad.shape == (2, 3)
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        fake = torch.empty(2, 3, requires_grad=True)
        lx.softmax(fake)[0].sum().backward()
        assert fake.grad.shape == (2, 3)

    class Own(torch.Tensor):
        pass

    own = torch.randn(2, 3).as_subclass(Own).requires_grad_()
    result = lx.softmax(own)
    assert type(result) is Own
    result[0, 0].backward()
    assert lx.which("softmax", own).backend == "generic"


def test_tensors_of_a_transform_that_is_over():
    leaked = []
    x = torch.randn(2, 3)
    torch.func.grad(lambda x: (leaked.append(x), x.sum())[1])(x)
    y = torch.randn(2, 3, requires_grad=True)
    lx.cross_entropy(y + leaked[0], torch.tensor([0, 1]), sample_weight=leaked[0][:, 0]).backward()
    torch.testing.assert_close(lx.softmax(leaked[0]), lx.softmax(x))


@pytest.mark.parametrize("function", [lx.softmax, lx.log_softmax])
def test_out_is_seen_by_autograd(function):
    """What was kept for a backward pass and has been written over must not be used in silence."""
    x = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    e = torch.exp(x)
    total, kept = e.sum(), e.detach()
    function(kept, out=kept)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()
    with torch.inference_mode():
        y = torch.ones(2, 3)  # which has no version
        assert function(y, out=y) is y
