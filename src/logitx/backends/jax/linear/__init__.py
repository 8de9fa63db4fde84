"""Cross-entropy of a linear layer in JAX, in blocks of rows and tiles of classes."""
