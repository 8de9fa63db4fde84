"""
Transport plans (Sinkhorn)
==========================

A plan moves one distribution to another at the least cost. Sinkhorn's method adds a vector to a matrix and sums
exponentials over one axis, over and over. ``logsumexp(log_b=)`` adds the vector within its pass, so that no array of
the size of the matrix is made. In log space a small regularization does not underflow.
"""

import matplotlib.pyplot as plt
import numpy as np

import logitx as lx

x = np.linspace(0, 1, 120)
a = np.exp(-((x - 0.25) ** 2) / 0.005) + 0.02
b = np.exp(-((x - 0.55) ** 2) / 0.01) + 0.6 * np.exp(-((x - 0.85) ** 2) / 0.002) + 0.02
a, b = a / a.sum(), b / b.sum()
cost = (x[:, None] - x[None]) ** 2


def plan(regularization: float, steps: int = 3000) -> np.ndarray:
    """Return the plan that moves a to b."""
    kernel = -cost / regularization
    f, g = np.zeros_like(a), np.zeros_like(b)
    for _ in range(steps):
        f = np.log(a) - lx.logsumexp(kernel, axis=1, log_b=g)
        g = np.log(b) - lx.logsumexp(kernel, axis=0, log_b=f[:, None])
    return np.exp(f[:, None] + kernel + g)


# %%
# Smaller regularization, sharper plans
# -------------------------------------
#
# ``exp(-cost / 0.0005)`` alone is below 1e-16 for most pairs of places, and 0 for the farthest.

figure, axes = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
for axis, regularization in zip(axes, (0.05, 0.005, 0.0005), strict=True):
    p = plan(regularization)
    error = abs(p.sum(axis=1) - a).max()
    print(f"regularization {regularization}: cost {(p * cost).sum():.4f}, error of the sums {error:.1e}")
    axis.imshow(p**0.5, cmap="Blues", extent=(0, 1, 1, 0))
    axis.plot(x, 1 - 6 * b, color="#c8443a", linewidth=1)
    axis.plot(6 * a, x, color="#2b7a3d", linewidth=1)
    axis.set(title=f"regularization {regularization}", xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
