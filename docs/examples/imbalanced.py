"""What class weights and the focal loss do to a rare class: three fits of the same model, drawn beside each other."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np

import logitx as lx

mpl.use("Agg")  # a file is written; no window is needed
import matplotlib.pyplot as plt

Loss = Callable[[Any, Any], tuple[Any, Any]]
LOSSES: dict[str, Loss] = {
    "cross-entropy": lx.cross_entropy_value_and_grad,
    'class_weight="balanced"': lambda x, t: lx.cross_entropy_value_and_grad(x, t, class_weight="balanced"),
    "focal loss, gamma 2": lambda x, t: lx.focal_loss_value_and_grad(x, t, gamma=2.0),
}
CENTERS = np.array([[-1.2, -0.4], [1.2, -0.4], [0.0, 0.9]])
COUNTS = (500, 500, 25)
COLORS = ("#4c78a8", "#59a14f", "#e15759")


def drawn(rng: Any, counts: tuple[int, ...]) -> tuple[Any, Any]:
    """Draw points around three centers."""
    labels = np.repeat(np.arange(3), counts)
    return CENTERS[labels] + 0.62 * rng.standard_normal((len(labels), 2)), labels


def features(points: Any) -> Any:
    """Return a constant, the coordinates and their products."""
    x, y = points.T
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def fitted(loss: Loss, points: Any, labels: Any) -> Any:
    """Return the weights of a linear model, by gradient descent."""
    given, weights = features(points), np.zeros((6, 3))
    for _ in range(4000):
        _, gradient = loss(given @ weights, labels)
        weights -= 0.3 * given.T @ gradient
    return weights


def main() -> None:
    """Fit, print the share of each class that is found, and draw the regions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", nargs="?", default="imbalanced.png")
    rng = np.random.default_rng(3)
    (points, labels), (fresh, truth) = drawn(rng, COUNTS), drawn(rng, (2000, 2000, 2000))
    figure, panels = plt.subplots(1, 3, figsize=(10.5, 3.8), sharey=True, layout="constrained")
    grid = np.stack(np.meshgrid(np.linspace(-3.2, 3.2, 300), np.linspace(-2.4, 2.8, 300)), axis=-1)
    for panel, (name, loss) in zip(panels, LOSSES.items(), strict=True):
        weights = fitted(loss, points, labels)
        found = (features(fresh) @ weights).argmax(axis=1)
        shares = [float((found[truth == one] == one).mean()) for one in range(3)]
        print(f"{name:24} found of each class: {', '.join(f'{share:.0%}' for share in shares)}")
        p = lx.softmax(features(grid.reshape(-1, 2)) @ weights).reshape(300, 300, 3)
        panel.contourf(grid[..., 0], grid[..., 1], p.argmax(axis=-1), levels=[-0.5, 0.5, 1.5, 2.5], colors=COLORS,
                       alpha=0.25)  # fmt: skip
        for one in (0, 1, 2):
            panel.scatter(*points[labels == one].T, s=7 if one < 2 else 16, color=COLORS[one], linewidths=0)
        panel.set_title(f"{name}\nrare class found: {shares[2]:.0%}, others: {(shares[0] + shares[1]) / 2:.0%}",
                        fontsize=10)  # fmt: skip
        panel.set(xlim=(-3.2, 3.2), ylim=(-2.4, 2.8), xticks=[], yticks=[])
    figure.savefig(parser.parse_args().picture, dpi=110)


if __name__ == "__main__":
    main()
