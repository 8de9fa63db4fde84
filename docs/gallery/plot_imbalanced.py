"""
A rare class
============

Where one class is rare, the mean over rows hardly sees it. ``class_weight="balanced"`` gives every class the same total
weight, which moves the border. The focal loss lowers the weight of rows that are easy. Here it changes little, because
the rows near the border decide already.
"""

import matplotlib.pyplot as plt
import numpy as np

import logitx as lx

rng = np.random.default_rng(3)
centers = np.array([[-1.2, 0.0], [1.2, 0.0]])
labels = np.repeat([0, 1], (950, 50))
points = centers[labels] + 0.9 * rng.standard_normal((1000, 2))
fresh_labels = np.repeat([0, 1], (2000, 2000))
fresh = centers[fresh_labels] + 0.9 * rng.standard_normal((4000, 2))

# %%
# Three losses, one model
# -----------------------

losses = {
    "cross-entropy": lambda z, t: lx.cross_entropy_value_and_grad(z, t),
    "balanced weights": lambda z, t: lx.cross_entropy_value_and_grad(z, t, class_weight="balanced"),
    "focal loss": lambda z, t: lx.focal_loss_value_and_grad(z, t, gamma=2.0),
}


def with_one(values: np.ndarray) -> np.ndarray:
    """Return the features of a linear model: a constant and the coordinates."""
    return np.column_stack([np.ones(len(values)), values])


figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, layout="constrained")
grid = np.stack(np.meshgrid(np.linspace(-4, 4, 200), np.linspace(-3, 3, 150)), axis=-1)
for axis, (name, loss) in zip(axes, losses.items(), strict=True):
    weights = np.zeros((3, 2))
    for _ in range(1500):
        weights -= 0.5 * with_one(points).T @ loss(with_one(points) @ weights, labels)[1]
    right = (with_one(fresh) @ weights).argmax(-1) == fresh_labels
    print(f"{name:17} finds {right[2000:].mean():.0%} of the rare class, {right[:2000].mean():.0%} of the other")
    p = lx.softmax(with_one(grid.reshape(-1, 2)) @ weights)[:, 1].reshape(grid.shape[:2])
    axis.contourf(grid[..., 0], grid[..., 1], p, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.35)
    axis.contour(grid[..., 0], grid[..., 1], p, levels=[0.5], colors="black", linewidths=1)
    for one, color, size in ((0, "#1f5fa8", 4), (1, "#b3372d", 14)):
        axis.scatter(*points[labels == one].T, s=size, color=color)
    axis.set(xlim=(-4, 4), ylim=(-3, 3))
    axis.set_title(f"{name}: {right[2000:].mean():.0%} of the rare class", fontsize=10)
