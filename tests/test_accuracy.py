"""The reference of the accuracy report is held to the oracle, and the kernels to its targets on some of its inputs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import accuracy_report
import exact
from accuracy_cases import QUANTITIES, inputs
from accuracy_peers import numpy_arrays
from logitx.testing import oracle, oracle_loss

pytestmark = pytest.mark.skipif(not exact.ENOUGH, reason="a long double of this platform is no longer than float64")

SAMPLE = ("few classes", "one dominates", "subnormal", "near-ties")


def truth(quantity: str, x: np.ndarray, given: SimpleNamespace) -> list[oracle.Near]:
    """Return what the 240-bit oracle says of a row."""
    row = oracle.reduce_row(x, np.ones(len(x), bool))
    label, one_hot = int(given.labels), np.arange(len(x)) == given.labels
    settings = oracle_loss.Settings(ignore_index=None)
    if quantity.startswith("cross_entropy"):
        targets = given.shares if "soft" in quantity else label
        return [oracle_loss.cross_entropy_row(x, np.ones(len(x), bool), targets, 1.0, 1.0, None, settings, False).loss]
    if quantity.startswith("gradient"):
        return [
            oracle.Near(-row.complement(j).value if here else row.probability(j).value)
            for j, here in enumerate(one_hot)
        ]
    return {
        "softmax": lambda: oracle.softmax_row(row, "nan"),
        "log_softmax": lambda: oracle.log_softmax_row(row, "nan"),
        "logsumexp": lambda: [oracle.log_normalizer(row)],
        "Hessian of cross_entropy": lambda: [
            oracle.Near(row.probability(j).value * row.complement(j).value) for j in range(len(x))
        ],
        "softmax_vjp": lambda: oracle.softmax_vjp_row(given.p, given.dy),
        "log_softmax_vjp": lambda: oracle.log_softmax_vjp_row(given.log_p, given.dy),
        "merge_logsumexp": lambda: [oracle.merge(a, b) for a, b in zip(x, given.dy, strict=True)],
    }[quantity]()


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda quantity: quantity.name)
def test_the_reference_is_right_to_a_hundredth_of_an_ulp(quantity, name):
    made, rows = inputs(name, "float64")
    right = quantity.formula(rows, made)
    size = np.broadcast_to(quantity.size(right, made), right.shape)
    i = 5
    given = SimpleNamespace(**{key: one[i].astype(np.float64) for key, one in made._asdict().items()})
    near = truth(quantity.name, given.x, given)
    found = np.atleast_1d(right[i])
    assert len(near) == len(found)
    expected = np.array([exact.LONG(oracle.CONTEXT.nstr(one.value, 30)) for one in near])
    assert exact.ulps(found, expected, np.atleast_1d(size[i]), "float64").max() < 0.01


OFTEN, SELDOM = {("few classes", "float32"), ("one dominates", "bfloat16")}, pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=() if (name, dtype) in OFTEN else SELDOM)
        for name in ("few classes", "one dominates", "subnormal", "offset by 1e30")
        for dtype in ("float32", "float64", "bfloat16")
    ],
)
def test_kernels_reach_their_targets(name, dtype):
    pytest.importorskip("numba")
    made, rows = inputs(name, dtype)
    numba = numpy_arrays("numba")
    for quantity in QUANTITIES:
        right = quantity.formula(rows, made)
        errors = exact.ulps(numba(quantity.name, made), right, quantity.size(right, made), quantity.unit(dtype))
        key = quantity.name, dtype, name
        if dtype == "bfloat16" and not quantity.is_loss:
            assert (errors > 0.5 + 1e-4).mean() * 100 <= accuracy_report.CORRECT, key
        else:
            assert errors.max() <= accuracy_report.ALLOWED.get(key, (accuracy_report.TARGETS[quantity.name],))[0], key
