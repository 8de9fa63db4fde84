"""Targets of TensorFlow."""

TENSORFLOW = ()
