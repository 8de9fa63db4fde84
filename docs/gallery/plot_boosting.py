"""
Boosting with stumps
====================

Boosting adds small trees. Each is fitted to the gradient and the Hessian of the loss, which ``cross_entropy_grad_hess``
returns in one pass. Here trees have one question, so that the whole method fits on a page. LightGBM and XGBoost take
the same function as an objective.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import logitx as lx

images, labels = load_digits(return_X_y=True)
images = images[:, images.std(axis=0) > 1]
seen, fresh = slice(0, 1200), slice(1200, None)
questions = images[:, :, None] > np.array([2.0, 6.0, 10.0])  # of every pixel: is it brighter than that?
questions = questions.reshape(len(images), -1).astype(float)

# %%
# Train
# -----
#
# For each question and class, the best step on both sides is the sum of the gradient over the sum of the Hessian.

scores = np.zeros((len(images), 10))
history = []
for _ in range(60):
    gradient, hessian = lx.cross_entropy_grad_hess(scores[seen], labels[seen])
    yes = questions[seen].T
    sides = [(yes @ gradient, yes @ hessian)]
    sides.append((gradient.sum(0) - sides[0][0], hessian.sum(0) - sides[0][1]))
    gain = sum((g**2 / (h + 1.0)).sum(axis=1) for g, h in sides)
    best = int(gain.argmax())
    steps = [-g[best] / (h[best] + 1.0) for g, h in sides]
    scores += 0.5 * np.where(questions[:, best, None] > 0, *steps)
    history.append([float(lx.cross_entropy(scores[part], labels[part])) for part in (seen, fresh)])
print(f"{(scores[fresh].argmax(-1) == labels[fresh]).mean():.1%} of {len(scores[fresh])} fresh images are right")

figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
axis.plot(history, label=["images that were seen", "fresh images"])
axis.set(xlabel="stumps", ylabel="cross-entropy, nats")
axis.legend()
