"""
Next-token loss and perplexity
==============================

A model of text predicts each character from the two before it. Logits have the shape (texts, positions, characters);
``cross_entropy`` takes any number of leading axes, so nothing is flattened.
"""

import matplotlib.pyplot as plt
import numpy as np

import logitx as lx

text = (
    "the sum of the exponentials is taken after the maximum is taken off. the maximum of the row is kept, and the sum "
    "of the row is kept. two rows are one row if the maxima and the sums are merged. "
) * 8
characters = sorted(set(text))
tokens = np.array([characters.index(one) for one in text])
count = len(characters)

# %%
# Train
# -----
#
# One table of logits for the last character, one for the character before it. The first position has no character
# before it and is left out by its label.

first, second = np.zeros((count, count)), np.zeros((count, count))
before, last, target = tokens[:-2], tokens[1:-1], tokens[2:]
target = np.where(np.arange(len(target)) == 0, -100, target)
perplexities = []
for _ in range(150):
    loss, dlogits = lx.cross_entropy_value_and_grad(first[last] + second[before], target)
    for table, ids in ((first, last), (second, before)):
        gradient = np.zeros_like(table)
        np.add.at(gradient, ids, dlogits)
        table -= 20.0 * gradient
    perplexities.append(float(np.exp(loss)))
print(f"perplexity {perplexities[0]:.1f} at first, {perplexities[-1]:.2f} at last, of {count} characters")

# %%
# How surprised the model is
# --------------------------
#
# ``selected_log_softmax`` gives the log-probability of each character, without the log-probabilities of all others.

surprise = -lx.selected_log_softmax(first[last] + second[before], tokens[2:])[:60]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2), width_ratios=(1, 3), layout="constrained")
left.plot(perplexities, color="#1f5fa8")
left.set(xlabel="step", ylabel="perplexity", ylim=(1, None))
right.bar(range(60), surprise, color="#1f5fa8")
right.set_xticks(range(60), ["␣" if one == " " else one for one in text[2:62]], fontsize=8)
right.set(ylabel="nats", title="surprise at each character")

# %%
# Write on
# --------

rng = np.random.default_rng(0)
written = [*tokens[:2]]
for _ in range(80):
    row = first[written[-1]] + second[written[-2]]
    written.append(int(lx.sample(row, rng, temperature=0.7, top_p=0.95)))
print("".join(characters[one] for one in written))
