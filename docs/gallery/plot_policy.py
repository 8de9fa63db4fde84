"""
A policy with an entropy bonus
==============================

A policy chooses among actions, and learns from rewards. Without a bonus it becomes sure of one action and stops trying
the others. The entropy bonus keeps it trying. Actions that are not allowed are left out by ``where``: they are never
drawn, and their gradient is exactly 0.
"""

import matplotlib.pyplot as plt
import numpy as np

import logitx as lx

pay = np.array([0.5, 0.6, 0.0, 0.9, 2.0])  # on average; nobody may take the last one
allowed = np.array([True, True, True, True, False])


def learned(bonus: float, seed: int) -> tuple[np.ndarray, list[float]]:
    """Return the last probabilities, and the entropy at each step."""
    rng = np.random.default_rng(seed)
    logits, entropies = np.zeros(5), []
    for _ in range(400):
        actions = lx.sample(logits, rng, shape=(4,), where=allowed)
        rewards = pay[actions] + 0.5 * rng.standard_normal(4)
        rows = np.broadcast_to(logits, (4, 5))
        advantages = rewards - rewards.mean()
        weighted = {"where": allowed, "sample_weight": advantages, "reduction": "sum"}
        _, gradient = lx.cross_entropy_value_and_grad(rows, actions, **weighted)
        p, log_p = lx.softmax(logits, where=allowed), lx.log_softmax(logits, where=allowed)
        entropy = lx.entropy(logits, where=allowed)
        by_entropy = -p * (np.where(allowed, log_p, 0.0) + entropy)
        logits = logits - 0.3 * gradient.mean(axis=0) + 0.3 * bonus * by_entropy
        entropies.append(float(entropy))
    return lx.softmax(logits, where=allowed), entropies


# %%
# With PyTorch or JAX the bonus is ``loss - bonus * lx.entropy(logits).mean()``, and its gradient follows.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for bonus, color in ((0.0, "#c8443a"), (0.1, "#1f5fa8")):
    runs = [learned(bonus, seed) for seed in range(20)]
    print(f"bonus {bonus}: at last an entropy of {np.mean([entropies[-1] for _, entropies in runs]):.2f} nats")
    axes[0].plot(np.mean([entropies for _, entropies in runs], axis=0), color=color, label=f"bonus {bonus}")
    axes[1].bar(np.arange(5) + (0.2 if bonus else -0.2), np.mean([p for p, _ in runs], axis=0), 0.4, color=color)
axes[0].set(xlabel="step", ylabel="entropy, nats")
axes[0].legend()
axes[1].set(xlabel="action (4 is not allowed)", ylabel="mean probability")
