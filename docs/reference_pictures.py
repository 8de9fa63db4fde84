"""The pictures of the pages of functions: each drawn with the functions that it shows, when the site is built.

A page asks for its picture with a comment, ``<!-- picture: what can be seen -->``; `PICTURES` has a row for each page.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import logitx as lx
from logitx.calibration import Calibration, fit_temperature

BLUE, ORANGE, GREEN, GRAY = "#1f5fa8", "#c85a11", "#2f7d3b", "#8a8a8a"
X = np.linspace(-6.0, 6.0, 241)
ROWS = np.stack([X, 0 * X, 0 * X + 1], axis=1)  # rows (x, 0, 1)


def random() -> np.random.Generator:
    """Return random numbers, the same for each picture."""
    return np.random.default_rng(0)


def lines(ax: Any, x: Any, curves: dict[str, Any], title: str, xlabel: str) -> None:
    """Draw some curves with a legend."""
    for (name, y), color in zip(curves.items(), (BLUE, ORANGE, GREEN, GRAY, "black"), strict=False):
        ax.plot(x, y, color=color, label=name)
    ax.set(title=title, xlabel=xlabel)
    ax.legend(frameon=False)


def softmax(left: Any, right: Any) -> None:
    """Probabilities of a row, and what a temperature does to them."""
    p = lx.softmax(ROWS).T
    names = ("class of x", "class of 0", "class of 1")
    lines(left, X, dict(zip(names, p, strict=True)), "softmax of (x, 0, 1)", "x")
    heat = np.geomspace(0.1, 10.0, 100)
    p = lx.softmax(np.broadcast_to([2.0, 1.0, 0.0], (100, 3)), temperature=heat[:, None]).T
    lines(right, heat, dict(zip(("2", "1", "0"), p, strict=True)), "softmax of (2, 1, 0)", "temperature")
    right.set_xscale("log")


def logsumexp(left: Any, right: Any) -> None:
    """A maximum with a round corner, and the running sum."""
    pair = np.stack([X, 0 * X], axis=1)
    curves = {"logsumexp": lx.logsumexp(pair), "logmeanexp": lx.logmeanexp(pair), "max": pair.max(axis=1)}
    lines(left, X, curves, "of (x, 0)", "x")
    x = random().normal(0.0, 2.0, 30)
    lines(right, np.arange(30), {"logcumsumexp": lx.logcumsumexp(x), "x": x}, "running sum", "entries so far")


def cross_entropy(left: Any, right: Any) -> None:
    """The loss by the logit of the label, and its gradient."""
    ids = np.zeros(len(X), int)
    losses = {
        f"label_smoothing={eps}": lx.cross_entropy(ROWS, ids, label_smoothing=eps, reduction="none")
        for eps in (0.0, 0.1, 0.3)
    }
    lines(left, X, losses, "loss of (x, 0, 1), label 0", "x")
    gradient = lx.cross_entropy_value_and_grad(ROWS, ids, reduction="sum")[1].T
    names = ("by the label's logit", "by the logit 0", "by the logit 1")
    lines(right, X, dict(zip(names, gradient, strict=True)), "gradient", "x")


def linear(left: Any, right: Any) -> None:
    """Which logits are in memory at a time."""
    for ax, title, tiles in ((left, "logits of a layer: all of them", 1), (right, "linear_cross_entropy: a tile", 6)):
        ax.imshow(np.zeros((6, 12)), cmap=mpl.colors.ListedColormap(["#e8eef6"]), extent=(0, 12, 0, 6), aspect="auto")
        width, height = 12 / tiles, 6 / (tiles // 2 or 1)
        ax.add_patch(mpl.patches.Rectangle((0, 6 - height), width, height, color=BLUE))
        for at in range(tiles + 1):
            ax.axvline(at * width, color="white", linewidth=1)
        for at in range(tiles // 2 + 1):
            ax.axhline(at * height, color="white", linewidth=1)
        ax.set(title=title, xlabel="classes", ylabel="rows", xticks=[], yticks=[])


def binary(left: Any, right: Any) -> None:
    """The probability of a yes, and the loss."""
    lines(left, X, {"sigmoid": lx.sigmoid(X), "log_sigmoid / 6": lx.log_sigmoid(X) / 6}, "of one logit", "x")
    losses = {f"target {t}": lx.binary_cross_entropy(X, np.full_like(X, t), reduction="none") for t in (1, 0, 0.5)}
    lines(right, X, losses, "binary_cross_entropy", "x")


def focal(left: Any, right: Any) -> None:
    """The loss of easy rows shrinks."""
    p = np.linspace(0.01, 0.99, 200)
    x = np.stack([np.log(p), np.log1p(-p)], axis=1)
    ids = np.zeros(len(p), int)
    losses = {f"gamma={g}": lx.focal_loss(x, ids, gamma=float(g), reduction="none") for g in (0, 1, 2, 5)}
    lines(left, p, losses, "focal_loss", "probability of the label")
    slopes = {
        f"gamma={g}": -lx.focal_loss_value_and_grad(x, ids, gamma=float(g), reduction="sum")[1][:, 0]
        for g in (0, 1, 2, 5)
    }
    lines(right, p, slopes, "pull on the logit of the label", "probability of the label")


def row_numbers(left: Any, right: Any) -> None:
    """How undecided a row is, and how far two rows are from each other."""
    means = {"entropy": lx.entropy(ROWS), "softmax_mean of 0, 1, 2": lx.softmax_mean(ROWS, np.array([0.0, 1.0, 2.0]))}
    lines(left, X, means, "of (x, 0, 1)", "x")
    even = np.zeros_like(ROWS)
    other = np.stack([X, 0 * X, 0 * X], axis=1)
    far = {
        "kl_divergence": lx.kl_divergence(other, even, reduction="none"),
        "the other way round": lx.kl_divergence(even, other, reduction="none"),
        "js_divergence": lx.js_divergence(other, even, reduction="none"),
    }
    lines(right, X, far, "(x, 0, 0) against (0, 0, 0)", "x")


def samples(left: Any, right: Any) -> None:
    """Which classes are left, and how often each is drawn."""
    x, places = np.array([2.0, 1.4, 0.9, 0.2, -0.5, -1.0, -2.0]), np.arange(7)
    best = lx.softmax_top_k(x, 3)[1]
    left.bar(places, lx.softmax(x), color=[BLUE if i in best else "#c9d6e6" for i in places])
    left.set(title="softmax_top_k of 3 classes", xlabel="class", ylabel="probability")
    drawn = lx.sample(x, np.random.default_rng(1), shape=(1000,), top_p=0.9)
    right.bar(places, np.bincount(drawn, minlength=7) / 1000, color=ORANGE, label="1000 samples, top_p=0.9")
    right.plot(places, lx.softmax(x), "o", color="black", label="softmax")
    right.set(title="sample", xlabel="class")
    right.legend(frameon=False)


def contrastive(left: Any, right: Any) -> None:
    """Similarities of pairs, and the loss by the temperature."""
    rng = random()
    a = rng.standard_normal((12, 16))
    b = a + 0.7 * rng.standard_normal((12, 16))
    a, b = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (a, b))
    left.imshow(a @ b.T, cmap="Blues")
    left.set(title="similarities; pairs on the diagonal", xlabel="b", ylabel="a")
    heat = np.geomspace(0.02, 2.0, 60)
    loss = [float(lx.info_nce(a, b, temperature=float(t))) for t in heat]
    lines(right, heat, {"info_nce": loss}, "loss", "temperature")
    right.set_xscale("log")


def segments(left: Any, right: Any) -> None:
    """Numbers in groups of any length; the probabilities of each group add up to 1."""
    ids = np.repeat(np.arange(4), (3, 6, 1, 5))
    x = random().normal(0.0, 1.5, len(ids))
    colors = [(BLUE, ORANGE, GREEN, GRAY)[i] for i in ids]
    left.bar(np.arange(len(x)), x, color=colors)
    left.set(title="x, a color a segment", xlabel="entry")
    right.bar(np.arange(len(x)), lx.segment_softmax(x, segment_ids=ids), color=colors)
    right.set(title="segment_softmax", xlabel="entry")


def evaluation(left: Any, right: Any) -> None:
    """Confidence against accuracy, before and after a temperature is fitted."""
    x = random().normal(0.0, 1.0, (4000, 5))
    ids = lx.sample(x, np.random.default_rng(2))
    x = 2.5 * x  # too sure of itself
    fitted = float(fit_temperature(x, ids))
    left.plot([0, 1], [0, 1], color=GRAY, linewidth=1)
    for heat, color in ((1.0, ORANGE), (fitted, BLUE)):
        bins = Calibration(bins=10, temperature=heat).update(x, ids).result().bins
        left.plot(bins.confidence, bins.accuracy, "o-", color=color, label=f"temperature {heat:.2f}")
    left.set(title="Calibration", xlabel="confidence", ylabel="accuracy")
    left.legend(frameon=False)
    heat = np.linspace(1.0, 6.0, 60)
    loss = [float(lx.cross_entropy(x, ids, temperature=float(t))) for t in heat]
    lines(right, heat, {"loss": loss}, "fit_temperature", "temperature")
    right.axvline(fitted, color=GRAY, linewidth=1)


PICTURES: dict[str, Callable[[Any, Any], None]] = {
    one.__name__: one
    for one in (
        softmax, logsumexp, cross_entropy, linear, binary, focal, row_numbers, samples, contrastive, segments,
        evaluation,
    )
}  # fmt: skip


def draw(page: str) -> bytes:
    """Return the picture of a page as SVG: the same bytes each time, so that nothing is built anew for it."""
    style: Any = {"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context({**style, "svg.hashsalt": page}):
        figure, file = Figure(figsize=(8.0, 2.8), layout="constrained"), io.BytesIO()
        PICTURES[page](*figure.subplots(1, 2))
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
