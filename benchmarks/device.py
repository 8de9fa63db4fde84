"""JAX and PyTorch on an accelerator: results checked, then a sweep of sizes beside their own functions; writes JSON.

    python benchmarks/device.py [--cpu] [--minutes 7.5] [--out build/device.json]

Without an accelerator it says so and does nothing; with `--cpu` it rehearses on the CPU, on small shapes. It stops at
the given time, and records what was left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import logitx as lx

SWEEP = tuple((rows, n) for n in (10, 100, 1000, 10_000, 128_256) for rows in (1, 128, 4096) if rows * n < 1 << 28)
LINEAR = ((4096, 1024, 32_000), (8192, 2048, 128_256))  # rows, features, classes
SMALL = 1 << 18  # elements that a rehearsal allows
TOLERANCE = {"float32": 2e-6, "float16": 2e-3, "bfloat16": 2e-2}
CONFORMANCE = "(jax-eager or jax-jit) and float32 and (softmax or logsumexp or cross_entropy) and not linear"


class Library(NamedTuple):
    """JAX or PyTorch on one device: how arrays get there and back, and what is compared."""

    name: str
    device: str
    put: Callable[[np.ndarray, str], Any]
    back: Callable[[Any], np.ndarray]
    wait: Callable[[Any], Any]
    calls: dict[str, tuple[Callable[..., Any], Callable[..., Any]]]  # ours, theirs


def jax_library(cpu: bool) -> Library | None:
    if importlib.util.find_spec("jax") is None:
        return None
    import jax
    import jax.numpy as jnp

    device = jax.devices("cpu")[0] if cpu else jax.devices()[0]
    if device.platform == "cpu" and not cpu:
        return None

    def their_loss(x: Any, ids: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(x.astype(jnp.float32)), ids[:, None], -1).mean()

    def both(function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(jax.value_and_grad(function))

    calls = {
        "softmax": (jax.jit(lx.softmax), jax.jit(jax.nn.softmax)),
        "log_softmax": (jax.jit(lx.log_softmax), jax.jit(jax.nn.log_softmax)),
        "logsumexp": (jax.jit(lx.logsumexp), jax.jit(lambda x: jax.nn.logsumexp(x, -1))),
        "cross_entropy": (jax.jit(lx.cross_entropy), jax.jit(their_loss)),
        "cross_entropy and gradient": (both(lx.cross_entropy), both(their_loss)),
        "linear": (
            jax.jit(jax.value_and_grad(lambda h, w, ids: lx.linear_cross_entropy(h, w, ids), (0, 1))),
            jax.jit(jax.value_and_grad(lambda h, w, ids: their_loss(h @ w.T, ids), (0, 1))),
        ),
    }
    return Library(
        "jax",
        f"{device.platform}: {device.device_kind}",
        lambda a, dtype: jax.device_put(jnp.asarray(a, dtype), device),
        lambda x: np.asarray(x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x),
        jax.block_until_ready,
        calls,
    )


def torch_library(cpu: bool) -> Library | None:
    if importlib.util.find_spec("torch") is None:
        return None
    import torch
    from torch.nn import functional

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() and not cpu else None
    if device is None and not cpu:
        return None
    name = str(device or "cpu")

    def gradient(loss: Callable[..., Any], *leaves: Any) -> Any:
        leaves = tuple(x.detach().requires_grad_() for x in leaves)
        value = loss(*leaves)
        return value.detach(), torch.autograd.grad(value, leaves)

    calls: dict[str, Any] = {
        "softmax": (lx.softmax, lambda x: torch.softmax(x, -1)),
        "log_softmax": (lx.log_softmax, lambda x: torch.log_softmax(x, -1)),
        "logsumexp": (lx.logsumexp, lambda x: torch.logsumexp(x, -1)),
        "cross_entropy": (lx.cross_entropy, functional.cross_entropy),
    }
    for title, (ours, theirs) in {"cross_entropy and gradient": calls["cross_entropy"]}.items():
        calls[title] = tuple(lambda x, ids, loss=loss: gradient(lambda x: loss(x, ids), x) for loss in (ours, theirs))
    calls["linear"] = (
        lambda h, w, ids: gradient(lambda h, w: lx.linear_cross_entropy(h, w, ids), h, w),
        lambda h, w, ids: gradient(lambda h, w: functional.cross_entropy(h @ w.T, ids), h, w),
    )

    def wait(_: Any) -> None:
        if device is not None:
            torch.accelerator.synchronize()

    return Library(
        "torch",
        f"{name}: {torch.cuda.get_device_name() if name.startswith('cuda') else name}",
        lambda a, dtype: torch.from_numpy(a).to(name, getattr(torch, dtype)),
        lambda x: x.detach().to("cpu", torch.float32).numpy() if x.is_floating_point() else x.cpu().numpy(),
        wait,
        calls,
    )


# -- results ----------------------------------------------------------------------------------------------------------


def checks(library: Library) -> list[dict[str, Any]]:
    """Compare with NumPy in float64: rows that are ordinary, dominated, masked by -inf, and not a number."""
    rng, found = np.random.default_rng(0), []
    for dtype, tolerance in TOLERANCE.items():
        x = library.put(rng.standard_normal((64, 300)).astype(np.float32) * 4, dtype)
        values = library.back(x).copy()
        values[0, 5], values[1, 7:], values[2, 3] = 60.0, -np.inf, np.nan
        x, ids = library.put(values, dtype), rng.integers(0, 7, 64)
        labels, exact = library.put(ids, "int32" if library.name == "jax" else "int64"), values.astype(np.float64)
        for op in ("softmax", "log_softmax", "logsumexp", "cross_entropy"):
            more: Any = {"reduction": "none"} if op == "cross_entropy" else {}
            got = library.back(getattr(lx, op)(*((x, labels) if more else (x,)), **more))
            with lx.use_backend("generic"):
                right = getattr(lx, op)(*((exact, ids) if more else (exact,)), **more)
            same = np.allclose(got, right, rtol=tolerance, atol=tolerance, equal_nan=True)
            found.append({"library": library.name, "op": op, "dtype": dtype, "right": bool(same)})
    return found


def conformance(seconds: float) -> dict[str, Any]:
    """Run the shipped suite on JAX's default device; counts, or that the time was over."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--pyargs",
        "logitx.testing",
        "-k",
        CONFORMANCE,
        "-p",
        "no:cacheprovider",
    ]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"ran": f"stopped after {seconds:.0f} s"}
    return {"ran": run.stdout.strip().splitlines()[-1:], "code": run.returncode}


# -- times ------------------------------------------------------------------------------------------------------------


def seconds_of(library: Library, function: Callable[..., Any], operands: tuple[Any, ...], most: float = 0.4) -> float:
    library.wait(function(*operands))
    times, end = [], time.perf_counter() + most
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 200):
        begin = time.perf_counter()
        library.wait(function(*operands))
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def sweep(library: Library, small: bool, until: float) -> tuple[list[dict[str, Any]], list[str]]:
    rng, rows, left = np.random.default_rng(0), [], []
    ids_dtype = "int32" if library.name == "jax" else "int64"
    shapes: list[tuple[int, ...]] = [*SWEEP, *(((256, 64, 1000),) if small else LINEAR)]
    for shape in shapes:
        if small and shape[0] * shape[-1] > SMALL:
            continue
        if time.perf_counter() > until:
            left.append(f"{library.name} {shape}")
            continue
        linear = len(shape) == 3
        ids = library.put(rng.integers(0, shape[-1], shape[0]), ids_dtype)
        made = [shape[:2], (shape[2], shape[1])] if linear else [shape]
        dtype = "bfloat16" if linear and not small else "float32"
        arrays = [library.put(rng.standard_normal(one, dtype=np.float32) / len(made), dtype) for one in made]
        for op, (ours, theirs) in library.calls.items():
            if (op == "linear") is not linear:
                continue
            operands = (*arrays, ids) if linear or op.startswith("cross") else (arrays[0],)
            times = [seconds_of(library, function, operands) for function in (ours, theirs)]
            rows.append({"library": library.name, "op": op, "shape": shape, "ours_s": times[0], "theirs_s": times[1]})
    return rows, left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cpu", action="store_true", help="rehearse on the CPU, on small shapes")
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--out", type=Path, default=Path("build", "device.json"))
    given = parser.parse_args()
    if given.cpu:
        os.environ["JAX_PLATFORMS"] = "cpu"
    begin = time.perf_counter()
    libraries = [one for one in (jax_library(given.cpu), torch_library(given.cpu)) if one is not None]
    if not libraries:
        print("There is no accelerator that JAX or PyTorch can use. `--cpu` rehearses on the CPU.")
        return
    end = begin + 60 * given.minutes
    record: dict[str, Any] = {"rehearsal": given.cpu, "devices": {one.name: one.device for one in libraries}}
    record["versions"] = {one.name: importlib.metadata.version(one.name) for one in libraries}
    record["checks"] = [row for one in libraries for row in checks(one)]
    record["sweep"], record["left"] = [], []
    share = 0.35 * (end - time.perf_counter())  # of the time that is left, for each library
    for one in libraries:
        rows, left = sweep(one, given.cpu, time.perf_counter() + share)
        record["sweep"] += rows
        record["left"] += left
    if any(one.name == "jax" for one in libraries):
        record["conformance"] = conformance(max(10.0, end - time.perf_counter()))
    record["seconds"] = time.perf_counter() - begin
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    wrong = [row for row in record["checks"] if not row["right"]]
    for row in sorted(record["sweep"], key=lambda row: row["theirs_s"] / row["ours_s"]):
        print(f"{row['library']:>6} {row['op']:>27} {row['shape']!s:>20} {row['ours_s'] * 1e6:10.0f} us, "
              f"theirs {row['theirs_s'] * 1e6:10.0f} us, {row['theirs_s'] / row['ours_s']:5.2f}")  # fmt: skip
    print(f"{record['devices']}: {len(record['checks']) - len(wrong)} results right, wrong {wrong}; left out "
          f"{record['left']}; conformance {record.get('conformance')}; {record['seconds']:.0f} s")  # fmt: skip
    sys.exit(bool(wrong or record.get("conformance", {}).get("code")))


if __name__ == "__main__":
    main()
