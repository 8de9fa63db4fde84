"""The hooks of the shipped suite: a summary of the cells that ran."""

from logitx.testing.plugin import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
