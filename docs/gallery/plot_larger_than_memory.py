"""
Saved logits that do not fit into memory
========================================

A file of logits is opened as a memory map and evaluated block by block. The process stays small however large the file
is. This file is small, so that the page builds in a second; a file of 20 GB is read the same way.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import logitx as lx

rows, classes = 20_000, 500
rng = np.random.default_rng(0)
labels = rng.integers(0, classes, rows)
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "logits.npy"
file = np.lib.format.open_memmap(path, "w+", np.float32, (rows, classes))
for start in range(0, rows, 2000):
    part = slice(start, start + 2000)
    file[part] = rng.standard_normal((2000, classes), np.float32)
    file[np.arange(start, start + 2000), labels[part]] += 4 * rng.random(2000, np.float32)
file.flush()

# %%
# The loss alone, and everything
# ------------------------------

logits = np.load(path, mmap_mode="r")
print(f"{path.stat().st_size / 2**20:.0f} MiB, loss {lx.cross_entropy(logits, labels):.4f}")
result = lx.CrossEntropy(top_k=5).feed(logits, labels).result()
print(f"loss {result.loss:.4f}, perplexity {result.perplexity:.1f}, accuracy {result.accuracy:.3f}")

# %%
# Parts of the file may be read by several processes, in any order. Their sums are merged.

pieces = [slice(start, start + 5000) for start in range(0, rows, 5000)]
parts = [lx.CrossEntropy().feed(logits[piece], labels[piece]) for piece in pieces]
whole = parts[0]
for part in parts[1:]:
    whole = whole.merge(part)
print(f"merged from {len(parts)} parts: {whole.result().loss:.4f}")

losses = lx.cross_entropy(logits, labels, reduction="none")
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.hist(losses, bins=80, color="#1f5fa8")
axis.axvline(np.log(classes), color="#c8443a", linestyle="--", label="loss of even probabilities")
axis.set(xlabel="loss of a row, nats", ylabel="rows")
axis.legend()
del logits, file
folder.cleanup()
