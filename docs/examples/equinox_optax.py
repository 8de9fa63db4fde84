"""A network of Equinox trained by Optax through our loss and through Optax's own, on real digits.

    losses = optax.losses.softmax_cross_entropy_with_integer_labels(jax.vmap(net)(images), labels).mean()   # before
    losses = lx.cross_entropy(jax.vmap(net)(images), labels)                                                # after

The whole step is one jitted program: on CPUs our kernels run inside it, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import logitx as lx

EPOCHS, BATCH, RATE = 15, 64, 1e-2
LEAST_ACCURACY, LARGEST_DIFFERENCE = 0.94, 0.01

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def of_optax(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean of Optax's losses."""
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


LOSSES: dict[str, Loss] = {"optax": of_optax, "logitx.cross_entropy": lx.cross_entropy}


def load(held_out: int = 450) -> tuple[jax.Array, ...]:
    """Load the digits in a fixed random order, the last `held_out` of them for the test."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = jnp.asarray(images[order] / 16, jnp.float32), jnp.asarray(labels[order])
    return x[:-held_out], y[:-held_out], x[-held_out:], y[-held_out:]


def train(loss: Loss, images: jax.Array, labels: jax.Array) -> eqx.nn.MLP:
    """Fit a network of one hidden layer by Adam."""
    net = eqx.nn.MLP(64, 10, width_size=32, depth=1, activation=jnp.tanh, key=jax.random.key(0))
    optimizer = optax.adam(RATE)
    state = optimizer.init(eqx.filter(net, eqx.is_array))

    @eqx.filter_jit
    def step(net: eqx.nn.MLP, state: Any, x: jax.Array, y: jax.Array) -> tuple[eqx.nn.MLP, Any]:
        gradient = eqx.filter_grad(lambda net: loss(jax.vmap(net)(x), y))(net)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(net, updates), state

    for _ in range(EPOCHS):
        for start in range(0, len(labels), BATCH):
            net, state = step(net, state, images[start : start + BATCH], labels[start : start + BATCH])
    return net


def main() -> dict[str, eqx.nn.MLP]:
    """Train with both losses, report, check; return the networks."""
    images, labels, test_images, test_labels = load()
    nets, reference = {}, None
    for name, loss in LOSSES.items():
        net = nets[name] = train(loss, images, labels)
        weights, _ = jax.flatten_util.ravel_pytree(eqx.filter(net, eqx.is_array))
        reference = weights if reference is None else reference
        difference = float(jnp.abs(weights - reference).max())
        accuracy = float((jax.vmap(net)(test_images).argmax(-1) == test_labels).mean())
        print(f"{name:22} test accuracy {accuracy:.4f}   weights differ from the first by at most {difference:.1e}")
        if accuracy <= LEAST_ACCURACY:
            raise SystemExit(f"an accuracy is not above {LEAST_ACCURACY}")
        if difference > LARGEST_DIFFERENCE:
            raise SystemExit(f"the weights are more than {LARGEST_DIFFERENCE} apart")
    return nets


if __name__ == "__main__":
    main()
