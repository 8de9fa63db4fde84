"""Vectors of numbers, and exp and log of them."""
