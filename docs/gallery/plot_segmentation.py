"""
Segmentation with an ignored label
==================================

Logits of images have the shape (N, C, H, W): the classes are along axis 1. The border between two things is labeled
255, which means unknown. ``ignore_index=255`` leaves it out of the loss, and its gradient is exactly 0.
"""

import matplotlib.pyplot as plt
import numpy as np

import logitx as lx

rng = np.random.default_rng(0)
y, x = np.mgrid[:64, :64]
distance = np.hypot(x - 26, y - 36)
labels = np.where(distance < 16, 1, np.where(x > 44, 2, 0))
unknown = (abs(distance - 16) < 1.5) | (abs(x - 44) < 1.5)
target = np.where(unknown, 255, labels)[None]
picture = np.array([0.2, 0.9, 0.5])[labels] + 0.25 * rng.standard_normal((64, 64))

# %%
# Train a small model of each pixel and its surroundings
# ------------------------------------------------------


def blurred(image: np.ndarray, width: int) -> np.ndarray:
    """Return means over squares."""
    kernel = np.ones(width) / width
    for axis in (0, 1):
        image = np.apply_along_axis(np.convolve, axis, image, kernel, "same")
    return image


planes = [np.ones_like(picture), picture, blurred(picture, 5), blurred(picture, 9)]
features = np.stack([*planes, *(plane**2 for plane in planes[1:])])
weights = np.zeros((3, len(features)))
for _ in range(500):
    logits = np.einsum("cf,fhw->chw", weights, features)[None]
    loss, dlogits = lx.cross_entropy_value_and_grad(logits, target, axis=1, ignore_index=255)
    weights -= 3.0 * np.einsum("chw,fhw->cf", dlogits[0], features)
print(f"loss {loss:.3f}; largest gradient at an ignored pixel: {abs(dlogits[0][:, unknown]).max()}")

# %%
# The result, and where the model is unsure
# -----------------------------------------

known = ~unknown
found = logits[0].argmax(0)
print(f"{(found == labels)[known].mean():.1%} of the known pixels are right")
panels = {
    "picture": picture,
    "labels": np.where(unknown, np.nan, labels),
    "found": found,
    "entropy": lx.entropy(logits, axis=1)[0],
}
figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
for axis, (title, values) in zip(axes, panels.items(), strict=True):
    axis.imshow(values, cmap="gray" if title == "picture" else "viridis")
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
