"""Time programs that many people know, before and after a change of one call, and write docs/programs.json.

The formulas are those of the programs named; pymbar and dynesty are run themselves, with their `logsumexp` replaced.

python benchmarks/programs.py
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import torch
import torch.nn.functional as F

import logitx as lx

RECORD = Path(__file__).resolve().parent.parent / "docs" / "programs.json"
RNG = np.random.default_rng(0)
ROUNDS = 15  # the least time of each: other programs can only add to it


class Program(NamedTuple):
    """One program: what it does, both ways, and how far apart their results may be."""

    name: str
    before: str
    after: str
    old: Callable[[], Any]
    new: Callable[[], Any]
    tolerance: float = 1e-5


def sinkhorn() -> Program:
    cost, steps = -20 * RNG.random((1000, 1000)), 20
    a = b = np.full(1000, -np.log(1000))

    def run(sum_of: Callable[..., Any], fused: bool) -> Any:
        f = g = np.zeros(1000)
        for _ in range(steps):
            f = a - (sum_of(cost, axis=1, log_b=g) if fused else sum_of(cost + g, axis=1))
            g = b - (sum_of(cost, axis=0, log_b=f[:, None]) if fused else sum_of(cost + f[:, None], axis=0))
        return f

    return Program(
        "Sinkhorn of 1000 by 1000 in log space (the loop of POT), 20 iterations",
        "`scipy.special.logsumexp(M + g, axis=1)`",
        "`lx.logsumexp(M, axis=1, log_b=g)`",
        lambda: run(scipy.special.logsumexp, False),
        lambda: run(lx.logsumexp, True),
        1e-9,
    )


def tokens() -> Program:
    logits = torch.randn(256, 128256, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(256) * 401
    return Program(
        "Log-probabilities of 256 tokens among 128,256 (trainers of language models)",
        "`F.log_softmax(z, -1).gather(-1, ids[:, None])`",
        "`lx.selected_log_softmax(z, ids)`",
        lambda: F.log_softmax(logits, -1).gather(-1, ids[:, None])[:, 0],
        lambda: lx.selected_log_softmax(logits, ids),
    )


def segmentation() -> Program:
    logits = torch.randn(4, 19, 256, 512, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 19, (4, 256, 512), generator=torch.Generator().manual_seed(1))
    labels[:, :8] = 255
    return Program(
        "Loss of a segmentation, (4, 19, 256, 512) with an ignored label (mmsegmentation)",
        "`F.cross_entropy(z, y, ignore_index=255)`",
        "`lx.cross_entropy(z, y, axis=1, ignore_index=255)`",
        lambda: F.cross_entropy(logits, labels, ignore_index=255),
        lambda: lx.cross_entropy(logits, labels, axis=1, ignore_index=255),
    )


def entropy() -> Program:
    logits = torch.randn(512, 32000, generator=torch.Generator().manual_seed(0))

    def by_hand() -> Any:
        log_p = F.log_softmax(logits, -1)
        return -(log_p.exp() * log_p).sum(-1)

    return Program(
        "Entropy of 512 rows of 32,000 logits (reinforcement learning)",
        "`-(log_p.exp() * log_p).sum(-1)`",
        "`lx.entropy(z)`",
        by_hand,
        lambda: lx.entropy(logits),
    )


def distillation() -> Program:
    student, teacher = (torch.randn(2048, 10000, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    student.requires_grad_()

    def step(loss: Callable[[], Any]) -> Any:
        return torch.autograd.grad(loss(), student)[0]

    return Program(
        "A step of distillation at T = 2, (2048, 10000), with its gradient",
        '`F.kl_div(s.log_softmax(-1), t.softmax(-1), reduction="batchmean")` of divided logits',
        "`lx.cross_entropy(s, lx.softmax(t, temperature=2), temperature=2)`",
        lambda: step(
            lambda: F.kl_div(F.log_softmax(student / 2, -1), F.softmax(teacher / 2, -1), reduction="batchmean")
        ),
        lambda: step(lambda: lx.cross_entropy(student, lx.softmax(teacher, temperature=2.0), temperature=2.0)),
    )


def free_energies() -> Program:
    sys.modules["jax"] = None  # type: ignore[assignment]  # pymbar takes SciPy where JAX is missing
    from pymbar import mbar_solvers

    del sys.modules["jax"]
    samples, states = 2000, 16
    centers = np.linspace(0, 3, states)
    x = np.concatenate([RNG.normal(center, 1, samples) for center in centers])
    u, counts = 0.5 * (x - centers[:, None]) ** 2, np.full(states, samples)
    theirs = mbar_solvers.logsumexp

    def run(sum_of: Callable[..., Any]) -> Any:
        mbar_solvers.logsumexp = sum_of
        try:
            f = np.zeros(states)
            for _ in range(20):
                f = mbar_solvers.self_consistent_update(u, counts, f)
                f = f - f[0]
            return f
        finally:
            mbar_solvers.logsumexp = theirs

    return Program(
        "Free energies of 16 states, 32,000 samples (20 updates of pymbar)",
        "`scipy.special.logsumexp`",
        "`lx.logsumexp`, the same arguments",
        lambda: run(scipy.special.logsumexp),
        lambda: run(lx.logsumexp),
        1e-10,
    )


def nested_sampling() -> Program:
    import dynesty
    from dynesty import bounding, dynamicsampler, utils

    modules = [module for module in (bounding, dynamicsampler, utils) if hasattr(module, "logsumexp")]

    def for_dynesty(a: Any, axis: Any = None, **options: Any) -> Any:
        return lx.logsumexp(a, axis, **options)

    def run(sum_of: Callable[..., Any]) -> Any:
        before = [module.logsumexp for module in modules]
        for module in modules:
            module.logsumexp = sum_of
        try:
            sampler = dynesty.NestedSampler(
                lambda x: -0.5 * float(x @ x), lambda u: 10 * u - 5, 3, nlive=200, rstate=np.random.default_rng(0)
            )
            sampler.run_nested(print_progress=False)
            return sampler.results.logz[-1]
        finally:
            for module, one in zip(modules, before, strict=True):
                module.logsumexp = one

    return Program(
        "A run of dynesty, three dimensions, 200 live points",
        "`scipy.special.logsumexp`",
        "`lx.logsumexp` with `axis=None`",
        lambda: run(scipy.special.logsumexp),
        lambda: run(for_dynesty),
        1e-9,
    )


PROGRAMS = (free_energies, nested_sampling, sinkhorn, tokens, segmentation, entropy, distillation)


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def rows() -> Iterator[dict[str, Any]]:
    """Yield one row for each program: both ways take turns, and the results agree."""
    for make in PROGRAMS:
        program = make()
        old, new = np.asarray(program.old()), np.asarray(program.new())
        if not np.allclose(old, new, rtol=program.tolerance, atol=program.tolerance):
            raise ValueError(f"{program.name}: the results differ by {abs(old - new).max()}")
        times = [(seconds(program.old), seconds(program.new)) for _ in range(ROUNDS)]
        before, after = (min(column) for column in zip(*times, strict=True))
        print(f"{program.name}: {before * 1e3:.1f} ms, {after * 1e3:.1f} ms, {before / after:.1f}", flush=True)
        yield {
            "program": program.name, "before": program.before, "after": program.after,
            "milliseconds": [before * 1e3, after * 1e3], "ratio": before / after,
        }  # fmt: skip


def main() -> None:
    """Measure and write."""
    names = ("numpy", "numba", "scipy", "torch", "pymbar", "dynesty")
    record = {
        "versions": ", ".join(f"{name} {version(name)}" for name in names),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    RECORD.write_text(json.dumps({**record, "rows": [*rows()]}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
