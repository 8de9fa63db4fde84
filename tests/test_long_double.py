"""np.longdouble goes through the formulas, in its own precision."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
import pytest

import logitx as lx
from logitx.testing import OPS
from logitx.testing.cases import Case, Data
from logitx.testing.examples import flat
from logitx.testing.ops import Op
from logitx.testing.suite import Cell, cases_of
from logitx.testing.targets.table import TARGETS

LONG = np.longdouble
EPS = float(np.finfo(LONG).eps)
pytestmark = pytest.mark.skipif(np.finfo(np.float64).eps == EPS, reason="a long double of this platform is float64")
NUMPY = next(target for target in TARGETS if target.name == "numpy-generic")


def made(one: Any, wide: type) -> Any:
    if not isinstance(one, Data):
        return one
    return np.array(one.values, wide if one.values.dtype == np.float64 else one.dtype)


def called(op: Op, case: Case, wide: type) -> list[Any]:
    options = {name: made(value, wide) for name, value in case.options.items() if name != "dtype"}
    function = getattr(lx, op.name)
    return list(flat(function(*(made(one, wide) for one in case.args), **options)))


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_what_float64_gives_with_more_digits(op: Op) -> None:
    cases = [case for case in cases_of(Cell(op, NUMPY, "float64")) if case.out == "none"]
    assert cases
    with np.errstate(over="ignore"):
        for case in cases:
            for one, other in zip(called(op, case, LONG), called(op, case, np.float64), strict=True):
                assert one.dtype == LONG if other.dtype == np.float64 else one.dtype == other.dtype, case.name
                scale = (
                    np.max(np.abs(other), where=np.isfinite(other), initial=1e-300) if other.dtype.kind == "f" else 0
                )
                np.testing.assert_allclose(
                    one.astype(other.dtype), other, rtol=1e-11, atol=1e-13 * scale + 4 * EPS, err_msg=case.name
                )


# -- against 200 bits -------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
SMALL = LONG(2) ** -60  # digits that float64 does not hold
X, Y = (4 * RNG.standard_normal((5, 11)) + SMALL * RNG.standard_normal((5, 11)) for _ in range(2))
IDS = np.arange(5)


def exact(value: Any) -> mp.mpf:
    high = float(value)
    return mp.mpf(high) + mp.mpf(float(value - LONG(high)))


def shares(row: list[mp.mpf]) -> list[mp.mpf]:
    total = mp.fsum(map(mp.exp, row))
    return [mp.exp(v) / total for v in row]


def divergence(p: list[mp.mpf], q: list[mp.mpf]) -> mp.mpf:
    return mp.fsum(a * mp.log(a / b) for a, b in zip(p, q, strict=True))


def halves(x: list[mp.mpf], y: list[mp.mpf], _: int) -> mp.mpf:
    p, q = shares(x), shares(y)
    both = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (divergence(p, both) + divergence(q, both)) / 2


# Each row's function of its logits x, another row y and its number, and the call
RIGHT = {
    "softmax": (lambda x, y, i: shares(x), lambda: lx.softmax(X)),
    "log_softmax": (lambda x, y, i: list(map(mp.log, shares(x))), lambda: lx.log_softmax(X)),
    "logsumexp": (lambda x, y, i: mp.log(mp.fsum(map(mp.exp, x))), lambda: lx.logsumexp(X)),
    "logsumexp, b": (
        lambda x, y, i: mp.log(abs(mp.fsum(b * mp.exp(v) for v, b in zip(x, y, strict=True)))),
        lambda: lx.logsumexp(X, b=Y, return_sign=True)[0],
    ),
    "logmeanexp": (lambda x, y, i: mp.log(mp.fsum(map(mp.exp, x)) / len(x)), lambda: lx.logmeanexp(X)),
    "logaddexp": (
        lambda x, y, i: [mp.log(mp.exp(a) + mp.exp(b)) for a, b in zip(x, y, strict=True)],
        lambda: lx.logaddexp(X, Y),
    ),
    "logcumsumexp": (
        lambda x, y, i: [mp.log(mp.fsum(map(mp.exp, x[: k + 1]))) for k in range(len(x))],
        lambda: lx.logcumsumexp(X),
    ),
    "cross_entropy": (lambda x, y, i: -mp.log(shares(x)[i]), lambda: lx.cross_entropy(X, IDS, reduction="none")),
    "smoothed": (
        lambda x, y, i: -mp.log(shares(x)[i]) * 3 / 4 - mp.fsum(map(mp.log, shares(x))) / 4 / len(x),
        lambda: lx.cross_entropy(X, IDS, reduction="none", label_smoothing=0.25),
    ),
    "gradient": (
        lambda x, y, i: [p - (k == i) for k, p in enumerate(shares(x))],
        lambda: lx.cross_entropy_value_and_grad(X, IDS, reduction="sum")[1],
    ),
    "selected": (lambda x, y, i: mp.log(shares(x)[i]), lambda: lx.selected_log_softmax(X, IDS)),
    "entropy": (lambda x, y, i: -mp.fsum(p * mp.log(p) for p in shares(x)), lambda: lx.entropy(X)),
    "kl": (lambda x, y, i: divergence(shares(x), shares(y)), lambda: lx.kl_divergence(X, Y, reduction="none")),
    "js": (halves, lambda: lx.js_divergence(X, Y, reduction="none")),
    "softmax_mean": (
        lambda x, y, i: mp.fsum(p * v for p, v in zip(shares(x), y, strict=True)),
        lambda: lx.softmax_mean(X, Y),
    ),
    "sigmoid": (lambda x, y, i: [1 / (1 + mp.exp(-v)) for v in x], lambda: lx.sigmoid(X)),
    "binary": (
        lambda x, y, i: [mp.log(1 + mp.exp(-v if k % 2 else v)) for k, v in enumerate(x)],
        lambda: lx.binary_cross_entropy(X, np.arange(11) % 2 + 0 * IDS[:, None], reduction="none"),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_every_digit_is_right(name: str) -> None:
    right, call = RIGHT[name]
    found = call()
    assert found.dtype == LONG
    with mp.workprec(200):
        for i, row in enumerate(found):
            wanted = right(list(map(exact, X[i])), list(map(exact, Y[i])), i)
            for one, other in zip(np.atleast_1d(row), wanted if isinstance(wanted, list) else [wanted], strict=True):
                assert abs(exact(one) - other) <= 8 * EPS * abs(other), (i, one, other)


# -- beside other dtypes, and where there is none ---------------------------------------------------------------------


def test_dtype_of_the_result() -> None:
    x, weight = np.array([[1.0, 2.0, 3.0]], np.float32), np.ones(3, LONG)
    assert lx.softmax(x, dtype=LONG).dtype == LONG
    assert lx.logmeanexp(x, dtype=LONG).dtype == LONG
    assert lx.cross_entropy(x, IDS[:1], dtype=LONG).dtype == LONG
    assert lx.cross_entropy(x, x.astype(LONG) / 6).dtype == np.float32  # targets and weights never promote
    assert lx.cross_entropy(x, IDS[:1], class_weight=weight).dtype == np.float32
    assert lx.logaddexp(x, x.astype(LONG)).dtype == lx.kl_divergence(x, x.astype(LONG)).dtype == LONG
    out = np.empty((1, 3), LONG)
    assert lx.softmax(x.astype(LONG), out=out) is out
    assert out.sum() == pytest.approx(1)
    assert lx.logsumexp(np.array([1j, 2], np.clongdouble)).dtype == np.clongdouble


def test_which_names_the_formulas() -> None:
    assert lx.which("softmax", X).backend == "generic"
    with pytest.raises(ValueError, match="long doubles are computed by the formulas"), lx.use_backend("numba"):
        lx.softmax(X)


def test_other_libraries_have_none() -> None:
    torch, dask = pytest.importorskip("torch"), pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match="dtype: .*longdouble.* is not allowed"):
        lx.softmax(torch.ones(3), dtype=LONG)
    with pytest.raises(TypeError, match="x: dtype float128 is not allowed"):
        lx.softmax(dask.from_array(X))
