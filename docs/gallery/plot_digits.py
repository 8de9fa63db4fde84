"""
Digits, with a gradient by hand
===============================

NumPy has no automatic differentiation. ``cross_entropy_value_and_grad`` returns the loss and its gradient by the
logits in one pass; two matrix products make it the gradient of a linear model.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import logitx as lx

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
seen, fresh = slice(0, 1200), slice(1200, None)

# %%
# Train
# -----

weights = np.zeros((64, 10), np.float32)
losses = []
for _ in range(200):
    loss, dlogits = lx.cross_entropy_value_and_grad(images[seen] @ weights, labels[seen])
    weights -= 2.0 * images[seen].T @ dlogits
    losses.append(float(loss))
logits = images[fresh] @ weights
print(f"loss {losses[-1]:.3f}, right {np.mean(logits.argmax(-1) == labels[fresh]):.1%} of {len(logits)} fresh images")

# %%
# The images that the model doubts most
# -------------------------------------
#
# The entropy of a row says how undecided the model is, in nats.

doubt = lx.entropy(logits)
p = lx.softmax(logits)
figure, axes = plt.subplots(2, 4, figsize=(9, 4.2), layout="constrained", height_ratios=(2, 1))
for column, row in zip(axes.T, np.argsort(doubt)[::-1][:4], strict=True):
    column[0].imshow(images[fresh][row].reshape(8, 8), cmap="gray_r")
    column[0].set_title(f"a {labels[fresh][row]}, entropy {doubt[row]:.2f}", fontsize=10)
    column[0].set_axis_off()
    column[1].bar(range(10), p[row], color="#1f5fa8")
    column[1].set(ylim=(0, 1), xticks=range(10), yticks=[])
