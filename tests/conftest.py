"""The hooks of the shipped suite: a summary of the cells that ran. How many examples Hypothesis draws."""

from hypothesis import settings

from logitx.testing.plugin import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]

settings.register_profile("bounded", deadline=None, max_examples=10, derandomize=True, database=None)
settings.register_profile("fuzz", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("bounded")  # `--hypothesis-profile=fuzz` loads the other one after this
