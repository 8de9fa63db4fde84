"""Every function on every kind of array: the shipped suite, as anyone runs it."""

from logitx.testing.test_conformance import pytestmark, test_conformance

__all__ = ["pytestmark", "test_conformance"]
