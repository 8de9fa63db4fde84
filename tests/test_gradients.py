"""Gradients as users take them: by jax.grad and by autograd, against the oracle and against finite differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import logitx as lx
from logitx.testing import TARGETS, Case, Data, assert_matches
from logitx.testing.cases import NDArray, to_rows
from logitx.testing.examples import Inputs
from logitx.testing.operation import Use
from logitx.testing.ops import expected, op, uses
from logitx.testing.oracle import log_softmax_vjp_row, softmax_vjp_row
from logitx.testing.special import softmax_rows

BY_NAME = {target.name: target for target in TARGETS}
LOSS = op("cross_entropy_value_and_grad")
SPECIAL = ("rows", "rows, smoothed, empty=zero", "rows, scaled", "rows, weighted z-loss", "masked rows",
           "masked rows, smoothed", "soft rows", "soft rows, weighted")  # fmt: skip
MEANS = ("mean", "mean with ignored rows", "mean with class weights", "sample weight 0 on a NaN row",
         "all ignored, empty=nan", "all weights 0, empty=zero", "mean with a masked row",
         "mean with an all -inf row")  # fmt: skip
NAMES = [(name, "float32") for name in (*SPECIAL, *MEANS)] + [("rows", "float16"), ("soft rows, weighted", "bfloat16")]
VJPS = {"softmax": softmax_vjp_row, "log_softmax": log_softmax_vjp_row}


def _inputs(target: Any, case: Case) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def make(one: Any) -> Any:
        return target.make(one.values, one.dtype, one.memory) if isinstance(one, Data) else one

    options = {name: make(one) for name, one in case.options.items() if name != "return_parts"}
    return tuple(make(one) for one in case.args), options


def _agrees(case: Case, gradient: NDArray, dtype: str) -> None:
    """Compare with the oracle, with three times the budget of the fused gradient."""
    truth = expected(LOSS, case)[1]
    assert_matches(gradient.astype(np.float64), dtype, truth, ulps=3 * LOSS.ulps, compute="float32", result=case.dtype,
                   rows=case.rows)  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), NAMES)
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_jax_grad_of_the_loss(name: str, dtype: str, jit: bool) -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    case, target = LOSS.case(name, dtype), BY_NAME["jax-eager"]
    with target.session(False):
        (x, targets), options = _inputs(target, case)

        def loss(x: Any) -> Any:
            return lx.cross_entropy(x, targets, **options).sum()

        gradient = (jax.jit(jax.grad(loss)) if jit else jax.grad(loss))(x)
        _agrees(case, *target.read(gradient))


@pytest.mark.parametrize(("name", "dtype"), NAMES)
def test_torch_autograd_of_the_loss(name: str, dtype: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    case, target = LOSS.case(name, dtype), BY_NAME["torch-cpu"]
    (x, targets), options = _inputs(target, case)
    lx.cross_entropy(x.requires_grad_(), targets, **options).sum().backward()
    _agrees(case, *target.read(x.grad))


def _special() -> tuple[NDArray, NDArray, tuple[str, ...]]:
    rows = {name: row for name, row in softmax_rows("float32").items() if "largest" not in name}
    x = np.array(list(rows.values()), dtype=np.float32)
    return x, np.random.default_rng(0).standard_normal(x.shape).astype(np.float32), tuple(rows)


def _check_vjp(name: str, empty: str, gradient: NDArray) -> None:
    """Where the result is a number, the gradient is the exact one; it is 0 at -inf and in rows of nothing else."""
    x, dy, names = _special()
    for row, (values, cotangent, found) in enumerate(zip(x, dy, gradient, strict=True)):
        if np.isnan(values).any() or np.isposinf(values).any():
            assert np.isnan(found[np.isfinite(values)]).all(), names[row]
            continue
        if np.isneginf(values).all():
            assert (found == 0).all(), names[row]
            continue
        with np.errstate(all="ignore"):
            shifted = (values - values.max()).astype(np.float64)
            log_p = shifted - np.log(np.exp(shifted).sum())
        first = np.exp(log_p) if name == "softmax" else log_p
        truth = np.array([float(g.value) for g in VJPS[name](first, cotangent.astype(np.float64))])
        np.testing.assert_allclose(found, truth, rtol=2e-5, atol=1e-6, err_msg=names[row])
        assert (found[np.isneginf(values)] == 0).all(), names[row]


@pytest.mark.parametrize("empty", ["nan", "zero"])
@pytest.mark.parametrize("name", VJPS)
def test_jax_vjp(name: str, empty: str) -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x, dy, _ = _special()
    with BY_NAME["jax-eager"].session(False):
        _, pull = jax.vjp(lambda x: getattr(lx, name)(x, empty=empty), jax.numpy.asarray(x))
        _check_vjp(name, empty, np.asarray(pull(jax.numpy.asarray(dy))[0]))


@pytest.mark.parametrize("empty", ["nan", "zero"])
@pytest.mark.parametrize("name", VJPS)
def test_torch_vjp(name: str, empty: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, dy, _ = _special()
    tensor = torch.tensor(x, requires_grad=True)
    getattr(lx, name)(tensor, empty=empty).backward(torch.tensor(dy))
    _check_vjp(name, empty, tensor.grad.numpy())


@pytest.mark.parametrize("axis", [-1, 0, (2, 0), None])
def test_gradient_of_logsumexp_is_softmax(axis: Any) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 4)) * 3
    x[0, 0, 0] = -np.inf
    truth = np.asarray(lx.softmax(x, axis))
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = torch.tensor(x, requires_grad=True)
    lx.logsumexp(tensor, axis).sum().backward()
    np.testing.assert_allclose(tensor.grad.numpy(), truth, rtol=1e-13)
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with BY_NAME["jax-eager"].session(True):
        gradient = jax.grad(lambda x: lx.logsumexp(x, axis).sum())(jax.numpy.asarray(x))
        np.testing.assert_allclose(np.asarray(gradient), truth, rtol=1e-13)


# -- by everything that may be differentiated -------------------------------------------------------------------------

RNG = np.random.default_rng(2)
INPUTS = Inputs.draw(3, 4)


def _weighed(xp: Any, results: tuple[Any, ...]) -> Any:
    """Add up the entries of all results with weights that differ; entries of -inf have no derivative."""
    ends = [xp.where(xp.isfinite(one), one, 0.0).reshape(-1) for one in results]
    return sum((one * xp.linspace(-1.0, 2.0, one.shape[0], dtype=one.dtype)).sum() for one in ends)


def _differences(use: Use) -> list[NDArray]:
    """Differentiate numerically by every operand, on NumPy arrays."""
    function, given = use.bound(INPUTS, np.asarray)
    results, step = [], 1e-6
    for position, base in enumerate(given):
        slopes = np.empty(base.size)
        for i in range(base.size):
            ends = []
            for sign in (1, -1):
                moved = base.copy()
                moved.reshape(-1)[i] += sign * step
                ends.append(float(_weighed(np, function(*given[:position], moved, *given[position + 1 :]))))
            slopes[i] = (ends[0] - ends[1]) / (2 * step)
        results.append(slopes.reshape(base.shape))
    return results


def _agree(use: Use, gradients: Sequence[Any]) -> None:
    for operand, found, right in zip(use.example.by, gradients, _differences(use), strict=True):
        np.testing.assert_allclose(np.asarray(found), right, rtol=1e-6, atol=2e-8, err_msg=str(operand))


@pytest.mark.parametrize("use", uses("derivative"), ids=lambda use: use.id)
def test_jax_grad_by_every_operand(use: Use) -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with BY_NAME["jax-eager"].session(True):
        function, given = use.bound(INPUTS, jax.numpy.asarray)
        every = tuple(range(len(given)))
        _agree(use, jax.grad(lambda *given: _weighed(jax.numpy, function(*given)), every)(*given))


@pytest.mark.parametrize("use", uses("derivative"), ids=lambda use: use.id)
def test_torch_grad_by_every_operand(use: Use) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    function, given = use.bound(INPUTS, lambda values: torch.tensor(values, requires_grad=values.dtype.kind == "f"))
    _agree(use, torch.autograd.grad(_weighed(torch, function(*given)), given))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_second_derivatives(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x, weight = RNG.standard_normal(4), RNG.standard_normal(4)

    def by_hand(x: NDArray) -> NDArray:
        p = np.asarray(lx.softmax(x))
        jacobian = np.diag(p) - np.outer(p, p)
        if name == "softmax":
            return jacobian @ weight
        return weight - p * weight.sum() if name == "log_softmax" else p * weight.sum()

    step = 1e-6
    truth = np.array([(by_hand(x + step * e) - by_hand(x - step * e)) / (2 * step) for e in np.eye(4)]).T
    tensor = torch.tensor(weight)
    hessian = torch.autograd.functional.hessian(lambda x: (getattr(lx, name)(x) * tensor).sum(), torch.tensor(x))
    np.testing.assert_allclose(hessian.numpy(), truth, rtol=1e-6, atol=1e-8)
    with BY_NAME["jax-eager"].session(True):
        vector = jax.numpy.asarray(weight)
        hessian = jax.hessian(lambda x: (getattr(lx, name)(x) * vector).sum())(jax.numpy.asarray(x))
        np.testing.assert_allclose(np.asarray(hessian), truth, rtol=1e-6, atol=1e-8)


def test_rows_of_the_special_cases_are_rows() -> None:
    """The names of rows that messages use stand for rows of the arrays."""
    for case in LOSS.cases():
        if case.rows:
            assert to_rows(case.args[0].values, case.options.get("axis", -1)).shape[0] == len(case.rows)


# -- by operands that are 0 -------------------------------------------------------------------------------------------

AT_ZERO = {  # operand: what it is 0 in, and the options beside it
    "targets": (np.array([[1.0, 0, 0], [0, 0.5, 0]]), {"reduction": "sum"}),
    "targets, weighted mean": (np.array([[1.0, 0, 0], [0, 0.5, 0]]), {"class_weight": np.array([1.0, 2, 3])}),
    "class_weight": (np.array([0.0, 2, 1]), {"reduction": "sum"}),
    "sample_weight": (np.array([0.0, 2]), {"z_loss": 0.1}),
    "label_smoothing": (np.array(0.0), {"z_loss": 0.1}),
}
LOGITS, SOFT = np.array([[2.0, 1, 0], [1, 1, 3]]), np.array([[0.2, 0.3, 0.5], [0, 0.4, 0.6]])


def _loss_by(name: str, array: Any) -> Any:
    """Return the loss as a function of an operand, with all others made by `array`."""
    operand, options = name.partition(",")[0], {k: array(v) if np.ndim(v) else v for k, v in AT_ZERO[name][1].items()}
    targets = [0, 2] if operand == "label_smoothing" else SOFT

    def loss(value: Any) -> Any:
        given = {"targets": array(np.array(targets)), **options, operand: value}
        return lx.cross_entropy(array(LOGITS), given.pop("targets"), **given)

    return loss


def _slopes(name: str) -> NDArray:
    """Return the derivative by differences of one side, of second order: below 0 is not allowed for each."""
    at, loss = AT_ZERO[name][0], _loss_by(name, np.asarray)
    steps = np.eye(at.size).reshape(at.size, *at.shape) * 1e-6
    values = [[float(loss(at + k * step)) for k in (0, 1, 2)] for step in steps]
    return np.reshape([(4 * one - two - 3 * zero) / 2e-6 for zero, one, two in values], at.shape)


@pytest.mark.parametrize("name", AT_ZERO)
def test_what_is_zero_has_a_derivative(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    value = torch.tensor(AT_ZERO[name][0], requires_grad=True)
    (found,) = torch.autograd.grad(_loss_by(name, torch.tensor)(value), value)
    np.testing.assert_allclose(found, _slopes(name), rtol=1e-6, atol=1e-8)
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with BY_NAME["jax-eager"].session(True):
        found = jax.grad(_loss_by(name, jax.numpy.asarray))(jax.numpy.asarray(AT_ZERO[name][0]))
        np.testing.assert_allclose(found, _slopes(name), rtol=1e-6, atol=1e-8)
