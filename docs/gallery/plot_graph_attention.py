"""
Attention on a graph
====================

The edges of a graph lie in one array, and each names the node that it leads to. ``segment_softmax`` normalizes over the
edges of each node, however many it has. No array of all pairs of nodes is made.
"""

import matplotlib.pyplot as plt
import numpy as np

import logitx as lx

rng = np.random.default_rng(1)
count = 60
place = rng.random((count, 2))
value = np.sin(5 * place[:, 0]) + 0.6 * rng.standard_normal(count)  # a signal with noise
apart = np.linalg.norm(place[:, None] - place[None], axis=-1)
target, source = np.nonzero(apart < 0.22)  # an edge for each pair of neighbors, and from each node to itself

# %%
# A node attends to those that are near
# -------------------------------------

score = -((apart[target, source] / 0.1) ** 2)
attention = lx.segment_softmax(score, segment_ids=target, num_segments=count)
smooth = np.zeros(count)
np.add.at(smooth, target, attention * value[source])
clean = np.sin(5 * place[:, 0])
print(f"{len(target)} edges of {count} nodes; each node has attention {np.bincount(target, attention).round(12).min()}")
print(f"mean error {abs(value - clean).mean():.2f} before, {abs(smooth - clean).mean():.2f} after")

# %%
# An edge that is masked does not count, even if its score is NaN.

keep = source != 0
score[source == 0] = np.nan
attention = lx.segment_softmax(score, segment_ids=target, num_segments=count, where=keep)
print(f"attention to node 0: {attention[~keep].sum()}, NaN anywhere: {np.isnan(attention).any()}")

figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
for axis, (title, shown) in zip(axes, {"with noise": value, "after attention": smooth}.items(), strict=True):
    for t, s, weight in zip(target, source, np.nan_to_num(attention), strict=True):
        axis.plot(*place[[t, s]].T, color="gray", alpha=min(1.0, 3 * float(weight)), linewidth=0.8, zorder=0)
    axis.scatter(*place.T, c=shown, cmap="coolwarm", s=50, vmin=-1.5, vmax=1.5)
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
