"""Threads of NumPy and PyTorch calls."""
