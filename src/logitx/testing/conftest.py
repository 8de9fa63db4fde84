"""Load the hooks of the suite for ``pytest --pyargs logitx.testing``."""

from logitx.testing.plugin import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
