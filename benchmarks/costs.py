"""Time the functions beside the losses against what they should cost, and write benchmarks/results/costs.json.

    python benchmarks/costs.py [--smoke] [part of a name ...]

Every row is one call, timed in turn with the call that its limit is stated in: one read of the logits (our `logsumexp`
of the same array), a plain product, or the formula that people write today. Where that is a formula, the results are
compared first.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

import logitx as lx
from logitx.calibration import Calibration, fit_temperature
from sweep import least_seconds

RECORD = Path(__file__).parent / "results" / "costs.json"
READ = "`logsumexp`"


class Row(NamedTuple):
    """One call: ours, the call it is measured in, and at most how many of that it may take."""

    name: str
    size: str
    ours: Callable[[], Any]
    unit: str
    theirs: Callable[[], Any]
    most: float
    tolerance: float | None = None  # None where `theirs` computes something else


def gradient(function: Callable[..., Any], *by: torch.Tensor) -> Callable[[], Any]:
    """Return a call of the sum of the function's results, with its gradients."""
    variables = [one.detach().requires_grad_() for one in by]
    return lambda: torch.autograd.grad(function(*variables).sum(), variables)


def formula_of_entropy(x: torch.Tensor) -> torch.Tensor:
    log_p = F.log_softmax(x, -1)
    return -(log_p.exp() * log_p).sum(-1)


def formula_of_divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return F.kl_div(F.log_softmax(q, -1), F.log_softmax(p, -1), reduction="none", log_target=True).sum(-1)


def rows_of_logits(shape: tuple[int, int]) -> Iterator[Row]:
    """Yield what one pass over the logits answers: each in reads of the same array."""
    x, y = (torch.randn(shape, generator=torch.Generator().manual_seed(i)) * 3 for i in (0, 1))
    a, b = x.numpy(), y.numpy()
    rng, size = np.random.default_rng(0), "x".join(map(str, shape))
    ids = rng.integers(0, shape[1], (shape[0], 32))
    first, values = ids[:, 0].copy(), rng.standard_normal(shape[1]).astype(np.float32)
    names = ("z_loss", "log_normalizer", "log_prob", "entropy", "correct")

    def limit(name: str, ours: Callable[[], Any], most: float) -> Row:
        return Row(name, size, ours, READ, lambda: lx.logsumexp(a), most)

    yield limit("entropy", lambda: lx.entropy(a), 1.5)
    yield limit("entropy and its gradient (PyTorch)", gradient(lx.entropy, x), 2.5)
    yield limit("selected_log_softmax, 1 id", lambda: lx.selected_log_softmax(a, first), 1.2)
    yield limit("selected_log_softmax, 32 ids", lambda: lx.selected_log_softmax(a, ids), 1.2)
    yield limit("kl_divergence", lambda: lx.kl_divergence(a, b), 2.2)
    yield limit("kl_divergence and both gradients (PyTorch)", gradient(lx.kl_divergence, x, y), 4)
    yield limit("softmax_mean", lambda: lx.softmax_mean(a, values), 1.3)
    yield limit("softmax_top_k, k = 40", lambda: lx.softmax_top_k(a, 40), 1.5)
    yield limit("sample", lambda: lx.sample(a, rng), 3)
    yield limit("sample, top_p = 0.9", lambda: lx.sample(a, rng, top_p=0.9), 4)
    yield Row(
        "cross_entropy, all names of return_parts", size, lambda: lx.cross_entropy(a, first, return_parts=names),
        "`cross_entropy`", lambda: lx.cross_entropy(a, first), 1.5,
    )  # fmt: skip
    to_torch = torch.from_numpy(first)
    yield Row("entropy", size, lambda: lx.entropy(x), "PyTorch", lambda: formula_of_entropy(x), 0.2, 1e-4)
    yield Row(
        "kl_divergence", size, lambda: lx.kl_divergence(x, y), "PyTorch", lambda: formula_of_divergence(x, y), 0.2,
        1e-3,
    )  # fmt: skip
    yield Row(
        "selected_log_softmax", size, lambda: lx.selected_log_softmax(x, to_torch), "PyTorch",
        lambda: F.log_softmax(x, -1).gather(-1, to_torch[:, None])[:, 0], 0.1, 1e-4,
    )  # fmt: skip


def sinkhorn(cost: Any, steps: int, fused: bool) -> Any:
    """Return a potential after some iterations, with the other one added in the sum or before it."""
    a = np.full(len(cost), -np.log(len(cost)))
    f = g = np.zeros(len(cost))
    for _ in range(steps):
        f = a - (lx.logsumexp(cost, axis=1, log_b=g) if fused else lx.logsumexp(cost + g, axis=1))
        g = a - (lx.logsumexp(cost, axis=0, log_b=f[:, None]) if fused else lx.logsumexp(cost + f[:, None], axis=0))
    return f


def scattered(x: torch.Tensor, ids: torch.Tensor, groups: int) -> torch.Tensor:
    top = torch.full((groups,), -torch.inf).scatter_reduce(0, ids, x, "amax")
    return torch.zeros(groups).scatter_add(0, ids, torch.exp(x - top[ids])).log() + top


def sums_in_log_space(smoke: bool) -> Iterator[Row]:
    """Yield sums in log space: each beside the call that would do without log space."""
    rng, n = np.random.default_rng(0), 30 if smoke else 1000
    cost = -20 * rng.random((n, n))
    f = rng.standard_normal(n)
    size = f"{n}x{n}, float64"
    yield Row("logsumexp with log_b", size, lambda: lx.logsumexp(cost, log_b=f), READ, lambda: lx.logsumexp(cost), 1.1)
    yield Row(
        "Sinkhorn, 50 iterations, by log_b", size, lambda: sinkhorn(cost, 50, True), "`logsumexp(cost + f)`",
        lambda: sinkhorn(cost, 50, False), 0.65, 1e-9,
    )  # fmt: skip
    edges, groups = (60, 7) if smoke else (2_000_000, 100_000)
    x = rng.standard_normal(edges).astype(np.float32)
    ids = np.sort(np.concatenate([np.arange(groups), rng.integers(0, groups, edges - groups)]))
    mixed, starts = rng.permutation(ids), np.searchsorted(ids, np.arange(groups))
    size = f"{edges:,} in {groups:,}"

    def reduced() -> Any:
        top = np.maximum.reduceat(x, starts)
        return np.log(np.add.reduceat(np.exp(x - top[ids]), starts)) + top

    def summed(ids: Any) -> Callable[[], Any]:
        return lambda: lx.segment_logsumexp(x, segment_ids=ids, num_segments=groups)

    x_torch, ids_torch = torch.from_numpy(x), torch.from_numpy(ids)
    yield Row("segment_logsumexp", size, summed(ids), "NumPy's reduceat", reduced, 1.0, 1e-4)
    yield Row(
        "segment_logsumexp", size, lambda: lx.segment_logsumexp(x_torch, segment_ids=ids_torch, num_segments=groups),
        "PyTorch's scatter", lambda: scattered(x_torch, ids_torch, groups), 0.1, 1e-4,
    )  # fmt: skip
    yield Row("segment_logsumexp, unsorted", size, summed(mixed), "sorted", summed(ids), 3)
    n = 30 if smoke else 1024
    a, b = rng.standard_normal((2, n, n)).astype(np.float32)
    yield Row("log_matmul", f"{n}x{n}", lambda: lx.log_matmul(a, b), "`a @ b`", lambda: a @ b, 3)
    wide = rng.standard_normal((50, 100) if smoke else (1000, 10_000)).astype(np.float32)
    yield Row(
        "logcumsumexp", "x".join(map(str, wide.shape)), lambda: lx.logcumsumexp(wide, -1), "`np.cumsum`",
        lambda: np.cumsum(wide, -1), 1.5,
    )  # fmt: skip


def contrasted(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    logits, ids = a @ b.T / 0.07, torch.arange(len(a))
    return (F.cross_entropy(logits, ids) + F.cross_entropy(logits.T, ids)) / 2


def losses(smoke: bool) -> Iterator[Row]:
    """Yield the losses and measures of confidence."""
    rng, n = np.random.default_rng(0), 1000 if smoke else 10_000_000
    x = rng.standard_normal(n).astype(np.float32)
    t = (rng.random(n) < 0.3).astype(np.float32)
    x_torch, t_torch = torch.from_numpy(x), torch.from_numpy(t)
    in_torch = gradient(lambda z: F.binary_cross_entropy_with_logits(z, t_torch), x_torch)
    yield Row(
        "binary_cross_entropy_value_and_grad", f"{n:,}", lambda: lx.binary_cross_entropy_value_and_grad(x, t)[1],
        "PyTorch", lambda: in_torch()[0], 1 / 3, 1e-4,
    )  # fmt: skip
    n, d = (40, 8) if smoke else (8192, 512)
    a, b = (F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(i)), dim=-1) for i in (0, 1))
    yield Row(
        "info_nce and both gradients", f"{n} by {d}", gradient(lambda a, b: lx.info_nce(a, b, temperature=0.07), a, b),
        "PyTorch", gradient(contrasted, a, b), 1.0, 1e-4,
    )  # fmt: skip
    logits = rng.standard_normal((200, 10) if smoke else (100_000, 1000)).astype(np.float32)
    ids = lx.sample(logits, rng, temperature=1.5)
    size = "x".join(map(str, logits.shape))

    def calibrated() -> Any:
        total = Calibration()
        total.update(logits, ids)
        return total.result().error

    yield Row("Calibration", size, calibrated, "`cross_entropy`", lambda: lx.cross_entropy(logits, ids), 1.3)
    yield Row("fit_temperature", size, lambda: fit_temperature(logits, ids), READ, lambda: lx.logsumexp(logits), 10)


def as_arrays(found: Any) -> list[Any]:
    """Return one result or several as NumPy arrays."""
    return [np.asarray(one) for one in (found if isinstance(found, tuple) else (found,))]


def measured(smoke: bool, parts: list[str]) -> Iterator[dict[str, Any]]:
    """Yield one record for each row whose name has one of the parts."""
    shapes = ((4, 50), (8, 60)) if smoke else ((512, 128_256), (2048, 10_000))
    groups = [rows_of_logits(shape) for shape in shapes] + [sums_in_log_space(smoke), losses(smoke)]
    for row in itertools.chain(*groups):
        if parts and not any(part in row.name for part in parts):
            continue
        if row.tolerance is not None:
            for one, other in zip(as_arrays(row.ours()), as_arrays(row.theirs()), strict=True):
                np.testing.assert_allclose(one, other, rtol=row.tolerance, atol=row.tolerance * abs(other).max())
        best = least_seconds({"ours": row.ours, "theirs": row.theirs})
        ratio = best["ours"] / best["theirs"]
        print(f"{row.name:45} {row.size:22} {ratio:7.2f} {row.unit:22} at most {row.most:.2f}", flush=True)
        yield {
            "name": row.name, "size": row.size, "unit": row.unit, "most": round(row.most, 2),
            "ratio": float(f"{ratio:.3g}"), "milliseconds": float(f"{best['ours'] * 1e3:.3g}"),
        }  # fmt: skip


def main() -> None:
    """Measure, and write the record unless only some rows were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="only rows whose name has one of these; nothing is recorded")
    parser.add_argument("--smoke", action="store_true", help="small arrays, no record")
    options = parser.parse_args()
    rows = list(measured(options.smoke, options.parts))
    if not (options.smoke or options.parts):
        names = ("numpy", "numba", "torch")
        record = {
            "versions": ", ".join(f"{name} {version(name)}" for name in names),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        }
        RECORD.write_text(json.dumps({**record, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
