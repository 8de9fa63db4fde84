"""AutoGraph, which rewrites what a `tf.function` calls, can read every line of ours that it meets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import tensorflow as tf
import logitx as lx
from logitx.testing.examples import Inputs
from logitx.testing.ops import uses

for use in uses("graph"):
    args, options = use.example.call(Inputs.draw(3, 4))
    tf.function(getattr(lx, use.op.name))(*map(tf.constant, args), **options)  # a lambda without a file is not read
    print(use.id, file=sys.stderr)
"""


def test_autograph_warns_of_no_function() -> None:
    """It knows no assignment expressions: a first call warned "Please report this to the TensorFlow team"."""
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    settings = {name: value for name, value in os.environ.items() if name != "AUTOGRAPH_VERBOSITY"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=settings, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "could not transform" not in run.stderr
    assert len(run.stderr.splitlines()) > 20  # the calls, one a line
