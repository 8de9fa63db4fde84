"""One training loop, three array types: softmax regression on real handwritten digits.

`train` below is written once. It is handed NumPy, JAX or PyTorch arrays and never asks which; logitx runs what is
fastest for them. The run prints the accuracy on digits that training never saw and draws one picture of it all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
from digits_picture import draw
from sklearn.datasets import load_digits
from tqdm import tqdm

import logitx as lx

ARRAY_TYPES: dict[str, Callable[[np.ndarray], Any]] = {
    "NumPy": np.asarray,
    "JAX": jnp.asarray,
    "PyTorch": torch.from_numpy,
}
EPOCHS, BATCH, RATE = 40, 64, 0.5
LEAST_ACCURACY, LARGEST_SPREAD = 0.94, 0.005


class Digits(NamedTuple):
    """Images of 8 x 8 pixels as rows, with a constant 1 at the end for the bias, and their labels."""

    train_images: Any
    train_labels: Any
    test_images: Any
    test_labels: Any


class Trained(NamedTuple):
    """What one run of the loop leaves behind: the weights, and after each epoch the loss on held-out digits."""

    weights: Any
    losses: list[float]


def load(held_out: int = 450) -> Digits:
    """Load the digits in a fixed random order, the last `held_out` of them for the test."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    ones = np.ones((len(labels), 1))
    images = np.concatenate([images / 16, ones], axis=1)[order].astype(np.float32)
    labels = labels[order]
    return Digits(images[:-held_out], labels[:-held_out], images[-held_out:], labels[-held_out:])


def train(digits: Digits, weights: Any, name: str) -> Trained:
    """Fit softmax regression by gradient descent. Nothing in here knows NumPy, JAX or PyTorch."""
    losses = []
    progress = tqdm(range(EPOCHS), desc=f"{name:8}", unit="epoch", ncols=80)
    for _ in progress:
        for start in range(0, len(digits.train_labels), BATCH):
            images = digits.train_images[start : start + BATCH]
            labels = digits.train_labels[start : start + BATCH]
            _, dlogits = lx.cross_entropy_value_and_grad(images @ weights, labels)
            weights = weights - RATE * (images.T @ dlogits)
        losses.append(float(lx.cross_entropy(digits.test_images @ weights, digits.test_labels)))
        progress.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    return Trained(weights, losses)


def accuracy(digits: Digits, weights: Any) -> float:
    """Return the share of test images whose most probable class is the right one."""
    probabilities = lx.softmax(digits.test_images @ weights)
    return float((probabilities.argmax(-1) == digits.test_labels).sum()) / len(digits.test_labels)


def main() -> None:
    """Train on every array type, report, check, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("build/digits.png"), help="where the picture goes")
    output = parser.parse_args().output

    digits = load()
    shape = (digits.train_images.shape[1], 10)
    start = np.random.default_rng(1).normal(0, 0.01, shape).astype(np.float32)
    runs, scores = {}, {}
    print("The first call of each kind compiles, once on a machine: the first epoch may take seconds.")
    for name, asarray in ARRAY_TYPES.items():
        own = Digits(*map(asarray, digits))
        runs[name] = train(own, asarray(start), name)
        scores[name] = accuracy(own, runs[name].weights)

    print(f"\n{len(digits.test_labels)} digits held out, {len(digits.train_labels)} trained on for {EPOCHS} epochs\n")
    for name, asarray in ARRAY_TYPES.items():
        logits, labels = asarray(digits.test_images) @ runs[name].weights, asarray(digits.test_labels)
        choice = lx.which("cross_entropy_value_and_grad", logits, labels)
        print(f"  {name:8} test accuracy {scores[name]:.4f}   ran on {choice.backend}: {choice.reason}")

    draw(digits, runs, scores, output)
    print(f"\nThe picture is in {output}")
    if min(scores.values()) <= LEAST_ACCURACY:
        raise SystemExit(f"an accuracy is not above {LEAST_ACCURACY}")
    if max(scores.values()) - min(scores.values()) > LARGEST_SPREAD:
        raise SystemExit(f"the accuracies are more than {LARGEST_SPREAD} apart")


if __name__ == "__main__":
    main()
