"""
Distillation
============

A small model learns from the probabilities of a large one. At a temperature T both distributions are softened, so that
the small model also sees which wrong classes are nearly right. Gradients shrink by the square of T, so the divergence
is multiplied by it.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import logitx as lx

images, labels = load_digits(return_X_y=True)
images = images / 16
few, many, fresh = slice(0, 60), slice(0, 1200), slice(1200, None)
teacher = SVC(decision_function_shape="ovr").fit(images[many], labels[many])
teacher_logits = 3.0 * teacher.decision_function(images[many])

# %%
# Two students
# ------------
#
# Only 60 images have labels. One student has nothing else. The other also has the teacher's logits for 1200 images. The
# cross-entropy against the teacher's softened probabilities has the gradient of the divergence.

T = 2.0
soft = lx.softmax(teacher_logits, temperature=T)


def student(weight_of_teacher: float) -> np.ndarray:
    """Return the logits of fresh images."""
    weights = np.zeros((64, 10))
    for _ in range(600):
        _, by_labels = lx.cross_entropy_value_and_grad(images[few] @ weights, labels[few])
        _, by_teacher = lx.cross_entropy_value_and_grad(images[many] @ weights, soft, temperature=T)
        weights -= 0.5 * images[few].T @ by_labels
        weights -= 0.5 * weight_of_teacher * T**2 * images[many].T @ by_teacher
    return images[fresh] @ weights


students = {"labels only": student(0.0), "with the teacher": student(1.0)}
print(f"teacher: {teacher.score(images[fresh], labels[fresh]):.1%} of fresh images are right")
for name, logits in students.items():
    print(f"{name}: {(logits.argmax(-1) == labels[fresh]).mean():.1%}")

# %%
# How far the students are from the teacher
# -----------------------------------------

truth = 3.0 * teacher.decision_function(images[fresh])
figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
for name, logits in students.items():
    divergence = lx.kl_divergence(truth, logits, temperature=T)
    axis.hist(divergence, bins=40, alpha=0.6, label=f"{name}: mean {divergence.mean():.3f}")
axis.set(xlabel="divergence from the teacher at T = 2, nats", ylabel="images")
axis.legend()
