"""Plain calls that autograd records: settled beforehand, and in everything else like those that are checked anew."""

from __future__ import annotations

import pytest

import logitx as lx
from logitx.testing.examples import Inputs
from logitx.testing.ops import uses

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

inf, nan = float("inf"), float("nan")
ROWS = [
    [1.0, 2.0, 3.0, 4.0], [-inf, 0.0, 1.0, -inf], [-inf] * 4, [inf, 0.0, 1.0, -inf], [nan, 0.0, -inf, 1.0],
    [0.0, -inf, -inf, -inf], [100.0, -100.0, -inf, 0.0],
]  # fmt: skip
SETTLED = [use for use in uses("derivative") if use.example.settled]


def plain(use):
    """Return a function of logits and their axis: the call of an example, with class ids that fit."""

    def function(x, axis=-1):
        ids = torch.arange(x.numel() // x.shape[axis]) % x.shape[axis]
        args, options = use.example.call(Inputs.draw(1, 1)._replace(x=x, some=ids, labels=ids))
        return getattr(lx, use.op.name)(x, *args[1:], **options | {"axis": axis})

    return function


def settled(y):
    """True if `y` comes from a prepared call: the second field of `call` is None in others."""
    call = getattr(y.grad_fn, "call", None)
    return call is not None and call[1] is not None


def gradients(function, x, axis, make):
    """Return a value, and its gradient from two backward passes."""
    x = make(x.detach().clone())
    y = function(x, axis)
    dy = torch.linspace(-1.0, 2.0, y.numel(), dtype=y.dtype).reshape(y.shape)
    first, second = (torch.autograd.grad(y, x, dy, retain_graph=True)[0] for _ in range(2))
    return y, first, second


def same(one, other):
    torch.testing.assert_close(one, other, rtol=0.0, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("use", SETTLED, ids=lambda use: use.id)
def test_every_kind_of_row_as_in_calls_that_are_checked(use, dtype):
    for rows in ([one] for one in ROWS), (ROWS, ROWS[:2], ROWS[::-1]):
        for one in rows:
            for axis in (-1, 0):
                x = torch.tensor(one, dtype=dtype)
                x = x if axis == -1 else x.T
                found = gradients(plain(use), x, axis, lambda x: x.requires_grad_())
                right = gradients(plain(use), x, axis, torch.nn.Parameter)  # whose class is checked every time
                assert settled(found[0])
                assert not settled(right[0])
                for mine, other in zip(found, right, strict=True):
                    same(mine, other)


@pytest.mark.parametrize("use", SETTLED, ids=lambda use: use.id)
def test_later_orders_and_batches_of_cotangents(use):
    torch.manual_seed(0)
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert settled(plain(use)(x))
    assert torch.autograd.gradcheck(lambda x: plain(use)(x), x, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: plain(use)(x), x)


@pytest.mark.parametrize("use", SETTLED, ids=lambda use: use.id)
def test_cotangents_of_any_layout(use):
    torch.manual_seed(0)
    x = torch.randn(6, 300, requires_grad=True)
    y = plain(use)(x)
    assert settled(y)
    wide = torch.randn(*y.shape, 2)
    for dy in (wide[..., 0], torch.ones(()).expand(y.shape), y.detach().movedim(0, -1).contiguous().movedim(-1, 0)):
        (found,) = torch.autograd.grad(y, x, dy, retain_graph=True)
        (right,) = torch.autograd.grad(y, x, dy.clone(memory_format=torch.contiguous_format), retain_graph=True)
        same(found, right)


def test_a_result_that_was_written_to_is_not_differentiated():
    x = torch.randn(3, 4, requires_grad=True)
    for function in (lx.softmax, lx.log_softmax):
        y = function(x)
        assert settled(y)
        y.mul_(2.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


@pytest.mark.parametrize("use", SETTLED, ids=lambda use: use.id)
def test_what_is_kept_goes_through_hooks_for_saved_tensors(use):
    x = torch.randn(3, 4, requires_grad=True)
    packed = []

    def pack(tensor):
        packed.append(tensor.numel())
        return tensor.detach().clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = plain(use)(x)
    assert settled(y)
    assert packed
    right = gradients(plain(use), x, -1, torch.nn.Parameter)[1]
    same(torch.autograd.grad(y, x, torch.linspace(-1.0, 2.0, y.numel()).reshape(y.shape))[0], right)


def test_the_gradient_of_a_loss_waits_for_who_scales_it():
    x, targets = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 3, 1])
    factor = torch.tensor(3.0, requires_grad=True)
    loss = lx.cross_entropy(x, targets)
    assert settled(loss)
    (loss * factor).backward()
    torch.testing.assert_close(factor.grad, loss.detach())
    torch.testing.assert_close(x.grad, 3.0 * lx.cross_entropy_value_and_grad(x.detach(), targets)[1])


@pytest.mark.parametrize("use", uses("derivative"), ids=lambda use: use.id)
def test_examples_are_settled_as_their_rows_say(use):
    function, given = use.bound(
        Inputs.draw(3, 3), lambda values: torch.tensor(values, requires_grad=values.dtype.kind == "f")
    )
    assert settled(function(*given)[0]) == use.example.settled


def test_what_is_more_than_plain_is_checked_anew():
    x, targets = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 3, 1])
    mask = torch.ones(3, 4, dtype=torch.bool)
    for y in (
        lx.softmax(x, where=mask), lx.softmax(x, temperature=2.0), lx.softmax(x, dtype="float64"), lx.softmax(x, None),
        lx.logsumexp(x, b=mask.float()), lx.cross_entropy(x, lx.softmax(x.detach())),
        lx.cross_entropy(x, targets, sample_weight=torch.ones(3)), lx.cross_entropy(x.bfloat16(), targets),
    ):  # fmt: skip
        assert y.requires_grad
        assert not settled(y)
    with torch.no_grad():
        assert not lx.softmax(x).requires_grad
    with pytest.raises(ValueError, match=r"class id 4 at position \(1,\)"):
        lx.cross_entropy(x, torch.tensor([0, 4, 1]))
    with pytest.raises(ValueError, match="targets: shape"):
        lx.cross_entropy(x, torch.tensor([0, 1]))
    with lx.use_backend("generic"):
        assert not settled(lx.softmax(x))
    meta = torch.empty(3, 4, device="meta", requires_grad=True)
    assert lx.softmax(meta).device.type == "meta"
