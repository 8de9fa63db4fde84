"""One line changed: the same network trained on real digits with PyTorch's loss and with ours, to the same weights.

    loss = torch.nn.functional.cross_entropy(net(images), labels)   # before
    loss = lx.cross_entropy(net(images), labels)                    # after

Both networks begin with the same weights and see the same batches. Rounding differs in the last bits, and training
lets such differences grow; in float64 they have no time to become visible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_digits

import logitx as lx

EPOCHS, BATCH, RATE = 15, 64, 1e-2
LEAST_ACCURACY, LARGEST_DIFFERENCE = 0.94, 1e-9

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
LOSSES: dict[str, Loss] = {
    "torch.nn.functional.cross_entropy": torch.nn.functional.cross_entropy,
    "torch.nn.CrossEntropyLoss": torch.nn.CrossEntropyLoss(),
    "logitx.cross_entropy": lx.cross_entropy,
    "logitx.cross_entropy, compiled": torch.compile(lx.cross_entropy, fullgraph=True, backend="aot_eager"),
}


def load(held_out: int = 450) -> tuple[torch.Tensor, ...]:
    """Load the digits in a fixed random order, the last `held_out` of them for the test."""
    images, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order] / 16, labels[order]
    return images[:-held_out], labels[:-held_out], images[-held_out:], labels[-held_out:]


def train(loss: Loss, images: torch.Tensor, labels: torch.Tensor) -> torch.nn.Module:
    """Fit a network of one hidden layer by Adam."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10)).double()
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    for _ in range(EPOCHS):
        for start in range(0, len(labels), BATCH):
            optimizer.zero_grad()
            loss(net(images[start : start + BATCH]), labels[start : start + BATCH]).backward()
            optimizer.step()
    return net


def main() -> dict[str, Any]:
    """Train with every loss, report, check; return the networks."""
    images, labels, test_images, test_labels = load()
    nets, reference = {}, None
    for name, loss in LOSSES.items():
        net = nets[name] = train(loss, images, labels)
        weights = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
        reference = weights if reference is None else reference
        difference = float((weights - reference).abs().max())
        accuracy = float((net(test_images).argmax(-1) == test_labels).double().mean())
        print(f"{name:34} test accuracy {accuracy:.4f}   weights differ from the first by at most {difference:.1e}")
        if accuracy <= LEAST_ACCURACY:
            raise SystemExit(f"an accuracy is not above {LEAST_ACCURACY}")
        if difference > LARGEST_DIFFERENCE:
            raise SystemExit(f"the weights are more than {LARGEST_DIFFERENCE} apart")
    return nets


if __name__ == "__main__":
    main()
