"""The cross-entropy of a linear layer beyond its values: memory, skipped rows, derivatives in PyTorch."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx._arguments import linear as _linear
from logitx._arrays import families
from logitx.backends.formulas.linear_blocks import block_rows, pieces, row_blocks, tiles

RNG = np.random.default_rng(6)
HIDDEN, WEIGHT, BIAS = RNG.standard_normal((7, 5)), RNG.standard_normal((11, 5)), RNG.standard_normal(11)
LABELS = np.array([3, 0, -100, 10, 5, 5, 1])


def _plan(rows: int, classes: int, budget: int, op: str = "linear_cross_entropy") -> Any:
    arrays = np.zeros((rows, 2), np.float32), np.zeros((classes, 2), np.float32), np.zeros(rows, np.int64)
    options = (None, None, -100, 0.0, 0.0, None, 1.0, "mean", "nan", budget)
    return _linear.linear_cross_entropy(op, *arrays, None, *options)[0]


# -- how logits are cut -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 511, 512, 513, 2048, 5000])
@pytest.mark.parametrize("classes", [1, 2, 63, 1000, 50_257])
@pytest.mark.parametrize("budget", [1, 1000, 1 << 20, 1 << 25])
@pytest.mark.parametrize("op", ["linear_cross_entropy", "linear_cross_entropy_value_and_grad"])
def test_tiles_keep_to_the_budget(rows: int, classes: int, budget: int, op: str) -> None:
    plan = _plan(rows, classes, budget, op)
    cut = tiles(plan, rows)
    assert cut.rows * cut.classes * 4 <= max(4, budget)
    assert 1 <= cut.classes <= classes
    assert cut.rows == block_rows(plan, rows) or cut.classes < classes
    for length, size in ((rows, cut.rows), (classes, cut.classes)):
        covered = [index for piece in pieces(length, size) for index in range(piece.start, piece.stop)]
        assert covered == list(range(length))


def test_blocks_of_rows_where_they_are_high_enough_else_tiles() -> None:
    assert tiles(_plan(2048, 50_257, 128 << 20), 2048) == (512, 50_257)
    low = tiles(_plan(2048, 50_257, 32 << 20), 2048)
    assert (low.rows, low.classes % 64) == (2048, 0)
    assert tiles(_plan(1, 128_257, 32 << 20), 1) == (1, 128_257)
    gradients = "linear_cross_entropy_value_and_grad"  # a tile would be computed twice
    assert tiles(_plan(2048, 50_257, 32 << 20, gradients), 2048) == (158, 50_257)
    assert tiles(_plan(1024, 128_256, 32 << 20, gradients), 1024).rows == 1024


@pytest.mark.parametrize("room", [0, 1, 100, 128, 1000])
@pytest.mark.parametrize(
    ("rows", "classes"), [(0, 7), (5, 33), (1, 128_257), (127, 50_257), (1024, 128_256), (3000, 50_257)]
)
@pytest.mark.parametrize("budget", [1, 1000, 1 << 20, 1 << 25])
def test_logits_wait_in_as_many_rows_as_there_is_room_for(rows: int, classes: int, room: int, budget: int) -> None:
    classes = min(classes, budget)  # as many pieces take seconds to count
    plan = _plan(rows, classes, budget, "linear_cross_entropy_value_and_grad")
    found, lowest = row_blocks(plan, rows, room), tiles(plan, rows)
    assert [row for one in found for row in range(one.rows.start, one.rows.stop)] == list(range(rows))
    assert not any(one.held for one in found[1:])
    assert not found or not found[0].held or found[0].rows.stop == min(rows, room)
    for one in (*found[:1], *found[-1:]):
        height, width = one.rows.stop - one.rows.start, one.classes[0].stop
        assert list(one.classes) == list(pieces(classes, width))
        assert height * width * 4 <= max(budget, 4 * height * (width == 1))
        assert one.held or lowest.classes < classes or height <= lowest.rows


def _held(rows: int, features: int, classes: int, budget: int) -> list[tuple[int, int, bool]]:
    plan = _plan(rows, classes, budget, "linear_cross_entropy_value_and_grad")
    return [(one.rows.stop, len(one.classes), one.held) for one in row_blocks(plan, rows, features)]


# Rows in blocks that are higher with the gradient's room; all rows in it; some, and the others in tiles made twice
@pytest.mark.parametrize(
    ("rows", "features", "classes", "budget", "cut"),
    [
        (400, 200, 12, 140 * 12 * 8, [(200, 2, True), (300, 1, False), (400, 1, False)]),
        (70, 90, 33, 1000, [(70, 33, True)]),
        (300, 140, 1000, 51_200 * 8, [(140, 3, True), (300, 4, False)]),
    ],
)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "softcap": 2.0, "z_loss": 0.01}], ids=str)
def test_gradients_whose_logits_wait_where_they_will_be(
    rows: int, features: int, classes: int, budget: int, cut: Any, options: dict[str, Any]
) -> None:
    assert _held(rows, features, classes, budget // 2) == cut  # in float32
    hidden, weight = RNG.standard_normal((rows, features)) / 8, RNG.standard_normal((classes, features))
    labels, bias = RNG.integers(0, classes, rows), RNG.standard_normal(classes)
    options = options | {"temperature": RNG.uniform(0.5, 2, (rows, 1)), "sample_weight": RNG.uniform(0.5, 2, rows)}
    loss, found = lx.linear_cross_entropy_value_and_grad(hidden, weight, labels, bias, block_bytes=budget, **options)
    right, g = lx.cross_entropy_value_and_grad(hidden @ weight.T + bias, labels, **options)
    np.testing.assert_allclose(loss, right, rtol=1e-14)
    for one, other in zip(found, (g @ weight, g.T @ hidden, g.sum(0)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("gradient", [False, True])
def test_memory(gradient: bool) -> None:
    """The peak of a call is far below the logits, 125 MiB: inputs, gradients, a block, and scratch of some MiB."""
    program = f"""
import numpy as np, resource, logitx as lx
function = lx.linear_cross_entropy{"_value_and_grad" if gradient else ""}
made = np.random.default_rng(0).standard_normal
function(made((600, 64), np.float32), made((700, 64), np.float32), np.zeros(600, int))
hidden, weight = made((1024, 64), np.float32), made((32_000, 64), np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
function(hidden, weight, np.zeros(1024, int), block_bytes=1 << 24)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) / 1024 - {gradient} * (hidden.nbytes + weight.nbytes) / 2**20)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 16 + 24


def test_rows_that_do_not_count_are_left_out_of_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    from logitx.backends.numba import linear

    seen = []

    def multiply(a: Any, b: Any, out: Any, more: bool) -> None:
        seen.append((a.shape, b.shape))
        families.FAMILIES["numpy"].multiply(a, b, out, more)

    spied = dataclasses.replace(families.FAMILIES["numpy"], multiply=multiply)
    monkeypatch.setattr(linear, "FAMILIES", {"numpy": spied})
    weights = np.array([1.0, 0, 1, 1, 1, 0, 1])
    lx.linear_cross_entropy_value_and_grad(HIDDEN, WEIGHT, LABELS, sample_weight=weights)
    assert seen == [((4, 5), (5, 11)), ((4, 11), (11, 5)), ((11, 4), (4, 5))]


def test_rows_that_do_not_count_are_left_out_of_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    from logitx.backends.generic import linear

    seen, losses = [], linear.losses_and_gradients_of_block

    def counted(plan: Any, layer: Any, samples: Any) -> Any:
        seen.append(samples.hidden.shape[0])
        return losses(plan, layer, samples)

    monkeypatch.setattr(linear, "losses_and_gradients_of_block", counted)
    weights = np.array([1.0, 0, 1, 1, 1, 0, 1])
    for options in ({}, {"reduction": "none"}):
        right = lx.linear_cross_entropy_value_and_grad(HIDDEN, WEIGHT, LABELS, BIAS, sample_weight=weights, **options)
        with lx.use_backend("generic"):
            found = lx.linear_cross_entropy_value_and_grad(
                HIDDEN, WEIGHT, LABELS, BIAS, sample_weight=weights, block_bytes=3 * 11 * 8, **options
            )
        for one, other in zip((found[0], *found[1]), (right[0], *right[1]), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    assert seen == [2, 2, 2, 2]


def test_integers_are_floats() -> None:
    hidden, weight = np.array([[1, -2], [3, 0]], np.int8), np.array([[1, 0], [0, 1], [2, 2]])
    loss, (dhidden, dweight, dbias) = lx.linear_cross_entropy_value_and_grad(hidden, weight, [0, 2])
    right, gradient = lx.cross_entropy_value_and_grad((hidden @ weight.T).astype(float), [0, 2])
    np.testing.assert_allclose(loss, right)
    np.testing.assert_allclose(dhidden, gradient @ weight)
    assert (dhidden.dtype, dweight.dtype, dbias) == (np.float64, np.float64, None)


@pytest.mark.parametrize("layout", ["F", "strided", "broadcast", "swapped"])
def test_any_memory(layout: str) -> None:
    weight = np.broadcast_to(WEIGHT[0], WEIGHT.shape) if layout == "broadcast" else WEIGHT
    given = {"F": np.asfortranarray(weight), "strided": np.repeat(weight, 3, axis=1)[:, ::3],
             "broadcast": weight, "swapped": weight.astype(">f8")}[layout]  # fmt: skip
    for budget in (1, 300, 1 << 20):
        loss, gradients = lx.linear_cross_entropy_value_and_grad(HIDDEN, given, LABELS, BIAS, block_bytes=budget)
        right, g = lx.cross_entropy_value_and_grad(HIDDEN @ weight.T + BIAS, LABELS)
        np.testing.assert_allclose(loss, right)
        counted = np.where((LABELS >= 0)[:, None], g, 0)
        for found, one in zip(gradients, (g @ weight, counted.T @ HIDDEN, g.sum(0)), strict=True):
            np.testing.assert_allclose(found, one, rtol=1e-12, atol=1e-14)


# -- PyTorch ----------------------------------------------------------------------------------------------------------


def _leaves(torch: Any) -> list[Any]:
    return [torch.tensor(x, requires_grad=True) for x in (HIDDEN, WEIGHT, BIAS)]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_torch_derivatives(reduction: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    labels = torch.as_tensor(LABELS)

    def loss(h: Any, w: Any, b: Any) -> Any:
        return lx.linear_cross_entropy(h, w, labels, b, block_bytes=300, label_smoothing=0.1, reduction=reduction)

    leaves = _leaves(torch)
    assert lx.which("linear_cross_entropy", *leaves[:2], labels, leaves[2]).backend == "torch"
    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves)


def test_torch_second_pass_and_compiled() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    labels = torch.as_tensor(LABELS)

    def loss(h: Any, w: Any, b: Any) -> Any:
        return lx.linear_cross_entropy(h, w, labels, b, block_bytes=300)

    one, two, three = _leaves(torch), _leaves(torch), _leaves(torch)
    value = loss(*one)
    (3 * value).backward(retain_graph=True)
    first = [leaf.grad.clone() for leaf in one]
    value.backward()
    loss(*two).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=False)(*three).backward()
    for a, b, c, before in zip(one, two, three, first, strict=True):
        torch.testing.assert_close(before, 3 * b.grad)
        torch.testing.assert_close(a.grad, 4 * b.grad)
        torch.testing.assert_close(c.grad, b.grad)


def test_torch_half_gradients_are_scaled_before_they_are_rounded() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    hidden = torch.full((4096, 8), 2.0**-12, dtype=torch.float16, requires_grad=True)
    weight = torch.eye(8, dtype=torch.float16, requires_grad=True)
    loss = lx.linear_cross_entropy(hidden, weight, torch.arange(4096) % 8)
    (2.0**14 * loss).backward()  # unscaled, what there is would be 2**-15, and of that the larger part rounded
    right = 2.0**14 / 4096 * (1 / 8 - torch.eye(8)[torch.arange(4096) % 8])
    torch.testing.assert_close(hidden.grad.float(), right, rtol=2e-3, atol=0)


def test_torch_derivatives_by_weights() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    h, w, b = (torch.tensor(x) for x in (HIDDEN, WEIGHT, BIAS))
    samples = torch.ones(7, dtype=torch.float64, requires_grad=True)
    lx.linear_cross_entropy(h, w, torch.as_tensor(LABELS), b, sample_weight=samples, reduction="sum").backward()
    right = lx.linear_cross_entropy(h, w, torch.as_tensor(LABELS), b, reduction="none")
    torch.testing.assert_close(samples.grad, right)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_torch_checkpoints_and_several_cotangents(reduction: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    checkpoint = importlib.import_module("torch.utils.checkpoint").checkpoint
    labels, leaves = torch.as_tensor(LABELS), _leaves(torch)

    def loss(*layer: Any) -> Any:
        return lx.linear_cross_entropy(layer[0], layer[1], labels, layer[2], block_bytes=300, reduction=reduction)

    value = loss(*leaves)
    right = torch.autograd.grad(value.sum(), leaves, retain_graph=True)
    found = torch.autograd.grad(checkpoint(loss, *leaves, use_reentrant=False).sum(), leaves)
    torch.testing.assert_close(found, right)
    batched = torch.autograd.grad(value, leaves, torch.stack([torch.ones_like(value)] * 2), is_grads_batched=True)
    torch.testing.assert_close([one[1] for one in batched], list(right))
