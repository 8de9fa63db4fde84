"""The picture of the digits example: loss curves, digits with their probabilities, one row of logits at three heats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")  # a file is written; no window is needed

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

import logitx as lx

INK, SOFT, FAINT, GRID = "#1c2530", "#66717f", "#c6ccd4", "#e8ebef"
BLUE, MID_BLUE, PALE_BLUE, RED = "#1f5fa8", "#5b94d2", "#b4cdeb", "#c8443a"
TEMPERATURES = {0.5: "sharper", 1.0: "as trained", 3.0: "flatter"}

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


def draw(digits: Any, runs: dict[str, Any], scores: dict[str, float], output: Path) -> None:
    """Write the picture: `runs` and `scores` by array type, `digits` as NumPy arrays."""
    logits = digits.test_images @ np.asarray(runs["NumPy"].weights)
    probabilities = lx.softmax(logits)
    shown = choose(probabilities, digits.test_labels)
    with mpl.rc_context(STYLE):
        figure = plt.figure(figsize=(13.6, 5.4), dpi=160, facecolor="white")
        parts: Any = figure.subfigures(1, 3, width_ratios=[1.0, 1.0, 0.92], wspace=0.0)
        left, middle, right = parts
        draw_losses(left, runs, scores)
        draw_digits(middle, digits, probabilities, shown)
        draw_temperatures(right, digits, logits, shown[-2])
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, metadata={"Software": None})
        plt.close(figure)


def choose(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    """Return five test images: four that the model gets right, from sure to doubtful, and its proudest mistake."""
    best = probabilities.max(-1)
    right = probabilities.argmax(-1) == labels
    shown: list[int] = []
    for belief in (1.0, 0.9, 0.7, 0.45):
        new = right & ~np.isin(labels, labels[shown])  # a digit of each kind only once
        shown.append(int(np.argmin(np.where(new, abs(best - belief), np.inf))))
    return [*shown, int(np.argmax(np.where(right, 0, best)))]


def heading(panel: SubFigure, title: str, subtitle: str, x: float) -> None:
    """Write what a panel says, and below it what it shows."""
    panel.text(x, 0.945, title, fontsize=12.5, fontweight="bold", va="center")
    panel.text(x, 0.893, subtitle, fontsize=9, color=SOFT, va="center")


def draw_losses(panel: SubFigure, runs: dict[str, Any], scores: dict[str, float]) -> None:
    """Draw the loss curves on top of each other, each line thinner, so that a difference would show as a fringe."""
    curves = np.array([run.losses for run in runs.values()])
    spread = np.ptp(curves, axis=0).max()
    subtitle = f"Cross-entropy on held-out digits, in nats; {spread:.0e} apart at most"
    heading(panel, "Three array types, one curve", subtitle, 0.1)
    axes = panel.add_axes((0.1, 0.11, 0.78, 0.72))
    epochs = np.arange(1, curves.shape[-1] + 1)
    layers = [(PALE_BLUE, 8.0), (MID_BLUE, 4.0), (INK, 1.2)]
    for (color, width), losses in zip(layers, curves, strict=True):
        axes.plot(epochs, losses, color=color, linewidth=width, solid_capstyle="round", clip_on=False)
    last = f"{curves[0, -1]:.2f}"
    axes.annotate(last, (epochs[-1], curves[0, -1]), (0, 9), textcoords="offset points", ha="center", fontweight="bold")
    axes.set(xlim=(0, epochs[-1]), ylim=(0, None))
    axes.set_xticks([1, *range(10, len(epochs) + 1, 10)])
    axes.set_xlabel("epoch", loc="right")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    key = axes.inset_axes((0.38, 0.68, 0.62, 0.28), facecolor="white", zorder=3)  # hides the grid behind the words
    key.set(xlim=(0, 1), ylim=(2.5, -0.5), xticks=[], yticks=[])
    key.spines[:].set_visible(False)
    for row, ((color, width), (name, score)) in enumerate(zip(layers, scores.items(), strict=True)):
        key.plot([0.04, 0.18], [row, row], color=color, linewidth=width, solid_capstyle="round")
        key.text(0.27, row, name, va="center")
        key.text(1.0, row, f"{score:.1%} right", va="center", ha="right", color=SOFT)


def draw_digits(panel: SubFigure, digits: Any, probabilities: np.ndarray, shown: list[int]) -> None:
    """Draw digits beside the probability of each class."""
    heading(panel, "What the model believes", "Probability of each class: the right one blue, a wrong winner red", 0.06)
    height = 0.72 / len(shown)
    for row, index in enumerate(shown):
        bottom = 0.83 - (row + 1) * height
        picture = panel.add_axes((0.06, bottom + 0.012, 0.15, height - 0.024))
        draw_image(picture, digits.test_images[index])
        bars = panel.add_axes((0.27, bottom + 0.012, 0.66, height - 0.03))
        draw_bars(bars, probabilities[index], int(digits.test_labels[index]), is_last=row == len(shown) - 1)


def draw_temperatures(panel: SubFigure, digits: Any, logits: np.ndarray, index: int) -> None:
    """Draw the probabilities that one row of logits gives at three temperatures."""
    heading(panel, "The same logits, three temperatures", "The fourth digit again: only temperature= changes", 0.08)
    height = 0.72 / len(TEMPERATURES)
    for row, (temperature, word) in enumerate(TEMPERATURES.items()):
        probabilities = lx.softmax(logits[index], temperature=temperature)
        bars = panel.add_axes((0.34, 0.83 - (row + 1) * height + 0.012, 0.6, height - 0.05))
        draw_bars(bars, probabilities, int(digits.test_labels[index]), is_last=row == len(TEMPERATURES) - 1)
        bars.text(
            -0.06, 0.6, f"T = {temperature:g}", transform=bars.transAxes, ha="right", fontsize=11, fontweight="bold"
        )
        bars.text(-0.06, 0.38, word, transform=bars.transAxes, ha="right", color=SOFT)


def draw_image(axes: Axes, image: np.ndarray) -> None:
    """Draw the 8 x 8 pixels of one row of `Digits`."""
    axes.imshow(image[:64].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=GRID)


def draw_bars(axes: Axes, probabilities: np.ndarray, label: int, *, is_last: bool) -> None:
    """Draw one bar a class: the right class in blue, a wrong one that wins in red; the winner carries its figure."""
    winner = int(probabilities.argmax())
    colors = [BLUE if digit == label else RED if digit == winner else FAINT for digit in range(10)]
    axes.bar(range(10), probabilities, width=0.72, color=colors)
    for digit in {winner, label}:
        if probabilities[digit] >= 0.005:
            figure, color = f"{probabilities[digit]:.0%}", colors[digit]
            axes.text(
                digit, probabilities[digit] + 0.05, figure, ha="center", fontsize=8, color=color, fontweight="bold"
            )
    axes.set(xlim=(-0.6, 9.6), ylim=(0, 1.2), yticks=[])
    axes.set_xticks(range(10), [str(digit) for digit in range(10)] if is_last else [""] * 10)
    axes.spines["left"].set_visible(False)
