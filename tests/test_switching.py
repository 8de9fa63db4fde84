"""Backends, threads and what `which` says, switched in any order: what runs is what was asked for, and is right."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import logitx as lx
from logitx.backends import BACKENDS

NAMES = [row.name for row in BACKENDS]
INSTALLED = [info.name for info in lx.backends() if info.available]
ABSENT = [info.name for info in lx.backends() if not info.available]
RIGHT = {  # which backends take NumPy arrays
    "numba": True,
    "generic": True,
    "jax": False,
    "torch": False,
    "tensorflow": False,
    "memory_maps": False,
    "dask": False,
}
X = np.random.default_rng(0).standard_normal((40, 1000)).astype(np.float32)
LABELS = np.arange(40)
TRUTH = lx.softmax(X.astype(np.float64)), lx.cross_entropy(X.astype(np.float64), LABELS)


class Switching(RuleBasedStateMachine):
    """A thread with its settings; contexts are left in the order in which they were entered, or by an exception."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[tuple[Any, str | None]] = []  # contexts, and what was in force before each
        self.force = lx.use_backend(None)
        self.now: str | None = None

    @rule(name=st.sampled_from([*INSTALLED, None]))
    def enter(self, name: str | None) -> None:
        """Enter a with statement."""
        self.stack.append((lx.use_backend(name).__enter__(), self.now))
        self.now = name

    @precondition(lambda self: self.stack)
    @rule(failing=st.booleans())
    def leave(self, failing: bool) -> None:
        """Leave the last with statement, perhaps with an exception."""
        context, self.now = self.stack.pop()
        error = KeyError("of the body")
        assert not context.__exit__(KeyError if failing else None, error if failing else None, None)

    @rule(name=st.sampled_from([*INSTALLED, None]))
    def set(self, name: str | None) -> None:
        """Set a backend from here on."""
        lx.use_backend(name)
        self.now = name

    @rule(name=st.sampled_from(["", "Numba", "cuda", 3, *ABSENT]))
    def set_what_there_is_not(self, name: Any) -> None:
        """A wrong name changes nothing."""
        with pytest.raises((TypeError, ValueError), match="use_backend|name"):
            lx.use_backend(name)

    @rule(n=st.integers(1, 6))
    def set_threads(self, n: int) -> None:
        """Results do not depend on it."""
        lx.set_num_threads(n)

    @rule(n=st.sampled_from([0, -1, 1.5, "2", None, True]))
    def set_no_threads(self, n: Any) -> None:
        """A wrong number changes nothing."""
        with pytest.raises((TypeError, ValueError), match="n:"):
            lx.set_num_threads(n)

    @rule()
    def look_from_another_thread(self) -> None:
        """A new thread has settings of its own."""
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.append(lx.which("softmax", X).backend))
        thread.start()
        thread.join()
        assert seen == ["numba"]

    @rule(loss=st.booleans())
    def call(self, loss: bool) -> None:
        """What is in force runs, or says that it cannot."""
        if self.now is not None and not RIGHT[self.now]:
            with pytest.raises(ValueError, match=f"use_backend: '{self.now}' cannot run"):
                lx.softmax(X)
        elif loss:
            np.testing.assert_allclose(lx.cross_entropy(X, LABELS), TRUTH[1], rtol=1e-6)
        else:
            np.testing.assert_allclose(lx.softmax(X), TRUTH[0], rtol=2e-5)

    @invariant()
    def which_says_so(self) -> None:
        """`which` names what is in force, or nothing, with a reason for everyone else."""
        choice = lx.which("softmax", X)
        expected = "numba" if self.now is None else self.now if RIGHT[self.now] else ""
        assert choice.backend == expected
        assert {declined.backend for declined in choice.declined} == set(NAMES) - {expected}
        assert all(declined.reason for declined in choice.declined)

    def teardown(self) -> None:
        """Put everything back."""
        lx.use_backend(None)
        lx.set_num_threads(os.cpu_count() or 1)


Switching.TestCase.settings = settings(settings.default, max_examples=20, stateful_step_count=20)


class TestSwitching(Switching.TestCase):
    """Hypothesis makes a test of the machine."""
